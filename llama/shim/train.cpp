// Runs blocks through the trainer's graphs: forward layer by layer, keeping each one's input, the head in chunks of rows,
// and backward layer by layer, each computed again first.
#include "train.h"

#include "guard.h"
#include "train_graph.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <stdexcept>

namespace cen::train {

namespace {

struct PoolFree {
    void operator()(ggml_threadpool * p) const { ggml_threadpool_free(p); }
};

// Rows are what a block consists of, as the caller has them.
struct Rows {
    int64_t         n;
    const int32_t * token;
    const int32_t * pos;
    const int32_t * document;
    const int32_t * label;
};

// Block is the memory of a block on the backend. Its number of rows is rounded up: ggml's fast kernels want multiples.
struct Block {
    int64_t                    rows   = 0;
    int64_t                    wanted = 0; // rows with a label
    int64_t                    chunk  = 0; // of them, at most so many go through the output matrix at once
    ggml_context_ptr           ctx;
    ggml_backend_buffer_ptr    buffer;
    ggml_tensor *              token  = nullptr;
    ggml_tensor *              which  = nullptr; // the rows with a label
    ggml_tensor *              g      = nullptr; // the gradient on its way down
    ggml_tensor *              top    = nullptr; // the last layer's output in the rows with a label
    ggml_tensor *              normed = nullptr;
    ggml_tensor *              dtop   = nullptr;
    std::vector<ggml_tensor *> hidden; // what goes into each layer, and what comes out of the last
    ggml_context_ptr           probs_ctx;
    ggml_backend_buffer_ptr    probs_buffer;
    ggml_tensor *              probs = nullptr; // only while the head runs: it takes as much as all layers' inputs and more
};

// How many rows go through the output matrix at once: 64 or more, as long as their probabilities take no more than 160 MiB.
int64_t most_at_once(int64_t vocab) { return std::max<int64_t>(64, (160 << 20) / (vocab * 4)); }

// How many of so many do, if it is about as many each time.
int64_t chunk_of(int64_t rows, int64_t vocab) {
    const int64_t times = std::max<int64_t>(1, (rows + most_at_once(vocab) - 1) / most_at_once(vocab));
    return (rows + times - 1) / times;
}

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

} // namespace

class Trainer {
public:
    Trainer(const char ** paths, size_t n_paths, const cen_trainer_config & c);

    void    run(const Rows & rows, bool backward, float * nll);
    int64_t memory();
    int64_t vocab() const { return base->shape().vocab; }

    Params            params;
    std::atomic<bool> abort{ false };

private:
    void  prepare(int64_t rows);
    void  fill(const Rows & rows);
    void  forward();
    void  head(const Rows & rows, bool backward, float * nll);
    void  begin_probs();
    void  head_chunk(int64_t first, int64_t n, const std::vector<int32_t> & label, bool backward, double * nll);
    void  head_backward();
    void  backward(const Rows & rows);
    void  compute(const Graph & g);
    void  collect(const Grad & g);
    Graph graph() { return Graph(memory_, base->shape(), params, inputs); }
    Graph head_graph(int64_t first, int64_t n);
    Graph layer_backward(int64_t l);

