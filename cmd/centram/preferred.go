package main

import (
	"context"

	"github.com/centram/centram"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server"
	"github.com/centram/centram/store"
)

// preferences is the settings page's document, in which the model of the configuration is the default one until a
// person chooses another.
type preferences struct {
	store.Settings
	model string
}

func (p preferences) Load(ctx context.Context, name string, v any) error {
	if err := p.Settings.Load(ctx, name, v); err != nil {
		return err
	}
	if chosen, ok := v.(*server.Preferences); ok && chosen.DefaultModel == "" {
		chosen.DefaultModel = p.model
	}
	return nil
}

// preferred is the model to use if none is named: the one that was chosen, or the only one that is ready.
func preferred(ctx context.Context, settings server.Settings, library *models.Library) (string, error) {
	var chosen server.Preferences
	if err := settings.Load(ctx, "preferences", &chosen); err != nil || chosen.DefaultModel != "" {
		return chosen.DefaultModel, err
	}
	list, err := library.List(ctx)
	if err != nil {
		return "", err
	}
	var ready []string
	for _, m := range list {
		if m.State == models.Ready {
			ready = append(ready, m.Name)
		}
	}
	switch len(ready) {
	case 0:
		return "", centram.Errorf(centram.NotFound, "There is no model yet.").
			WithHint("Add one with: centram model import FILE.gguf")
	case 1:
		return ready[0], nil
	}
	return "", centram.Errorf(centram.Invalid, "There are %d models, and none is chosen.", len(ready)).
		WithHint("Name one with --model, or choose a default one with: centram config set model %s", ready[0])
}
