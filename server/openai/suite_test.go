package openai

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/centram/centram/server/wire/wiretest"
	client "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

func TestSuiteWithScriptedEngine(t *testing.T) {
	suite(t, wiretest.Serve(t, api(config(&wiretest.Engine{}))), wiretest.Model)
}

func TestSuiteWithDaemon(t *testing.T) {
	url := os.Getenv("CENTRAM_URL")
	if url == "" {
		t.Skip("CENTRAM_URL is not set, such as http://127.0.0.1:9740; CENTRAM_MODEL names the model, CENTRAM_TOKEN the token")
	}
	suite(t, url, os.Getenv("CENTRAM_MODEL"))
}

// suite is what a foreign client, OpenAI's own, may expect of the server at baseURL. An empty model is the first one.
func suite(t *testing.T, baseURL, model string) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	s := &session{
		api: client.NewClient(
			option.WithBaseURL(strings.TrimSuffix(baseURL, "/")+"/v1"),
			option.WithAPIKey(cmp.Or(os.Getenv("CENTRAM_TOKEN"), "none")),
			option.WithHTTPClient(&http.Client{Transport: transport}),
			option.WithMaxRetries(0),
		),
		model: model,
	}
	if model == "" {
		s.model = s.firstModel(t)
	}
	for _, row := range []struct {
		name string
		run  func(*session, *testing.T)
	}{
		{"models are listed and found", (*session).models},
		{"a chat is answered", (*session).chat},
		{"a stream adds up to the answer", (*session).stream},
		{"the limit ends an answer", (*session).limit},
		{"a stop string ends an answer and is not in it", (*session).stop},
		{"several answers come in order", (*session).several},
		{"an answer can have to be JSON", (*session).json},
		{"a tool can have to be called", (*session).tool},
		{"a streamed tool call adds up", (*session).toolStream},
		{"tokens come with their logprobs", (*session).logprobs},
		{"a text is completed", (*session).text},
		{"embeddings are the same in both encodings", (*session).embeddings},
		{"an unknown model is not found", (*session).unknownModel},
		{"a wrong parameter is named", (*session).wrongParameter},
	} {
		t.Run(row.name, func(t *testing.T) { row.run(s, t) })
	}
}

type session struct {
	api   client.Client
	model string
}

func (s *session) firstModel(t *testing.T) string {
	t.Helper()
	page, err := s.api.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Data) == 0 {
		t.Skip("the daemon has no models")
	}
	return page.Data[0].ID
}

// params asks for a short answer that is the same each time.
func (s *session) params(question string) client.ChatCompletionNewParams {
	return client.ChatCompletionNewParams{
		Model:       s.model,
		Messages:    []client.ChatCompletionMessageParamUnion{client.UserMessage(question)},
		Temperature: client.Float(0),
		Seed:        client.Int(7),
		MaxTokens:   client.Int(32),
	}
}

func (s *session) ask(t *testing.T, p client.ChatCompletionNewParams) *client.ChatCompletion {
	t.Helper()
	answer, err := s.api.Chat.Completions.New(t.Context(), p)
	check(t, err)
	return answer
}

// check ends the test if there is an error. What a model cannot do, such as call tools, is no failure.
func check(t *testing.T, err error) {
	t.Helper()
	if e, ok := errors.AsType[*client.Error](err); ok {
		if e.StatusCode == http.StatusNotImplemented {
			t.Skip(e.RawJSON())
		}
		t.Fatal(e.StatusCode, e.RawJSON())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *session) models(t *testing.T) {
	page, err := s.api.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Data {
		one, err := s.api.Models.Get(t.Context(), m.ID)
		if err != nil || one.ID != m.ID || one.Object != "model" {
			t.Errorf("%s: got %+v, %v", m.ID, one, err)
		}
	}
	if len(page.Data) == 0 {
		t.Error("no models")
	}
}

func (s *session) chat(t *testing.T) {
	answer := s.ask(t, s.params("Say hello."))
	c := answer.Choices[0]
	if c.Message.Content == "" || c.Message.Role != "assistant" || c.FinishReason == "" || answer.ID == "" {
		t.Errorf("got %s", answer.RawJSON())
	}
	u := answer.Usage
	if u.PromptTokens == 0 || u.CompletionTokens == 0 || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
		t.Errorf("the usage is %s", u.RawJSON())
	}
}

func (s *session) stream(t *testing.T) {
	p := s.params("Say hello.")
	want := s.ask(t, p)
	p.StreamOptions.IncludeUsage = client.Bool(true)
	stream := s.api.Chat.Completions.NewStreaming(t.Context(), p)
	defer stream.Close()
	var sum client.ChatCompletionAccumulator
	for stream.Next() {
		chunk := stream.Current()
		if !sum.AddChunk(chunk) {
			t.Fatalf("a chunk that does not belong to the stream: %s", chunk.RawJSON())
		}
	}
	check(t, stream.Err())
	got := sum.Choices[0]
	if got.Message.Content != want.Choices[0].Message.Content || got.FinishReason != want.Choices[0].FinishReason {
		t.Errorf("streamed %q (%s)\nwhole    %q (%s)", got.Message.Content, got.FinishReason, want.Choices[0].Message.Content, want.Choices[0].FinishReason)
	}
	if sum.Usage.CompletionTokens != want.Usage.CompletionTokens {
		t.Errorf("streamed %d tokens, whole %d", sum.Usage.CompletionTokens, want.Usage.CompletionTokens)
	}
}

