package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/hub/hubtest"
)

// startHub starts a hub that is slow enough for a person to act in the middle of a download, and describes what it has in
// the catalogue of the owner of home.
func startHub(home string) (h *hubtest.Hub, stop func(), err error) {
	h, stop = hubtest.Start(1, hubtest.Faults{Slow: 5 * time.Millisecond})
	models, err := stock(h)
	if err == nil {
		err = writeCatalogue(home, models)
	}
	if err != nil {
		stop()
	}
	return h, stop, err
}

// stock puts models on the hub: one of the names that the page recommends, one whose licence has to be agreed to, and one
// that is gone from where the catalogue says that it is.
func stock(h *hubtest.Hub) (models []catalogue.Entry, err error) {
	for i, e := range []catalogue.Entry{
		{Name: "qwen2.5-0.5b", Title: "Noise in place of Qwen", Repo: "open/models", License: "apache-2.0", Parameters: "0.5B"},
		{Name: "noise-research", Title: "Noise for research", Repo: "open/models", License: "qwen-research", Parameters: "11M"},
		{Name: "noise-gone", Title: "Noise that is gone", Repo: "open/gone", License: "mit", Parameters: "11M"},
	} {
		var b bytes.Buffer
		if err := gguf.Generate(&b, noise(), uint64(i+2)); err != nil {
			return nil, err
		}
		file := catalogue.File{Path: e.Name + ".F32.gguf", Size: int64(b.Len())}
		file.SHA256 = h.Add("open/models", file.Path, b.Bytes())
		e.Kind, e.Revision, e.Quantization, e.Files = catalogue.Chat, "main", "F32", []catalogue.File{file}
		models = append(models, e)
	}
	return models, nil
}

func writeCatalogue(home string, models []catalogue.Entry) error {
	b, err := json.Marshal(map[string]any{"models": models})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(home, "catalogue.json"), b, 0o600)
}
