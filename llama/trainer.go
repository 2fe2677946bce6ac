package llama

/*
#include <stdlib.h>
#include "shim/train.h"
*/
import "C"

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// TrainerConfig says what of a model is trained, and how. Its zero value trains pairs of rank 16 for attention.
type TrainerConfig struct {
	// Full trains all of the model's tensors, in F32. Otherwise low-rank pairs are trained: W x becomes W x + B A x.
	Full    bool
	Rank    int      // of the pairs. Zero means 16
	Targets []string // which matrices of each layer get a pair, of Targets. Zero means attn_q, attn_k, attn_v and attn_output
	Seed    uint64   // what A begins as; B begins as zeros
	Context int      // most rows of a block. Zero means 512
	Threads int      // zero means the number of processors
	Poll    int      // how hard idle threads wait, 1 (sleep) to 100 (spin). Zero means 50
	GPU     bool     // train on the GPU instead
	// StateBits is 8 to keep AdamW's two numbers for each parameter in a byte each. Zero means 32.
	StateBits int
	Exact     bool // go back in F32 where the base is quantised, too; otherwise in BF16 if that is faster
}

// Targets are the matrices of a layer that a pair can be trained for.
func Targets() []string {
	var out []string
	for i := C.int32_t(0); ; i++ {
		name := C.cen_trainer_target(i)
		if name == nil {
			return out
		}
		out = append(out, C.GoString(name))
	}
}

// Param is one tensor that is trained: of a pair, or of the model.
type Param struct {
	Name string
	Dims []int // row length first

	offset, size int // in the vector of all parameters
}

// Trainer computes losses of a model and their gradients. The order of use is Backward, any number of times, Scale, Step,
// Zero. The same calls give the same bits, on one kind of processor and with one number of threads.
//
// The file must have been checked by package gguf. A Trainer may be used by one goroutine at a time.
type Trainer struct {
	context int
	vocab   int
	params  []Param
	byName  map[string]int

	values, gradients []float32 // C memory
	m, v              []float32 // AdamW's, made by the first Step
	m8, v8            *moments8 // or these, if bits is 8
	bits              int
	step              int

	mu sync.Mutex // held during C calls
	c  *C.cen_trainer
}

