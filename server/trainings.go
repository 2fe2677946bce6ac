package server

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/lora/job"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
)

// Trainings are the trainings of this node, as *job.Queue has them.
type Trainings interface {
	Start(job.Draft) (job.Job, error)
	List() []job.Job
	Get(id string) (job.Job, error)
	Pause(ctx context.Context, id string) (job.Job, error)
	Resume(id string) (job.Job, error)
	Remove(ctx context.Context, id string) error
	Upload(ctx context.Context, name string, r io.Reader) (id string, size int64, err error)
}

// Training is a model being taught something, or what has come of that.
type Training struct {
	ID      string    `json:"id"`
	Name    string    `json:"name" doc:"Of the adapter."`
	Model   string    `json:"model" doc:"That is taught."`
	Adapted string    `json:"adapted_model" doc:"The name by which one chats with what has been taught, once the state is done."`
	About   string    `json:"about" doc:"What it learns from, in a few words."`
	State   job.State `json:"state" enum:"queued,running,paused,done,failed,cancelled" doc:"cancelled is the last that is heard of a training that was removed."`
	Error   *Refusal  `json:"error,omitempty" doc:"Why it failed; or, if it is done, why the adapter could not be put to use."`
	job.Progress
	Curve   []job.Point `json:"curve,omitzero" doc:"The loss of at most 1000 steps. Left out in lists and news."`
	Created time.Time   `json:"created_at"`
	Ended   *time.Time  `json:"ended_at,omitempty"`
}

type trainingBody struct{ Body Training }

type trainingList struct {
	Body struct {
		Trainings []Training `json:"trainings" doc:"The newest first."`
	}
}

// TrainingID names a training.
type TrainingID struct {
	ID string `path:"id" maxLength:"64"`
}

type trainingAction struct {
	TrainingID
	Body *struct{}
}

type trainingDraft struct {
	Body struct {
		Model string `json:"model" minLength:"1"`
		Name  string `json:"name" minLength:"1" maxLength:"64" doc:"Of the adapter: letters, digits, dots, dashes and underscores."`
		Data  struct {
			Paths   []string `json:"paths,omitempty" maxItems:"100" doc:"Absolute paths of files and folders on this computer."`
			Text    string   `json:"text,omitempty" doc:"A text, or JSON lines."`
			Uploads []string `json:"uploads,omitempty" maxItems:"100" doc:"Ids of files that were uploaded as training files."`
			Chat    string   `json:"chat,omitempty" doc:"The id of a conversation. Each answer in the branch that is shown is learnt, with its question."`
		} `json:"data" doc:"All that is given is learnt from."`
		Rank    int     `json:"rank,omitempty" minimum:"0" maximum:"4096" doc:"0 means 16."`
		Targets string  `json:"targets,omitempty" doc:"Matrices, such as q,k,v,o, which is the default, or all."`
		Context int     `json:"context,omitempty" minimum:"0" maximum:"131072" doc:"Tokens that are looked at together; 0 means 512."`
		Steps   int     `json:"steps,omitempty" minimum:"0" maximum:"1000000" doc:"0 means once through the data."`
		Rate    float64 `json:"learning_rate,omitempty" minimum:"0" maximum:"1" doc:"0 means 0.0002."`
		Seed    uint32  `json:"seed,omitempty"`
	}
}

func (s *Server) trainings() (Trainings, error) {
	if s.Trainings == nil {
		return nil, centram.Errorf(centram.Unavailable, "This node does not train.").WithHint("The log of the daemon says why.")
	}
	return s.Trainings, nil
}

func (s *Server) listTrainings(context.Context, *struct{}) (*trainingList, error) {
	t, err := s.trainings()
	if err != nil {
		return nil, err
	}
	out := &trainingList{}
	out.Body.Trainings = []Training{}
	for _, j := range t.List() {
		out.Body.Trainings = append(out.Body.Trainings, presentTraining(j))
	}
	return out, nil
}

func (s *Server) getTraining(_ context.Context, in *TrainingID) (*trainingBody, error) {
	return s.withTraining(func(t Trainings) (job.Job, error) { return t.Get(in.ID) })
}

func (s *Server) pauseTraining(ctx context.Context, in *trainingAction) (*trainingBody, error) {
	return s.withTraining(func(t Trainings) (job.Job, error) { return t.Pause(ctx, in.ID) })
}

func (s *Server) resumeTraining(_ context.Context, in *trainingAction) (*trainingBody, error) {
	return s.withTraining(func(t Trainings) (job.Job, error) { return t.Resume(in.ID) })
}

func (s *Server) deleteTraining(ctx context.Context, in *TrainingID) (*struct{}, error) {
	t, err := s.trainings()
	if err != nil {
		return nil, err
	}
	return nil, t.Remove(ctx, in.ID)
}

func (s *Server) withTraining(do func(Trainings) (job.Job, error)) (*trainingBody, error) {
	t, err := s.trainings()
	if err != nil {
		return nil, err
	}
	j, err := do(t)
	if err != nil {
		return nil, err
	}
	return &trainingBody{presentTraining(j)}, nil
}

func presentTraining(j job.Job) Training {
	t := Training{
		ID: j.ID, Name: j.Name, Model: j.Model, Adapted: j.Model + ":" + j.Name, About: j.About, State: j.State,
		Progress: j.Progress, Curve: j.Curve, Created: j.Created,
	}
	if j.Problem != nil {
		t.Error = &Refusal{Code: j.Problem.Code, Message: j.Problem.Message, Hint: j.Problem.Hint}
	}
	if !j.Ended.IsZero() {
		t.Ended = &j.Ended
	}
	return t
}

// getAdapter answers with the file that a training has written.
func (s *Server) getAdapter(_ context.Context, in *TrainingID) (*huma.StreamResponse, error) {
	t, err := s.trainings()
	if err != nil {
		return nil, err
	}
	j, err := t.Get(in.ID)
	if err != nil {
		return nil, err
	}
	if j.State != job.Done {
		return nil, centram.Errorf(centram.Conflict, "The training is not done, so there is no adapter yet.").WithHint("Wait for its end.")
	}
	f, err := os.Open(j.Adapter())
	if err != nil {
		return nil, fmt.Errorf("open the adapter: %w", err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer f.Close()
		c := humaecho.Unwrap(hc)
		h := c.Response().Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": filepath.Base(f.Name())}))
		http.ServeContent(c.Response(), c.Request(), "", j.Ended, f)
	}}, nil
}
