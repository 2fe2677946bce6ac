package job

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/centram/centram"
)

// What is in the folder of a training, beside the adapter.
const (
	jobFile    = "job.json"
	dataFolder = "data" // what was typed or uploaded
	uploads    = "uploads"
)

// idForm is of the ids that newID makes. Nothing else is looked for on the disk.
var idForm = regexp.MustCompile(`^[a-z2-7]{26}$`)

func newID() string { return strings.ToLower(rand.Text()) }

// load reads the trainings that there are. One that was under way is queued again, in the place that it had. A folder that
// cannot be read is left as it is, and said so.
func (q *Queue) load() error {
	if err := os.RemoveAll(filepath.Join(q.cfg.Dir, uploads)); err != nil { // of pages that are gone
		return fmt.Errorf("remove old uploads: %w", err)
	}
	entries, err := os.ReadDir(q.cfg.Dir)
	if err != nil {
		return fmt.Errorf("read the trainings: %w", err)
	}
	for _, d := range entries {
		if !d.IsDir() || !idForm.MatchString(d.Name()) {
			continue
		}
		dir := filepath.Join(q.cfg.Dir, d.Name())
		j, err := readJob(dir)
		if errors.Is(err, fs.ErrNotExist) { // it was being made, or removed
			err = os.RemoveAll(dir)
			if err == nil {
				continue
			}
		}
		if err != nil {
			q.cfg.Log.Warn("Training not read", "folder", dir, "err", err)
			continue
		}
		if j.State == Running {
			j.State = Queued
		}
		q.jobs[j.ID] = &entry{job: j, from: -1}
	}
	return nil
}

func readJob(dir string) (Job, error) {
	b, err := os.ReadFile(filepath.Join(dir, jobFile))
	if err != nil {
		return Job{}, err
	}
	j := Job{dir: dir}
	if err := json.Unmarshal(b, &j); err != nil {
		return Job{}, fmt.Errorf("decode %s: %w", jobFile, err)
	}
	if j.ID != filepath.Base(dir) {
		return Job{}, fmt.Errorf("%s is of the training %q", jobFile, j.ID)
	}
	return j, nil
}

// write saves a training. Whoever looks sees the old state or the new one; sync has it survive a power failure too.
func (j Job) write(sync bool) error {
	b, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("encode the training: %w", err)
	}
	path := filepath.Join(j.dir, jobFile)
	f, err := os.Create(path + ".tmp")
	if err == nil {
		_, err = f.Write(b)
		if err == nil && sync {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		return fmt.Errorf("save the training: %w", err)
	}
	return nil
}

// make makes the folder of a training, with what is to be learnt in it, and at last job.json.
func (q *Queue) make(j *Job, d Draft) (err error) {
	j.dir = filepath.Join(q.cfg.Dir, j.ID)
	own := filepath.Join(j.dir, dataFolder)
	if err := os.MkdirAll(own, 0o700); err != nil {
		return fmt.Errorf("make the training's folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(j.dir))
		}
	}()
	for _, file := range d.Write {
		if err := writeFile(filepath.Join(own, file.Name), file.Write); err != nil {
			return err
		}
	}
	for _, id := range d.Uploads {
		if err := q.takeUpload(id, own); err != nil {
			return err
		}
	}
	return j.write(true)
}

// sources are the files and folders that a training learns from.
func (j Job) sources() []string {
	own := filepath.Join(j.dir, dataFolder)
	if files, err := os.ReadDir(own); err != nil || len(files) == 0 {
		return j.Data
	}
	return append(slices.Clone(j.Data), own)
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	b := bufio.NewWriter(f)
	if err := errors.Join(write(b), b.Flush(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// Upload keeps what r says for a training that is made later, and returns its id. Nobody waits for one for longer than a
// day, nor for one that another daemon kept.
func (q *Queue) Upload(ctx context.Context, name string, r io.Reader) (id string, size int64, err error) {
	q.dropOldUploads()
	id = newID()
	dir := filepath.Join(q.cfg.Dir, uploads, id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", 0, fmt.Errorf("make a folder for the upload: %w", err)
	}
	err = writeFile(filepath.Join(dir, plainName(name)), func(w io.Writer) error {
		size, err = io.Copy(w, r)
		return errors.Join(err, context.Cause(ctx))
	})
	if err != nil {
		return "", 0, errors.Join(err, os.RemoveAll(dir))
	}
	return id, size, nil
}

func (q *Queue) dropOldUploads() {
	dir := filepath.Join(q.cfg.Dir, uploads)
	entries, _ := os.ReadDir(dir) // there may be none
	for _, d := range entries {
		if info, err := d.Info(); err == nil && q.cfg.Now().Sub(info.ModTime()) > 24*time.Hour {
			if err := os.RemoveAll(filepath.Join(dir, d.Name())); err != nil {
				q.cfg.Log.Warn("Upload not removed", "id", d.Name(), "err", err)
			}
		}
	}
}

// plainName is the name of a file for use here: its ending says what is in it, and else it is for people.
func plainName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.TrimLeft(strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`<>:"|?*`, r) {
			return '_'
		}
		return r
	}, name), ".")
	if len(name) > 120 {
		name = strings.ToValidUTF8(name[len(name)-120:], "")
	}
	if name == "" {
		return "data"
	}
	return name
}

// takeUpload moves an upload into a training's own data, beside what has the same name.
func (q *Queue) takeUpload(id, to string) error {
	dir := filepath.Join(q.cfg.Dir, uploads, id)
	var files []os.DirEntry
	if idForm.MatchString(id) {
		files, _ = os.ReadDir(dir) // none is the same as no folder
	}
	if len(files) == 0 {
		return centram.Errorf(centram.NotFound, "What was uploaded is not here any more.").WithHint("Choose the file again.")
	}
	for _, f := range files {
		name := filepath.Join(to, f.Name())
		if _, err := os.Lstat(name); err == nil {
			name = filepath.Join(to, id+"-"+f.Name())
		}
		if err := os.Rename(filepath.Join(dir, f.Name()), name); err != nil {
			return fmt.Errorf("take the upload: %w", err)
		}
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("remove the upload's folder: %w", err)
	}
	return nil
}
