package llama

/*
#include <stdlib.h>
#include "shim/shim.h"
extern bool centramProgress(float progress, void * data);
*/
import "C"

import (
	"context"
	"fmt"
	"runtime/cgo"
	"sync"
	"unsafe"
)

// ModelConfig says how a model is loaded. Its zero value maps the file into memory and uses the processor alone.
type ModelConfig struct {
	GPULayers int  // layers to put on the GPU; -1 means all
	NoMmap    bool // read the file instead of mapping it
	Mlock     bool // keep the weights from being swapped out
	VocabOnly bool // load no weights
	Check     bool // look at every tensor for invalid values, which takes as long as reading them
	// ChatTemplate, in Jinja, is used instead of the one in the file. Empty means the file's.
	ChatTemplate string
	// Progress is called with 0..1 from the loading thread. Nil means nobody wants to know.
	Progress func(float64)
}

// Model is a model's weights and vocabulary.
type Model struct {
	mu    sync.RWMutex // held for reading during C calls, for writing by Close
	c     *C.struct_llama_model
	vocab *C.struct_llama_vocab

	watched []int32 // ranges of memory that its files are mapped to

	templates    *C.cen_templates
	templatesErr error
	users        sync.WaitGroup // contexts, samplers, adapters and chats, which must go first
}

// LoadModel loads a GGUF file, or all parts of a split one in order. A cancelled ctx stops the loading.
func LoadModel(ctx context.Context, paths []string, cfg ModelConfig) (*Model, error) {
	if len(paths) == 0 {
		return nil, fmt.Errorf("llama: load model: no file given")
	}
	start()
	cPaths := make([]*C.char, len(paths))
	for i, p := range paths {
		cPaths[i] = C.CString(p)
		defer C.free(unsafe.Pointer(cPaths[i]))
	}
	list := (**C.char)(C.malloc(C.size_t(len(paths)) * C.size_t(unsafe.Sizeof(cPaths[0]))))
	defer C.free(unsafe.Pointer(list))
	copy(unsafe.Slice(list, len(paths)), cPaths)

	handle := cgo.NewHandle(func(p float64) bool {
		if cfg.Progress != nil {
			cfg.Progress(p)
		}
		return ctx.Err() == nil
	})
	defer handle.Delete()
	params := C.cen_model_params{
		n_gpu_layers: C.int32_t(cfg.GPULayers), use_mmap: C.bool(!cfg.NoMmap), use_mlock: C.bool(cfg.Mlock),
		vocab_only: C.bool(cfg.VocabOnly), check_tensors: C.bool(cfg.Check),
		progress: C.llama_progress_callback(C.centramProgress), progress_data: C.uintptr_t(handle),
	}
	var reason *C.char
	c := C.cen_model_load(list, C.size_t(len(paths)), params, &reason)
	if c == nil {
		if ctx.Err() != nil {
			C.free(unsafe.Pointer(reason))
			return nil, ctx.Err()
		}
		return nil, failure("load "+paths[0], reason)
	}
	m := &Model{c: c, vocab: C.llama_model_get_vocab(c)}
	if !cfg.NoMmap {
		m.watch(paths)
	}
	template := C.CString(cfg.ChatTemplate)
	defer C.free(unsafe.Pointer(template))
	if m.templates = C.cen_templates_new(c, template, &reason); m.templates == nil {
		m.templatesErr = failure("read the chat template", reason) // the model can still complete text
	}
	return m, nil
}

//export centramProgress
func centramProgress(progress C.float, data unsafe.Pointer) C.bool {
	return C.bool(cgo.Handle(uintptr(data)).Value().(func(float64) bool)(float64(progress)))
}

// Close waits until what was made from the model is closed, and frees it. The memory of both goes back to the system.
func (m *Model) Close() error {
	m.users.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.c == nil {
		return nil
	}
	if m.templates != nil {
		C.cen_templates_free(m.templates)
	}
	m.unwatch()
	C.cen_model_free(m.c)
	m.c, m.vocab, m.templates = nil, nil, nil
	return nil
}

// acquire keeps the model open for a call; done ends that.
func (m *Model) acquire() (done func(), err error) {
	m.mu.RLock()
	if m.c == nil {
		m.mu.RUnlock()
		return nil, ErrClosed
	}
	return m.mu.RUnlock, nil
}

// ModelInfo is what a loaded model says of itself.
type ModelInfo struct {
	Description  string
	Architecture string
	Parameters   uint64
	Size         uint64 // bytes of the tensors
	Layers       int
	Embedding    int
	VocabSize    int
	TrainContext int
	ChatTemplate bool // the file brings one
}

// Info describes the model.
func (m *Model) Info() (ModelInfo, error) {
	done, err := m.acquire()
	if err != nil {
		return ModelInfo{}, err
	}
	defer done()
	buf := (*C.char)(C.malloc(256))
	defer C.free(unsafe.Pointer(buf))
	C.llama_model_desc(m.c, buf, 256)
	info := ModelInfo{
		Description:  C.GoString(buf),
		Parameters:   uint64(C.llama_model_n_params(m.c)),
		Size:         uint64(C.llama_model_size(m.c)),
		Layers:       int(C.llama_model_n_layer(m.c)),
		Embedding:    int(C.llama_model_n_embd(m.c)),
		VocabSize:    int(C.llama_vocab_n_tokens(m.vocab)),
		TrainContext: int(C.llama_model_n_ctx_train(m.c)),
		ChatTemplate: C.llama_model_chat_template(m.c, nil) != nil,
	}
	key := C.CString("general.architecture")
	defer C.free(unsafe.Pointer(key))
	if C.llama_model_meta_val_str(m.c, key, buf, 256) > 0 {
		info.Architecture = C.GoString(buf)
	}
	return info, nil
}
