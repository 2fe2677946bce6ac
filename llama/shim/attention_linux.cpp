// How a row looks back at what was before it.
//
// For a single row of a text of 512 tokens or more llama.cpp gives each thread a part of the text and adds up what they find. So
// its last bits depend on how many threads there are, and differ from those of a row beside others: a guess that is checked would
// come out otherwise than the token it is checked against. Without that it is done as for any few rows, each head by one
// thread, which takes as long.
//
// The linker puts this in front of llama.cpp's function (--wrap), whose source stays as it is.
#include "compute_params.h"

#include "ggml.h"

extern "C" void __real_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);

extern "C" void __wrap_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst) {
    ggml_compute_params whole = *params;
    whole.use_ref             = params->use_ref || dst->src[0]->ne[1] == 1; // no parts, and no tiles, which one row has not
    __real_ggml_compute_forward_flash_attn_ext(&whole, dst);
}
