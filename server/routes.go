package server

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/centram/centram/chats"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"
)

const (
	nativePrefix = "/api/v1"
	sessionPath  = nativePrefix + "/session"
	metricsPath  = "/metrics"

	trainingFilesPath = nativePrefix + "/training-files"
)

// buildRoutes puts everything behind the same checks, whoever registers it.
func (s *Server) buildRoutes() error {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.refuse
	checkOrigin, err := s.checkOrigin()
	if err != nil {
		return err
	}
	e.Use(s.observe, s.survive, protect, s.checkHost, s.cors(), checkOrigin, s.authorize, checkContentType, limitBody)
	for _, register := range s.Register {
		register(e)
	}
	s.registerNative(e)
	both(e, "/health", s.serveHealth)
	both(e, "/v1/health", s.serveHealth)
	e.GET(metricsPath, s.metrics.handler())
	s.echo = e
	return s.apps(e)
}

// both registers for GET and HEAD.
func both(e *echo.Echo, path string, h echo.HandlerFunc) {
	e.GET(path, h)
	e.HEAD(path, h)
}

// registerNative registers our own API. Its description comes from the types of the handlers.
func (s *Server) registerNative(e *echo.Echo) {
	config := huma.DefaultConfig("Centram", s.Version.Version)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // no $schema in answers
	config.Info.Description = "The native API of a Centram node. Errors are objects with a code, a message and a hint."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	api := humaecho.New(e, config)

	get(api, "/health", "Whether the daemon takes requests", s.getHealth)
	get(api, "/version", "What this program is", s.getVersion)
	post(api, "/session", "Open a page session", http.StatusCreated, s.openSession)
	streams(api, http.MethodGet, "/events", "News of models, chats, messages, peers, trainings and downloads", newsEvents, s.getEvents)
	s.nativeModels(api)
	s.nativeChats(api)
	s.nativePeers(api)
	s.nativeBlobs(api)
	s.nativeHyperlink(api)
	s.nativeTrainings(api)
	s.nativeDownloads(api)
	e.GET(nativePrefix+"/openapi.json", describe(api))
}

func (s *Server) nativeModels(api huma.API) {
	get(api, "/models", "List the models", s.listModels)
	post(api, "/models/import", "Add a file to the list", http.StatusCreated, s.importModel)
	get(api, "/models/{name}", "Show a model", s.getModel)
	remove(api, "/models/{name}", "Remove a model", s.deleteModel)
	post(api, "/models/{name}/load", "Begin to load a model", http.StatusAccepted, s.loadModel)
	post(api, "/models/{name}/unload", "Take a model out of the memory", http.StatusOK, s.unloadModel)
	get(api, "/adapters", "List the adapters of models", s.listAdapters)
	post(api, "/adapters", "Add an adapter of a model", http.StatusCreated, s.addAdapter)
	remove(api, "/adapters/{base}/{name}", "Remove an adapter", s.deleteAdapter)
	get(api, "/ps", "List the models in memory", s.listRunning)
	get(api, "/settings", "Show the settings", s.getSettings)
	operation(api, http.MethodPut, "/settings", "Replace the settings", http.StatusOK, s.putSettings)
}

func (s *Server) nativeChats(api huma.API) {
	get(api, "/chats", "List or search the chats", s.listChats)
	post(api, "/chats", "Create a chat", http.StatusCreated, s.createChat)
	get(api, "/chats/{id}", "Show a chat with all messages", s.getChat)
	operation(api, http.MethodPatch, "/chats/{id}", "Change a chat", http.StatusOK, s.patchChat)
	remove(api, "/chats/{id}", "Delete a chat", s.deleteChat)
	post(api, "/chats/{id}/messages", "Say something and have it answered", http.StatusCreated, s.ask)
	const message = "/chats/{id}/messages/{mid}"
	post(api, message+"/regenerate", "Have it answered again, in a new branch", http.StatusCreated, s.regenerate)
	post(api, message+"/continue", "Go on with an answer", http.StatusOK, s.continueAnswer)
	post(api, message+"/stop", "Stop an answer", http.StatusOK, s.stopAnswer)
	streams(api, http.MethodGet, message+"/stream", "Follow an answer", answerEvents, s.streamAnswer)
}