    const cen_trainer_config                   config;
    std::unique_ptr<ggml_threadpool, PoolFree> pool;
    ggml_backend_ptr                           backend;
    std::unique_ptr<Base>                      base;
    Weights                                    weights;
    ggml_gallocr_ptr                           alloc;
    std::vector<char>                          memory_; // of the graph being built
    std::vector<float>                         scratch;
    ggml_context_ptr                           fixed; // owns inputs.iota
    ggml_backend_buffer_ptr                    fixed_buffer;
    Inputs                                     inputs;
    Block                                      block;
};

Trainer::Trainer(const char ** paths, size_t n_paths, const cen_trainer_config & c) : config(c) {
    if (c.gpu) {
        backend.reset(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_GPU, nullptr));
    } else {
        ggml_threadpool_params p = ggml_threadpool_params_default(c.n_threads);
        p.poll                   = static_cast<uint32_t>(c.poll);
        pool.reset(ggml_threadpool_new(&p));
        backend.reset(ggml_backend_cpu_init());
    }
    if (backend == nullptr) {
        throw std::runtime_error("there is no such device");
    }
    if (!c.gpu) {
        if (pool == nullptr) {
            throw std::runtime_error("no threads could be started");
        }
        ggml_backend_cpu_set_n_threads(backend.get(), c.n_threads);
        ggml_backend_cpu_set_threadpool(backend.get(), pool.get());
        ggml_backend_cpu_set_abort_callback(
            backend.get(), [](void * t) { return static_cast<Trainer *>(t)->abort.load(std::memory_order_relaxed); }, this);
    }
    base = std::make_unique<Base>(paths, n_paths, backend.get());
    if (c.rank > 0) {
        add_pairs(params, *base, c.rank, c.targets);
    } else {
        add_all(params, *base);
    }
    params.alloc(backend.get());
    if (c.rank == 0) {
        copy_all(params, *base);
        params.upload();
    }
    weights = bind(params, *base);
    // ggml multiplies BF16 fast on these, and it takes half the memory.
    if (!c.gpu && !c.exact && ggml_cpu_has_avx2() != 0 && ggml_is_quantized(weights.layers[0].q.w->type)) {
        inputs.turned = GGML_TYPE_BF16;
        inputs.own    = true;
        inputs.dense  = ggml_cpu_has_avx512_bf16() != 0;
    }
    alloc.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend.get())));

    const Shape & s = base->shape();
    const int64_t n = std::max({ s.embed, s.forward, s.head * s.heads, s.head * s.kvs, Graph::part_of(s.vocab) });
    fixed.reset(ggml_init({ ggml_tensor_overhead() * 2, nullptr, true }));
    inputs.iota = ggml_new_tensor_1d(fixed.get(), GGML_TYPE_I32, n);
    fixed_buffer.reset(ggml_backend_alloc_ctx_tensors(fixed.get(), backend.get()));
    std::vector<int32_t> iota(n);
    for (int64_t i = 0; i < n; i++) {
        iota[i] = static_cast<int32_t>(i);
    }
    ggml_backend_tensor_set(inputs.iota, iota.data(), 0, n * sizeof(int32_t));
}

// The memory of a block is kept for the next one of as many rows.
void Trainer::prepare(int64_t n) {
    const int64_t rows = round_up(n, 32);
    if (block.ctx != nullptr && block.rows == rows) {
        return;
    }
    const Shape & s  = base->shape();
    Inputs &      in = inputs;
    Block &       b  = block;
    b                = Block{};
    b.rows           = rows;
    b.ctx.reset(ggml_init({ ggml_tensor_overhead() * (16 + s.layers), nullptr, true }));
    const auto numbers = [&](int64_t n0, int64_t n1) { return ggml_new_tensor_2d(b.ctx.get(), GGML_TYPE_F32, n0, n1); };
    const auto whole   = [&](int64_t n0) { return ggml_new_tensor_1d(b.ctx.get(), GGML_TYPE_I32, n0); };
    b.token            = whole(rows);
    in.pos             = whole(rows);
    in.negated         = whole(rows);
    in.mask            = numbers(rows, rows);
    in.ones            = ggml_new_tensor_3d(b.ctx.get(), GGML_TYPE_F32, Graph::step, rows, s.kvs);
    b.g                = numbers(s.embed, rows);
    for (int64_t l = 0; l <= s.layers; l++) {
        b.hidden.push_back(numbers(s.embed, rows));
    }
    b.which  = whole(rows);
    b.top    = numbers(s.embed, rows);
    b.normed = numbers(s.embed, rows);
    b.dtop   = numbers(s.embed, rows);
    b.buffer.reset(ggml_backend_alloc_ctx_tensors(b.ctx.get(), backend.get()));
    if (b.buffer == nullptr) {
        b.ctx.reset();
        throw std::runtime_error("no memory for a block of " + std::to_string(n) + " rows");
    }
    const std::vector<float> ones(ggml_nelements(in.ones), 1);
    ggml_backend_tensor_set(in.ones, ones.data(), 0, ones.size() * sizeof(float));
}

