#include "train_model.h"

#include "ggml-alloc.h"
#include "ggml-backend.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cen::train {

namespace {

// Map is a file in memory.
struct Map {
    void * at   = MAP_FAILED;
    size_t size = 0;

    explicit Map(const char * path) {
        const int   fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st {};
        if (fd >= 0 && fstat(fd, &st) == 0) {
            size = static_cast<size_t>(st.st_size);
            at   = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
        }
        const int reason = errno;
        if (fd >= 0) {
            close(fd);
        }
        if (at == MAP_FAILED) {
            throw std::runtime_error(std::string(path) + ": " + std::strerror(reason));
        }
    }
    ~Map() { munmap(at, size); }
    Map(const Map &)             = delete;
    Map & operator=(const Map &) = delete;
};

// Keys reads values under an architecture's name. gguf.h aborts on a value of another kind, so kinds are compared first.
struct Keys {
    const gguf_context * g;
    std::string          prefix;

    int64_t find(const char * key, gguf_type kind) const {
        const int64_t id = gguf_find_key(g, (prefix + key).c_str());
        if (id >= 0 && gguf_get_kv_type(g, id) != kind) {
            throw std::runtime_error("the key " + prefix + key + " is of another kind");
        }
        return id;
    }
    int64_t number(const char * key, int64_t otherwise) const {
        const int64_t id = find(key, GGUF_TYPE_UINT32);
        return id < 0 ? otherwise : gguf_get_val_u32(g, id);
    }
    float real(const char * key, float otherwise) const {
        const int64_t id = find(key, GGUF_TYPE_FLOAT32);
        return id < 0 ? otherwise : gguf_get_val_f32(g, id);
    }
    std::string text(const char * key, const char * otherwise) const {
        const int64_t id = find(key, GGUF_TYPE_STRING);
        return id < 0 ? otherwise : gguf_get_val_str(g, id);
    }
};

std::string in_layer(int64_t layer, const std::string & name) { return "blk." + std::to_string(layer) + "." + name; }

} // namespace

struct Base::File {
    Map                     map;
    ggml_context_ptr        ctx;
    gguf_context_ptr        gguf;
    ggml_backend_buffer_ptr buffer;

    File(const char * path, ggml_backend_t backend) : map(path) {
        ggml_context *   c = nullptr;
        gguf_init_params p{};
        p.no_alloc = true;
        p.ctx      = &c;
        gguf.reset(gguf_init_from_file(path, p));
        ctx.reset(c);
        if (gguf == nullptr || ctx == nullptr) {
            throw std::runtime_error(std::string(path) + " is not a GGUF file");
        }
        place(backend);
    }

    // The tensors are where the file is mapped, or are copied from there.
    void place(ggml_backend_t backend) {
        const bool host = ggml_backend_buft_is_host(ggml_backend_get_default_buffer_type(backend));
        if (host) {
            buffer.reset(ggml_backend_cpu_buffer_from_ptr(map.at, map.size));
        } else {
            buffer.reset(ggml_backend_alloc_ctx_tensors(ctx.get(), backend));
        }
        if (buffer == nullptr) {
            throw std::runtime_error("no memory for the model's tensors");
        }
        ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); i++) {
            ggml_tensor * t  = ggml_get_tensor(ctx.get(), gguf_get_tensor_name(gguf.get(), i));
            const size_t  at = gguf_get_data_offset(gguf.get()) + gguf_get_tensor_offset(gguf.get(), i);
            if (at + ggml_nbytes(t) > map.size) {
                throw std::runtime_error(std::string("the file ends before tensor ") + t->name);
            }
            char * data = static_cast<char *>(map.at) + at;
            if (host) {
                ggml_backend_tensor_alloc(buffer.get(), t, data);
            } else {
                ggml_backend_tensor_set(t, data, 0, ggml_nbytes(t));
            }
        }
    }
};

