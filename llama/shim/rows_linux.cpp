// How quantised matrices are multiplied: by our kernels where there are any (rows_avx512_*.cpp), else by llama.cpp's.
//
// llama.cpp multiplies by tinyBLAS from two rows on. Its tiles are made for prompts: on the processors measured, two rows of
// a quantised matrix take there four times as long as one, and only from eight on does it gain. Two to seven rows are what
// chats side by side and the guesses of a draft have. Kept away from tinyBLAS they take less time, and each comes out to the
// bit as it would alone. Floats stay: there tinyBLAS gains from two rows on. docs/BENCHMARKS.md has the figures.
//
// The linker puts this in front of llama.cpp's function (--wrap), whose source stays as it is. Where a linker cannot, as on
// macOS, llama.cpp decides.
#include "compute_params.h"
#include "rows.h"

#include "ggml.h"

#include <cstdint>

static constexpr int64_t few_rows = 8; // fewer are few

extern "C" bool __real_llamafile_sgemm(const ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * a,
                                       int64_t lda, const void * b, int64_t ldb, void * c, int64_t ldc, int a_type, int b_type,
                                       int c_type);

// False means that ggml multiplies by itself. The result is m×n: n is the number of rows in the batch.
extern "C" bool __wrap_llamafile_sgemm(const ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * a,
                                       int64_t lda, const void * b, int64_t ldb, void * c, int64_t ldc, int a_type, int b_type,
                                       int c_type) {
    static const bool able = cen::has_avx512();
    if (able && c_type == GGML_TYPE_F32) {
        const cen::Product p{ params->ith, params->nth, m, n, k, a, lda, b, ldb, static_cast<float *>(c), ldc };
        if ((b_type == GGML_TYPE_Q8_0 && cen::multiply_q8_0(p, a_type)) ||
            (b_type == GGML_TYPE_Q8_K && cen::multiply_q8_k(p, a_type))) {
            return true;
        }
    }
    if (n < few_rows && ggml_is_quantized(static_cast<ggml_type>(a_type))) {
        return false;
    }
    return __real_llamafile_sgemm(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
}
