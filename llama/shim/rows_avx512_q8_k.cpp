// Matrices in blocks of 256 (k-quants) on processors with AVX-512 and its instructions for products of bytes and of pairs (VNNI):
// Q4_K and Q6_K. The batch is in Q8_K.
//
// llama.cpp has two ways for Q4_K, which do not come to the same: one for a row of the batch, and from four rows on one for a
// copy of the matrix in another order, which also quantises the batch otherwise. So what a text becomes would depend on how many
// rows were computed with it, of other texts or of guesses. Here each row comes out as alone, to the bit as
// ggml_vec_dot_q4_K_q8_K and ggml_vec_dot_q6_K_q8_K in arch/x86/quants.c have it, and no copy is needed. Whether it is so is
// tried before a kernel is used.
#include "rows_avx512.h"

#ifdef CEN_AVX512

namespace {

using namespace cen::avx512;

constexpr int groups = QK_K / 32; // of a block, in each of which the weights have a scale or two

// Numbers of two rows' blocks, the first row's in the lower halves.
struct unpacked {
    __m512i q[groups];     // weights, as unsigned bytes
    __m512i scale[groups]; // of each pair of them
    __m512  d;
    __m512i scales; // Q6_K: of each sixteen weights
    __m256i mins;   // Q4_K: of each thirty-two
    __m256  dmin;
};

struct q4_k {
    using block                     = block_q4_K;
    static constexpr ggml_type type = GGML_TYPE_Q4_K;

    // The scales of a block, eight of six bits, and after them as many mins.
    static __m256i scales(const block & x) {
        uint32_t packed[3];
        std::memcpy(packed, x.scales, sizeof packed);
        constexpr uint32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, two = 0x03030303;
        const uint32_t     s0 = packed[0] & six;
        const uint32_t     s1 = (packed[2] & four) | ((packed[0] >> 6) & two) << 4;
        const uint32_t     m0 = packed[1] & six;
        const uint32_t     m1 = ((packed[2] >> 4) & four) | ((packed[1] >> 6) & two) << 4;
        return _mm256_cvtepu8_epi16(
            _mm_set_epi32(static_cast<int>(m1), static_cast<int>(m0), static_cast<int>(s1), static_cast<int>(s0)));
    }

    static void unpack(unpacked & w, const block & a, const block & b) {
        const __m256i of_a   = scales(a);
        const __m256i of_b   = scales(b);
        const __m512i scales = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_permute4x64_epi64(of_a, 0x44)),
                                                  _mm256_permute4x64_epi64(of_b, 0x44), 1);
        for (int g = 0; g < groups; g++) {
            w.scale[g] = _mm512_shuffle_epi8(scales, _mm512_set1_epi16(static_cast<short>((2 * g + 1) << 8 | 2 * g)));
        }
        const __m512i four = _mm512_set1_epi8(15);
        for (int g = 0; g < groups; g += 2) {
            const __m512i q = both(a.qs + 16 * g, b.qs + 16 * g);
            w.q[g]          = _mm512_and_si512(q, four);
            w.q[g + 1]      = _mm512_and_si512(_mm512_srli_epi16(q, 4), four);
        }
        w.mins = _mm256_permute2x128_si256(of_a, of_b, 0x31);
        w.d    = both(a.data.data.d, b.data.data.d);
        w.dmin = _mm256_insertf128_ps(_mm256_set1_ps(to_float(a.data.data.dmin)), _mm_set1_ps(to_float(b.data.data.dmin)), 1);
    }

    // The sums of each thirty-two numbers of a block of the batch.
    static __m256i sums(const block_q8_K & y) {
        const __m256i s = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(y.bsums));
        return _mm256_broadcastsi128_si256(_mm_hadd_epi16(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1)));
    }

    static __m512i less(__m512i products, const unpacked &, __m256i) { return products; }

    static __m256 least(__m256 acc, const unpacked & w, __m256i sums, float d) {
        const __m256i products = _mm256_madd_epi16(w.mins, sums);
        return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_set1_ps(-d), w.dmin), _mm256_cvtepi32_ps(products), acc);
    }

    static float total(__m256 acc, __m128 least) { return sum(acc) + sum(least); }

    static void sample(block & x, std::mt19937 & random) {
        fill(x, random);
        x.data.data.d    = half(random);
        x.data.data.dmin = half(random);
    }
};

struct q6_k {
    using block                     = block_q6_K;
    static constexpr ggml_type type = GGML_TYPE_Q6_K;

