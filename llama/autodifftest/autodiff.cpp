#include "autodiff.h"

#include "ggml-cpp.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "gguf.h"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

struct Model {
    gguf_context_ptr                               gguf;
    ggml_context_ptr                               base; // the file's tensors
    ggml_context_ptr                               ctx;  // everything else
    std::string                                    arch;
    std::unordered_map<std::string, ggml_tensor *> trained;
    ggml_tensor *                                  pos  = nullptr;
    ggml_tensor *                                  mask = nullptr;

    Model(const char * path) {
        ggml_context *   c = nullptr;
        gguf_init_params p{ false, &c };
        gguf.reset(gguf_init_from_file(path, p));
        base.reset(c);
        if (gguf == nullptr) {
            throw std::runtime_error("not a model");
        }
        arch = gguf_get_val_str(gguf.get(), gguf_find_key(gguf.get(), "general.architecture"));
        ctx.reset(ggml_init({ size_t(512) << 20, nullptr, false }));
    }

    int64_t number(const char * key) const {
        return gguf_get_val_u32(gguf.get(), gguf_find_key(gguf.get(), (arch + key).c_str()));
    }
    float real(const char * key) const { return gguf_get_val_f32(gguf.get(), gguf_find_key(gguf.get(), (arch + key).c_str())); }

    ggml_tensor * find(const std::string & name) const {
        const auto it = trained.find(name);
        return it != trained.end() ? it->second : ggml_get_tensor(base.get(), name.c_str());
    }

    void train(const autodiff_param & p) {
        const std::string name(p.name);
        ggml_tensor *     t = ggml_get_tensor(base.get(), p.name);
        if (t == nullptr) { // half of a pair
            const ggml_tensor * w = ggml_get_tensor(base.get(), name.substr(0, name.rfind(".lora_")).c_str());
            const bool          a = name.back() == 'a';
            const int64_t       r = p.n / w->ne[a ? 0 : 1];
            t                     = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, a ? w->ne[0] : r, a ? r : w->ne[1]);
        }
        std::memcpy(t->data, p.values, ggml_nbytes(t));
        ggml_set_param(t);
        trained[name] = t;
    }

    ggml_tensor * linear(const std::string & name, ggml_tensor * x) const {
        ggml_tensor * y = ggml_mul_mat(ctx.get(), find(name + ".weight"), x);
        if (ggml_tensor * a = find(name + ".weight.lora_a")) {
            y = ggml_add(ctx.get(), y, ggml_mul_mat(ctx.get(), find(name + ".weight.lora_b"), ggml_mul_mat(ctx.get(), a, x)));
        }
        ggml_tensor * bias = find(name + ".bias");
        return bias == nullptr ? y : ggml_add(ctx.get(), y, bias);
    }

    ggml_tensor * norm(const std::string & name, ggml_tensor * x) const {
        const float eps = real(".attention.layer_norm_rms_epsilon");
        return ggml_mul(ctx.get(), ggml_rms_norm(ctx.get(), x, eps), find(name + ".weight"));
    }

    // The reshape that changes nothing has a backward pass that makes its gradient contiguous, which RoPE's wants.
    ggml_tensor * heads(ggml_tensor * a, int64_t heads, bool turn) const {
        const int64_t head = a->ne[0] / heads, rows = a->ne[1];
        a = ggml_reshape_3d(ctx.get(), a, head, heads, rows);
        if (turn) {
            const int mode = arch == "qwen2" ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
            a = ggml_rope_ext(ctx.get(), a, pos, find("rope_freqs.weight"), head, mode, 0, real(".rope.freq_base"), 1, 0, 1, 0,
                              0);
            a = ggml_reshape_3d(ctx.get(), a, head, heads, rows);
        }
        return ggml_permute(ctx.get(), a, 0, 2, 1, 3);
    }

    ggml_tensor * layer(const std::string & at, ggml_tensor * x) const {
        ggml_context * c = ctx.get();
        const int64_t  h = number(".attention.head_count"), kv = number(".attention.head_count_kv");
        ggml_tensor *  n = norm(at + "attn_norm", x);
        ggml_tensor *  q = heads(linear(at + "attn_q", n), h, true);
        ggml_tensor *  k = heads(linear(at + "attn_k", n), kv, true);
        ggml_tensor *  v = ggml_cont(c, ggml_transpose(c, heads(linear(at + "attn_v", n), kv, false)));
        ggml_tensor *  p = ggml_soft_max_ext(c, ggml_mul_mat(c, k, q), mask, 1 / std::sqrt(float(q->ne[0])), 0);
        ggml_tensor *  o = ggml_permute(c, ggml_mul_mat(c, v, p), 0, 2, 1, 3);
        o                = ggml_cont_2d(c, o, o->ne[0] * o->ne[1], o->ne[2]);
        x                = ggml_add(c, x, linear(at + "attn_output", o));
        n                = norm(at + "ffn_norm", x);
        ggml_tensor * f  = ggml_mul(c, ggml_silu(c, linear(at + "ffn_gate", n)), linear(at + "ffn_up", n));
        return ggml_add(c, x, linear(at + "ffn_down", f));
    }
};