func (s *session) limit(t *testing.T) {
	p := s.params("Count to a hundred.")
	p.MaxTokens, p.MaxCompletionTokens = client.Int(20), client.Int(1)
	answer := s.ask(t, p)
	if answer.Choices[0].FinishReason != "length" || answer.Usage.CompletionTokens != 1 {
		t.Errorf("got %s", answer.RawJSON())
	}
}

func (s *session) stop(t *testing.T) {
	p := s.params("Say hello.")
	whole := s.ask(t, p).Choices[0].Message.Content
	if len(whole) < 3 {
		t.Skipf("the answer %q is too short to be cut", whole)
	}
	end := string([]rune(whole)[len([]rune(whole))-1])
	p.Stop.OfStringArray = []string{end, "\x00never"}
	if cut := s.ask(t, p).Choices[0]; strings.Contains(cut.Message.Content, end) || cut.FinishReason != "stop" {
		t.Errorf("got %q (%s), want it without %q", cut.Message.Content, cut.FinishReason, end)
	}
}

func (s *session) several(t *testing.T) {
	p := s.params("Say hello.")
	p.N = client.Int(2)
	answer := s.ask(t, p)
	if len(answer.Choices) != 2 || answer.Choices[0].Index != 0 || answer.Choices[1].Index != 1 {
		t.Errorf("got %s", answer.RawJSON())
	}
}

func (s *session) json(t *testing.T) {
	p := s.params("Give the answer to everything as JSON with the key answer.")
	p.MaxTokens = client.Int(256)
	p.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
		Name: "answer", Strict: client.Bool(true),
		Schema: map[string]any{
			"type": "object", "required": []string{"answer"}, "additionalProperties": false,
			"properties": map[string]any{"answer": map[string]any{"type": "integer", "minimum": 0, "maximum": 99}},
		},
	}}
	var got struct{ Answer *int }
	text := s.ask(t, p).Choices[0].Message.Content
	if err := json.Unmarshal([]byte(text), &got); err != nil || got.Answer == nil {
		t.Errorf("got %q: %v", text, err)
	}
}

// withTool makes a call of the tool weather the only answer.
func (s *session) withTool() client.ChatCompletionNewParams {
	p := s.params("What is the weather in Oslo?")
	p.MaxTokens = client.Int(256)
	p.Tools = []client.ChatCompletionToolUnionParam{client.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name:        "weather",
		Description: client.String("The weather in a city."),
		Parameters: shared.FunctionParameters{
			"type": "object", "required": []string{"city"},
			"properties": map[string]any{"city": map[string]any{"type": "string", "maxLength": 20}},
		},
	})}
	p.ToolChoice.OfAuto = client.String("required")
	p.ParallelToolCalls = client.Bool(false)
	return p
}

func (s *session) tool(t *testing.T) {
	p := s.withTool()
	answer := s.ask(t, p).Choices[0]
	if answer.FinishReason != "tool_calls" || len(answer.Message.ToolCalls) != 1 {
		t.Fatalf("got %s", answer.RawJSON())
	}
	call := answer.Message.ToolCalls[0]
	checkCall(t, call.ID, call.Function.Name, call.Function.Arguments)

	// The result goes back, and then there is nothing more to call.
	p.Messages = append(p.Messages, answer.Message.ToParam(), client.ToolMessage(`{"sky":"clear"}`, call.ID))
	p.ToolChoice.OfAuto = client.String("none")
	if second := s.ask(t, p).Choices[0].Message; second.Content == "" {
		t.Errorf("after the tool: %s", second.RawJSON())
	}
}

func checkCall(t *testing.T, id, name, arguments string) {
	t.Helper()
	var got struct{ City *string }
	if err := json.Unmarshal([]byte(arguments), &got); err != nil || got.City == nil || name != "weather" || id == "" {
		t.Errorf("got the call %q %s(%s): %v", id, name, arguments, err)
	}
}

func (s *session) toolStream(t *testing.T) {
	stream := s.api.Chat.Completions.NewStreaming(t.Context(), s.withTool())
	defer stream.Close()
	var sum client.ChatCompletionAccumulator
	for stream.Next() {
		sum.AddChunk(stream.Current())
	}
	check(t, stream.Err())
	if len(sum.Choices) == 0 || len(sum.Choices[0].Message.ToolCalls) != 1 {
		t.Fatalf("got %+v", sum.Choices)
	}
	call := sum.Choices[0].Message.ToolCalls[0]
	checkCall(t, call.ID, call.Function.Name, call.Function.Arguments)
}

