package main

import (
	"path/filepath"

	"github.com/centram/centram/config"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/models"
)

// adapterFolder is where the adapters lie that Centram makes itself.
func adapterFolder(cfg *config.Config) string { return filepath.Join(cfg.Data, "adapters") }

// scales puts the adapters of a name into the words of the engine.
func scales(uses []models.Use) []engine.AdapterScale {
	var out []engine.AdapterScale
	for _, u := range uses {
		out = append(out, engine.AdapterScale{Path: u.Path, Scale: u.Scale, Digest: u.Digest})
	}
	return out
}