Base::Base(const char ** paths, size_t n, ggml_backend_t backend) {
    for (size_t i = 0; i < n; i++) {
        files.push_back(std::make_unique<File>(paths[i], backend));
        ggml_context * ctx = files.back()->ctx.get();
        for (ggml_tensor * t = ggml_get_first_tensor(ctx); t != nullptr; t = ggml_get_next_tensor(ctx, t)) {
            all.push_back(t);
            by_name[t->name] = t;
            size += ggml_nbytes(t);
        }
    }
    read_shape(files.front()->gguf.get());
    for (const auto & f : files) {
        f->gguf.reset(); // its vocabulary is tens of megabytes
    }
}

Base::~Base() = default;

void Base::read_shape(const gguf_context * g) {
    const std::string arch = Keys{ g, "" }.text("general.architecture", "");
    if (arch != "qwen2" && arch != "llama") {
        throw std::runtime_error("models of architecture \"" + arch + "\" cannot be trained");
    }
    const Keys k{ g, arch };
    dims.neox    = arch == "qwen2";
    dims.layers  = k.number(".block_count", 0);
    dims.embed   = k.number(".embedding_length", 0);
    dims.heads   = k.number(".attention.head_count", 0);
    dims.kvs     = k.number(".attention.head_count_kv", dims.heads);
    dims.forward = k.number(".feed_forward_length", 0);
    if (dims.layers < 1 || dims.heads < 1 || dims.kvs < 1) {
        throw std::runtime_error("the file does not say its shape");
    }
    dims.head  = k.number(".attention.key_length", dims.embed / dims.heads);
    dims.eps   = k.real(".attention.layer_norm_rms_epsilon", 1e-5F);
    dims.base  = k.real(".rope.freq_base", 10000);
    dims.vocab = need("token_embd.weight")->ne[1];

    const std::string scaling = k.text(".rope.scaling.type", "linear");
    const float       factor  = k.real(".rope.scaling.factor", k.real(".rope.scale_linear", 1));
    if (scaling == "linear" && factor > 0) {
        dims.scale = 1 / factor;
    } else if (scaling != "none") {
        // What RoPE does is undone by turning the other way, which holds for a rotation alone.
        throw std::runtime_error("models with RoPE scaling \"" + scaling + "\" cannot be trained");
    }
    if (k.real(".rope.scaling.attn_factor", 1) != 1) {
        throw std::runtime_error("models that scale attention with RoPE cannot be trained");
    }
}

ggml_tensor * Base::find(const std::string & name) const {
    const auto it = by_name.find(name);
    return it == by_name.end() ? nullptr : it->second;
}

ggml_tensor * Base::need(const std::string & name) const {
    ggml_tensor * t = find(name);
    if (t == nullptr) {
        throw std::runtime_error("the model has no tensor " + name);
    }
    return t;
}

void Params::add(const std::string & name, int64_t ne0, int64_t ne1) {
    if (ctx == nullptr) {
        const ggml_init_params p{ ggml_tensor_overhead() * 16384, nullptr, true };
        ctx.reset(ggml_init(p));
    }
    ggml_tensor * t =
        ne1 == 1 ? ggml_new_tensor_1d(ctx.get(), GGML_TYPE_F32, ne0) : ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, ne0, ne1);
    by_tensor[t] = table.size();
    table.push_back({ name, t, total });
    constexpr size_t apart = 16; // numbers: tensors start at a multiple of 64 bytes
    total += (static_cast<size_t>(ne0 * ne1) + apart - 1) / apart * apart;
}

