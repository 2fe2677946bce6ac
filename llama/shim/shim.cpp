// Models, contexts and decoding: the calls of llama.h that may throw or that report their reason only in the log.
#include "shim.h"

#include "guard.h"
#include "rows.h"
#include "unembed.h"

#include "gguf.h"
#include "log.h"

#include <atomic>
#include <cstdlib> // __GLIBC__
#include <memory>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

cen_log_sink log_sink = nullptr;

// Whoever wants the log of what this thread does.
struct listener {
    cen_piece_sink sink = nullptr;
    uintptr_t      data = 0;
};
thread_local listener listening;

void on_log(ggml_log_level level, const char * text, void *) {
    static thread_local ggml_log_level last = GGML_LOG_LEVEL_NONE;
    if (level != GGML_LOG_LEVEL_CONT) {
        last = level;
    }
    if (last == GGML_LOG_LEVEL_ERROR) {
        std::string & errors = cen::logged_errors();
        if (errors.size() < 2000) {
            if (level != GGML_LOG_LEVEL_CONT && !errors.empty()) {
                errors += "; ";
            }
            errors += text;
            while (!errors.empty() && (errors.back() == '\n' || errors.back() == ' ')) {
                errors.pop_back();
            }
        }
    }
    if (listening.sink != nullptr) {
        listening.sink(const_cast<char *>(text), reinterpret_cast<void *>(listening.data));
    }
    if (log_sink != nullptr) {
        log_sink(last, const_cast<char *>(text));
    }
}

} // namespace

std::string & cen::logged_errors() {
    static thread_local std::string errors;
    return errors;
}

void cen_init(cen_log_sink sink) {
#ifdef __GLIBC__
    // glibc raises this by itself, up to 32 MiB, to the size of any larger block that is freed. From then on caches come from
    // its arenas, among small blocks that stay, and what a context that has left had can't all be given back.
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
#endif
    log_sink = sink;
    llama_log_set(on_log, nullptr);
    common_log_set_verbosity_thold(-1); // common prints to stderr by itself; what matters there is thrown
    llama_backend_init();
}

bool cen_own_kernels(void) { return cen::has_avx512() && cen::has_q4_k(); }

namespace {

// Whether llama.cpp is to put matrices in another order where it has faster kernels for that. It costs a copy of them, and one in
// Q4_K is then not multiplied as it would be alone (rows_avx512_q8_k.cpp).
bool reorder(const char ** paths, size_t n_paths) {
    if (!cen_own_kernels()) {
        return true;
    }
    for (size_t i = 0; i < n_paths; i++) {
        const std::unique_ptr<gguf_context, decltype(&gguf_free)> file(gguf_init_from_file(paths[i], { true, nullptr }),
                                                                       gguf_free);
        if (file == nullptr) {
            return true; // llama.cpp says what is wrong with it
        }
        for (int64_t t = 0; t < gguf_get_n_tensors(file.get()); t++) {
            switch (gguf_get_tensor_type(file.get(), t)) {
                case GGML_TYPE_Q2_K:
                case GGML_TYPE_Q4_0:
                case GGML_TYPE_IQ4_NL:
                case GGML_TYPE_MXFP4: // those that it does, besides Q4_K
                    return true;
                default:
                    break;
            }
        }
    }
    return false;
}

} // namespace

llama_model * cen_model_load(const char ** paths, size_t n_paths, cen_model_params p, char ** err) {
    return cen::guard<llama_model *>(err, nullptr, [&]() -> llama_model * {
        llama_model_params mp          = llama_model_default_params();
        mp.n_gpu_layers                = p.n_gpu_layers;
        mp.load_mode                   = p.use_mmap ? (p.use_mlock ? LLAMA_LOAD_MODE_MMAP_MLOCK : LLAMA_LOAD_MODE_MMAP)
                                                    : (p.use_mlock ? LLAMA_LOAD_MODE_MLOCK : LLAMA_LOAD_MODE_NONE);
        mp.vocab_only                  = p.vocab_only;
        mp.check_tensors               = p.check_tensors;
        mp.use_extra_bufts             = p.vocab_only || reorder(paths, n_paths);
        mp.progress_callback           = p.progress;
        mp.progress_callback_user_data = reinterpret_cast<void *>(p.progress_data);
        llama_model * m =
            n_paths == 1 ? llama_model_load_from_file(paths[0], mp) : llama_model_load_from_splits(paths, n_paths, mp);
        if (m == nullptr) {
            cen::fail(err, "llama.cpp refused the file");
        }
        return m;
    });
}

void cen_model_free(llama_model * model) {
    llama_model_free(model);
#ifdef __GLIBC__
    // What is below the threshold comes from one of eight arenas a core, and each keeps what is freed for its next need.
    malloc_trim(0);
#endif
}