func (s *Server) nativePeers(api huma.API) {
	get(api, "/node", "Show who this node is among others", s.getNode)
	get(api, "/peers", "List the other nodes that are known", s.listPeers)
	post(api, "/peers", "Dial an address, now and for ever", http.StatusCreated, s.addPeer)
	get(api, "/peers/{id}", "Show a peer", s.getPeer)
	remove(api, "/peers/{id}", "Forget a peer, and what was agreed with it", s.forgetPeer)
	post(api, "/peers/{id}/ping", "Measure the way to a peer", http.StatusOK, s.pingPeer)
	post(api, "/peers/{id}/pair", "Pair with a peer by its code, or begin to by words", http.StatusOK, s.pair)
	get(api, "/pairings", "List the pairings under way", s.listPairings)
	post(api, "/pairings/{id}", "Agree to a pairing, or refuse it", http.StatusOK, s.decide)
	post(api, "/pairing-code", "Show a code that another node can pair with", http.StatusCreated, s.showCode)
	get(api, "/records", "List the signed records", s.listRecords)
}

func (s *Server) nativeBlobs(api huma.API) {
	get(api, "/blobs", "List the blobs", s.listBlobs)
	post(api, "/blobs", "Make a file a blob", http.StatusCreated, s.addBlob)
	remove(api, "/blobs/{hash}", "Remove a blob", s.deleteBlob)
	streams(api, http.MethodPost, "/blobs/{hash}/fetch", "Fetch a blob from the peers that have it", fetchEvents, s.fetchBlob)
}

func (s *Server) nativeHyperlink(api huma.API) {
	get(api, "/hyperlink", "Show which machines compute for each other", s.getHyperlink)
	post(api, "/hyperlink/plan", "Say how a model would be laid over machines", http.StatusOK, s.planHyperlink)
	post(api, "/hyperlink/up", "Put a model together from several machines", http.StatusOK, s.upHyperlink)
	post(api, "/hyperlink/down", "Take a model out of the memory of all machines", http.StatusOK, s.downHyperlink)
}

func (s *Server) nativeDownloads(api huma.API) {
	get(api, "/catalogue", "List or search the models that can be downloaded", s.listOffers)
	get(api, "/downloads", "List the downloads of models", s.listDownloads)
	post(api, "/downloads", "Download a model", http.StatusCreated, s.startDownload)
	get(api, "/downloads/{name}", "Show how far a download is", s.getDownload)
	remove(api, "/downloads/{name}", "Cancel a download, and remove what is here of it", s.deleteDownload)
	post(api, "/downloads/{name}/pause", "Stop a download, of which what is here stays", http.StatusOK, s.pauseDownload)
	post(api, "/downloads/{name}/resume", "Have a download go on", http.StatusOK, s.resumeDownload)
}

func (s *Server) nativeTrainings(api huma.API) {
	get(api, "/trainings", "List the trainings", s.listTrainings)
	post(api, "/trainings", "Have a model learn from texts or conversations", http.StatusCreated, s.createTraining)
	const training = "/trainings/{id}"
	get(api, training, "Show a training with the course of its loss", s.getTraining)
	remove(api, training, "End a training and remove all that there is of it", s.deleteTraining)
	post(api, training+"/pause", "Have a training save and wait", http.StatusOK, s.pauseTraining)
	post(api, training+"/resume", "Have a training go on", http.StatusOK, s.resumeTraining)
	bytes := map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	adapter := describeOperation(http.MethodGet, training+"/adapter", "Fetch the adapter's file", http.StatusOK)
	adapter.Responses = map[string]*huma.Response{"200": {Description: "The file.", Content: bytes}}
	huma.Register(api, adapter, s.getAdapter)
	upload := describeOperation(http.MethodPost, "/training-files", "Upload a file to learn from", http.StatusCreated)
	upload.RequestBody = &huma.RequestBody{Required: true, Content: bytes}
	huma.Register(api, upload, s.uploadTrainingFile)
}

func get[I, O any](api huma.API, path, summary string, serve func(context.Context, *I) (*O, error)) {
	operation(api, http.MethodGet, path, summary, http.StatusOK, serve)
}

func post[I, O any](api huma.API, path, summary string, status int, serve func(context.Context, *I) (*O, error)) {
	operation(api, http.MethodPost, path, summary, status, serve)
}

func remove[I, O any](api huma.API, path, summary string, serve func(context.Context, *I) (*O, error)) {
	operation(api, http.MethodDelete, path, summary, http.StatusNoContent, serve)
}