// NewTrainer opens the model that is in these files.
func NewTrainer(ctx context.Context, paths []string, cfg TrainerConfig) (*Trainer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, errors.New("llama: new trainer: no file given")
	}
	start()
	params, err := cfg.params()
	if err != nil {
		return nil, err
	}
	list := (**C.char)(C.malloc(C.size_t(len(paths)) * C.size_t(unsafe.Sizeof(uintptr(0)))))
	defer C.free(unsafe.Pointer(list))
	for i, p := range paths {
		c := C.CString(p)
		defer C.free(unsafe.Pointer(c))
		unsafe.Slice(list, len(paths))[i] = c
	}
	var reason *C.char
	c := C.cen_trainer_new(list, C.size_t(len(paths)), params, &reason)
	if c == nil {
		return nil, failure("new trainer of "+paths[0], reason)
	}
	t := &Trainer{c: c, context: int(params.context), vocab: int(C.cen_trainer_vocab(c)), bits: cmp.Or(cfg.StateBits, 32), byName: map[string]int{}}
	t.table()
	if !cfg.Full {
		t.scatter(cfg.Seed)
	}
	if err := t.changed(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (cfg TrainerConfig) params() (C.cen_trainer_config, error) {
	rank := cmp.Or(cfg.Rank, 16)
	size := cmp.Or(cfg.Context, 512)
	targets := cfg.Targets
	if len(targets) == 0 {
		targets = Targets()[:4]
	}
	var mask C.uint32_t
	for _, name := range targets {
		i := slices.Index(Targets(), name)
		if i < 0 {
			return C.cen_trainer_config{}, fmt.Errorf("llama: new trainer: there is no matrix %q to train, only %s", name, strings.Join(Targets(), ", "))
		}
		mask |= 1 << i
	}
	if rank < 1 || rank > 4096 || size < 1 || size > 1<<20 {
		return C.cen_trainer_config{}, fmt.Errorf("llama: new trainer: rank %d, blocks of %d rows", rank, size)
	}
	if b := cfg.StateBits; b != 0 && b != 8 && b != 32 {
		return C.cen_trainer_config{}, fmt.Errorf("llama: new trainer: optimiser state of %d bits, not 8 or 32", b)
	}
	if cfg.Full {
		rank = 0
	}
	return C.cen_trainer_config{
		rank: C.int32_t(rank), targets: mask, context: C.int32_t(size),
		n_threads: C.int32_t(cmp.Or(cfg.Threads, runtime.NumCPU())), poll: C.int32_t(cmp.Or(cfg.Poll, 50)), gpu: C.bool(cfg.GPU), exact: C.bool(cfg.Exact),
	}, nil
}

// table takes over what is trained.
func (t *Trainer) table() {
	var n C.size_t
	t.values = unsafe.Slice((*float32)(C.cen_trainer_values(t.c, &n)), int(n))
	t.gradients = unsafe.Slice((*float32)(C.cen_trainer_gradients(t.c)), len(t.values))
	for i := range C.cen_trainer_params(t.c) {
		p := C.cen_trainer_param(t.c, i)
		param := Param{Name: C.GoString(p.name), Dims: []int{int(p.dims[0])}, offset: int(p.offset), size: int(p.dims[0] * p.dims[1])}
		if p.dims[1] > 1 {
			param.Dims = append(param.Dims, int(p.dims[1]))
		}
		t.byName[param.Name] = len(t.params)
		t.params = append(t.params, param)
	}
}

func (t *Trainer) changed() error {
	var reason *C.char
	if C.cen_trainer_changed(t.c, &reason) != 0 {
		return failure("set parameters", reason)
	}
	return nil
}

// Close frees the trainer.
func (t *Trainer) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.c == nil {
		return nil
	}
	C.cen_trainer_free(t.c)
	t.c, t.values, t.gradients, t.m, t.v, t.m8, t.v8 = nil, nil, nil, nil, nil, nil, nil
	return nil
}

// Block is what one call computes: rows of tokens, of one document or of several behind each other. A row sees the rows of
// its document up to itself.
type Block struct {
	Tokens    []Token
	Positions []int32
	Docs      []int32 // which document each row is of
	Labels    []Token // the token that should follow a row, or -1 if nobody asks
}

// Add appends a document: tokens, and the labels of their rows.
func (b *Block) Add(tokens, labels []Token) {
	document := int32(0)
	if n := len(b.Docs); n > 0 {
		document = b.Docs[n-1] + 1
	}
	for i := range tokens {
		b.Positions = append(b.Positions, int32(i))
		b.Docs = append(b.Docs, document)
	}
	b.Tokens = append(b.Tokens, tokens...)
	b.Labels = append(b.Labels, labels...)
}

// Forward returns the negative log likelihood of each row's label, in nats. It is 0 for rows without a label, and at most
// 87.3: what is less likely than F32 can say counts as that.
func (t *Trainer) Forward(ctx context.Context, b Block) ([]float32, error) {
	return t.run(ctx, b, false)
}

// Backward adds the gradient of the sum of what Forward returns, which it returns too. After an error the gradient holds an
// unknown part of that and is to be zeroed.
func (t *Trainer) Backward(ctx context.Context, b Block) ([]float32, error) {
	return t.run(ctx, b, true)
}