int32_t cen_quantize(const char * in, const char * out, cen_quantize_params p, char ** err) {
    listening      = { p.log, p.log_data };
    int32_t result = cen::guard<int32_t>(err, -1, [&] {
        llama_model_quantize_params qp = llama_model_quantize_default_params();
        qp.ftype                       = static_cast<llama_ftype>(p.ftype);
        qp.nthread                     = p.n_threads;
        qp.allow_requantize            = p.requantize;
        qp.dry_run                     = p.plan;
        qp.max_buf_size                = p.buffer;
        if (llama_model_quantize(in, out, &qp) != 0) {
            cen::fail(err, "quantize");
            return -1;
        }
        return 0;
    });
    listening      = {};
    return result;
}

struct cen_context {
    llama_context *                   llama = nullptr;
    ggml_threadpool *                 pool  = nullptr;
    ggml_threadpool *                 batch = nullptr; // only when prompts use another number of threads
    std::atomic<bool>                 abort{ false };
    std::vector<int32_t>              n_seq;
    std::vector<llama_seq_id *>       seq;
    std::string                       capture; // tensor to end at, or empty
    std::vector<float>                captured;
    cen::Adapters                     adapters;
    std::unique_ptr<cen::Unembedding> unembedding; // made at its first use

    static bool aborted(void * c) { return static_cast<cen_context *>(c)->abort.load(std::memory_order_relaxed); }

    ~cen_context() {
        if (llama != nullptr) {
            llama_free(llama);
        }
        if (batch != nullptr) {
            ggml_threadpool_free(batch);
        }
        if (pool != nullptr) {
            ggml_threadpool_free(pool);
        }
    }
};

static ggml_threadpool * new_threadpool(int32_t n_threads, int32_t poll) {
    ggml_threadpool_params p = ggml_threadpool_params_default(n_threads);
    p.poll                   = static_cast<uint32_t>(poll);
    return ggml_threadpool_new(&p);
}

// Asked before a tensor is computed whether it is wanted, and called again when it is there. False then ends the graph.
static bool on_tensor(ggml_tensor * t, bool ask, void * data) {
    cen_context * c = static_cast<cen_context *>(data);
    if (c->capture.empty() || c->capture != t->name) {
        return !ask;
    }
    if (ask) {
        return true;
    }
    const size_t before = c->captured.size();
    c->captured.resize(before + ggml_nelements(t));
    ggml_backend_tensor_get(t, c->captured.data() + before, 0, ggml_nbytes(t));
    return false;
}

cen_context * cen_context_new(llama_model * model, cen_context_params p, char ** err) {
    return cen::guard<cen_context *>(err, nullptr, [&]() -> cen_context * {
        auto                 c  = std::make_unique<cen_context>();
        llama_context_params cp = llama_context_default_params();
        cp.n_ctx                = p.n_ctx;
        cp.n_batch              = p.n_batch;
        cp.n_ubatch             = p.n_ubatch;
        cp.n_seq_max            = p.n_seq_max;
        cp.n_outputs_max        = p.n_outputs;
        cp.n_threads            = p.n_threads;
        cp.n_threads_batch      = p.n_threads_batch;
        cp.flash_attn_type      = static_cast<llama_flash_attn_type>(p.flash_attn);
        cp.type_k               = static_cast<ggml_type>(p.type_k);
        cp.type_v               = static_cast<ggml_type>(p.type_v);
        cp.embeddings           = p.embeddings;
        cp.pooling_type         = p.embeddings ? LLAMA_POOLING_TYPE_MEAN : LLAMA_POOLING_TYPE_UNSPECIFIED;
        cp.kv_unified           = p.kv_unified;
        cp.no_perf              = true;
        cp.abort_callback       = cen_context::aborted;
        cp.abort_callback_data  = c.get();
        if (p.stage) {
            cp.cb_eval           = on_tensor;
            cp.cb_eval_user_data = c.get();
        }
        c->llama = llama_init_from_model(model, cp);
        if (c->llama == nullptr) {
            cen::fail(err, "llama.cpp could not make a context");
            return nullptr;
        }
        c->pool = new_threadpool(p.n_threads, p.poll);
        if (p.n_threads_batch != p.n_threads) {
            c->batch = new_threadpool(p.n_threads_batch, p.poll);
        }
        if (c->pool == nullptr || (p.n_threads_batch != p.n_threads && c->batch == nullptr)) {
            cen::fail(err, "no threads could be started");
            return nullptr;
        }
        llama_attach_threadpool(c->llama, c->pool, c->batch != nullptr ? c->batch : c->pool);
        return c.release();
    });
}

void cen_context_free(cen_context * c) { delete c; }

llama_context * cen_context_llama(cen_context * c) { return c->llama; }

void cen_set_threads(cen_context * c, int32_t n_threads) {
    llama_set_n_threads(c->llama, n_threads, n_threads);
    if (c->unembedding != nullptr) {
        c->unembedding->set_threads(n_threads);
    }
}

