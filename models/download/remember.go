package download

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
)

// load reads the downloads that there are. What cannot be read is left, and said so.
func (q *Queue) load() error {
	files, err := filepath.Glob(filepath.Join(q.dir, "*.json"))
	if err != nil {
		return err
	}
	for _, path := range files {
		var j Job
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &j)
		}
		if err == nil {
			err = j.check()
		}
		if err != nil {
			q.cfg.Log.Warn("Download not read", "file", path, "err", err)
			continue
		}
		if j.State != Paused {
			j.State = Queued
		}
		j.Progress = Progress{Total: j.Bytes()}
		q.jobs = append(q.jobs, &entry{job: j})
	}
	slices.SortFunc(q.jobs, func(a, b *entry) int { return a.job.Began.Compare(b.job.Began) })
	return nil
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

func (m Model) check() error {
	if !validName.MatchString(m.Name) {
		return centram.Errorf(centram.Invalid, "%q cannot be the name of a model.", m.Name)
	}
	if len(m.Files) == 0 {
		return centram.Errorf(centram.Invalid, "The model %s has no files.", m.Name)
	}
	for _, f := range m.Files {
		if err := f.Check(); err != nil {
			return centram.Errorf(centram.Invalid, "The model %s cannot be downloaded: %w.", m.Name, err)
		}
	}
	return nil
}

func (q *Queue) path(j Job) string { return filepath.Join(q.dir, j.Name+".json") }

// save remembers a download.
func (q *Queue) save(j Job) error {
	if err := os.MkdirAll(q.dir, 0o700); err != nil {
		return explain(err)
	}
	b, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("encode the download: %w", err)
	}
	return explain(atomicfile.Write(q.path(j), 0o600, b))
}

// forget removes what save has written.
func (q *Queue) forget(j Job) error {
	if err := os.Remove(q.path(j)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain(err)
	}
	return nil
}
