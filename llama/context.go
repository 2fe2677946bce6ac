package llama

/*
#include <stdlib.h>
#include "shim/shim.h"
*/
import "C"

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"
)

// KVType is the number format of the KV cache, with ggml's value.
type KVType int

const (
	KVF16  KVType = 1
	KVF32  KVType = -1 // ggml's 0, which here must not be the zero value
	KVQ8_0 KVType = 8  //nolint:revive // the field's name for it
	KVQ4_0 KVType = 2  //nolint:revive // as above
)

func (t KVType) ggml() C.int32_t {
	switch t {
	case 0:
		return C.int32_t(KVF16)
	case KVF32:
		return 0
	}
	return C.int32_t(t)
}

// FlashAttention says whether to use the fused attention kernel.
type FlashAttention int

const (
	FlashAuto FlashAttention = iota
	FlashOff
	FlashOn
)

// ContextConfig says what a Context can hold. Zero values are llama.cpp's defaults where it has them.
type ContextConfig struct {
	Size         int  // tokens each sequence has room for. Zero means what the model was trained for
	Sequences    int  // zero means 1
	Batch        int  // most rows of one Decode. Zero means 2048
	MicroBatch   int  // rows computed at once. Zero means 512
	Outputs      int  // most rows of one Decode that ask for logits. Zero means Batch
	Threads      int  // zero means the number of processors
	BatchThreads int  // for prompts. Zero means Threads
	Poll         int  // how hard idle threads wait: -1 sleeps at once, 100 spins longest. Zero means 50
	Unified      bool // sequences share one pool of Sequences*Size cells instead of having Size each
	Embeddings   bool // the context yields mean-pooled embeddings instead of logits
	Stage        bool // the model is a range of layers: the context takes hidden states, and may yield them; see Batch.Hidden
	Flash        FlashAttention
	KeyType      KVType // zero means KVF16
	ValueType    KVType // zero means KVF16
}

// Context is a KV cache and the threads that compute with it.
type Context struct {
	model   *Model
	unified bool
	stage   bool
	micro   int // rows that are computed at once
	layers  int
	outputs int // most rows of a batch that yield something
	size    int
	vocab   int
	embed   int
	rows    rows // of the last batch, if it yielded hidden states

	mu sync.Mutex // held during C calls
	c  *C.cen_context
}

// NewContext makes a Context, which must be closed before the model is.
func (m *Model) NewContext(cfg ContextConfig) (*Context, error) {
	info, err := m.Info()
	if err != nil {
		return nil, err
	}
	done, err := m.acquire()
	if err != nil {
		return nil, err
	}
	defer done()
	cfg = cfg.withDefaults(info)
	if cfg.Sequences > MaxSequences() {
		return nil, fmt.Errorf("llama: new context: %d sequences are more than the %d that llama.cpp can hold", cfg.Sequences, MaxSequences())
	}
	flash := C.int32_t(C.LLAMA_FLASH_ATTN_TYPE_AUTO)
	switch cfg.Flash {
	case FlashOff:
		flash = C.LLAMA_FLASH_ATTN_TYPE_DISABLED
	case FlashOn:
		flash = C.LLAMA_FLASH_ATTN_TYPE_ENABLED
	}
	params := C.cen_context_params{
		n_ctx: C.uint32_t(cfg.Size * cfg.Sequences), n_batch: C.uint32_t(cfg.Batch), n_ubatch: C.uint32_t(cfg.MicroBatch),
		n_seq_max: C.uint32_t(cfg.Sequences), n_outputs: C.uint32_t(cfg.Outputs),
		n_threads: C.int32_t(cfg.Threads), n_threads_batch: C.int32_t(cfg.BatchThreads), flash_attn: flash,
		type_k: cfg.KeyType.ggml(), type_v: cfg.ValueType.ggml(), poll: C.int32_t(max(cfg.Poll, 0)),
		embeddings: C.bool(cfg.Embeddings), kv_unified: C.bool(cfg.Unified), stage: C.bool(cfg.Stage),
	}
	var reason *C.char
	c := C.cen_context_new(m.c, params, &reason)
	if c == nil {
		return nil, failure("new context", reason)
	}
	m.users.Add(1)
	return &Context{
		model: m, c: c, unified: cfg.Unified || cfg.Sequences == 1, stage: cfg.Stage, micro: cfg.MicroBatch, layers: info.Layers, outputs: cmp.Or(cfg.Outputs, cfg.Batch),
		vocab: info.VocabSize, embed: info.Embedding, size: int(C.llama_n_ctx_seq(C.cen_context_llama(c))),
	}, nil
}

func (cfg ContextConfig) withDefaults(info ModelInfo) ContextConfig {
	orElse := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	orElse(&cfg.Size, info.TrainContext)
	orElse(&cfg.Sequences, 1)
	orElse(&cfg.Batch, 2048)
	orElse(&cfg.MicroBatch, min(512, cfg.Batch))
	orElse(&cfg.Threads, runtime.NumCPU())
	orElse(&cfg.BatchThreads, cfg.Threads)
	orElse(&cfg.Poll, 50)
	return cfg
}

