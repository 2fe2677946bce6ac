package llama

/*
#include <stdlib.h>
#include "shim/shim.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

// Adapter is a LoRA adapter in memory.
type Adapter struct {
	model *Model
	mu    sync.Mutex // guards c
	c     *C.struct_llama_adapter_lora
}

// LoadAdapter reads a GGUF LoRA adapter made for this model.
func (m *Model) LoadAdapter(path string) (*Adapter, error) {
	done, err := m.acquire()
	if err != nil {
		return nil, err
	}
	defer done()
	cPath := C.CString(path)
	defer C.free(unsafe.Pointer(cPath))
	var reason *C.char
	c := C.cen_adapter_load(m.c, cPath, &reason)
	if c == nil {
		return nil, failure("load adapter "+path, reason)
	}
	m.users.Add(1)
	return &Adapter{model: m, c: c}, nil
}

// Close frees the adapter. No Context may be using it.
func (a *Adapter) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.c == nil {
		return nil
	}
	C.llama_adapter_lora_free(a.c)
	a.c = nil
	a.model.users.Done()
	return nil
}

// SetAdapters makes the following batches use these adapters with these scales, and no others.
func (c *Context) SetAdapters(adapters []*Adapter, scales []float32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.c == nil {
		return ErrClosed
	}
	if len(adapters) != len(scales) {
		return fmt.Errorf("llama: %d adapters with %d scales", len(adapters), len(scales))
	}
	var reason *C.char
	n := C.size_t(len(adapters))
	if n == 0 {
		if C.cen_set_adapters(c.c, nil, 0, nil, &reason) != 0 {
			return failure("set adapters", reason)
		}
		return nil
	}
	list := (**C.struct_llama_adapter_lora)(C.malloc(n * C.size_t(unsafe.Sizeof(uintptr(0)))))
	defer C.free(unsafe.Pointer(list))
	for i, a := range adapters {
		if a.c == nil {
			return ErrClosed
		}
		unsafe.Slice(list, len(adapters))[i] = a.c
	}
	if C.cen_set_adapters(c.c, list, n, (*C.float)(&scales[0]), &reason) != 0 {
		return failure("set adapters", reason)
	}
	return nil
}