void Trainer::fill(const Rows & r) {
    const int64_t        n = block.rows;
    std::vector<int32_t> token(n, 0), pos(n, 0), negated(n, 0), which;
    std::vector<float>   mask(n * n, -INFINITY);
    for (int64_t i = 0; i < r.n; i++) {
        token[i]   = r.token[i];
        pos[i]     = r.pos[i];
        negated[i] = -r.pos[i];
        if (r.label[i] >= 0) {
            which.push_back(static_cast<int32_t>(i));
        }
        for (int64_t j = 0; j < i; j++) {
            if (r.document[i] == r.document[j]) {
                mask[i * n + j] = 0;
            }
        }
    }
    for (int64_t i = 0; i < n; i++) {
        mask[i * n + i] = 0;
    }
    ggml_backend_tensor_set(block.token, token.data(), 0, n * sizeof(int32_t));
    ggml_backend_tensor_set(inputs.pos, pos.data(), 0, n * sizeof(int32_t));
    ggml_backend_tensor_set(inputs.negated, negated.data(), 0, n * sizeof(int32_t));
    ggml_backend_tensor_set(inputs.mask, mask.data(), 0, mask.size() * sizeof(float));
    if (!which.empty()) {
        ggml_backend_tensor_set(block.which, which.data(), 0, which.size() * sizeof(int32_t));
    }
}

void Trainer::run(const Rows & r, bool with_gradient, float * nll) {
    const int64_t wanted = std::count_if(r.label, r.label + r.n, [](int32_t l) { return l >= 0; });
    prepare(r.n);
    block.wanted = wanted;
    block.chunk  = chunk_of(wanted, base->shape().vocab);
    fill(r);
    if (wanted == 0) {
        return;
    }
    forward();
    head(r, with_gradient, nll);
    if (with_gradient) {
        backward(r);
    }
}

void Trainer::forward() {
    Graph first = graph();
    first.store(first.embed(weights.embed, block.token), block.hidden[0]);
    compute(first);
    for (int64_t l = 0; l < base->shape().layers; l++) {
        Graph g = graph();
        g.store(g.forward(weights.layers[l], block.hidden[l], weights.rope_freqs), block.hidden[l + 1]);
        compute(g);
    }
}

void Trainer::begin_probs() {
    block.probs_buffer.reset();
    block.probs_ctx.reset(ggml_init({ ggml_tensor_overhead(), nullptr, true }));
    block.probs = ggml_new_tensor_2d(block.probs_ctx.get(), GGML_TYPE_F32, base->shape().vocab, block.chunk);
    block.probs_buffer.reset(ggml_backend_alloc_ctx_tensors(block.probs_ctx.get(), backend.get()));
    if (block.probs_buffer == nullptr) {
        throw std::runtime_error("no memory for the probabilities of " + std::to_string(block.chunk) + " rows");
    }
}

void Trainer::head(const Rows & r, bool with_gradient, float * nll) {
    Graph         g   = graph();
    ggml_tensor * top = g.rows(block.hidden.back(), g.begin(block.which, block.wanted));
    g.store(top, g.columns(block.top, 0, block.wanted));
    g.store(g.norm(weights.norm, top), g.columns(block.normed, 0, block.wanted));
    compute(g);

    std::vector<int32_t> label;
    std::vector<int64_t> at;
    for (int64_t i = 0; i < r.n; i++) {
        if (r.label[i] >= 0) {
            label.push_back(r.label[i]);
            at.push_back(i);
        }
    }
    begin_probs();
    std::vector<double> loss(block.chunk);
    for (int64_t first = 0; first < block.wanted; first += block.chunk) {
        const int64_t n = std::min(block.chunk, block.wanted - first);
        head_chunk(first, n, label, with_gradient, loss.data());
        for (int64_t i = 0; i < n; i++) {
            nll[at[first + i]] = static_cast<float>(loss[i]);
        }
    }
    block.probs_buffer.reset();
    if (with_gradient) {
        head_backward();
    }
}

