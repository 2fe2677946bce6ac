package openai

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/server/wire"
	"github.com/centram/centram/server/wire/wiretest"
)

func TestRefusalsNameTheField(t *testing.T) {
	chat := func(field string) string { return `{` + hello + `,` + field + `}` }
	text := func(field string) string { return `{"model":"test","prompt":"Once",` + field + `}` }
	said := func(messages string) string { return `{"model":"test","messages":` + messages + `}` }
	const chats, texts, embeds = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"

	for _, row := range []struct {
		path, body string
		status     int
		param      string
	}{
		{chats, ``, 400, ""},
		{chats, `{`, 400, ""},
		{chats, `[]`, 400, ""},
		{chats, `null`, 400, "messages"},
		{chats, `{"messages":[{"role":"user","content":"Hi"}]}`, 400, "model"},
		{chats, `{"model":5}`, 400, "model"},
		{chats, said(`{}`), 400, "messages"},
		{chats, said(`[]`), 400, "messages"},
		{chats, said(`[{"role":"king","content":"Hi"}]`), 400, "messages[0].role"},
		{chats, said(`[{"role":"user"}]`), 400, "messages[0].content"},
		{chats, said(`[{"role":"user","content":5}]`), 400, "messages[0].content"},
		{chats, said(`[{"role":"user","content":[{"type":"smell"}]}]`), 400, "messages[0].content[0].type"},
		{chats, said(`[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:"}}]}]`), 501, "messages[0].content[1]"},
		{chats, said(`[{"role":"assistant","tool_calls":[{"id":"1"}]}]`), 400, "messages[0].tool_calls[0].function.name"},
		{chats, chat(`"temperature":"hot"`), 400, "temperature"},
		{chats, chat(`"temperature":2.5`), 400, "temperature"},
		{chats, chat(`"temperature":-1`), 400, "temperature"},
		{chats, chat(`"temperature":1e999`), 400, "temperature"},
		{chats, chat(`"top_p":1.1`), 400, "top_p"},
		{chats, chat(`"top_k":1.5`), 400, "top_k"},
		{chats, chat(`"min_p":-0.1`), 400, "min_p"},
		{chats, chat(`"repeat_penalty":11`), 400, "repeat_penalty"},
		{chats, chat(`"frequency_penalty":3`), 400, "frequency_penalty"},
		{chats, chat(`"presence_penalty":-3`), 400, "presence_penalty"},
		{chats, chat(`"seed":1.5`), 400, "seed"},
		{chats, chat(`"n":0`), 400, "n"},
		{chats, chat(`"n":9`), 400, "n"},
		{chats, chat(`"max_tokens":-5`), 400, "max_tokens"},
		{chats, chat(`"max_completion_tokens":1e30`), 400, "max_completion_tokens"},
		{chats, chat(`"stop":{}`), 400, "stop"},
		{chats, chat(`"stop":["` + strings.Repeat(`a","`, 70) + `"]`), 400, "stop"},
		{chats, chat(`"logit_bias":{"x":1}`), 400, "logit_bias"},
		{chats, chat(`"logit_bias":{"1":101}`), 400, "logit_bias"},
		{chats, chat(`"logit_bias":[]`), 400, "logit_bias"},
		{chats, chat(`"top_logprobs":2`), 400, "top_logprobs"},
		{chats, chat(`"logprobs":true,"top_logprobs":21`), 400, "top_logprobs"},
		{chats, chat(`"stream_options":{"include_usage":3}`), 400, "stream_options.include_usage"},
		{chats, chat(`"response_format":{"type":"xml"}`), 400, "response_format.type"},
		{chats, chat(`"response_format":{"type":"json_schema","json_schema":{"schema":5}}`), 400, "response_format.json_schema.schema"},
		{chats, chat(`"response_format":{"type":"json_object"},"grammar":"root ::= \"a\""`), 400, "grammar"},
		{chats, chat(weatherTool + `,"grammar":"root ::= \"a\""`), 400, "grammar"},
		{chats, chat(`"tools":[{"type":"function","function":{}}]`), 400, "tools[0].function.name"},
		{chats, chat(`"tools":[{"type":"web_search"}]`), 400, "tools[0].type"},
		{chats, chat(`"tools":[{"function":{"name":"a","parameters":[]}}]`), 400, "tools[0].function.parameters"},
		{chats, chat(`"tool_choice":"perhaps"`), 400, "tool_choice"},
		{chats, chat(`"tool_choice":"required"`), 400, "tool_choice"},
		{chats, chat(weatherTool + `,"tool_choice":{"type":"function","function":{"name":"sun"}}`), 400, "tool_choice"},
		{texts, `{"model":"test"}`, 400, "prompt"},
		{texts, `{"model":"test","prompt":{}}`, 400, "prompt"},
		{texts, `{"model":"test","prompt":""}`, 400, "prompt[0]"},
		{texts, `{"model":"test","prompt":[[1],[]]}`, 400, "prompt[1]"},
		{texts, `{"model":"test","prompt":[-1]}`, 400, "prompt[0]"},
		{texts, text(`"echo":true`), 400, "echo"},
		{texts, text(`"best_of":2`), 400, "best_of"},
		{texts, text(`"suffix":"."`), 400, "suffix"},
		{texts, text(`"response_format":{"type":"json_object"}`), 400, "response_format"},
		{texts, text(`"logprobs":21`), 400, "logprobs"},
		{embeds, `{"model":"test"}`, 400, "input"},
		{embeds, `{"model":"test","input":[]}`, 400, "input"},
		{embeds, `{"model":"test","input":["a",5]}`, 400, "input"},
		{embeds, `{"model":"test","input":"a","encoding_format":"hex"}`, 400, "encoding_format"},
		{embeds, `{"model":"test","input":"a","dimensions":5}`, 400, "dimensions"},
		{embeds, `{"model":"nobody","input":"a"}`, 404, "model"},
	} {
		t.Run(row.path+row.body[:min(len(row.body), 90)], func(t *testing.T) {
			e := &wiretest.Engine{}
			got := wiretest.Do(api(config(e)), "POST", row.path, row.body)
			var body errorBody
			if err := json.Unmarshal(got.Body.Bytes(), &body); err != nil {
				t.Fatalf("%v in %s", err, got.Body)
			}
			param := ""
			if body.Error.Param != nil {
				param = *body.Error.Param
			}
			if got.Code != row.status || param != row.param || body.Error.Message == "" || body.Error.Type == "" {
				t.Errorf("got %d %s\nwant %d with the param %q", got.Code, got.Body, row.status, row.param)
			}
			if n := len(e.Requests()); n > 0 && row.status != 404 {
				t.Errorf("the engine was asked %d times", n)
			}
		})
	}
}

func TestEveryCodeHasATypeAndAStatus(t *testing.T) {
	for _, code := range []centram.Code{
		centram.Internal, centram.Invalid, centram.TooLong, centram.TooLarge, centram.Unauthorized, centram.Forbidden,
		centram.NotFound, centram.Conflict, centram.Unsupported, centram.Unavailable,
	} {
		err := fmt.Errorf("wrapped: %w", centram.Errorf(code, "A sentence."))
		if body := bodyOf(err); body.Error.Type == "" || wire.Status(err) == 0 {
			t.Errorf("%s: type %q, status %d", code, body.Error.Type, wire.Status(err))
		}
	}
}

func TestBodyOverTheLimitIsRefused(t *testing.T) {
	body := `{"model":"` + strings.Repeat("x", wire.MaxBody) + `"}`
	got := wiretest.Do(api(config(&wiretest.Engine{})), "POST", "/v1/chat/completions", body)
	if got.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d %s", got.Code, got.Body)
	}
}