func (s *session) logprobs(t *testing.T) {
	p := s.params("Say hello.")
	p.Logprobs, p.TopLogprobs = client.Bool(true), client.Int(2)
	c := s.ask(t, p).Choices[0]
	var text []byte
	for _, token := range c.Logprobs.Content {
		for _, b := range token.Bytes {
			text = append(text, byte(b))
		}
		if token.Logprob > 0 || len(token.TopLogprobs) != 2 {
			t.Errorf("got %s", token.RawJSON())
		}
	}
	if !strings.HasPrefix(validRunes(string(text)), validRunes(c.Message.Content)) {
		t.Errorf("the tokens are %q, the answer is %q", text, c.Message.Content)
	}
}

// validRunes leaves out what is no character, for which JSON has only a substitute.
func validRunes(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, ""), "\uFFFD", "")
}

func (s *session) text(t *testing.T) {
	p := client.CompletionNewParams{
		Model: client.CompletionNewParamsModel(s.model), MaxTokens: client.Int(4), Temperature: client.Float(0),
		Prompt: client.CompletionNewParamsPromptUnion{OfArrayOfStrings: []string{"Once upon a time", "Hello"}},
	}
	answer, err := s.api.Completions.New(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Choices) != 2 || answer.Choices[0].Text == "" || answer.Usage.CompletionTokens == 0 {
		t.Errorf("got %s", answer.RawJSON())
	}
	stream := s.api.Completions.NewStreaming(t.Context(), p)
	defer stream.Close()
	streamed := ""
	for stream.Next() {
		for _, c := range stream.Current().Choices {
			if c.Index == 0 {
				streamed += c.Text
			}
		}
	}
	if err := stream.Err(); err != nil || streamed != answer.Choices[0].Text {
		t.Errorf("streamed %q, whole %q: %v", streamed, answer.Choices[0].Text, err)
	}
}

func (s *session) embeddings(t *testing.T) {
	p := client.EmbeddingNewParams{
		Model:          s.model,
		Input:          client.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "number two"}},
		EncodingFormat: client.EmbeddingNewParamsEncodingFormatFloat,
	}
	floats, err := s.api.Embeddings.New(t.Context(), p)
	check(t, err)
	p.EncodingFormat = client.EmbeddingNewParamsEncodingFormatBase64
	var coded struct {
		Data []struct{ Embedding string }
	}
	if err := s.api.Post(t.Context(), "embeddings", p, &coded); err != nil {
		t.Fatal(err)
	}
	for i, item := range floats.Data {
		b, err := base64.StdEncoding.DecodeString(coded.Data[i].Embedding)
		if err != nil || len(b) != 4*len(item.Embedding) {
			t.Fatalf("%d: %d bytes for %d values: %v", i, len(b), len(item.Embedding), err)
		}
		norm := 0.0
		for k, want := range item.Embedding {
			got := float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*k:])))
			if math.Abs(got-want) > 1e-3 {
				t.Fatalf("%d, %d: got %v and %v", i, k, got, want)
			}
			norm += got * got
		}
		if math.Abs(norm-1) > 1e-3 {
			t.Errorf("%d: the length is %v, want 1", i, math.Sqrt(norm))
		}
	}
	p.Dimensions = client.Int(2)
	p.EncodingFormat = client.EmbeddingNewParamsEncodingFormatFloat
	if short, err := s.api.Embeddings.New(t.Context(), p); err != nil || len(short.Data[0].Embedding) != 2 {
		t.Errorf("shortened to 2: %v, %v", short, err)
	}
}

func (s *session) unknownModel(t *testing.T) {
	p := s.params("Hi")
	p.Model = "no-such-model"
	_, err := s.api.Chat.Completions.New(t.Context(), p)
	s.refused(t, err, http.StatusNotFound, "not_found_error", "model")
	_, err = s.api.Models.Get(t.Context(), "no/such:model")
	s.refused(t, err, http.StatusNotFound, "not_found_error", "model")
}

func (s *session) wrongParameter(t *testing.T) {
	p := s.params("Hi")
	p.Temperature = client.Float(-1)
	_, err := s.api.Chat.Completions.New(t.Context(), p)
	s.refused(t, err, http.StatusBadRequest, "invalid_request_error", "temperature")
	stream := s.api.Chat.Completions.NewStreaming(t.Context(), p)
	defer stream.Close()
	if stream.Next() {
		t.Error("a wrong request has a stream")
	}
	s.refused(t, stream.Err(), http.StatusBadRequest, "invalid_request_error", "temperature")
}

func (s *session) refused(t *testing.T, err error, status int, kind, param string) {
	t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.StatusCode != status || e.Type != kind || e.Param != param || e.Message == "" {
		t.Errorf("got %v, want %d %s about %q", err, status, kind, param)
	}
}
