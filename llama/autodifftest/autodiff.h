#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct autodiff_param {
    const char *  name;
    const float * values;
    float *       gradient; // out
    int64_t       n;
} autodiff_param;

// The sum of the losses of all rows with a label; negative with *err set if it cannot be had.
double autodiff_gradients(const char * path, autodiff_param * params, size_t n_params, int32_t n, const int32_t * token,
                          const int32_t * pos, const int32_t * document, const int32_t * label, char ** err);

#ifdef __cplusplus
}
#endif
