package server

import (
	"context"

	"github.com/centram/centram/chats"
)

// Settings keeps documents by name. Load leaves v alone if there is none.
type Settings interface {
	Load(ctx context.Context, name string, v any) error
	Save(ctx context.Context, name string, v any) error
}

// Preferences is what a person chose on the settings page.
type Preferences struct {
	DefaultModel string         `json:"default_model" required:"false" doc:"For chats that name none."`
	System       string         `json:"system" required:"false" doc:"The system prompt of chats that have none."`
	Sampling     chats.Sampling `json:"sampling" required:"false"`
	Language     string         `json:"language" required:"false" maxLength:"35" doc:"Empty means the browser's."`
	Theme        string         `json:"theme" required:"false" enum:"system,light,dark" default:"system"`
}

// preferences is the name under which they are kept.
const preferences = "preferences"

type preferencesBody struct{ Body Preferences }

func (s *Server) getSettings(ctx context.Context, _ *struct{}) (*preferencesBody, error) {
	p, err := loadPreferences(ctx, s.Settings)
	return &preferencesBody{p}, err
}

func (s *Server) putSettings(ctx context.Context, in *preferencesBody) (*preferencesBody, error) {
	if err := s.Settings.Save(ctx, preferences, in.Body); err != nil {
		return nil, err
	}
	return in, nil
}

func loadPreferences(ctx context.Context, settings Settings) (Preferences, error) {
	p := Preferences{Theme: "system"}
	err := settings.Load(ctx, preferences, &p)
	return p, err
}
