package openai

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/server/wire/wiretest"
)

// asked is what the engine is asked when body is posted to path.
func asked(t *testing.T, path, body string) []engine.Request {
	t.Helper()
	e := &wiretest.Engine{}
	if got := wiretest.Do(api(config(e)), "POST", path, body); got.Code != 200 {
		t.Fatalf("%d %s", got.Code, got.Body)
	}
	return e.Requests()
}

func TestChatReachesTheEngineWhole(t *testing.T) {
	got := asked(t, "/v1/chat/completions", `{
		"model": "test",
		"messages": [
			{"role": "developer", "content": "Be brief."},
			{"role": "user", "content": [{"type":"text","text":"Weather"},{"type":"text","text":"in Oslo?"}], "name": "ann"},
			{"role": "assistant", "content": null, "tool_calls": [{"id":"c1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}]},
			{"role": "tool", "tool_call_id": "c1", "content": "rain"}
		],
		`+weatherTool+`, "tool_choice": {"type":"function","function":{"name":"weather"}}, "parallel_tool_calls": false,
		"temperature": 0, "top_p": 0.5, "top_k": 10.0, "min_p": 0, "repeat_penalty": 1.1, "frequency_penalty": 0.5, "presence_penalty": -0.5,
		"seed": 4294967301, "stop": ["\n", ""], "max_tokens": 5, "max_completion_tokens": 7, "logit_bias": {"42": -100},
		"response_format": {"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"type":"object"}}},
		"logprobs": true, "top_logprobs": 3, "user": "u", "reasoning_effort": "low", "cache_prompt": true, "stream_options": null
	}`)
	seed := uint32(5)
	parameters := json.RawMessage(`{"type":"object","properties":{"city":{"type":"string"}}}`)
	want := []engine.Request{{
		Model: "test",
		Chat: &engine.Chat{
			Messages: []engine.Message{
				{Role: "system", Content: "Be brief."},
				{Role: "user", Content: "Weather\nin Oslo?", Name: "ann"},
				{Role: "assistant", ToolCalls: []engine.ToolCall{{ID: "c1", Name: "weather", Arguments: `{"city":"Oslo"}`}}},
				{Role: "tool", Content: "rain", ToolCallID: "c1"},
			},
			Tools:      []engine.Tool{{Name: "weather", Description: "The weather.", Parameters: parameters}},
			ToolChoice: engine.ToolRequired,
			JSONSchema: json.RawMessage(`{"type":"object"}`),
		},
		Sampling: engine.Sampling{
			TopK: 10, TopP: 0.5, RepeatPenalty: 1.1, FrequencyPenalty: 0.5, PresencePenalty: -0.5,
			LogitBias: map[engine.Token]float32{42: -100}, Seed: &seed,
		},
		Stop: []string{"\n"}, MaxTokens: 7, TopLogprobs: 3,
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v %+v\nwant %+v %+v", got[0], *got[0].Chat, want[0], *want[0].Chat)
	}
}

func TestWhatIsAbsentIsTheDefault(t *testing.T) {
	got := asked(t, "/v1/chat/completions", `{`+hello+`,"temperature":null,"stop":null,"tools":null,"tool_choice":null,"n":null,"response_format":null,"logit_bias":null,"max_tokens":null}`)[0]
	want := engine.Request{
		Model:       "test",
		Chat:        &engine.Chat{Messages: []engine.Message{{Role: "user", Content: "Hi"}}, ParallelToolCalls: true},
		Sampling:    engine.DefaultSampling(),
		TopLogprobs: -1,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v %+v\nwant %+v", got, *got.Chat, want)
	}
}

func TestFieldsThatDecideOneThing(t *testing.T) {
	const chats = "/v1/chat/completions"
	task := `"model":"test","messages":[{"role":"user","content":"### Task:\nGenerate a concise title"}]`
	prefill := `"model":"test","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"He"}]`
	for _, row := range []struct {
		name, path, body string
		got              func(engine.Request) any
		want             any
	}{
		{"-1 tokens is no limit", chats, `{` + hello + `,"max_tokens":-1}`, func(r engine.Request) any { return r.MaxTokens }, 0},
		{"seed -1 is random", chats, `{` + hello + `,"seed":-1}`, func(r engine.Request) any { return r.Sampling.Seed == nil }, true},
		{"one stop string", chats, `{` + hello + `,"stop":"X"}`, func(r engine.Request) any { return r.Stop[0] }, "X"},
		{"any JSON object", chats, `{` + hello + `,"response_format":{"type":"json_object"}}`, func(r engine.Request) any { return string(r.Chat.JSONSchema) }, "{}"},
		{"llama.cpp's schema", chats, `{` + hello + `,"response_format":{"type":"json_object","schema":{"a":1}}}`, func(r engine.Request) any { return string(r.Chat.JSONSchema) }, `{"a":1}`},
		{"grammar of a chat", chats, `{` + hello + `,"grammar":"root ::= \"a\""}`, func(r engine.Request) any { return r.Chat.GBNF }, `root ::= "a"`},
		{"logprobs without rivals", chats, `{` + hello + `,"logprobs":true}`, func(r engine.Request) any { return r.TopLogprobs }, 0},
		{"flex tier", chats, `{` + hello + `,"service_tier":"flex"}`, func(r engine.Request) any { return r.Background }, true},
		{"somebody waits", chats, `{` + hello + `}`, func(r engine.Request) any { return r.Background }, false},
		{"Open WebUI's chore", chats, `{` + task + `}`, func(r engine.Request) any { return r.Background }, true},
		{"go on with an answer", chats, `{` + prefill + `}`, func(r engine.Request) any { return r.Chat.Continue }, true},
		{"a new turn all the same", chats, `{` + prefill + `,"add_generation_prompt":true}`, func(r engine.Request) any { return r.Chat.Continue }, false},
		{"no look-back", chats, `{` + hello + `,"repeat_last_n":0,"repeat_penalty":1.5}`, func(r engine.Request) any { return r.Sampling.RepeatPenalty }, float32(0)},
		{"a tool without parameters", chats, `{` + hello + `,"tools":[{"type":"function","function":{"name":"a"}}]}`, func(r engine.Request) any { return string(r.Chat.Tools[0].Parameters) }, `{"type":"object","properties":{}}`},
		{"arguments as an object", chats, `{"model":"test","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"a","arguments":{"b": 1}}}]}]}`, func(r engine.Request) any { return r.Chat.Messages[0].ToolCalls[0].Arguments }, `{"b":1}`},
		{"OpenAI's length of a text", "/v1/completions", `{"model":"test","prompt":"a"}`, func(r engine.Request) any { return r.MaxTokens }, 16},
		{"tokens of a text", "/v1/completions", `{"model":"test","prompt":[7,8]}`, func(r engine.Request) any { return len(r.Tokens) }, 2},
		{"grammar of a text", "/v1/completions", `{"model":"test","prompt":"a","grammar":"root ::= \"a\""}`, func(r engine.Request) any { return r.Grammar.GBNF }, `root ::= "a"`},
		{"no refusal of what changes nothing", "/v1/completions", `{"model":"test","prompt":"a","echo":false,"best_of":1,"suffix":null}`, func(r engine.Request) any { return r.Text }, "a"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := row.got(asked(t, row.path, row.body)[0]); got != row.want {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

func TestChoicesHaveSeedsOfTheirOwn(t *testing.T) {
	seeds := map[uint32]bool{}
	for _, r := range asked(t, "/v1/chat/completions", `{`+hello+`,"n":3,"seed":9}`) {
		seeds[*r.Sampling.Seed] = true
	}
	if len(seeds) != 3 || !seeds[9] {
		t.Errorf("got %v, want 9 and two others", seeds)
	}
}

func TestAliasesAnswerTheSame(t *testing.T) {
	for _, path := range []string{"/v1/v1/chat/completions", "/ollama/v1/chat/completions"} {
		if n := len(asked(t, path, `{`+hello+`}`)); n != 1 {
			t.Errorf("%s: the engine was asked %d times", path, n)
		}
	}
}
