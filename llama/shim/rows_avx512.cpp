// Quantised matrices on processors with AVX-512 and its instructions for products of bytes (VNNI).
//
// llama.cpp's kernels unpack a block of weights for each row of the batch anew, or for four, in half a register. Here two rows of
// the matrix are unpacked at once, one in each half of a register, and multiplied by eight rows of the batch before the next
// block is looked at. Each half does for its row, in the same order, the float operations that theirs do (ggml_vec_dot_*_q8_0 in
// arch/x86/quants.c, tinyBLAS_Q0_AVX in llamafile/sgemm.cpp), so that the result is the same to the bit; what is done with
// integers is exact in any order. Whether that is so is tried before a kernel is used.
#include "rows.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__) // which has no such pragmas

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

namespace {

// A block of a row of the batch, made ready: products are of unsigned and signed bytes, so weights are moved up, by as much as
// makes them unsigned, and what that adds is taken off.
struct alignas(32) ready {
    __m256i y;
    __m256i less; // minus the move times the sum of each four bytes of y
    float   d;
};

float to_float(ggml_half h) { return _cvtsh_ss(h); }

// Two rows' blocks of weights as unsigned bytes, the first row's in the lower half.
struct q8_0 {
    using block                = block_q8_0;
    static constexpr char move = static_cast<char>(128);

    static __m512i load(const block & a, const block & b) {
        const __m512i x = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(a.qs))),
                                             _mm256_loadu_si256(reinterpret_cast<const __m256i *>(b.qs)), 1);
        return _mm512_xor_si512(x, _mm512_set1_epi8(move));
    }
};

struct q5_0 {
    using block                = block_q5_0;
    static constexpr char move = 16;

    static __m512i load(const block & a, const block & b) {
        const __m256i lower = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(a.qs)));
        const __m256i upper = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(b.qs)));
        const __m512i both  = _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1);
        const __m512i four =
            _mm512_and_si512(_mm512_srlv_epi64(both, _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0)), _mm512_set1_epi8(15));
        uint32_t first;
        uint32_t second;
        std::memcpy(&first, a.qh, sizeof first);
        std::memcpy(&second, b.qh, sizeof second);
        const __mmask64 fifth = first | static_cast<uint64_t>(second) << 32;
        return _mm512_or_si512(four, _mm512_maskz_set1_epi8(fifth, 16));
    }
};

float sum(__m256 x) { // in the order of ggml's hsum_float_8
    __m128 s = _mm_add_ps(_mm256_extractf128_ps(x, 1), _mm256_castps256_ps128(x));
    s        = _mm_add_ps(s, _mm_movehl_ps(s, s));
    s        = _mm_add_ss(s, _mm_movehdup_ps(s));
    return _mm_cvtss_f32(s);
}

constexpr int64_t tile = 8;  // rows of the batch for which there are registers
constexpr int64_t band = 64; // rows of the batch that are made ready at once: a few megabytes
constexpr int64_t some = 16; // rows of the matrix, which stay in the cache for all of them

// n rows of the batch, block by block.
void prepare(ready * out, const block_q8_0 * y, int64_t ldy, int64_t n, int64_t blocks, char move) {
    const __m256i by = _mm256_set1_epi8(move);
    for (int64_t i = 0; i < blocks; i++) {
        for (int64_t j = 0; j < n; j++) {
            const block_q8_0 & b = y[j * ldy + i];
            ready &            r = *out++;
            r.y                  = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(b.qs));
            r.less               = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_dpbusd_epi32(_mm256_setzero_si256(), by, r.y));
            r.d                  = to_float(b.d);
        }
    }
}

// Weights are read once and come from memory. The processor sees two short runs where there is one long one, and does not fetch
// what comes next by itself: without this, one row takes three times as long.
constexpr int64_t ahead = 8192; // bytes

// Rows first to end of the matrix by n rows of the batch.
template <typename Weights, int n>
void multiply(const typename Weights::block * x, int64_t ldx, const ready * y, int64_t blocks, float * out, int64_t ldo,
              int64_t first, int64_t end) {
    for (int64_t row = first; row < end; row += 2) {
        const bool                      pair = row + 1 < end;
        const typename Weights::block * a    = x + row * ldx;
        const typename Weights::block * b    = pair ? a + ldx : a;
        const char *                    soon = reinterpret_cast<const char *>(a) + ahead;
        const ready *                   r    = y;
        __m512                          acc[n];
        for (int j = 0; j < n; j++) {
            acc[j] = _mm512_setzero_ps();
        }
        for (int64_t i = 0; i < blocks; i++, r += n) {
            _mm_prefetch(soon, _MM_HINT_T0);
            _mm_prefetch(soon + 64, _MM_HINT_T0);
            soon += 2 * sizeof(typename Weights::block);
            const __m512i w = Weights::load(a[i], b[i]);
            const __m512  d = _mm512_insertf32x8(_mm512_set1_ps(to_float(a[i].d)), _mm256_set1_ps(to_float(b[i].d)), 1);
            for (int j = 0; j < n; j++) {
                const __m512i p = _mm512_dpbusd_epi32(_mm512_broadcast_i64x4(r[j].less), w, _mm512_broadcast_i64x4(r[j].y));
                acc[j]          = _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(r[j].d)), _mm512_cvtepi32_ps(p), acc[j]);
            }
        }
        for (int j = 0; j < n; j++) {
            out[j * ldo + row] = sum(_mm512_castps512_ps256(acc[j]));
            if (pair) {
                out[j * ldo + row + 1] = sum(_mm512_extractf32x8_ps(acc[j], 1));
            }
        }
    }
}

