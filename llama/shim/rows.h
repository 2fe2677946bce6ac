// Products of a quantised matrix and the rows of a batch, where there is a better way than llama.cpp's.
#pragma once

#include <cstdint>

namespace cen {

// c = a × b for one of several threads that all are called: m rows of a, n of b, each of k blocks. The strides count blocks,
// and floats in c, of which a row of b has a row.
struct Product {
    int64_t      thread, threads;
    int64_t      m, n, k;
    const void * a;
    int64_t      lda;
    const void * b;
    int64_t      ldb;
    float *      c;
    int64_t      ldc;
};

// Whether the processor has what the following need. Else they are not to be called: there may be such instructions anywhere in
// them.
static inline bool has_avx512() {
#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
#else
    return false;
#endif
}

// The types are ggml's, that of b is in the name. False means that nothing was done, on no thread. What comes out is to the bit
// what llama.cpp computes for a row alone.
bool multiply_q8_0(const Product & p, int a_type);
bool multiply_q8_k(const Product & p, int a_type);

// Whether matrices in Q4_K are multiplied here if llama.cpp does not put them in another order.
bool has_q4_k();

} // namespace cen