// Close frees the context.
func (c *Context) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.c == nil {
		return nil
	}
	C.cen_context_free(c.c)
	c.c = nil
	c.model.users.Done()
	return nil
}

// Size is the number of tokens that each sequence has room for.
func (c *Context) Size() int { return c.size }

// Batch holds rows in columns, as llama.cpp wants them: row i is Tokens[i] at Positions[i] of sequence Seqs[i], and
// yields logits if Logits[i] is not zero.
//
// A Stage takes Hidden instead of Tokens. Hidden and Embedded are what all rows yield, whatever Logits says.
type Batch struct {
	Tokens    []Token
	Hidden    []float32 // rows × Embedding
	Yield     Yield
	Positions []int32
	Seqs      []int32
	Logits    []int8
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Tokens, b.Positions, b.Seqs, b.Logits = b.Tokens[:0], b.Positions[:0], b.Seqs[:0], b.Logits[:0]
	b.Hidden, b.Yield = b.Hidden[:0], Logits
}

// Add appends a row.
func (b *Batch) Add(t Token, pos, seq int, logits bool) {
	b.Tokens = append(b.Tokens, t)
	b.Place(pos, seq, logits)
}

// Place says where a row belongs whose token or hidden state is appended apart.
func (b *Batch) Place(pos, seq int, logits bool) {
	b.Positions = append(b.Positions, int32(pos))
	b.Seqs = append(b.Seqs, int32(seq))
	want := int8(0)
	if logits {
		want = 1
	}
	b.Logits = append(b.Logits, want)
}

// Decode computes a batch. ErrCacheFull means that nothing was computed, ErrLost that no model is there any more; after any other error the sequences of the
// batch hold an unknown part of it and are to be trimmed.
func (c *Context) Decode(b *Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.c == nil {
		return ErrClosed
	}
	if err := c.checkBatch(b); err != nil {
		return err
	}
	tokens, hidden, logits := (*C.int32_t)(unsafe.SliceData(b.Tokens)), (*C.float)(unsafe.SliceData(b.Hidden)), b.Logits
	if c.stage {
		tokens = nil
		c.capture(b.Yield)
		if b.Yield.all() {
			logits = c.rows.all(len(logits))
		}
	} else {
		hidden = nil
	}
	var reason *C.char
	rc := C.cen_decode(c.c, C.int32_t(len(b.Positions)), tokens, hidden, (*C.int32_t)(&b.Positions[0]), (*C.int32_t)(&b.Seqs[0]), (*C.int8_t)(&logits[0]), &reason)
	if c.model.lost() {
		C.free(unsafe.Pointer(reason))
		return ErrLost
	}
	if reason != nil {
		return failure("decode", reason)
	}
	if rc == 1 {
		return ErrCacheFull
	}
	return c.keep(b)
}

// checkBatch refuses what llama.cpp would assert on.
func (c *Context) checkBatch(b *Batch) error {
	n := len(b.Positions)
	whole := len(b.Tokens) == n
	if c.stage {
		whole = len(b.Hidden) == n*c.embed
	}
	if n == 0 || !whole || len(b.Seqs) != n || len(b.Logits) != n {
		return fmt.Errorf("llama: decode: %d tokens, %d numbers, %d positions, %d sequences and %d flags do not make a batch", len(b.Tokens), len(b.Hidden), n, len(b.Seqs), len(b.Logits))
	}
	if limit := int(C.llama_n_batch(C.cen_context_llama(c.c))); n > limit {
		return fmt.Errorf("llama: decode: %d rows are more than the batch size of %d", n, limit)
	}
	if b.Yield != Logits && !c.stage {
		return errors.New("llama: decode: only a stage yields hidden states")
	}
	yields := 0
	for _, wanted := range b.Logits {
		if wanted != 0 || b.Yield.all() {
			yields++
		}
	}
	if limit := max(c.outputs, int(C.llama_n_seq_max(C.cen_context_llama(c.c)))); yields > limit {
		return fmt.Errorf("llama: decode: %d rows are to yield something, which is more than %d", yields, limit)
	}
	seqs := int32(C.llama_n_seq_max(C.cen_context_llama(c.c)))
	for i, pos := range b.Positions {
		switch {
		case !c.stage && (b.Tokens[i] < 0 || int(b.Tokens[i]) >= c.vocab):
			return fmt.Errorf("llama: decode: token %d is not in the vocabulary of %d", b.Tokens[i], c.vocab)
		case b.Seqs[i] < 0 || b.Seqs[i] >= seqs:
			return fmt.Errorf("llama: decode: sequence %d of %d", b.Seqs[i], seqs)
		case pos < 0:
			return fmt.Errorf("llama: decode: position %d", pos)
		}
	}
	return nil
}

// SetThreads has n of the Threads that the context was made with compute from the next Decode on, and as many of BatchThreads.
// It is not to be called during one.
func (c *Context) SetThreads(n int) {
	if c.c != nil {
		C.cen_set_threads(c.c, C.int32_t(n))
	}
}