    static void unpack(unpacked & w, const block & a, const block & b) {
        const __m256i scales =
            _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(a.scales))),
                                    _mm_loadu_si128(reinterpret_cast<const __m128i *>(b.scales)), 1);
        for (int g = 0; g < groups; g++) {
            const __m256i which =
                _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0101010101010101 * (2 * g + 1), 0x0101010101010101 * (2 * g)));
            w.scale[g] = _mm512_cvtepi8_epi16(_mm256_shuffle_epi8(scales, which));
        }
        w.scales           = _mm512_cvtepi8_epi16(scales);
        const __m512i four = _mm512_set1_epi8(15);
        const __m512i high = _mm512_set1_epi8(48);
        for (int g = 0; g < groups; g += 4) {
            const __m512i q    = both(a.ql + 16 * g, b.ql + 16 * g);
            const __m512i next = both(a.ql + 16 * g + 32, b.ql + 16 * g + 32);
            const __m512i h    = both(a.qh + 8 * g, b.qh + 8 * g);
            const auto    join = [&](__m512i low, __m512i upper) {
                return _mm512_or_si512(_mm512_and_si512(low, four), _mm512_and_si512(upper, high));
            };
            w.q[g]     = join(q, _mm512_slli_epi16(h, 4));
            w.q[g + 1] = join(next, _mm512_slli_epi16(h, 2));
            w.q[g + 2] = join(_mm512_srli_epi16(q, 4), h);
            w.q[g + 3] = join(_mm512_srli_epi16(next, 4), _mm512_srli_epi16(h, 2));
        }
        w.d = both(a.d, b.d);
    }

    // The sums of each sixteen numbers of a block of the batch.
    static __m256i sums(const block_q8_K & y) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(y.bsums)); }

    // Weights are 32 more than they should be. ggml takes that off as whole numbers, and not where it was added.
    static __m512i less(__m512i products, const unpacked & w, __m256i sums) {
        return _mm512_sub_epi32(products, _mm512_slli_epi32(_mm512_madd_epi16(w.scales, _mm512_broadcast_i64x4(sums)), 5));
    }

    static __m256 least(__m256 acc, const unpacked &, __m256i, float) { return acc; }
    static float  total(__m256 acc, __m128) { return sum(acc); }

    static void sample(block & x, std::mt19937 & random) {
        fill(x, random);
        x.d = half(random);
    }
};

template <typename Weights> struct kernel {
    using block = typename Weights::block;
    using batch = block_q8_K;

    struct alignas(64) ready {
        int8_t  y[QK_K];
        __m256i sums;
        float   d;
    };

    static void prepare(ready * out, const batch * y, int64_t ldy, int64_t n, int64_t blocks) {
        for (int64_t i = 0; i < blocks; i++) {
            for (int64_t j = 0; j < n; j++) {
                const batch & b = y[j * ldy + i];
                ready &       r = *out++;
                std::memcpy(r.y, b.qs, sizeof r.y);
                r.sums = Weights::sums(b);
                r.d    = b.d;
            }
        }
    }

    template <int n>
    static void multiply(const block * x, int64_t ldx, const ready * y, int64_t blocks, float * out, int64_t ldo, int64_t first,
                         int64_t end) {
        for (int64_t row = first; row < end; row += 2) {
            const bool    pair = row + 1 < end;
            const block * a    = x + row * ldx;
            const block * b    = pair ? a + ldx : a;
            const ready * r    = y;
            __m512        acc[n];
            __m256        least[n];
            for (int j = 0; j < n; j++) {
                acc[j]   = _mm512_setzero_ps();
                least[j] = _mm256_setzero_ps();
            }
            for (int64_t i = 0; i < blocks; i++, r += n) {
                fetch<2 * sizeof(block)>(a + 2 * i);
                unpacked w;
                Weights::unpack(w, a[i], b[i]);
                for (int j = 0; j < n; j++) {
                    __m512i even = _mm512_setzero_si512();
                    __m512i odd  = _mm512_setzero_si512();
                    for (int g = 0; g < groups; g += 2) {
                        even = _mm512_dpwssd_epi32(even, w.scale[g], _mm512_maddubs_epi16(w.q[g], twice(r[j].y + 32 * g)));
                        odd  = _mm512_dpwssd_epi32(odd, w.scale[g + 1],
                                                   _mm512_maddubs_epi16(w.q[g + 1], twice(r[j].y + 32 * g + 32)));
                    }
                    const __m512i p = Weights::less(_mm512_add_epi32(even, odd), w, r[j].sums);
                    acc[j]          = _mm512_fmadd_ps(_mm512_mul_ps(w.d, _mm512_set1_ps(r[j].d)), _mm512_cvtepi32_ps(p), acc[j]);
                    least[j]        = Weights::least(least[j], w, r[j].sums, r[j].d);
                }
            }
            for (int j = 0; j < n; j++) {
                out[j * ldo + row] = Weights::total(_mm512_castps512_ps256(acc[j]), _mm256_castps256_ps128(least[j]));
                if (pair) {
                    out[j * ldo + row + 1] =
                        Weights::total(_mm512_extractf32x8_ps(acc[j], 1), _mm256_extractf128_ps(least[j], 1));
                }
            }
        }
    }

    static void sample_weights(block & x, std::mt19937 & random) { Weights::sample(x, random); }

    static void sample_batch(batch & y, std::mt19937 & random) {
        fill(y, random);
        y.d = fraction(random) - 0.5F;
        for (int i = 0; i < QK_K; i += 16) {
            y.bsums[i / 16] = 0;
            for (int j = i; j < i + 16; j++) {
                y.qs[j]         = std::max<int8_t>(y.qs[j], -127);
                y.bsums[i / 16] = static_cast<int16_t>(y.bsums[i / 16] + y.qs[j]);
            }
        }
    }
};

} // namespace

bool cen::multiply_q8_k(const Product & p, int a_type) {
    switch (a_type) {
        case GGML_TYPE_Q4_K:
            return try_run<kernel<q4_k>>(p, GGML_TYPE_Q4_K);
        case GGML_TYPE_Q6_K:
            return try_run<kernel<q6_k>>(p, GGML_TYPE_Q6_K);
        default:
            return false;
    }
}

bool cen::has_q4_k() { return usable<kernel<q4_k>>(GGML_TYPE_Q4_K); }

#pragma GCC pop_options

#else

bool cen::has_q4_k() { return false; }

bool cen::multiply_q8_k(const Product &, int) { return false; }

#endif
