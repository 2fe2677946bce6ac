// The C surface that package llama calls for what llama.h lacks: everything that may throw a C++ exception, which must
// not cross into Go, and what llama.cpp offers in its C++ library `common` only (chat templates, tool calls, schemas).
//
// Convention: a function that can fail takes `char ** err` last, and on failure returns NULL or a negative number and
// sets *err to a text that the caller frees with free(). Strings returned are the caller's to free.
#pragma once

#include "llama.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Errors that llama.cpp only logs are collected and returned; every line also goes to sink (level as in ggml.h).
typedef void (*cen_log_sink)(int level, char * text);
void cen_init(cen_log_sink sink);

// Whether matrices in Q4_K are multiplied by our kernels, each row of a batch as if it were alone, and not by llama.cpp's on a
// copy in another order. Not where a model has matrices in types that only llama.cpp has fast kernels for.
bool cen_own_kernels(void);

typedef struct cen_model_params {
    int32_t                 n_gpu_layers; // -1: all
    bool                    use_mmap;
    bool                    use_mlock;
    bool                    vocab_only;
    bool                    check_tensors;
    llama_progress_callback progress; // or NULL; returning false gives up
    uintptr_t               progress_data;
} cen_model_params;

struct llama_model * cen_model_load(const char ** paths, size_t n_paths, cen_model_params p, char ** err);
void                 cen_model_free(struct llama_model * model); // and gives the system the memory that is free since

// Linux only. Watches a range in which tensors of the model are mapped: if it cannot be read any more, it becomes zeros instead
// of the end of the process, and cen_lost says so. Returns an id, or -1 if nothing of the model is there. To be unwatched before
// it is unmapped.
int32_t cen_watch(const struct llama_model * model, uintptr_t begin, uintptr_t end);
bool    cen_lost(int32_t id);
void    cen_unwatch(int32_t id);

// Gets what llama.cpp logs while it quantises, in the pieces in which it does, on the thread that called.
typedef void (*cen_piece_sink)(char * text, void * data);

typedef struct cen_quantize_params {
    int32_t        ftype;     // enum llama_ftype
    int32_t        n_threads; // 0: all
    size_t         buffer;    // bytes of weights in memory at once; 0: 8 GiB
    bool           requantize;
    bool           plan; // only log what would be done
    cen_piece_sink log;  // or NULL
    uintptr_t      log_data;
} cen_quantize_params;

int32_t cen_quantize(const char * in, const char * out, cen_quantize_params p, char ** err);

typedef struct cen_context_params {
    uint32_t n_ctx; // all sequences together
    uint32_t n_batch;
    uint32_t n_ubatch;
    uint32_t n_seq_max;
    uint32_t n_outputs; // most rows with logits in a batch
    int32_t  n_threads;
    int32_t  n_threads_batch;
    int32_t  flash_attn; // enum llama_flash_attn_type
    int32_t  type_k;     // enum ggml_type
    int32_t  type_v;
    int32_t  poll;       // 0 (sleep at once) .. 100 (spin) between two graphs
    bool     embeddings; // with mean pooling
    bool     kv_unified;
    bool     stage; // fed with hidden states, and yields those after its last layer unless it is asked for logits
} cen_context_params;

typedef struct cen_context cen_context;
cen_context *              cen_context_new(struct llama_model * model, cen_context_params p, char ** err);
void                       cen_context_free(cen_context * c);
struct llama_context *     cen_context_llama(cen_context * c);
// Stops a decode that runs on another thread, and those that follow until it is taken back.
void cen_context_abort(cen_context * c, bool abort);
// Has so many of the context's threads compute from the next batch on.
void cen_set_threads(cen_context * c, int32_t n_threads);
// Returns llama_decode's code; a negative one, and 2 (aborted), with *err set. Every row has one sequence. The rows are
// tokens or, if token is NULL, hidden states.
int32_t cen_decode(cen_context * c, int32_t n, const int32_t * token, const float * hidden, const int32_t * pos,
                   const int32_t * seq, const int8_t * logits, char ** err);
