package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/chats"
	"github.com/centram/centram/lora/job"
	"github.com/centram/centram/models"
	"github.com/danielgtaylor/huma/v2"
)

// createTraining gathers what is to be learnt, and queues the training.
func (s *Server) createTraining(ctx context.Context, in *trainingDraft) (*trainingBody, error) {
	t, err := s.trainings()
	if err != nil {
		return nil, err
	}
	b := in.Body
	m, err := s.Models.Resolve(ctx, b.Model)
	if err != nil {
		return nil, err
	}
	if err := s.mayLearn(ctx, m, b.Name); err != nil {
		return nil, err
	}
	d := job.Draft{Plan: job.Plan{
		Name: b.Name, Model: m.Name, File: m.Path, Data: b.Data.Paths, Rank: b.Rank, Targets: b.Targets, Context: b.Context,
		Steps: b.Steps, Rate: b.Rate, Seed: uint64(b.Seed),
	}, Uploads: b.Data.Uploads}
	for _, path := range b.Data.Paths {
		if err := thereIs(path); err != nil {
			return nil, err
		}
		d.About = cmp.Or(d.About, filepath.Base(path))
	}
	if b.Data.Text != "" {
		d.About = cmp.Or(d.About, beginning(b.Data.Text))
		d.Write = append(d.Write, job.File{Name: "text", Write: func(w io.Writer) error {
			_, err := io.WriteString(w, b.Data.Text)
			return err
		}})
	}
	if b.Data.Chat != "" {
		file, title, err := s.lessons(ctx, b.Data.Chat)
		if err != nil {
			return nil, err
		}
		d.About = cmp.Or(d.About, title)
		d.Write = append(d.Write, file)
	}
	j, err := t.Start(d)
	if err != nil {
		return nil, err
	}
	return &trainingBody{presentTraining(j)}, nil
}

// mayLearn says whether an adapter of that name can be trained for a model.
func (s *Server) mayLearn(ctx context.Context, m models.Model, name string) error {
	if m.Name != m.Alone() {
		return centram.Errorf(centram.Invalid, "%s has an adapter already, and an adapter is trained for a model alone.", m.Name).
			WithHint("Teach %s.", m.Alone())
	}
	if err := models.CheckAdapterName(name); err != nil {
		return err
	}
	list, err := s.Models.Adapters(ctx, m.Name)
	if err != nil {
		return err
	}
	for _, a := range list {
		if strings.EqualFold(a.Name, name) {
			return centram.Errorf(centram.Conflict, "There is an adapter %s already.", a.Called()).
				WithHint("Choose another name, or remove it: centram lora remove %s", a.Called())
		}
	}
	return nil
}

func thereIs(path string) error {
	if !filepath.IsAbs(path) {
		return centram.Errorf(centram.Invalid, "%s is no absolute path.", plain(path)).WithHint("Give the whole path, from the root on.")
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return centram.Errorf(centram.NotFound, "There is no file or folder %s.", plain(path)).WithHint("Check the path.")
	}
	return nil
}

// beginning is the first words of a text.
func beginning(text string) string {
	words := []rune(plain(text[:min(len(text), 400)]))
	const limit = 60
	if len(words) > limit {
		return string(words[:limit]) + "…"
	}
	return string(words)
}

// lessons are what can be learnt from a conversation: in the branch that is shown, each answer with the question before it
// is a conversation of its own, so that some can be put aside to see whether what is learnt holds for others too.
func (s *Server) lessons(ctx context.Context, id string) (file job.File, title string, err error) {
	chat, err := s.Chats.Outline(ctx, id)
	if err != nil {
		return file, "", err
	}
	var path []chats.Message
	if chat.Head != "" {
		if path, err = s.Chats.Path(ctx, id, chat.Head); err != nil {
			return file, "", err
		}
	}
	p, err := loadPreferences(ctx, s.Settings)
	if err != nil {
		return file, "", err
	}
	type turn struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	type lesson struct {
		Messages []turn `json:"messages"`
	}
	var list []lesson
	for i, m := range path {
		if i == 0 || m.Role != chats.Assistant || m.State == chats.Generating || m.State == chats.Failed || m.Content == "" {
			continue
		}
		var turns []turn
		if system := cmp.Or(chat.System, p.System); system != "" {
			turns = append(turns, turn{"system", system})
		}
		list = append(list, lesson{append(turns, turn{"user", path[i-1].Content}, turn{"assistant", m.Content})})
	}
	if len(list) == 0 {
		return file, "", centram.Errorf(centram.Invalid, "There is no answer in this conversation yet, so there is nothing to learn.").
			WithHint("Ask something first. Of a conversation, the answers are learnt.")
	}
	return job.File{Name: "conversation.jsonl", Write: func(w io.Writer) error {
		e := json.NewEncoder(w)
		for _, l := range list {
			if err := e.Encode(l); err != nil {
				return err
			}
		}
		return nil
	}}, chat.Title, nil
}

// TrainingFile is a file to be uploaded: the body of the request, byte by byte.
type TrainingFile struct {
	Name string `query:"name" maxLength:"500" doc:"Of the file. Its ending says what is in it: .txt, .md or .jsonl."`

	body io.Reader
}

// Resolve takes the body, which is written to the disk as it comes.
func (f *TrainingFile) Resolve(ctx huma.Context) []error {
	f.body = ctx.BodyReader()
	return nil
}

type uploadedFile struct {
	Body struct {
		ID   string `json:"id"`
		Size int64  `json:"size_bytes"`
	}
}

func (s *Server) uploadTrainingFile(ctx context.Context, in *TrainingFile) (*uploadedFile, error) {
	t, err := s.trainings()
	if err != nil {
		return nil, err
	}
	out := &uploadedFile{}
	out.Body.ID, out.Body.Size, err = t.Upload(ctx, in.Name, in.body)
	return out, err
}
