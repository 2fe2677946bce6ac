// The C surface of the trainer: gradients of a model's loss for what is trained of it. The optimiser is llama/trainer.go.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cen_trainer_config {
    int32_t  rank;    // of the pairs A and B that are trained; 0: all tensors of the model are, in F32
    uint32_t targets; // bit i: the i-th of the seven matrices of a layer, in the order of cen_trainer_target
    int32_t  context; // most rows of a block
    int32_t  n_threads;
    int32_t  poll; // as in cen_context_params
    bool     gpu;
    bool     exact; // keeps F32 on the way down where the base is quantised
} cen_trainer_config;

// The name of the i-th matrix that a pair may be trained for, such as "attn_q"; NULL after the last.
const char * cen_trainer_target(int32_t i);

typedef struct cen_trainer cen_trainer;
cen_trainer *              cen_trainer_new(const char ** paths, size_t n_paths, cen_trainer_config c, char ** err);
void                       cen_trainer_free(cen_trainer * t);
int64_t                    cen_trainer_memory(cen_trainer * t, char ** err); // most bytes that a block will need, all told

typedef struct cen_param {
    const char * name;
    int64_t      dims[2]; // row length first; 1 for a vector's second
    size_t       offset;  // into the values and the gradients
} cen_param;

int64_t   cen_trainer_vocab(const cen_trainer * t);
size_t    cen_trainer_params(const cen_trainer * t);
cen_param cen_trainer_param(const cen_trainer * t, size_t i);

// All parameters behind each other, and their gradients. Between them lie a few numbers that are not used.
float * cen_trainer_values(cen_trainer * t, size_t * n);
float * cen_trainer_gradients(cen_trainer * t);
int32_t cen_trainer_changed(cen_trainer * t, char ** err); // to be called after values were written

// Computes the loss of each row with a label >= 0 into nll, and with backward adds the gradient of their sum. A row is a
// token of a document; it sees the rows of that document that are not after it.
int32_t cen_trainer_run(cen_trainer * t, int32_t n, const int32_t * token, const int32_t * pos, const int32_t * document,
                        const int32_t * label, bool backward, float * nll, char ** err);
// Stops a run on another thread, or the next one, until it is called with false.
void cen_trainer_abort(cen_trainer * t, bool abort);

#ifdef __cplusplus
}
#endif
