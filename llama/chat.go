package llama

/*
#include <stdlib.h>
#include "shim/shim.h"
*/
import "C"

import (
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"unsafe"
)

// ChatRequest is a conversation in OpenAI's JSON. Messages is an array; Tools an array or null.
type ChatRequest struct {
	Messages          json.RawMessage `json:"messages"`
	Tools             json.RawMessage `json:"tools"`
	ToolChoice        string          `json:"tool_choice"` // auto, required, none
	ParallelToolCalls bool            `json:"parallel_tool_calls"`
	JSONSchema        string          `json:"json_schema"` // or empty
	GBNF              string          `json:"grammar"`     // or empty
	Continue          bool            `json:"continue"`    // go on with the last message, the assistant's
	NoAnswer          bool            `json:"no_answer"`   // end with the last message, without the beginning of an answer
}

// ChatPrompt is what a chat template made of a conversation.
type ChatPrompt struct {
	Prompt    string   `json:"prompt"`
	GBNF      string   `json:"grammar"` // or empty
	Lazy      bool     `json:"lazy"`
	Prefill   string   `json:"prefill"`   // the part of the answer that the prompt already holds
	Patterns  []string `json:"patterns"`  // that wake a lazy grammar
	Tokens    []Token  `json:"tokens"`    // that wake a lazy grammar
	Preserved []Token  `json:"preserved"` // special tokens whose text Parse needs to see
	Stops     []string `json:"stops"`
	// KnowsTools says whether the template tells the model of tools. If not they are left out of Prompt.
	KnowsTools bool `json:"knows_tools"`

	parser *chatParser
}

// ApplyTemplate renders a conversation with the model's own chat template, or ChatML if it has none.
func (m *Model) ApplyTemplate(r ChatRequest) (*ChatPrompt, error) {
	done, err := m.acquire()
	if err != nil {
		return nil, err
	}
	defer done()
	if m.templates == nil {
		return nil, m.templatesErr
	}
	if len(r.Tools) == 0 {
		r.Tools = json.RawMessage("null")
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("llama: encode the conversation: %w", err)
	}
	cBody := C.CString(string(body))
	defer C.free(unsafe.Pointer(cBody))
	var reason *C.char
	c := C.cen_chat_apply(m.templates, m.c, cBody, &reason)
	if c == nil {
		return nil, failure("apply the chat template", reason)
	}
	p := &ChatPrompt{parser: newChatParser(c)}
	text := C.cen_chat_json(c, &reason)
	if text == nil {
		return nil, failure("read the chat prompt", reason)
	}
	if err := json.Unmarshal([]byte(takeString(text)), p); err != nil {
		return nil, fmt.Errorf("llama: decode the chat prompt: %w", err)
	}
	return p, nil
}

// chatParser owns the C object. It outlives the model's Close: it refers to the vocabulary only while it is made.
type chatParser struct {
	mu sync.Mutex // the PEG parser is not meant for two threads
	c  *C.cen_chat
}

func newChatParser(c *C.cen_chat) *chatParser {
	p := &chatParser{c: c}
	runtime.AddCleanup(p, func(c *C.cen_chat) { C.cen_chat_free(c) }, c)
	return p
}

// Parse reads the text generated so far as an OpenAI message, JSON. partial says that more will come.
func (p *ChatPrompt) Parse(text string, partial bool) (json.RawMessage, error) {
	p.parser.mu.Lock()
	defer p.parser.mu.Unlock()
	cText := C.CString(text)
	defer C.free(unsafe.Pointer(cText))
	var reason *C.char
	out := C.cen_chat_parse(p.parser.c, cText, C.bool(partial), &reason)
	if out == nil {
		return nil, failure("read the answer", reason)
	}
	return json.RawMessage(takeString(out)), nil
}

// SchemaToGrammar turns a JSON schema into GBNF. A schema with something that has no grammar is an error.
func SchemaToGrammar(schema string) (string, error) {
	start()
	cSchema := C.CString(schema)
	defer C.free(unsafe.Pointer(cSchema))
	var reason *C.char
	out := C.cen_schema_to_grammar(cSchema, &reason)
	if out == nil {
		return "", failure("schema to grammar", reason)
	}
	return takeString(out), nil
}
