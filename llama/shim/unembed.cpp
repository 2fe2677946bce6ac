// The end of a graph whose beginning another machine has computed. llama.cpp's own graphs begin with a layer.
//
// What is multiplied are the model's own tensors where llama.cpp has put them (repacked for the processor, or on a GPU), by
// the operations of its own graph (build_lora_mm in llama-graph.cpp), so that what comes out is the same to the bit.
#include "unembed.h"

// Of llama.cpp's inside: which tensor is the output matrix, and what an adapter has for it.
#include "llama-adapter.h"
#include "llama-model.h"

#include <stdexcept>

namespace cen {

static ggml_backend_ptr made(ggml_backend_t b) {
    if (b == nullptr) {
        throw std::runtime_error("a backend could not be made");
    }
    return ggml_backend_ptr(b);
}

Unembedding::Unembedding(const llama_model * m, ggml_threadpool * threads, int32_t n_threads, ggml_abort_callback abort,
                         void * data)
    : model(m) {
    if (model->output == nullptr || model->output_s != nullptr) {
        throw std::runtime_error("there is no output matrix that can be multiplied by itself");
    }
    const ggml_backend_dev_t dev = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(model->output->buffer));
    if (dev != nullptr && ggml_backend_dev_type(dev) != GGML_BACKEND_DEVICE_TYPE_CPU) {
        backends.push_back(made(ggml_backend_dev_init(dev, nullptr)));
    }
    backends.push_back(made(ggml_backend_cpu_init()));
    const ggml_backend_t processor = backends.back().get();
    ggml_backend_cpu_set_n_threads(processor, n_threads);
    ggml_backend_cpu_set_threadpool(processor, threads);
    ggml_backend_cpu_set_abort_callback(processor, abort, data);
    ggml_backend_t order[] = { backends.front().get(), processor };
    sched.reset(ggml_backend_sched_new(order, nullptr, static_cast<int>(backends.size()), GGML_DEFAULT_GRAPH_SIZE, false, true));
}

void Unembedding::set_threads(int32_t n_threads) { ggml_backend_cpu_set_n_threads(backends.back().get(), n_threads); }

void Unembedding::run(int32_t n, const float * rows, const Adapters & adapters, float * logits) {
    const size_t           nodes = 8 + 5 * adapters.size();
    const ggml_init_params init{ ggml_tensor_overhead() * nodes + ggml_graph_overhead_custom(nodes, false), nullptr, true };
    const ggml_context_ptr ctx(ggml_init(init));
    ggml_cgraph *          g      = ggml_new_graph_custom(ctx.get(), nodes, false);
    ggml_tensor *          matrix = model->output;

    ggml_tensor * in = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, matrix->ne[0], n);
    ggml_set_input(in);
    ggml_tensor * out = ggml_mul_mat(ctx.get(), matrix, in);
    for (const auto & [adapter, strength] : adapters) {
        const llama_adapter_lora_weight * w = adapter->get_weight(matrix);
        if (w != nullptr) {
            ggml_tensor * change = ggml_mul_mat(ctx.get(), w->b, ggml_mul_mat(ctx.get(), w->a, in));
            out = ggml_add(ctx.get(), out, ggml_scale(ctx.get(), change, w->get_scale(adapter->alpha, strength)));
        }
    }
    if (model->output_b != nullptr) {
        out = ggml_add(ctx.get(), out, model->output_b);
    }
    ggml_set_output(out);
    ggml_build_forward_expand(g, out);

    ggml_backend_sched_reset(sched.get());
    if (!ggml_backend_sched_alloc_graph(sched.get(), g)) {
        throw std::runtime_error("no memory for the output matrix's graph");
    }
    ggml_backend_tensor_set(in, rows, 0, ggml_nbytes(in));
    if (ggml_backend_sched_graph_compute(sched.get(), g) != GGML_STATUS_SUCCESS) {
        throw std::runtime_error("the output matrix was not multiplied");
    }
    ggml_backend_tensor_get(out, logits, 0, ggml_nbytes(out));
}

} // namespace cen
