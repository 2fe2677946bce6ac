package server

import (
	"context"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/download"
)

// Downloads are the models of this node that come, as *download.Queue has them.
type Downloads interface {
	Start(download.Model) (download.Job, error)
	List() []download.Job
	Get(name string) (download.Job, error)
	Pause(ctx context.Context, name string) (download.Job, error)
	Resume(name string) (download.Job, error)
	Remove(ctx context.Context, name string) error
}

// Shelf is what can be had, as download.Orders has it.
type Shelf interface {
	Offers(words ...string) ([]download.Offer, error)
	Take(ctx context.Context, name string, accept bool) (download.Model, error)
}

// usualTokens is the context for which the memory of a model is told.
const usualTokens = 8192

// Offer is a model that can be downloaded.
type Offer struct {
	Name         string         `json:"name"`
	Title        string         `json:"title"`
	Kind         catalogue.Kind `json:"kind" enum:"chat,code,vision,test"`
	Parameters   string         `json:"parameters" doc:"As people say it, such as 0.5B."`
	Quantization string         `json:"quantization"`
	SizeBytes    int64          `json:"size_bytes" doc:"To download, and of the disk."`
	MemoryBytes  int64          `json:"memory_bytes" doc:"About what it takes in memory, with room for 8192 tokens of conversations."`
	Draft        string         `json:"draft,omitempty" doc:"A small model that can guess tokens for this one."`
	Repo         string         `json:"repo"`
	License      OfferLicense   `json:"license"`
	Unsupported  string         `json:"unsupported,omitempty" doc:"Why it cannot be run here."`
	Here         bool           `json:"here" doc:"It is in the list of models, under this name."`
}

// OfferLicense is under what a model is given.
type OfferLicense struct {
	ID         string `json:"id"`
	Title      string `json:"title"`
	URL        string `json:"url"`
	Commercial bool   `json:"commercial" doc:"It may be used to earn money."`
	Agreed     bool   `json:"agreed" doc:"It needs no agreement, or has it."`
}

// Download is a model that comes, or what has become of that.
type Download struct {
	Name           string         `json:"name"`
	Title          string         `json:"title,omitempty"`
	State          download.State `json:"state" enum:"queued,running,paused,ready,failed,cancelled" doc:"cancelled is the last that is heard of a download that was removed."`
	Stage          download.Stage `json:"stage,omitempty" enum:"downloading,verifying" doc:"What is being done while it runs."`
	DoneBytes      int64          `json:"done_bytes" doc:"That are here, or while verifying, that are checked."`
	TotalBytes     int64          `json:"total_bytes"`
	BytesPerSecond float64        `json:"bytes_per_second,omitempty"`
	SecondsLeft    float64        `json:"seconds_left,omitempty"`
	Model          string         `json:"model,omitempty" doc:"Its name in the list of models, once the state is ready."`
	Error          *Refusal       `json:"error,omitempty" doc:"Why it failed."`
	Began          time.Time      `json:"began_at"`
}

type offerList struct {
	Body struct {
		Models []Offer `json:"models"`
	}
}

type downloadBody struct{ Body Download }

type downloadList struct {
	Body struct {
		Downloads []Download `json:"downloads" doc:"In their order; one at a time runs."`
	}
}

type offerQuery struct {
	Words string `query:"q" maxLength:"200" doc:"Words that have to occur."`
}

type downloadDraft struct {
	Body struct {
		Model         string `json:"model" minLength:"1" maxLength:"400" doc:"A name of the catalogue, or OWNER/REPO/FILE.gguf."`
		AcceptLicense bool   `json:"accept_license,omitempty" doc:"The owner of this node agrees to the model's licence."`
	}
}

// DownloadName names a download by its model.
type DownloadName struct {
	Name string `path:"name" maxLength:"100"`
}

type downloadAction struct {
	DownloadName
	Body *struct{}
}