void Params::alloc(ggml_backend_t backend) {
    if (total == 0) {
        throw std::runtime_error("nothing is to be trained");
    }
    host              = ggml_backend_buft_is_host(ggml_backend_get_default_buffer_type(backend));
    const size_t size = total * sizeof(float);
    numbers.reset(static_cast<float *>(std::aligned_alloc(64, size)));
    if (numbers == nullptr) {
        throw std::bad_alloc();
    }
    std::memset(numbers.get(), 0, size);
    grads.assign(total, 0);
    if (!host) {
        buffer.reset(ggml_backend_alloc_ctx_tensors(ctx.get(), backend));
        if (buffer == nullptr) {
            throw std::bad_alloc();
        }
        return;
    }
    buffer.reset(ggml_backend_cpu_buffer_from_ptr(numbers.get(), size));
    for (const Param & p : table) {
        ggml_backend_tensor_alloc(buffer.get(), p.value, numbers.get() + p.offset);
    }
}

void Params::upload() {
    for (size_t i = 0; !host && i < table.size(); i++) {
        ggml_backend_tensor_set(table[i].value, numbers.get() + table[i].offset, 0, ggml_nbytes(table[i].value));
    }
}

const Param * Params::of(const ggml_tensor * t) const {
    const auto it = by_tensor.find(t);
    return it == by_tensor.end() ? nullptr : &table[it->second];
}

void add_pairs(Params & p, const Base & base, int64_t rank, uint32_t targets) {
    for (int64_t l = 0; l < base.shape().layers; l++) {
        for (size_t i = 0; i < std::size(linears); i++) {
            if ((targets >> i & 1) == 0) {
                continue;
            }
            const std::string   name = in_layer(l, std::string(linears[i].name) + ".weight");
            const ggml_tensor * w    = base.need(name);
            p.add(name + ".lora_a", w->ne[0], rank);
            p.add(name + ".lora_b", rank, w->ne[1]);
        }
    }
}

void add_all(Params & p, const Base & base) {
    for (const ggml_tensor * t : base.tensors()) {
        if (std::string(t->name) != "rope_freqs.weight") {
            p.add(t->name, t->ne[0], t->ne[1]);
        }
    }
}

void copy_all(Params & p, const Base & base) {
    std::vector<char> raw;
    for (const Param & param : p.all()) {
        const ggml_tensor *      t      = base.need(param.name);
        const ggml_type_traits * traits = ggml_get_type_traits(t->type);
        float *                  out    = p.values() + param.offset;
        raw.resize(ggml_nbytes(t));
        ggml_backend_tensor_get(t, raw.data(), 0, raw.size());
        if (t->type == GGML_TYPE_F32) {
            std::memcpy(out, raw.data(), raw.size());
        } else if (traits->to_float != nullptr) {
            traits->to_float(raw.data(), out, ggml_nelements(t));
        } else {
            throw std::runtime_error("tensor " + param.name + " is of a type that cannot be trained");
        }
    }
}

Weights bind(const Params & p, const Base & base) {
    std::unordered_map<std::string, ggml_tensor *> trained;
    for (const Param & param : p.all()) {
        trained[param.name] = param.value;
    }
    const auto find = [&](const std::string & name) {
        const auto it = trained.find(name);
        return it == trained.end() ? base.find(name) : it->second;
    };
    const auto need = [&](const std::string & name) {
        base.need(name);
        return find(name);
    };
    Weights w;
    w.embed      = need("token_embd.weight");
    w.norm       = need("output_norm.weight");
    w.out.w      = base.find("output.weight") != nullptr ? need("output.weight") : w.embed;
    w.out.bias   = find("output.bias");
    w.rope_freqs = base.find("rope_freqs.weight");
    for (int64_t l = 0; l < base.shape().layers; l++) {
        Layer layer;
        layer.attn_norm = need(in_layer(l, "attn_norm.weight"));
        layer.ffn_norm  = need(in_layer(l, "ffn_norm.weight"));
        for (const LinearName & n : linears) {
            const std::string name = in_layer(l, n.name);
            Linear &          to   = layer.*n.at;
            to.w                   = need(name + ".weight");
            to.bias                = find(name + ".bias");
            to.a                   = find(name + ".weight.lora_a");
            to.b                   = find(name + ".weight.lora_b");
        }
        w.layers.push_back(layer);
    }
    return w;
}

} // namespace cen::train
