package llama

/*
#include <stdlib.h>
#include "shim/shim.h"
*/
import "C"

import (
	"fmt"
	"math"
	"unsafe"
)

// Tokenize splits text. With begin a beginning-of-sequence token comes first if the model wants one; with special the
// text of special tokens becomes those tokens.
func (m *Model) Tokenize(text string, begin, special bool) ([]Token, error) {
	done, err := m.acquire()
	if err != nil {
		return nil, err
	}
	defer done()
	if len(text) > math.MaxInt32/2 {
		return nil, fmt.Errorf("llama: tokenize: %d bytes are too many", len(text))
	}
	cText := C.CString(text)
	defer C.free(unsafe.Pointer(cText))
	tokens := make([]Token, len(text)/3+16)
	for {
		var reason *C.char
		n := C.cen_tokenize(m.vocab, cText, C.int32_t(len(text)), (*C.int32_t)(&tokens[0]), C.int32_t(len(tokens)), C.bool(begin), C.bool(special), &reason)
		if reason != nil {
			return nil, failure("tokenize", reason)
		}
		if n >= 0 {
			return tokens[:n], nil
		}
		if n == math.MinInt32 {
			return nil, fmt.Errorf("llama: tokenize: the text has more tokens than fit 32 bits")
		}
		tokens = make([]Token, -n) // it was too small, and this is the size it wants
	}
}

// Piece returns a token's bytes, which may be part of a UTF-8 character. A control token has none unless special.
func (m *Model) Piece(t Token, special bool) []byte {
	done, err := m.acquire()
	if err != nil {
		return nil
	}
	defer done()
	if t < 0 || t >= Token(C.llama_vocab_n_tokens(m.vocab)) {
		return nil
	}
	var small [64]byte
	n := C.llama_token_to_piece(m.vocab, C.llama_token(t), (*C.char)(unsafe.Pointer(&small[0])), C.int32_t(len(small)), 0, C.bool(special))
	if n >= 0 {
		return append([]byte(nil), small[:n]...)
	}
	large := make([]byte, -n)
	n = C.llama_token_to_piece(m.vocab, C.llama_token(t), (*C.char)(unsafe.Pointer(&large[0])), C.int32_t(len(large)), 0, C.bool(special))
	return large[:max(n, 0)]
}

// EndOfGeneration reports whether t ends an answer.
func (m *Model) EndOfGeneration(t Token) bool {
	done, err := m.acquire()
	if err != nil {
		return false
	}
	defer done()
	return t >= 0 && t < Token(C.llama_vocab_n_tokens(m.vocab)) && bool(C.llama_vocab_is_eog(m.vocab, C.llama_token(t)))
}

// End is the token that ends a text, or -1 if the model has none.
func (m *Model) End() Token {
	done, err := m.acquire()
	if err != nil {
		return -1
	}
	defer done()
	return max(Token(C.llama_vocab_eos(m.vocab)), -1)
}