func (s *Server) listOffers(ctx context.Context, in *offerQuery) (*offerList, error) {
	if s.Shelf == nil {
		return nil, noDownloads()
	}
	offers, err := s.Shelf.Offers(strings.Fields(in.Words)...)
	if err != nil {
		return nil, err
	}
	list, err := s.Models.List(ctx)
	if err != nil {
		return nil, err
	}
	here := map[string]bool{}
	for _, m := range list {
		here[m.Name] = true
	}
	out := &offerList{}
	out.Body.Models = []Offer{}
	for _, o := range offers {
		out.Body.Models = append(out.Body.Models, Offer{
			Name: o.Name, Title: o.Title, Kind: o.Kind, Parameters: o.Parameters, Quantization: o.Quantization,
			SizeBytes: o.Bytes(), MemoryBytes: o.Memory(usualTokens), Draft: o.Draft, Repo: o.Repo, Unsupported: o.Unsupported, Here: here[o.Name],
			License: OfferLicense{o.License.ID, o.License.Title, o.License.URL, o.License.Commercial, o.Agreed},
		})
	}
	return out, nil
}

func noDownloads() error {
	return centram.Errorf(centram.Unavailable, "This node does not download.").WithHint("The log of the daemon says why.")
}

func (s *Server) listDownloads(context.Context, *struct{}) (*downloadList, error) {
	if s.Downloads == nil {
		return nil, noDownloads()
	}
	out := &downloadList{}
	out.Body.Downloads = []Download{}
	for _, j := range s.Downloads.List() {
		out.Body.Downloads = append(out.Body.Downloads, presentDownload(j))
	}
	return out, nil
}

func (s *Server) startDownload(ctx context.Context, in *downloadDraft) (*downloadBody, error) {
	return s.withDownload(func(d Downloads) (download.Job, error) {
		m, err := s.Shelf.Take(ctx, in.Body.Model, in.Body.AcceptLicense)
		if err != nil {
			return download.Job{}, err
		}
		if have, err := s.Models.Resolve(ctx, m.Name); err == nil {
			return download.Job{}, centram.Errorf(centram.Conflict, "The model %s is here already.", have.Name).
				WithHint("Chat with it: centram chat --model %s", have.Name)
		}
		return d.Start(m)
	})
}

func (s *Server) getDownload(_ context.Context, in *DownloadName) (*downloadBody, error) {
	return s.withDownload(func(d Downloads) (download.Job, error) { return d.Get(in.Name) })
}

func (s *Server) pauseDownload(ctx context.Context, in *downloadAction) (*downloadBody, error) {
	return s.withDownload(func(d Downloads) (download.Job, error) { return d.Pause(ctx, in.Name) })
}

func (s *Server) resumeDownload(_ context.Context, in *downloadAction) (*downloadBody, error) {
	return s.withDownload(func(d Downloads) (download.Job, error) { return d.Resume(in.Name) })
}

func (s *Server) deleteDownload(ctx context.Context, in *DownloadName) (*struct{}, error) {
	if s.Downloads == nil {
		return nil, noDownloads()
	}
	return nil, s.Downloads.Remove(ctx, in.Name)
}

func (s *Server) withDownload(do func(Downloads) (download.Job, error)) (*downloadBody, error) {
	if s.Downloads == nil || s.Shelf == nil {
		return nil, noDownloads()
	}
	j, err := do(s.Downloads)
	if err != nil {
		return nil, err
	}
	return &downloadBody{presentDownload(j)}, nil
}

func presentDownload(j download.Job) Download {
	d := Download{
		Name: j.Name, Title: j.Title, State: j.State, DoneBytes: j.Progress.Done, TotalBytes: j.Total, Model: j.As, Began: j.Began,
	}
	if j.State == download.Running {
		d.Stage, d.BytesPerSecond, d.SecondsLeft = j.Stage, j.BytesPerSecond, j.SecondsLeft()
	}
	if j.Problem != nil {
		p := problemOf(j.Problem)
		d.Error = &p
	}
	return d
}