// The next decodes end at the tensor of that name and keep its rows, which cen_captured returns; NULL: they go to the end.
// The rows come in the order in which llama.cpp computes them: see order in hidden.go.
void          cen_capture(cen_context * c, const char * tensor);
const float * cen_captured(cen_context * c, size_t * n);
// Multiplies n rows, which are those of result_norm, by the output matrix, with the adapters that are set, and writes n ×
// vocabulary logits. What the context holds does not change.
int32_t cen_unembed(cen_context * c, int32_t n, const float * rows, float * logits, char ** err);
// Turns n numbers of a ggml type into floats as the engine does when it looks up rows. False if it cannot.
bool    cen_dequantize(int32_t type, const void * in, float * out, int64_t n);
int32_t cen_set_adapters(cen_context * c, struct llama_adapter_lora ** adapters, size_t n, float * scales, char ** err);
struct llama_adapter_lora * cen_adapter_load(struct llama_model * model, const char * path, char ** err);
int64_t                     cen_state_save(cen_context * c, const char * path, const int32_t * tokens, size_t n, char ** err);
int64_t                     cen_state_load(cen_context * c, const char * path, int32_t * tokens, size_t cap, char ** err);

int32_t cen_tokenize(const struct llama_vocab * v, const char * text, int32_t len, int32_t * out, int32_t cap, bool special_begin,
                     bool parse_special, char ** err);

typedef struct cen_sampler_params {
    float    temperature;
    int32_t  top_k;
    float    top_p;
    float    min_p;
    float    penalty_repeat;
    float    penalty_frequency;
    float    penalty_presence;
    int32_t  penalty_last_n;
    uint32_t seed;
} cen_sampler_params;

// A token that may come next.
typedef struct cen_candidate {
    int32_t token;
    float   logit;
} cen_candidate;

// The k likeliest tokens of a row, the likeliest first, and of equals the one with the lower number. At most n.
void cen_likeliest(const float * logits, int32_t n, cen_candidate * best, int32_t k);

typedef struct cen_sampler cen_sampler;
cen_sampler *              cen_sampler_new(const struct llama_model * model, cen_sampler_params p, const int32_t * bias_token,
                                           const float * bias, size_t n_bias, char ** err);
// A lazy grammar waits for a pattern or a token. prefill is what the prompt already holds of the constrained text.
int32_t cen_sampler_grammar(cen_sampler * s, const char * gbnf, bool lazy, const char ** patterns, size_t n_patterns,
                            const int32_t * tokens, size_t n_tokens, const char * prefill, char ** err);
int32_t cen_sampler_sample(cen_sampler * s, const float * logits, int32_t n_vocab, char ** err);
// The same of the likeliest candidates, where no others can be picked.
int32_t cen_sampler_choose(cen_sampler * s, const cen_candidate * best, size_t n, char ** err);
void    cen_sampler_accept(cen_sampler * s, int32_t token); // a prompt token: penalties, not the grammar
void    cen_sampler_free(cen_sampler * s);

typedef struct cen_templates cen_templates;
cen_templates *              cen_templates_new(const struct llama_model * model, const char * override_template, char ** err);
void                         cen_templates_free(cen_templates * t);

typedef struct cen_chat cen_chat;
// request and the answer of cen_chat_json are JSON; their fields are those of chatRequest and chatPrompt in chat.go.
cen_chat * cen_chat_apply(const cen_templates * t, const struct llama_model * model, const char * request, char ** err);
char *     cen_chat_json(const cen_chat * c, char ** err);
char *     cen_chat_parse(const cen_chat * c, const char * text, bool partial, char ** err); // OpenAI message JSON
void       cen_chat_free(cen_chat * c);

char * cen_schema_to_grammar(const char * schema, char ** err);

#ifdef __cplusplus
}
#endif