void cen_context_abort(cen_context * c, bool abort) { c->abort.store(abort); }

void cen_capture(cen_context * c, const char * tensor) { c->capture = tensor != nullptr ? tensor : ""; }

const float * cen_captured(cen_context * c, size_t * n) {
    *n = c->captured.size();
    return c->captured.data();
}

int32_t cen_unembed(cen_context * c, int32_t n, const float * rows, float * logits, char ** err) {
    return cen::guard<int32_t>(err, -1, [&] {
        if (c->unembedding == nullptr) {
            c->unembedding = std::make_unique<cen::Unembedding>(llama_get_model(c->llama), c->pool, llama_n_threads(c->llama),
                                                                cen_context::aborted, c);
        }
        c->unembedding->run(n, rows, c->adapters, logits);
        return 0;
    });
}

bool cen_dequantize(int32_t type, const void * in, float * out, int64_t n) {
    if (type < 0 || type >= GGML_TYPE_COUNT) {
        return false;
    }
    const ggml_type t = static_cast<ggml_type>(type);
    if (t == GGML_TYPE_F32) {
        std::memcpy(out, in, static_cast<size_t>(n) * sizeof(float));
        return true;
    }
    const ggml_type_traits * traits = ggml_get_type_traits(t);
    if (traits->to_float == nullptr || n % traits->blck_size != 0) {
        return false;
    }
    traits->to_float(in, out, n);
    return true;
}

int32_t cen_decode(cen_context * c, int32_t n, const int32_t * token, const float * hidden, const int32_t * pos,
                   const int32_t * seq, const int8_t * logits, char ** err) {
    return cen::guard<int32_t>(err, -1000, [&] {
        c->captured.clear();
        c->n_seq.assign(n, 1);
        c->seq.resize(n);
        for (int32_t i = 0; i < n; i++) {
            c->seq[i] = const_cast<llama_seq_id *>(&seq[i]);
        }
        llama_batch b{};
        b.n_tokens       = n;
        b.token          = const_cast<llama_token *>(token);
        b.embd           = const_cast<float *>(hidden);
        b.pos            = const_cast<llama_pos *>(pos);
        b.n_seq_id       = c->n_seq.data();
        b.seq_id         = c->seq.data();
        b.logits         = const_cast<int8_t *>(logits);
        const int32_t rc = llama_decode(c->llama, b);
        if (rc < 0 || rc == 2) {
            cen::fail(err, "decode returned " + std::to_string(rc));
            return rc;
        }
        if (rc == 0) {
            llama_synchronize(c->llama);
        }
        return rc;
    });
}

int32_t cen_set_adapters(cen_context * c, llama_adapter_lora ** adapters, size_t n, float * scales, char ** err) {
    return cen::guard<int32_t>(err, -1, [&] {
        const int32_t rc = llama_set_adapters_lora(c->llama, adapters, n, scales);
        if (rc != 0) {
            cen::fail(err, "set adapters returned " + std::to_string(rc));
            return -1;
        }
        c->adapters.clear();
        for (size_t i = 0; i < n; i++) {
            if (scales[i] != 0) { // as llama.cpp does
                c->adapters.insert({ adapters[i], scales[i] });
            }
        }
        return 0;
    });
}

llama_adapter_lora * cen_adapter_load(llama_model * model, const char * path, char ** err) {
    return cen::guard<llama_adapter_lora *>(err, nullptr, [&] {
        llama_adapter_lora * a = llama_adapter_lora_init(model, path);
        if (a == nullptr) {
            cen::fail(err, "llama.cpp refused the adapter");
        }
        return a;
    });
}

int64_t cen_state_save(cen_context * c, const char * path, const int32_t * tokens, size_t n, char ** err) {
    return cen::guard<int64_t>(err, -1, [&]() -> int64_t {
        if (!llama_state_save_file(c->llama, path, tokens, n)) {
            cen::fail(err, "state not saved");
            return -1;
        }
        return 0;
    });
}

int64_t cen_state_load(cen_context * c, const char * path, int32_t * tokens, size_t cap, char ** err) {
    return cen::guard<int64_t>(err, -1, [&]() -> int64_t {
        size_t n = 0;
        if (!llama_state_load_file(c->llama, path, tokens, cap, &n)) {
            cen::fail(err, "state not loaded");
            return -1;
        }
        return static_cast<int64_t>(n);
    });
}

int32_t cen_tokenize(const llama_vocab * v, const char * text, int32_t len, int32_t * out, int32_t cap, bool special_begin,
                     bool parse_special, char ** err) {
    return cen::guard<int32_t>(err, INT32_MIN,
                               [&] { return llama_tokenize(v, text, len, out, cap, special_begin, parse_special); });
}
