package server

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"github.com/centram/centram/models"
)

// Adapter is a LoRA adapter of a model of the list.
type Adapter struct {
	Model      string         `json:"model" doc:"What a request calls the model with this adapter: base:name."`
	Base       string         `json:"base" doc:"The model's own name."`
	Name       string         `json:"name"`
	Path       string         `json:"path"`
	Title      string         `json:"title" doc:"What the file calls itself."`
	SizeBytes  int64          `json:"size_bytes"`
	SHA256     string         `json:"sha256"`
	Rank       int            `json:"rank"`
	Alpha      float64        `json:"alpha" doc:"0 means the rank of each matrix."`
	Matrices   int            `json:"matrices" doc:"Of the model that it changes."`
	Parameters uint64         `json:"parameters"`
	About      map[string]any `json:"about" doc:"How it came to be, as whoever added it says."`
	State      models.State   `json:"state" enum:"ready,missing,failed" doc:"Missing means that its file or its model is gone."`
	Error      string         `json:"error,omitempty" doc:"Why the state is not ready, and what to do."`
	AddedAt    time.Time      `json:"added_at"`
}

// DescribeAdapter puts an adapter of the library into the words of the API.
func DescribeAdapter(a models.Adapter) Adapter {
	out := Adapter{
		Model: a.Called(), Base: a.Base, Name: a.Name, Path: a.Path, Title: a.Title, SizeBytes: a.SizeBytes, SHA256: a.Digest,
		Rank: a.Rank, Alpha: a.Alpha, Matrices: a.Matrices, Parameters: a.Parameters, About: map[string]any{}, State: a.State,
		AddedAt: a.AddedAt,
	}
	_ = json.Unmarshal(a.About, &out.About) // it was checked when it was added
	if a.Err != nil {
		out.Error = textOf(a.Err)
	}
	return out
}

func describeAdapters(list []models.Adapter) []Adapter {
	out := make([]Adapter, len(list))
	for i, a := range list {
		out[i] = DescribeAdapter(a)
	}
	return out
}

type adapterQuery struct {
	Base string `query:"base" doc:"Name of a model. Empty means the adapters of all models."`
}

type adapterList struct {
	Body struct {
		Adapters []Adapter `json:"adapters"`
	}
}

type adapterBody struct{ Body Adapter }

type adapterDraft struct {
	Body struct {
		Path  string         `json:"path" minLength:"1" doc:"Absolute path of a GGUF file, which stays where it is."`
		Base  string         `json:"base" minLength:"1" doc:"Name of the model that it is for."`
		Name  string         `json:"name,omitempty" doc:"Empty means one after the file."`
		About map[string]any `json:"about,omitempty" doc:"How it came to be, for people."`
	}
}

// AdapterName names an adapter.
type AdapterName struct {
	Base string `path:"base" maxLength:"4096" doc:"Name of the model."`
	Name string `path:"name" maxLength:"4096" doc:"Of the adapter."`
}

type adapterDelete struct {
	AdapterName
	File bool `query:"file" doc:"Delete the file as well, if Centram has made it."`
}

func (s *Server) listAdapters(ctx context.Context, in *adapterQuery) (*adapterList, error) {
	list, err := s.Models.Adapters(ctx, in.Base)
	if err != nil {
		return nil, err
	}
	out := &adapterList{}
	out.Body.Adapters = describeAdapters(list)
	return out, nil
}

func (s *Server) addAdapter(ctx context.Context, in *adapterDraft) (*adapterBody, error) {
	draft := models.AdapterDraft{Path: in.Body.Path, Base: in.Body.Base, Name: in.Body.Name}
	if len(in.Body.About) > 0 {
		about, err := json.Marshal(in.Body.About)
		if err != nil {
			return nil, err
		}
		draft.About = about
	}
	a, err := s.Models.AddAdapter(ctx, draft)
	if err != nil {
		return nil, err
	}
	return &adapterBody{DescribeAdapter(a)}, nil
}

// deleteAdapter leaves the model in memory: its other adapters are used with it.
func (s *Server) deleteAdapter(ctx context.Context, in *adapterDelete) (*struct{}, error) {
	return nil, s.Models.RemoveAdapter(ctx, unescape(in.Base), unescape(in.Name), in.File)
}

// unescape reads what the router leaves as it is, such as "%3A".
func unescape(name string) string {
	plain, err := url.PathUnescape(name)
	if err != nil {
		return name
	}
	return plain
}