ggml_tensor * ints(Model & m, const std::vector<int32_t> & v) {
    ggml_tensor * t = ggml_new_tensor_1d(m.ctx.get(), GGML_TYPE_I32, v.size());
    std::memcpy(t->data, v.data(), v.size() * sizeof(int32_t));
    return t;
}

double gradients(const char * path, autodiff_param * params, size_t n_params, int32_t n, const int32_t * token,
                 const int32_t * pos, const int32_t * document, const int32_t * label) {
    Model          m(path);
    ggml_context * c = m.ctx.get();
    for (size_t i = 0; i < n_params; i++) {
        m.train(params[i]);
    }
    m.pos  = ints(m, { pos, pos + n });
    m.mask = ggml_new_tensor_2d(c, GGML_TYPE_F32, n, n);
    for (int32_t i = 0; i < n * n; i++) {
        const int32_t sees = i / n, seen = i % n;
        static_cast<float *>(m.mask->data)[i] = seen <= sees && document[seen] == document[sees] ? 0 : -INFINITY;
    }
    ggml_tensor * x = ggml_get_rows(c, m.find("token_embd.weight"), ints(m, { token, token + n }));
    for (int64_t l = 0; l < m.number(".block_count"); l++) {
        x = m.layer("blk." + std::to_string(l) + ".", x);
    }
    std::vector<int32_t> which;
    for (int32_t i = 0; i < n; i++) {
        if (label[i] >= 0) {
            which.push_back(i);
        }
    }
    ggml_tensor * out = m.find("output.weight") != nullptr ? m.find("output.weight") : m.find("token_embd.weight");
    ggml_tensor * z   = ggml_mul_mat(c, out, m.norm("output_norm", ggml_get_rows(c, x, ints(m, which))));
    ggml_tensor * y   = ggml_new_tensor_2d(c, GGML_TYPE_F32, z->ne[0], z->ne[1]);
    ggml_set_zero(y);
    for (size_t i = 0; i < which.size(); i++) {
        static_cast<float *>(y->data)[i * z->ne[0] + label[which[i]]] = 1;
    }
    ggml_tensor * loss = ggml_scale(c, ggml_cross_entropy_loss(c, z, y), static_cast<float>(which.size()));
    ggml_set_loss(loss);
    ggml_cgraph * g = ggml_new_graph_custom(c, 16384, true);
    ggml_build_forward_expand(g, loss);
    ggml_build_backward_expand(c, g, nullptr);
    ggml_graph_reset(g);
    if (ggml_graph_compute_with_ctx(c, g, 1) != GGML_STATUS_SUCCESS) {
        throw std::runtime_error("not computed");
    }
    for (size_t i = 0; i < n_params; i++) {
        const ggml_tensor * d = ggml_graph_get_grad(g, m.trained[params[i].name]);
        if (d == nullptr) {
            throw std::runtime_error(std::string("no gradient of ") + params[i].name);
        }
        std::memcpy(params[i].gradient, d->data, params[i].n * sizeof(float));
    }
    return ggml_get_f32_1d(loss, 0);
}

} // namespace

double autodiff_gradients(const char * path, autodiff_param * params, size_t n_params, int32_t n, const int32_t * token,
                          const int32_t * pos, const int32_t * document, const int32_t * label, char ** err) {
    try {
        return gradients(path, params, n_params, n, token, pos, document, label);
    } catch (const std::exception & e) {
        *err = strdup(e.what());
    }
    return -1;
}
