// The forward and the backward pass of a layer, as graphs of forward operations only: products are `mul_mat`, softmax,
// norm and RoPE are undone by arithmetic. So they run wherever a model runs, and a quantised matrix is never walked
// through once a row, as OUT_PROD does it.
#pragma once

#include "train_model.h"

#include <algorithm>
#include <unordered_map>

namespace cen::train {

// Inputs are what the rows of a block are, on the backend.
struct Inputs {
    ggml_tensor * pos     = nullptr;
    ggml_tensor * negated = nullptr;       // positions, to turn back what RoPE has turned
    ggml_tensor * mask    = nullptr;       // [row that is seen, row that sees]: 0 or -infinity
    ggml_tensor * iota    = nullptr;       // 0, 1, 2, ...
    ggml_tensor * ones    = nullptr;       // [step, rows, KV heads]
    ggml_type     turned  = GGML_TYPE_F32; // what is transposed becomes this if precision allows
    bool          own     = false;         // quantised matrices are transposed here, to BF16
    bool          dense   = false;         // and multiplied as BF16 on the way up
};

// Grad is a part of a parameter's gradient, to be added from the given number on.
struct Grad {
    const Param * param;
    size_t        first;
    ggml_tensor * value;
};

// Graph is one graph while it is built. Operations are computed in the order in which they are written down.
class Graph {
public:
    Graph(std::vector<char> & memory, const Shape & s, const Params & p, const Inputs & in);

    ggml_tensor * embed(ggml_tensor * table, ggml_tensor * tokens);
    ggml_tensor * forward(const Layer & l, ggml_tensor * x, ggml_tensor * rope_freqs);
    // The gradient of the layer's input, if it is wanted; those of its parameters go to grads.
    ggml_tensor * backward(const Layer & l, ggml_tensor * x, ggml_tensor * rope_freqs, ggml_tensor * g, bool wants_x);

    ggml_tensor * norm(ggml_tensor * w, ggml_tensor * x);
    ggml_tensor * norm_backward(ggml_tensor * w, ggml_tensor * x, ggml_tensor * g);
    // The logits become probabilities in the memory at `at`, where they stay after the graph.
    void          probabilities(const Linear & out, ggml_tensor * x, ggml_tensor * at);
    ggml_tensor * logits_backward(const Linear & out, ggml_tensor * x, ggml_tensor * dz);

    ggml_tensor * rows(ggml_tensor * x, ggml_tensor * which);
    ggml_tensor * columns(ggml_tensor * x, int64_t first, int64_t n); // a view
    ggml_tensor * begin(ggml_tensor * list, int64_t n);               // a view
    void          store(ggml_tensor * from, ggml_tensor * to);

    // How many rows of the output matrix are transposed at a time.
    static int64_t part_of(int64_t vocab) { return std::max<int64_t>(4096, vocab / 256 + 1); }

    ggml_cgraph *             graph() const { return g; }
    const std::vector<Grad> & gradients() const { return grads; }

    static constexpr size_t  max_nodes = 4096;
    static constexpr int64_t step      = 16; // ggml's fast products want sums of a multiple of so many numbers

private:
    struct Use { // of a linear map
        const Linear * l;
        ggml_tensor *  x;
        ggml_tensor *  z; // a x
        ggml_tensor *  y;
    };
    struct Norm {
        ggml_tensor * w;
        ggml_tensor * x;
        ggml_tensor * y; // before the weight
        ggml_tensor * out;
    };
    struct Pass { // what the backward pass of a layer needs of the forward one
        Norm          attn, ffn;
        Use           q, k, v, o, gate, up, down;
        ggml_tensor * qh; // [head, rows, heads]
        ggml_tensor * kh;
        ggml_tensor * vh;
        ggml_tensor * p;    // [row that is seen, row that sees, heads]
        ggml_tensor * seen; // [head, rows, heads]
        ggml_tensor * silu;
        ggml_tensor * out;
    };

    Pass          pass(const Layer & l, ggml_tensor * x, ggml_tensor * rope_freqs, bool again);
    ggml_tensor * feed_backward(const Pass & f, ggml_tensor * g);
    ggml_tensor * attend_backward(const Pass & f, ggml_tensor * rope_freqs, ggml_tensor * g, bool wants_x);
    Use           linear(const Linear & l, ggml_tensor * x, bool wants_y = true);
    ggml_tensor * linear_backward(const Use & u, ggml_tensor * g, bool wants_x = true);
    Norm          normalised(ggml_tensor * w, ggml_tensor * x);
    ggml_tensor * normalised_backward(const Norm & n, ggml_tensor * g);

    ggml_tensor * run(ggml_tensor * t); // puts t next in the order
    ggml_tensor * mul_mat(ggml_tensor * a, ggml_tensor * b) { return run(ggml_mul_mat(ctx.get(), a, b)); }
    ggml_tensor * add(ggml_tensor * a, ggml_tensor * b) { return run(ggml_add(ctx.get(), a, b)); }
    ggml_tensor * sub(ggml_tensor * a, ggml_tensor * b) { return run(ggml_sub(ctx.get(), a, b)); }
    ggml_tensor * mul(ggml_tensor * a, ggml_tensor * b) { return run(ggml_mul(ctx.get(), a, b)); }
    ggml_tensor * scale(ggml_tensor * a, float s, float b = 0) { return run(ggml_scale_bias(ctx.get(), a, s, b)); }
    ggml_tensor * sum_rows(ggml_tensor * a) { return run(ggml_sum_rows(ctx.get(), a)); }
    ggml_tensor * rope(ggml_tensor * a, ggml_tensor * pos, ggml_tensor * freqs);
    ggml_tensor * flip(ggml_tensor * a);   // transposed; made once for each a
    ggml_tensor * thin(ggml_tensor * a);   // transposed, perhaps with less precision; made once for each a
    ggml_tensor * padded(ggml_tensor * a); // rows that are a multiple of step long
    ggml_tensor * weights(ggml_tensor * w, int64_t first, int64_t n); // rows of w in F32
    ggml_tensor * turned(ggml_tensor * w, int64_t first, int64_t n);  // rows of w transposed, perhaps with less precision
    ggml_tensor * dense(ggml_tensor * w);                             // w as it is multiplied fastest on the way up
    ggml_tensor * to_heads(ggml_tensor * a, int64_t heads);           // [head * heads, rows] to [head, rows, heads]
    ggml_tensor * grouped(ggml_tensor * a);                           // heads that share a KV head, behind each other
    ggml_tensor * swap(ggml_tensor * a);                              // the second and the third dimension
    bool          trains(const ggml_tensor * t) const { return params.of(t) != nullptr; }
    void          grad(ggml_tensor * of, ggml_tensor * value, size_t first = 0);

    const Shape &                                    shape;
    const Params &                                   params;
    const Inputs &                                   in;
    ggml_context_ptr                                 ctx;
    ggml_cgraph *                                    g = nullptr;
    std::vector<Grad>                                grads;
    std::unordered_map<ggml_tensor *, ggml_tensor *> flipped, thinned;
};

} // namespace cen::train