void Trainer::head_chunk(int64_t first, int64_t n, const std::vector<int32_t> & label, bool with_gradient, double * nll) {
    Graph g = graph();
    g.probabilities(weights.out, g.columns(block.normed, first, n), block.probs);
    compute(g);
    for (int64_t i = 0; i < n; i++) {
        const size_t at = (i * base->shape().vocab + label[first + i]) * sizeof(float);
        float        p  = 0;
        ggml_backend_tensor_get(block.probs, &p, at, sizeof(p));
        nll[i] = -std::log(static_cast<double>(std::max(p, FLT_MIN)));
        if (with_gradient) { // what is left in place is the gradient of the logits
            p -= 1;
            ggml_backend_tensor_set(block.probs, &p, at, sizeof(p));
        }
    }
    if (with_gradient) {
        compute(head_graph(first, n));
    }
}

Graph Trainer::head_graph(int64_t first, int64_t n) {
    Graph         g = graph();
    ggml_tensor * d = g.logits_backward(weights.out, g.columns(block.normed, first, n), g.columns(block.probs, 0, n));
    g.store(d, g.columns(block.dtop, first, n));
    return g;
}

// Rows without a label have no gradient at the top.
void Trainer::head_backward() {
    Graph         g    = graph();
    ggml_tensor * dtop = g.columns(block.dtop, 0, block.wanted);
    g.store(g.norm_backward(weights.norm, g.columns(block.top, 0, block.wanted), dtop), dtop);
    compute(g);

    const int64_t        width = base->shape().embed;
    std::vector<int32_t> which(block.wanted);
    std::vector<float>   some(block.wanted * width), all(block.rows * width, 0);
    ggml_backend_tensor_get(block.which, which.data(), 0, which.size() * sizeof(int32_t));
    ggml_backend_tensor_get(block.dtop, some.data(), 0, some.size() * sizeof(float));
    for (int64_t i = 0; i < block.wanted; i++) {
        std::copy_n(&some[i * width], width, &all[which[i] * width]);
    }
    ggml_backend_tensor_set(block.g, all.data(), 0, all.size() * sizeof(float));
}

Graph Trainer::layer_backward(int64_t l) {
    Graph         g  = graph();
    const bool    go = l > 0 || params.of(weights.embed) != nullptr;
    ggml_tensor * dx = g.backward(weights.layers[l], block.hidden[l], weights.rope_freqs, block.g, go);
    if (dx != nullptr) {
        g.store(dx, block.g);
    }
    return g;
}

void Trainer::backward(const Rows & r) {
    for (int64_t l = base->shape().layers - 1; l >= 0; l--) {
        compute(layer_backward(l));
    }
    const Param * embed = params.of(weights.embed);
    if (embed == nullptr) {
        return;
    }
    const int64_t      width = base->shape().embed;
    std::vector<float> g(block.rows * width);
    ggml_backend_tensor_get(block.g, g.data(), 0, g.size() * sizeof(float));
    for (int64_t i = 0; i < r.n; i++) {
        float * to = params.gradients() + embed->offset + r.token[i] * width;
        for (int64_t j = 0; j < width; j++) {
            to[j] += g[i * width + j];
        }
    }
}

void Trainer::compute(const Graph & g) {
    if (!ggml_gallocr_alloc_graph(alloc.get(), g.graph())) {
        throw std::runtime_error("no memory for the graph of a layer");
    }
    const ggml_status status = abort.load() ? GGML_STATUS_ABORTED : ggml_backend_graph_compute(backend.get(), g.graph());
    if (status == GGML_STATUS_ABORTED) {
        throw std::runtime_error("interrupted");
    }
    if (status != GGML_STATUS_SUCCESS) {
        throw std::runtime_error(std::string("the backend reports ") + ggml_status_to_string(status));
    }
    for (const Grad & part : g.gradients()) {
        collect(part);
    }
}

