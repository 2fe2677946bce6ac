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

// The types are ggml's. False means that nothing was done, on no thread. What comes out is to the bit what llama.cpp computes.
bool multiply(const Product & p, int a_type, int b_type);

} // namespace cen
