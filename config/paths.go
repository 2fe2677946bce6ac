package config

import (
	"path/filepath"

	"github.com/adrg/xdg"
)

// Paths is where Centram keeps its things unless it is told otherwise.
type Paths struct {
	File  string // the settings
	Data  string // the database, the token, the models
	State string // what may be deleted: the history of the command line
}

// FindPaths follows the XDG conventions. CENTRAM_HOME puts everything below one directory.
func FindPaths(lookup func(string) (string, bool)) (Paths, error) {
	if home, ok := lookup("CENTRAM_HOME"); ok && home != "" {
		home, err := filepath.Abs(home)
		return Paths{
			File:  filepath.Join(home, "config.toml"),
			Data:  filepath.Join(home, "data"),
			State: filepath.Join(home, "state"),
		}, err
	}
	return Paths{
		File:  filepath.Join(xdg.ConfigHome, "centram", "config.toml"),
		Data:  filepath.Join(xdg.DataHome, "centram"),
		State: filepath.Join(xdg.StateHome, "centram"),
	}, nil
}
