package hub

import (
	"os"
	"path/filepath"
	"strings"
)

// Cached is where other programs keep a file of the hub, if they have it: in Config.Cache, as
// models--OWNER--NAME/snapshots/COMMIT/PATH. Its content has to be checked like any other. The size is what it has to have.
func (h *Hub) Cached(f File, size int64) (path string, ok bool) {
	if h.cfg.Cache == "" || !filepath.IsLocal(filepath.FromSlash(f.Path)) {
		return "", false
	}
	snapshots := filepath.Join(h.cfg.Cache, "models--"+strings.ReplaceAll(f.Repo, "/", "--"), "snapshots")
	if !filepath.IsLocal(strings.TrimPrefix(snapshots, h.cfg.Cache+string(filepath.Separator))) {
		return "", false
	}
	commits, err := os.ReadDir(snapshots)
	if err != nil {
		return "", false
	}
	for _, c := range commits { // any of them, since the bytes decide
		path := filepath.Join(snapshots, c.Name(), filepath.FromSlash(f.Path))
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() == size {
			return path, true
		}
	}
	return "", false
}
