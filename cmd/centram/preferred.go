package main

import (
	"context"

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
	return library.Only(ctx)
}
