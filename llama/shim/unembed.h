// The output matrix by itself, for a stage that is given the rows that go into it by another machine.
#pragma once

#include "llama.h"

#include "ggml-cpp.h"
#include "ggml-cpu.h"

#include <unordered_map>
#include <vector>

namespace cen {

// Adapters, each with its strength. It is the container that llama.cpp has them in, so that they are laid over the model in the
// same order.
using Adapters = std::unordered_map<llama_adapter_lora *, float>;

class Unembedding {
public:
    // Throws if the model has no output matrix. threads are the caller's; abort, asked with data, ends a multiplication.
    Unembedding(const llama_model * model, ggml_threadpool * threads, int32_t n_threads, ggml_abort_callback abort, void * data);

    void set_threads(int32_t n_threads);

    // Multiplies n rows, as they are after the last norm, and writes n × vocabulary logits. Throws if it cannot.
    void run(int32_t n, const float * rows, const Adapters & adapters, float * logits);

private:
    const llama_model *           model;
    std::vector<ggml_backend_ptr> backends; // of the matrix, if that is not the processor's; and the processor's
    ggml_backend_sched_ptr        sched;
};

} // namespace cen