void Trainer::collect(const Grad & part) {
    const int64_t n    = ggml_nelements(part.value);
    const float * from = static_cast<const float *>(part.value->data);
    if (!ggml_backend_buffer_is_host(part.value->buffer)) {
        scratch.resize(n);
        ggml_backend_tensor_get(part.value, scratch.data(), 0, n * sizeof(float));
        from = scratch.data();
    }
    float * to = params.gradients() + part.param->offset + part.first;
    for (int64_t i = 0; i < n; i++) {
        to[i] += from[i];
    }
}

// Nothing is computed: the largest graphs are laid out, and what they would take is added to what is there.
int64_t Trainer::memory() {
    prepare(config.context);
    block.chunk     = chunk_of(config.context, base->shape().vocab);
    int64_t    most = 0;
    const auto take = [&](const Graph & g) {
        for (int i = 0; i < ggml_graph_n_nodes(g.graph()); i++) {
            const ggml_tensor * t = ggml_graph_node(g.graph(), i);
            if (!ggml_backend_supports_op(backend.get(), t)) {
                throw std::runtime_error(std::string("this device cannot compute ") + ggml_op_desc(t) + " of " +
                                         ggml_type_name(t->src[0]->type));
            }
        }
        size_t size = 0;
        ggml_gallocr_reserve_n_size(alloc.get(), g.graph(), nullptr, nullptr, &size);
        most = std::max(most, static_cast<int64_t>(size));
    };
    begin_probs();
    take(head_graph(0, block.chunk));
    const auto probs = static_cast<int64_t>(ggml_backend_buffer_get_size(block.probs_buffer.get()));
    block.probs_buffer.reset();
    take(layer_backward(base->shape().layers - 1));
    constexpr int64_t copies = 4; // values, gradients, and the optimiser's two
    const int64_t     fixed  = static_cast<int64_t>(base->bytes() + params.count() * sizeof(float) * copies);
    return fixed + static_cast<int64_t>(ggml_backend_buffer_get_size(block.buffer.get())) + probs + most;
}

} // namespace cen::train

struct cen_trainer : cen::train::Trainer {
    using Trainer::Trainer;
};

const char * cen_trainer_target(int32_t i) {
    const auto n = static_cast<int32_t>(std::size(cen::train::linears));
    return i >= 0 && i < n ? cen::train::linears[i].name : nullptr;
}

cen_trainer * cen_trainer_new(const char ** paths, size_t n_paths, cen_trainer_config c, char ** err) {
    return cen::guard<cen_trainer *>(err, nullptr, [&] { return new cen_trainer(paths, n_paths, c); });
}

void cen_trainer_free(cen_trainer * t) { delete t; }

int64_t cen_trainer_memory(cen_trainer * t, char ** err) {
    return cen::guard<int64_t>(err, -1, [&] { return t->memory(); });
}

int64_t cen_trainer_vocab(const cen_trainer * t) { return t->vocab(); }

size_t cen_trainer_params(const cen_trainer * t) { return t->params.all().size(); }

cen_param cen_trainer_param(const cen_trainer * t, size_t i) {
    const cen::train::Param & p = t->params.all()[i];
    return { p.name.c_str(), { p.value->ne[0], p.value->ne[1] }, p.offset };
}

float * cen_trainer_values(cen_trainer * t, size_t * n) {
    *n = t->params.count();
    return t->params.values();
}

float * cen_trainer_gradients(cen_trainer * t) { return t->params.gradients(); }

int32_t cen_trainer_changed(cen_trainer * t, char ** err) {
    return cen::guard<int32_t>(err, -1, [&] {
        t->params.upload();
        return 0;
    });
}

int32_t cen_trainer_run(cen_trainer * t, int32_t n, const int32_t * token, const int32_t * pos, const int32_t * document,
                        const int32_t * label, bool backward, float * nll, char ** err) {
    return cen::guard<int32_t>(err, -1, [&] {
        t->run({ n, token, pos, document, label }, backward, nll);
        return 0;
    });
}

void cen_trainer_abort(cen_trainer * t, bool abort) { t->abort.store(abort); }