// streams registers a route that answers with server-sent events, each with one of the types as data.
func streams[I any](api huma.API, method, path, summary string, events map[string]any,
	serve func(context.Context, *I) (*huma.StreamResponse, error),
) {
	data := &huma.Schema{}
	for _, name := range slices.Sorted(maps.Keys(events)) {
		schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(events[name]), true, name+"Event")
		data.OneOf = append(data.OneOf, &huma.Schema{
			Type: huma.TypeObject, Required: []string{"event", "data"}, Properties: map[string]*huma.Schema{
				"event": {Type: huma.TypeString, Enum: []any{name}}, "data": schema,
			},
		})
	}
	op := describeOperation(method, path, summary, http.StatusOK)
	op.Responses = map[string]*huma.Response{"200": {
		Description: "Server-sent events: the name in event, JSON in data.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: data}},
	}}
	huma.Register(api, op, serve)
}

// newsEvents and answerEvents are the events of the two streams.
var (
	newsEvents   = map[string]any{"model": ModelEvent{}, "chat": ChatEvent{}, "message": MessageEvent{}, "peer": PeerEvent{}, "training": Training{}, "download": Download{}}
	answerEvents = map[string]any{
		"progress": progressEvent{}, "loading": loadingEvent{}, "queued": struct{}{}, "delta": deltaEvent{},
		"done": chats.Message{},
	}
)

func operation[I, O any](api huma.API, method, path, summary string, status int,
	serve func(context.Context, *I) (*O, error),
) {
	huma.Register(api, describeOperation(method, path, summary, status), serve)
}

func describeOperation(method, path, summary string, status int) huma.Operation {
	op := huma.Operation{
		Method: method, Path: nativePrefix + path, Summary: summary, DefaultStatus: status,
		OperationID:     huma.GenerateOperationID(method, path, (*struct{})(nil)),
		Security:        []map[string][]string{{"token": {}}},
		MaxBodyBytes:    1 << 40, // limitBody decides
		BodyReadTimeout: -1,      // patientBody decides
	}
	for _, free := range append(health, public...) {
		if op.Path == free {
			op.Security = []map[string][]string{}
		}
	}
	return op
}

// describe answers with the OpenAPI description.
func describe(api huma.API) echo.HandlerFunc {
	return func(c echo.Context) error {
		text, err := json.MarshalIndent(api.OpenAPI(), "", "  ")
		if err != nil {
			return err
		}
		return c.Blob(http.StatusOK, "application/json", text)
	}
}

type versionBody struct{ Body Version }

func (s *Server) getVersion(context.Context, *struct{}) (*versionBody, error) {
	return &versionBody{s.Version}, nil
}

func (s *Server) getHealth(context.Context, *struct{}) (*healthBody, error) {
	status, health := s.health()
	return &healthBody{status, health}, nil
}

func (s *Server) serveHealth(c echo.Context) error {
	status, health := s.health()
	return c.JSON(status, health)
}

type sessionRequest struct{ Body struct{} }

type sessionBody struct {
	Body struct {
		Token     string    `json:"token"`
		ExpiresAt time.Time `json:"expires_at" doc:"Each use makes it later."`
	}
}

func (s *Server) openSession(context.Context, *sessionRequest) (*sessionBody, error) {
	out := &sessionBody{}
	var err error
	out.Body.Token, out.Body.ExpiresAt, err = s.sessions.open()
	return out, err
}

func (s *Server) getEvents(context.Context, *struct{}) (*huma.StreamResponse, error) {
	news := s.Events.listen() // before the answer begins, so that whoever has seen its head misses nothing
	return streaming(func(ctx context.Context, out *stream) { s.streamEvents(ctx, out, news) }), nil
}

func (s *Server) streamAnswer(ctx context.Context, in *streamQuery) (*huma.StreamResponse, error) {
	if a, ok := s.answers.find(in.Message); ok && a.chat == in.Chat {
		return streaming(func(ctx context.Context, out *stream) {
			_ = s.follow(ctx, out, a, in.From) // an error means that nobody is there to hear it
		}), nil
	}
	m, err := s.Chats.Message(ctx, in.Chat, in.Message)
	if err != nil {
		return nil, err
	}
	return streaming(func(_ context.Context, out *stream) { _ = replay(out, m, in.From) }), nil
}
