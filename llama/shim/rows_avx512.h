// What kernels on processors with AVX-512 have in common: how a product is cut into pieces, and how a kernel is tried. It defines
// CEN_AVX512 where there are any, and switches the instructions on, which who includes it switches off again (pop_options).
//
// A kernel multiplies two rows of the matrix at once, one in each half of a register, by up to eight rows of the batch, which are
// made ready before. It has
//     block, batch, ready         a block of the matrix, of the batch, and of the batch made ready
//     prepare(out, b, ldb, n, k)  makes n rows of the batch ready, block by block
//     multiply<n>(...)            rows first to end of the matrix by n rows of the batch
//     sample_weights, sample_batch fill in numbers to try it with
#pragma once

#include "rows.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__) // which has no such pragmas

#define CEN_AVX512

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"
#include "ggml-cpu.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <random>
#include <vector>

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,fma,f16c")

namespace cen::avx512 {

constexpr int64_t tile = 8;  // rows of the batch for which there are registers
constexpr int64_t band = 64; // rows of the batch that are made ready at once: a few megabytes
constexpr int64_t some = 16; // rows of the matrix, which stay in the cache for all of them

// Weights are read once and come from memory. The processor sees two short runs where there is one long one, and does not fetch
// what comes next by itself: without this, one row takes three times as long.
constexpr int64_t ahead = 8192; // bytes

// fetch has the next bytes of a matrix come that is read from at on.
template <int64_t bytes> void fetch(const void * at) {
    for (int64_t i = 0; i < bytes; i += 64) {
        _mm_prefetch(static_cast<const char *>(at) + ahead + i, _MM_HINT_T1); // not into L1, whose lines under way are few
    }
}

inline float to_float(ggml_half h) { return _cvtsh_ss(h); }

inline float sum(__m128 s) { // in the order of ggml's hsum_float_8
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

inline float sum(__m256 x) { return sum(_mm_add_ps(_mm256_extractf128_ps(x, 1), _mm256_castps256_ps128(x))); }

// Two rows' bytes in one register, the first row's in the lower half.
inline __m512i both(const void * a, const void * b) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i *>(a))),
                              _mm256_loadu_si256(static_cast<const __m256i *>(b)), 1);
}

inline __m512 both(ggml_half a, ggml_half b) {
    return _mm512_cvtph_ps(_mm256_mask_set1_epi16(_mm256_set1_epi16(static_cast<short>(a)), 0xff00, static_cast<short>(b)));
}

// Thirty-two bytes in both halves.
inline __m512i twice(const void * y) { return _mm512_broadcast_i64x4(_mm256_load_si256(static_cast<const __m256i *>(y))); }

template <typename Kernel> void run(const Product & p) {
    using Block    = typename Kernel::block;
    using Ready    = typename Kernel::ready;
    using Multiply = void (*)(const Block *, int64_t, const Ready *, int64_t, float *, int64_t, int64_t, int64_t);
    static constexpr Multiply multiply[] = { Kernel::template multiply<1>, Kernel::template multiply<2>,
                                             Kernel::template multiply<3>, Kernel::template multiply<4>,
                                             Kernel::template multiply<5>, Kernel::template multiply<6>,
                                             Kernel::template multiply<7>, Kernel::template multiply<8> };
    static_assert(std::size(multiply) == tile);
    static thread_local std::vector<Ready> y;

    const int64_t each  = (p.m + 2 * p.threads - 1) / (2 * p.threads) * 2;
    const int64_t first = each * p.thread;
    const int64_t end   = std::min(p.m, first + each);
    if (first >= end) {
        return;
    }
    const auto * a = static_cast<const Block *>(p.a);
    const auto * b = static_cast<const typename Kernel::batch *>(p.b);
    for (int64_t from = 0; from < p.n; from += band) {
        const int64_t n = std::min(band, p.n - from);
        y.resize(n * p.k);
        for (int64_t at = 0; at < n; at += tile) {
            Kernel::prepare(&y[at * p.k], b + (from + at) * p.ldb, p.ldb, std::min(tile, n - at), p.k);
        }
        for (int64_t row = first; row < end; row += some) {
            for (int64_t at = 0; at < n; at += tile) {
                multiply[std::min(tile, n - at) - 1](a, p.lda, &y[at * p.k], p.k, p.c + (from + at) * p.ldc, p.ldc, row,
                                                     std::min(end, row + some));
            }
        }
    }
}

// Whether a kernel gives the bits of ggml's.
template <typename Kernel> bool same(ggml_type type) {
    constexpr int64_t                   rows   = 19; // more than stay in the cache, and no pairs
    constexpr int64_t                   blocks = 5;
    constexpr int64_t                   most   = band + tile + 3;
    std::vector<typename Kernel::block> a(rows * blocks);
    std::vector<typename Kernel::batch> b(most * blocks);
    std::mt19937                        random(1);
    for (auto & x : a) {
        Kernel::sample_weights(x, random);
    }
    for (auto & y : b) {
        Kernel::sample_batch(y, random);
    }
    for (int64_t n = 1; n <= most; n++) {
        std::vector<float> got(rows * n);
        run<Kernel>({ 0, 1, rows, n, blocks, a.data(), blocks, b.data(), blocks, got.data(), rows });
        for (int64_t i = 0; i < rows * n; i++) {
            float want = 0;
            ggml_get_type_traits_cpu(type)->vec_dot(static_cast<int>(blocks * ggml_blck_size(type)), &want, 0,
                                                    &a[i % rows * blocks], 0, &b[i / rows * blocks], 0, 1);
            if (std::memcmp(&got[i], &want, sizeof want) != 0) {
                return false;
            }
        }
    }
    return true;
}

template <typename T> void fill(T & x, std::mt19937 & random) {
    for (size_t i = 0; i < sizeof x; i++) {
        reinterpret_cast<uint8_t *>(&x)[i] = static_cast<uint8_t>(random());
    }
}

inline float     fraction(std::mt19937 & random) { return static_cast<float>(random() % 1000) / 999; }
inline ggml_half half(std::mt19937 & random) { return _cvtss_sh(fraction(random), 0); }

template <typename Kernel> bool usable(ggml_type type) {
    static const bool is = same<Kernel>(type);
    return is;
}

template <typename Kernel> bool try_run(const Product & p, ggml_type type) {
    if (p.n > 0 && usable<Kernel>(type)) {
        run<Kernel>(p);
        return true;
    }
    return false;
}

} // namespace cen::avx512

#endif