template <typename Weights> void run(const cen::Product & p) {
    using kernel = void (*)(const typename Weights::block *, int64_t, const ready *, int64_t, float *, int64_t, int64_t, int64_t);
    static constexpr kernel kernels[] = {
        multiply<Weights, 1>, multiply<Weights, 2>, multiply<Weights, 3>, multiply<Weights, 4>,
        multiply<Weights, 5>, multiply<Weights, 6>, multiply<Weights, 7>, multiply<Weights, 8>
    };
    static_assert(std::size(kernels) == tile);
    static thread_local std::vector<ready> y;

    const int64_t each  = (p.m + 2 * p.threads - 1) / (2 * p.threads) * 2;
    const int64_t first = each * p.thread;
    const int64_t end   = std::min(p.m, first + each);
    if (first >= end) {
        return;
    }
    const auto * a = static_cast<const typename Weights::block *>(p.a);
    const auto * b = static_cast<const block_q8_0 *>(p.b);
    for (int64_t from = 0; from < p.n; from += band) {
        const int64_t n = std::min(band, p.n - from);
        y.resize(n * p.k);
        for (int64_t at = 0; at < n; at += tile) {
            prepare(&y[at * p.k], b + (from + at) * p.ldb, p.ldb, std::min(tile, n - at), p.k, Weights::move);
        }
        for (int64_t row = first; row < end; row += some) {
            for (int64_t at = 0; at < n; at += tile) {
                kernels[std::min(tile, n - at) - 1](a, p.lda, &y[at * p.k], p.k, p.c + (from + at) * p.ldc, p.ldc, row,
                                                    std::min(end, row + some));
            }
        }
    }
}

// Whether a kernel gives the bits of ggml's.
template <typename Weights> bool same(ggml_type type) {
    constexpr int64_t                    rows   = 19; // more than stay in the cache, and no pairs
    constexpr int64_t                    blocks = 5;
    constexpr int64_t                    most   = band + tile + 3;
    std::vector<typename Weights::block> a(rows * blocks);
    std::vector<block_q8_0>              b(most * blocks);
    std::mt19937                         random(1);
    const auto                           fill = [&](void * to, size_t n) {
        for (size_t i = 0; i < n; i++) {
            static_cast<uint8_t *>(to)[i] = static_cast<uint8_t>(random());
        }
    };
    fill(a.data(), a.size() * sizeof a[0]);
    fill(b.data(), b.size() * sizeof b[0]);
    for (auto & x : a) {
        x.d = _cvtss_sh(static_cast<float>(random() % 1000) / 999, 0);
    }
    for (auto & y : b) {
        for (int8_t & q : y.qs) {
            q = std::max<int8_t>(q, -127); // as all that was quantised here; ggml's kernels cannot negate -128
        }
        y.d = _cvtss_sh(static_cast<float>(random() % 1000) / 999, 0);
    }
    for (int64_t n = 1; n <= most; n++) {
        std::vector<float> got(rows * n);
        run<Weights>({ 0, 1, rows, n, blocks, a.data(), blocks, b.data(), blocks, got.data(), rows });
        for (int64_t i = 0; i < rows * n; i++) {
            float want = 0;
            ggml_get_type_traits_cpu(type)->vec_dot(blocks * QK8_0, &want, 0, &a[i % rows * blocks], 0, &b[i / rows * blocks], 0,
                                                    1);
            if (std::memcmp(&got[i], &want, sizeof want) != 0) {
                return false;
            }
        }
    }
    return true;
}

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

template <typename Weights> bool try_run(const cen::Product & p, ggml_type type) {
    static const bool usable = supported() && same<Weights>(type);
    if (usable) {
        run<Weights>(p);
    }
    return usable;
}

} // namespace

bool cen::multiply(const Product & p, int a_type, int b_type) {
    if (p.n < 1 || b_type != GGML_TYPE_Q8_0) {
        return false;
    }
    switch (a_type) {
        case GGML_TYPE_Q8_0:
            return try_run<q8_0>(p, GGML_TYPE_Q8_0);
        case GGML_TYPE_Q5_0:
            return try_run<q5_0>(p, GGML_TYPE_Q5_0);
        default:
            return false;
    }
}

#pragma GCC pop_options

#else

bool cen::multiply(const Product &, int, int) { return false; }

#endif