func (t *Trainer) run(ctx context.Context, b Block, backward bool) ([]float32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.c == nil {
		return nil, ErrClosed
	}
	if err := t.check(b); err != nil {
		return nil, err
	}
	nll := make([]float32, len(b.Tokens))
	C.cen_trainer_abort(t.c, false)
	aborted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(aborted)
		C.cen_trainer_abort(t.c, true)
	})
	var reason *C.char
	rc := C.cen_trainer_run(t.c, C.int32_t(len(b.Tokens)), (*C.int32_t)(&b.Tokens[0]), (*C.int32_t)(&b.Positions[0]),
		(*C.int32_t)(&b.Docs[0]), (*C.int32_t)(&b.Labels[0]), C.bool(backward), (*C.float)(&nll[0]), &reason)
	if !stop() {
		<-aborted // or it would touch what Close has freed
		C.free(unsafe.Pointer(reason))
		return nil, ctx.Err()
	}
	if rc != 0 {
		return nil, failure("train", reason)
	}
	return nll, nil
}

// check refuses what ggml would assert on.
func (t *Trainer) check(b Block) error {
	n := len(b.Tokens)
	if n == 0 || len(b.Positions) != n || len(b.Docs) != n || len(b.Labels) != n {
		return fmt.Errorf("llama: train: %d tokens, %d positions, %d documents and %d labels do not make a block", n, len(b.Positions), len(b.Docs), len(b.Labels))
	}
	if n > t.context {
		return fmt.Errorf("llama: train: %d rows are more than the %d that a block may have", n, t.context)
	}
	for i, tok := range b.Tokens {
		if tok < 0 || int(tok) >= t.vocab || int(b.Labels[i]) >= t.vocab {
			return fmt.Errorf("llama: train: token %d with label %d is not in the vocabulary of %d", tok, b.Labels[i], t.vocab)
		}
		if b.Positions[i] < 0 {
			return fmt.Errorf("llama: train: position %d", b.Positions[i])
		}
	}
	return nil
}

// MemoryNeeded is the most that the largest block will take, with everything that is there already, in bytes. A file that is
// mapped counts whole.
func (t *Trainer) MemoryNeeded() (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.c == nil {
		return 0, ErrClosed
	}
	var reason *C.char
	n := C.cen_trainer_memory(t.c, &reason)
	if n < 0 {
		return 0, failure("estimate memory", reason)
	}
	if t.bits == 8 { // of which the shim knows nothing
		floats := len(t.values)
		n -= C.int64_t(2 * (4*floats - floats - 4*((floats+scaled-1)/scaled)))
	}
	return uint64(n), nil
}

// Params lists what is trained, in the order of the model's layers.
func (t *Trainer) Params() []Param { return slices.Clone(t.params) }

// Values copies a parameter.
func (t *Trainer) Values(name string) ([]float32, error) { return t.read(t.values, name) }

// Gradient copies the gradient of a parameter.
func (t *Trainer) Gradient(name string) ([]float32, error) { return t.read(t.gradients, name) }

// SetValues changes a parameter.
func (t *Trainer) SetValues(name string, values []float32) error {
	if err := t.write(t.values, name, values); err != nil {
		return err
	}
	return t.changed()
}

// SetGradient changes the gradient of a parameter.
func (t *Trainer) SetGradient(name string, values []float32) error {
	return t.write(t.gradients, name, values)
}

func (t *Trainer) read(all []float32, name string) ([]float32, error) {
	part, err := t.part(all, name)
	return slices.Clone(part), err
}

func (t *Trainer) write(all []float32, name string, values []float32) error {
	part, err := t.part(all, name)
	if err != nil {
		return err
	}
	if len(part) != len(values) {
		return fmt.Errorf("llama: parameter %s has %d numbers, not %d", name, len(part), len(values))
	}
	copy(part, values)
	return nil
}

func (t *Trainer) part(all []float32, name string) ([]float32, error) {
	if t.c == nil {
		return nil, ErrClosed
	}
	i, ok := t.byName[name]
	if !ok {
		return nil, fmt.Errorf("llama: %s is not trained", name)
	}
	p := t.params[i]
	return all[p.offset : p.offset+p.size], nil
}