// Until has compute call Decode or Unembed, and makes it return early with an error when ctx is done (on the processor; a GPU
// finishes). Then it returns the ctx's.
func (c *Context) Until(ctx context.Context, compute func() error) error {
	if c.c == nil {
		return ErrClosed
	}
	C.cen_context_abort(c.c, false)
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		C.cen_context_abort(c.c, true)
	})
	err := compute()
	if !stop() {
		<-interrupted // or it would end the next one, or touch what Close has freed
		return ctx.Err()
	}
	return err
}

// Logits returns the logits of row i of the last batch. The slice is llama.cpp's memory: it is valid until the next
// Decode or Close.
func (c *Context) Logits(i int) ([]float32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.c == nil {
		return nil, ErrClosed
	}
	p := C.llama_get_logits_ith(C.cen_context_llama(c.c), C.int32_t(i))
	if p == nil {
		return nil, fmt.Errorf("llama: row %d of the last batch has no logits", i)
	}
	return unsafe.Slice((*float32)(p), c.vocab), nil
}

// SequenceEmbedding copies the pooled embedding of a sequence of the last batch.
func (c *Context) SequenceEmbedding(seq int) ([]float32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.c == nil {
		return nil, ErrClosed
	}
	p := C.llama_get_embeddings_seq(C.cen_context_llama(c.c), C.llama_seq_id(seq))
	if p == nil {
		return nil, fmt.Errorf("llama: sequence %d of the last batch has no embedding", seq)
	}
	return append([]float32(nil), unsafe.Slice((*float32)(p), c.embed)...), nil
}

// memory runs f on the KV cache.
func (c *Context) memory(f func(C.llama_memory_t) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.c == nil {
		return ErrClosed
	}
	if !f(C.llama_get_memory(C.cen_context_llama(c.c))) {
		return errors.New("llama: this model's memory cannot be changed in part")
	}
	return nil
}

// Trim forgets positions [from, to) of a sequence; to < 0 means its end, seq < 0 every sequence.
func (c *Context) Trim(seq, from, to int) error {
	return c.memory(func(m C.llama_memory_t) bool {
		return bool(C.llama_memory_seq_rm(m, C.llama_seq_id(seq), C.llama_pos(from), C.llama_pos(to)))
	})
}

// Copy makes sequence dst, which is to be empty, hold the first n positions of src. In a Unified context they share the
// cells at no cost; otherwise the whole cache of src is copied before the next Decode.
func (c *Context) Copy(src, dst, n int) error {
	return c.memory(func(m C.llama_memory_t) bool {
		if c.unified {
			C.llama_memory_seq_cp(m, C.llama_seq_id(src), C.llama_seq_id(dst), 0, C.llama_pos(n))
			return true
		}
		// Between separate caches llama.cpp copies all or aborts.
		C.llama_memory_seq_cp(m, C.llama_seq_id(src), C.llama_seq_id(dst), -1, -1)
		return bool(C.llama_memory_seq_rm(m, C.llama_seq_id(dst), C.llama_pos(n), -1))
	})
}

// Shift adds delta to positions [from, to) of a sequence.
func (c *Context) Shift(seq, from, to, delta int) error {
	return c.memory(func(m C.llama_memory_t) bool {
		if !bool(C.llama_memory_can_shift(m)) {
			return false
		}
		C.llama_memory_seq_add(m, C.llama_seq_id(seq), C.llama_pos(from), C.llama_pos(to), C.llama_pos(delta))
		return true
	})
}

// Positions returns the first and last position held of a sequence, -1 and -1 if none.
func (c *Context) Positions(seq int) (first, last int, err error) {
	err = c.memory(func(m C.llama_memory_t) bool {
		first = int(C.llama_memory_seq_pos_min(m, C.llama_seq_id(seq)))
		last = int(C.llama_memory_seq_pos_max(m, C.llama_seq_id(seq)))
		return true
	})
	return first, last, err
}

// SaveState writes the whole KV cache and the tokens that made it to a file.
func (c *Context) SaveState(path string, tokens []Token) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.c == nil {
		return ErrClosed
	}
	cPath := C.CString(path)
	defer C.free(unsafe.Pointer(cPath))
	var reason *C.char
	if C.cen_state_save(c.c, cPath, (*C.int32_t)(unsafe.SliceData(tokens)), C.size_t(len(tokens)), &reason) < 0 {
		return failure("save state to "+path, reason)
	}
	return nil
}

// LoadState reads what SaveState wrote, into a Context of the same shape, and returns the tokens.
func (c *Context) LoadState(path string) ([]Token, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.c == nil {
		return nil, ErrClosed
	}
	cPath := C.CString(path)
	defer C.free(unsafe.Pointer(cPath))
	tokens := make([]Token, int(C.llama_n_ctx(C.cen_context_llama(c.c))))
	var reason *C.char
	n := C.cen_state_load(c.c, cPath, (*C.int32_t)(&tokens[0]), C.size_t(len(tokens)), &reason)
	if n < 0 {
		return nil, failure("load state from "+path, reason)
	}
	return tokens[:n], nil
}
