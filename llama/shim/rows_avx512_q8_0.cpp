// Matrices in blocks of 32 on processors with AVX-512 and its instructions for products of bytes (VNNI): Q8_0 and Q5_0. The
// batch is in Q8_0.
//
// llama.cpp's kernels unpack a block of weights for each row of the batch anew, or for four, in half a register. Here two rows of
// the matrix are unpacked at once, one in each half of a register, and multiplied by eight rows of the batch before the next
// block is looked at. Each half does for its row, in the same order, the float operations that theirs do (ggml_vec_dot_*_q8_0 in
// arch/x86/quants.c, tinyBLAS_Q0_AVX in llamafile/sgemm.cpp), so that the result is the same to the bit; what is done with
// integers is exact in any order. Whether that is so is tried before a kernel is used.
#include "rows_avx512.h"

#ifdef CEN_AVX512

namespace {

using namespace cen::avx512;

struct q8_0 {
    using block                = block_q8_0;
    static constexpr char move = static_cast<char>(128);

    static __m512i load(const block & a, const block & b) { return _mm512_xor_si512(both(a.qs, b.qs), _mm512_set1_epi8(move)); }
};

struct q5_0 {
    using block                = block_q5_0;
    static constexpr char move = 16;

    static __m512i load(const block & a, const block & b) {
        const __m256i lower = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(a.qs)));
        const __m256i upper = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(b.qs)));
        const __m512i two   = _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1);
        const __m512i four =
            _mm512_and_si512(_mm512_srlv_epi64(two, _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0)), _mm512_set1_epi8(15));
        uint32_t first;
        uint32_t second;
        std::memcpy(&first, a.qh, sizeof first);
        std::memcpy(&second, b.qh, sizeof second);
        const __mmask64 fifth = first | static_cast<uint64_t>(second) << 32;
        return _mm512_mask_add_epi8(four, fifth, four, _mm512_set1_epi8(16));
    }
};

// Weights load two rows' blocks as unsigned bytes: products are of unsigned and signed ones, so weights are moved up, by as much
// as makes them unsigned, and what that adds is taken off.
template <typename Weights> struct kernel {
    using block = typename Weights::block;
    using batch = block_q8_0;

    struct alignas(32) ready {
        __m256i y;
        __m256i less; // minus the move times the sum of each four bytes of y
        float   d;
    };

    static void prepare(ready * out, const batch * y, int64_t ldy, int64_t n, int64_t blocks) {
        const __m256i by = _mm256_set1_epi8(Weights::move);
        for (int64_t i = 0; i < blocks; i++) {
            for (int64_t j = 0; j < n; j++) {
                const batch & b = y[j * ldy + i];
                ready &       r = *out++;
                r.y             = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(b.qs));
                r.less          = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_dpbusd_epi32(_mm256_setzero_si256(), by, r.y));
                r.d             = to_float(b.d);
            }
        }
    }

    // Pairs of rows from x on, which are step blocks apart: what is loaded of the batch serves all of them.
    template <int n, int pairs>
    static void multiply(const block * x, int64_t step, bool odd, const ready * r, int64_t blocks, float * out, int64_t ldo) {
        const block * a[pairs];
        const block * b[pairs];
        __m512        acc[pairs][n];
        for (int k = 0; k < pairs; k++) {
            a[k] = x + 2 * k * step;
            b[k] = odd ? a[k] : a[k] + step;
            for (int j = 0; j < n; j++) {
                acc[k][j] = _mm512_setzero_ps();
            }
        }
        for (int64_t i = 0; i < blocks; i++, r += n) {
            fetch<2 * pairs * sizeof(block)>(x + 2 * pairs * i);
            __m512i w[pairs];
            __m512  d[pairs];
            for (int k = 0; k < pairs; k++) {
                w[k] = Weights::load(a[k][i], b[k][i]);
                d[k] = both(a[k][i].d, b[k][i].d);
            }
            for (int j = 0; j < n; j++) {
                const __m512i y    = twice(&r[j].y);
                const __m512i less = twice(&r[j].less);
                const __m512  by   = _mm512_set1_ps(r[j].d);
                for (int k = 0; k < pairs; k++) {
                    const __m512 p = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(less, w[k], y));
                    acc[k][j]      = _mm512_fmadd_ps(_mm512_mul_ps(d[k], by), p, acc[k][j]);
                }
            }
        }
        for (int j = 0; j < n; j++, out += ldo) {
            for (int k = 0; k < pairs; k++) {
                out[2 * k] = sum(_mm512_castps512_ps256(acc[k][j]));
                if (!odd) {
                    out[2 * k + 1] = sum(_mm512_extractf32x8_ps(acc[k][j], 1));
                }
            }
        }
    }

    template <int n>
    static void multiply(const block * x, int64_t ldx, const ready * y, int64_t blocks, float * out, int64_t ldo, int64_t first,
                         int64_t end) {
        int64_t row = first;
        // A row alone waits for memory, which brings two rows in a row sooner than four.
        for (; n > 1 && row + 4 <= end; row += 4) {
            multiply<n, 2>(x + row * ldx, ldx, false, y, blocks, out + row, ldo);
        }
        for (; row < end; row += 2) {
            multiply<n, 1>(x + row * ldx, ldx, row + 1 == end, y, blocks, out + row, ldo);
        }
    }

    static void sample_weights(block & x, std::mt19937 & random) {
        fill(x, random);
        x.d = half(random);
    }

    static void sample_batch(batch & y, std::mt19937 & random) {
        fill(y, random);
        for (int8_t & q : y.qs) {
            q = std::max<int8_t>(q, -127); // as all that was quantised here; ggml's kernels cannot negate -128
        }
        y.d = half(random);
    }
};

} // namespace

bool cen::multiply_q8_0(const Product & p, int a_type) {
    switch (a_type) {
        case GGML_TYPE_Q8_0:
            return try_run<kernel<q8_0>>(p, GGML_TYPE_Q8_0);
        case GGML_TYPE_Q5_0:
            return try_run<kernel<q5_0>>(p, GGML_TYPE_Q5_0);
        default:
            return false;
    }
}

#pragma GCC pop_options

#else

bool cen::multiply_q8_0(const Product &, int) { return false; }

#endif
