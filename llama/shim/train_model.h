// What the trainer computes with: the frozen tensors of a model's files, and the parameters that are trained.
#pragma once

#include "ggml-cpp.h"
#include "ggml.h"
#include "gguf.h"

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace cen::train {

struct Shape {
    bool    neox    = false; // how RoPE pairs the numbers of a head: halves (qwen2) or neighbours (llama)
    int64_t layers  = 0;
    int64_t embed   = 0;
    int64_t heads   = 0;
    int64_t kvs     = 0; // KV heads
    int64_t head    = 0; // numbers of a head
    int64_t forward = 0; // width of the feed-forward network
    int64_t vocab   = 0;
    float   eps     = 0;
    float   base    = 10000; // of RoPE
    float   scale   = 1;     // of RoPE's positions
};

// Base is a model's files, mapped into memory. On a GPU its tensors are copied there.
class Base {
public:
    Base(const char ** paths, size_t n, ggml_backend_t backend); // throws
    ~Base();
    Base(const Base &)             = delete;
    Base & operator=(const Base &) = delete;

    ggml_tensor *                      find(const std::string & name) const; // or null
    ggml_tensor *                      need(const std::string & name) const; // throws
    const std::vector<ggml_tensor *> & tensors() const { return all; }
    const Shape &                      shape() const { return dims; }
    size_t                             bytes() const { return size; } // of all tensors

private:
    struct File;

    void read_shape(const gguf_context * g);

    std::vector<std::unique_ptr<File>>             files;
    std::vector<ggml_tensor *>                     all;
    std::unordered_map<std::string, ggml_tensor *> by_name;
    Shape                                          dims;
    size_t                                         size = 0;
};

struct Param {
    std::string   name;
    ggml_tensor * value;  // F32, on the backend
    size_t        offset; // into Params::values and gradients
};

// Params is the table of what is trained. Low-rank pairs and whole models are two ways to fill it; nothing else differs.
class Params {
public:
    void add(const std::string & name, int64_t ne0, int64_t ne1);
    void alloc(ggml_backend_t backend); // after the last add
    void upload();                      // values were written

    const Param *              of(const ggml_tensor * t) const; // null: it is not trained
    const std::vector<Param> & all() const { return table; }
    size_t                     count() const { return total; }
    float *                    values() { return numbers.get(); }
    float *                    gradients() { return grads.data(); }

private:
    struct Free {
        void operator()(float * p) const { std::free(p); }
    };

    std::unique_ptr<float, Free>                    numbers; // what the tensors hold, or on a GPU a copy of it
    std::vector<float>                              grads;
    std::vector<Param>                              table;
    std::unordered_map<const ggml_tensor *, size_t> by_tensor;
    ggml_context_ptr                                ctx;
    ggml_backend_buffer_ptr                         buffer;
    size_t                                          total = 0;
    bool                                            host  = false;
};

// Linear is y = w x + b (a x) + bias. All but w may be null.
struct Linear {
    ggml_tensor * w    = nullptr;
    ggml_tensor * bias = nullptr;
    ggml_tensor * a    = nullptr;
    ggml_tensor * b    = nullptr;
};

struct Layer {
    ggml_tensor * attn_norm = nullptr;
    ggml_tensor * ffn_norm  = nullptr;
    Linear        q, k, v, o, gate, up, down;
};

struct LinearName {
    const char * name;
    Linear Layer::*at;
};

// In the order of the bits of cen_trainer_config.targets.
inline constexpr LinearName linears[] = {
    { "attn_q", &Layer::q },      { "attn_k", &Layer::k },  { "attn_v", &Layer::v },      { "attn_output", &Layer::o },
    { "ffn_gate", &Layer::gate }, { "ffn_up", &Layer::up }, { "ffn_down", &Layer::down },
};

struct Weights {
    ggml_tensor *      embed = nullptr;
    ggml_tensor *      norm  = nullptr;
    Linear             out;                  // its w is the embedding if the model is tied
    ggml_tensor *      rope_freqs = nullptr; // or null
    std::vector<Layer> layers;
};

void    add_pairs(Params & p, const Base & base, int64_t rank, uint32_t targets);
void    add_all(Params & p, const Base & base);
void    copy_all(Params & p, const Base & base); // the model's own numbers become the values
Weights bind(const Params & p, const Base & base);

} // namespace cen::train
