package openai

import (
	"net/http"
	"testing"

	"github.com/centram/centram/server/wire/wiretest"
)

var fuzzPaths = []string{"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}

// FuzzRequest wants a client's nonsense to be the client's error. 501 is an answer to a right question.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `null`, `[[]]`, `{"model":"test"}`,
		`{` + hello + `}`,
		`{` + hello + `,"stream":true,"stream_options":{"include_usage":true},"return_progress":true}`,
		`{` + hello + `,` + weatherTool + `,"tool_choice":"required","parallel_tool_calls":false}`,
		`{` + hello + `,` + weatherTool + `,"tool_choice":{"type":"function","function":{"name":"weather"}},"stream":true}`,
		`{` + hello + `,"response_format":{"type":"json_schema","json_schema":{"schema":{}}},"logprobs":true,"top_logprobs":2,"n":2}`,
		`{` + hello + `,"logit_bias":{"1":-100},"seed":-1,"stop":["a"],"max_tokens":0,"temperature":1e-9,"unknown":{"a":[1]}}`,
		`{"model":"test","messages":[{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"a","arguments":{}}}]},{"role":"tool","content":[{"type":"text","text":"x"}]}]}`,
		`{"model":"test","messages":[{"role":"user","content":[{"type":"image_url"}]}]}`,
		`{"model":"test","prompt":["a",""],"logprobs":1,"echo":null}`,
		`{"model":"test","prompt":[1,2,3],"input":[[1],[2]],"dimensions":2,"encoding_format":"base64"}`,
		`{"model":"test","prompt":[null],"input":"a"}`,
	} {
		for i := range fuzzPaths {
			f.Add(i, body)
		}
	}
	f.Fuzz(func(t *testing.T, path int, body string) {
		got := wiretest.Do(api(config(&wiretest.Engine{})), "POST", fuzzPaths[uint(path)%uint(len(fuzzPaths))], body)
		if got.Code >= 500 && got.Code != http.StatusNotImplemented {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	})
}
