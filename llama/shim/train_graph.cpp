#include "train_graph.h"

#include "ggml-backend.h"

#include <cmath>

namespace cen::train {

Graph::Graph(std::vector<char> & memory, const Shape & s, const Params & p, const Inputs & inputs)
    : shape(s), params(p), in(inputs) {
    memory.resize(ggml_tensor_overhead() * max_nodes * 2 + ggml_graph_overhead_custom(max_nodes, false));
    const ggml_init_params init{ memory.size(), memory.data(), true };
    ctx.reset(ggml_init(init));
    g = ggml_new_graph_custom(ctx.get(), max_nodes, false);
}

ggml_tensor * Graph::run(ggml_tensor * t) {
    ggml_build_forward_expand(g, t);
    return t;
}

void Graph::store(ggml_tensor * from, ggml_tensor * to) { run(ggml_cpy(ctx.get(), from, to)); }

void Graph::grad(ggml_tensor * of, ggml_tensor * value, size_t first) {
    ggml_set_output(value);
    grads.push_back({ params.of(of), first, value });
}

ggml_tensor * Graph::rows(ggml_tensor * x, ggml_tensor * which) { return run(ggml_get_rows(ctx.get(), x, which)); }

ggml_tensor * Graph::columns(ggml_tensor * x, int64_t first, int64_t n) {
    return ggml_view_2d(ctx.get(), x, x->ne[0], n, x->nb[1], first * x->nb[1]);
}

ggml_tensor * Graph::begin(ggml_tensor * list, int64_t n) { return ggml_view_1d(ctx.get(), list, n, 0); }

ggml_tensor * Graph::embed(ggml_tensor * table, ggml_tensor * tokens) { return rows(table, tokens); }

ggml_tensor * Graph::flip(ggml_tensor * a) {
    ggml_tensor *& f = flipped[a];
    if (f == nullptr) {
        f = run(ggml_cont(ctx.get(), ggml_transpose(ctx.get(), a)));
    }
    return f;
}

// get_rows is the one operation that makes F32 of every type on every backend.
ggml_tensor * Graph::weights(ggml_tensor * w, int64_t first, int64_t n) {
    ggml_tensor * part = columns(w, first, n);
    if (w->type == GGML_TYPE_F32) {
        return part;
    }
    return rows(part, begin(in.iota, n));
}

// Where the base is quantised nothing is multiplied exactly on the way up, so it need not be on the way down.
ggml_tensor * Graph::thin(ggml_tensor * a) {
    if (in.turned == GGML_TYPE_F32) {
        return flip(a);
    }
    ggml_tensor *& f = thinned[a];
    if (f == nullptr) {
        f = run(ggml_cast(ctx.get(), ggml_transpose(ctx.get(), a), in.turned));
    }
    return f;
}

ggml_tensor * Graph::padded(ggml_tensor * a) {
    const int64_t more = (step - a->ne[0] % step) % step;
    return more == 0 ? a : run(ggml_pad(ctx.get(), a, static_cast<int>(more), 0, 0, 0));
}

ggml_tensor * Graph::swap(ggml_tensor * a) { return run(ggml_cont(ctx.get(), ggml_permute(ctx.get(), a, 0, 2, 1, 3))); }

ggml_tensor * Graph::to_heads(ggml_tensor * a, int64_t heads) {
    return swap(ggml_reshape_3d(ctx.get(), a, shape.head, heads, a->ne[1]));
}

ggml_tensor * Graph::grouped(ggml_tensor * a) {
    return ggml_reshape_3d(ctx.get(), a, a->ne[0], a->ne[1] * shape.heads / shape.kvs, shape.kvs);
}

ggml_tensor * Graph::rope(ggml_tensor * a, ggml_tensor * pos, ggml_tensor * freqs) {
    const int mode = shape.neox ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
    return run(
        ggml_rope_ext(ctx.get(), a, pos, freqs, static_cast<int>(shape.head), mode, 0, shape.base, shape.scale, 0, 1, 0, 0));
}

Graph::Use Graph::linear(const Linear & l, ggml_tensor * x, bool wants_y) {
    Use u{ &l, x, l.a == nullptr ? nullptr : mul_mat(l.a, x), nullptr };
    if (!wants_y) {
        return u;
    }
    u.y = mul_mat(dense(l.w), x);
    if (l.a != nullptr) {
        u.y = add(u.y, mul_mat(padded(l.b), padded(u.z)));
    }
    if (l.bias != nullptr) {
        u.y = add(u.y, l.bias);
    }
    return u;
}

ggml_tensor * Graph::linear_backward(const Use & u, ggml_tensor * dy, bool wants_x) {
    const Linear & l  = *u.l;
    ggml_tensor *  dz = nullptr;
    if (trains(l.w)) {
        grad(l.w, mul_mat(thin(u.x), thin(dy)));
    }
    if (l.bias != nullptr && trains(l.bias)) {
        grad(l.bias, sum_rows(flip(dy)));
    }
    if (l.a != nullptr) {
        dz = mul_mat(flip(l.b), dy);
        grad(l.b, mul_mat(thin(u.z), thin(dy)));
        grad(l.a, mul_mat(thin(u.x), thin(dz)));
    }
    if (!wants_x) {
        return nullptr;
    }
    ggml_tensor * dx = mul_mat(turned(l.w, 0, l.w->ne[1]), dy);
    return dz == nullptr ? dx : add(dx, mul_mat(padded(flip(l.a)), padded(dz)));
}

Graph::Norm Graph::normalised(ggml_tensor * w, ggml_tensor * x) {
    Norm n{ w, x, run(ggml_rms_norm(ctx.get(), x, shape.eps)), nullptr };
    n.out = mul(n.y, w);
    return n;
}

// With r the root of the mean square: dx = (dy - y mean(dy y)) / r.
ggml_tensor * Graph::normalised_backward(const Norm & n, ggml_tensor * dout) {
    if (trains(n.w)) {
        grad(n.w, sum_rows(flip(mul(dout, n.y))));
    }
    const float   share = 1.0F / static_cast<float>(n.x->ne[0]);
    ggml_tensor * dy    = mul(dout, n.w);
    ggml_tensor * mean  = scale(sum_rows(mul(dy, n.y)), share);
    ggml_tensor * r     = run(ggml_sqrt(ctx.get(), scale(sum_rows(mul(n.x, n.x)), share, shape.eps)));
    return run(ggml_div(ctx.get(), sub(dy, mul(n.y, mean)), r));
}

ggml_tensor * Graph::norm(ggml_tensor * w, ggml_tensor * x) { return normalised(w, x).out; }

ggml_tensor * Graph::norm_backward(ggml_tensor * w, ggml_tensor * x, ggml_tensor * dout) {
    return normalised_backward(normalised(w, x), dout);
}

// What a layer yields is known when it is computed again.
Graph::Pass Graph::pass(const Layer & l, ggml_tensor * x, ggml_tensor * rope_freqs, bool again) {
    Pass          f{};
    const int64_t rows   = x->ne[1];
    const auto    turned = [&](ggml_tensor * a, int64_t heads) {
        return swap(rope(ggml_reshape_3d(ctx.get(), a, shape.head, heads, rows), in.pos, rope_freqs));
    };
    f.attn = normalised(l.attn_norm, x);
    f.q    = linear(l.q, f.attn.out);
    f.k    = linear(l.k, f.attn.out);
    f.v    = linear(l.v, f.attn.out);
    f.qh   = turned(f.q.y, shape.heads);
    f.kh   = turned(f.k.y, shape.kvs);
    f.vh   = to_heads(f.v.y, shape.kvs);

    const float root = 1.0F / std::sqrt(static_cast<float>(shape.head));
    f.p              = run(ggml_soft_max_ext(ctx.get(), mul_mat(f.kh, f.qh), in.mask, root, 0));
    f.seen           = mul_mat(flip(f.vh), f.p);
    f.o              = linear(l.o, ggml_reshape_2d(ctx.get(), swap(f.seen), shape.head * shape.heads, rows));

    f.ffn  = normalised(l.ffn_norm, add(x, f.o.y));
    f.gate = linear(l.gate, f.ffn.out);
    f.up   = linear(l.up, f.ffn.out);
    f.silu = run(ggml_silu(ctx.get(), f.gate.y));
    f.down = linear(l.down, mul(f.silu, f.up.y), !again);
    return f;
}

ggml_tensor * Graph::forward(const Layer & l, ggml_tensor * x, ggml_tensor * rope_freqs) {
    const Pass f = pass(l, x, rope_freqs, false);
    return add(f.ffn.x, f.down.y);
}

ggml_tensor * Graph::backward(const Layer & l, ggml_tensor * x, ggml_tensor * rope_freqs, ggml_tensor * dout, bool wants_x) {
    const Pass    f    = pass(l, x, rope_freqs, true);
    ggml_tensor * dmid = add(dout, feed_backward(f, dout));
    ggml_tensor * dx   = attend_backward(f, rope_freqs, dmid, wants_x);
    return wants_x ? add(dmid, dx) : nullptr;
}

// With s the sigmoid of the gate: silu' = s + silu (1 - s).
ggml_tensor * Graph::feed_backward(const Pass & f, ggml_tensor * dout) {
    ggml_tensor * dact  = linear_backward(f.down, dout);
    ggml_tensor * dup   = mul(dact, f.silu);
    ggml_tensor * s     = run(ggml_sigmoid(ctx.get(), f.gate.y));
    ggml_tensor * slope = add(mul(scale(s, -1, 1), f.silu), s);
    ggml_tensor * dgate = mul(mul(dact, f.up.y), slope);
    ggml_tensor * dx    = linear_backward(f.up, dup);
    return normalised_backward(f.ffn, add(dx, linear_backward(f.gate, dgate)));
}

// With p the softmax of the scores s: ds = p (dp - sum(p dp)), and that sum is the dot product of what was seen and its
// gradient. It is subtracted by the product that makes dp, which has a one for it.
ggml_tensor * Graph::attend_backward(const Pass & f, ggml_tensor * rope_freqs, ggml_tensor * dout, bool wants_x) {
    const int64_t rows   = dout->ne[1];
    const auto    merged = [&](ggml_tensor * a, bool turned) {
        ggml_tensor * t = swap(a);
        if (turned) {
            t = rope(t, in.negated, rope_freqs);
        }
        return ggml_reshape_2d(ctx.get(), t, t->ne[0] * t->ne[1], rows);
    };
    const float   root  = 1.0F / std::sqrt(static_cast<float>(shape.head));
    ggml_tensor * dseen = to_heads(linear_backward(f.o, dout), shape.heads);
    ggml_tensor * dv    = mul_mat(thin(grouped(dseen)), thin(grouped(f.p)));
    ggml_tensor * dot   = scale(sum_rows(mul(f.seen, dseen)), -1);
    ggml_tensor * left  = run(ggml_concat(ctx.get(), f.vh, in.ones, 0));
    ggml_tensor * right = run(ggml_concat(ctx.get(), dseen, padded(dot), 0));
    ggml_tensor * ds    = scale(mul(mul_mat(left, right), f.p), root);
    ggml_tensor * dq    = mul_mat(flip(f.kh), ds);
    ggml_tensor * dk    = mul_mat(thin(grouped(f.qh)), thin(grouped(ds)));

    ggml_tensor * xq = linear_backward(f.q, merged(dq, true), wants_x || trains(f.attn.w));
    ggml_tensor * xk = linear_backward(f.k, merged(dk, true), wants_x || trains(f.attn.w));
    ggml_tensor * xv = linear_backward(f.v, merged(dv, false), wants_x || trains(f.attn.w));
    return xq == nullptr ? nullptr : normalised_backward(f.attn, add(add(xq, xk), xv));
}

void Graph::probabilities(const Linear & out, ggml_tensor * x, ggml_tensor * at) {
    ggml_tensor * z = ggml_mul_mat(ctx.get(), out.w, x);
    ggml_backend_tensor_alloc(at->buffer, z, at->data);
    run(z);
    if (out.bias != nullptr) {
        z = run(ggml_add_inplace(ctx.get(), z, out.bias));
    }
    run(ggml_soft_max_inplace(ctx.get(), z));
}

// The output matrix is too large to be transposed whole.
ggml_tensor * Graph::logits_backward(const Linear & out, ggml_tensor * x, ggml_tensor * dz) {
    const int64_t most = part_of(out.w->ne[1]);
    ggml_tensor * dx   = nullptr;
    for (int64_t first = 0; first < out.w->ne[1]; first += most) {
        const int64_t n    = std::min(most, out.w->ne[1] - first);
        ggml_tensor * part = run(ggml_cont(ctx.get(), ggml_view_2d(ctx.get(), dz, n, dz->ne[1], dz->nb[1], first * dz->nb[0])));
        if (trains(out.w)) {
            grad(out.w, mul_mat(flip(x), flip(part)), first * out.w->ne[0]);
        }
        if (out.bias != nullptr && trains(out.bias)) {
            grad(out.bias, sum_rows(flip(part)), first);
        }
        ggml_tensor * one = mul_mat(turned(out.w, first, n), part);
        dx                = dx == nullptr ? one : add(dx, one);
    }
    return dx;
}

} // namespace cen::train
