package download

import (
	"context"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/models"
	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/hub"
)

// Model is a model to be had: files of a repository at a revision.
type Model struct {
	Name     string           `json:"name"`
	Title    string           `json:"title,omitempty"`
	Repo     string           `json:"repo"`
	Revision string           `json:"revision"`
	Files    []catalogue.File `json:"files"`
}

// Of is an entry of the catalogue as a Model. It fails with centram.Unsupported if it cannot be run yet.
func Of(e catalogue.Entry) (Model, error) {
	if e.Unsupported != "" {
		return Model{}, centram.Errorf(centram.Unsupported, "%s cannot be run here: %s.", e.Title, e.Unsupported).
			WithHint("See what can: centram model search")
	}
	return Model{Name: e.Name, Title: e.Title, Repo: e.Repo, Revision: e.Revision, Files: e.Files}, nil
}

var address = regexp.MustCompile(`^([\w.-]+/[\w.-]+)/([\w./ -]+\.gguf)(?:@([\w.-]+))?$`)

// IsAddress says whether a text names a file of the hub, as OWNER/REPO/FILE.gguf, perhaps with @REVISION.
func IsAddress(text string) bool { return address.MatchString(text) }

// Ask is a file that the catalogue does not have as a Model. What the hub says of its hash is believed. It fails as
// hub.Hub.Head does, and with centram.Invalid if the hub does not say the hash.
func Ask(ctx context.Context, h *hub.Hub, text string) (Model, error) {
	m := address.FindStringSubmatch(text)
	if m == nil {
		return Model{}, centram.Errorf(centram.Invalid, "%q names no file of the hub.", text).WithHint("It looks like OWNER/REPO/FILE.gguf")
	}
	_, repo, _ := strings.Cut(m[1], "/")
	out := Model{Repo: m[1], Revision: m[3], Name: models.NameFor(m[2], repo)}
	for _, path := range models.Parts(m[2]) {
		found, err := h.Head(ctx, hub.File{Repo: out.Repo, Revision: out.Revision, Path: path})
		if err != nil {
			return Model{}, err
		}
		if found.Commit != "" {
			out.Revision = found.Commit // all parts of one commit
		}
		f := catalogue.File{Path: path, Size: found.Size, SHA256: found.SHA256}
		if err := f.Check(); err != nil {
			return Model{}, centram.Errorf(centram.Invalid, "The hub does not say enough of %s to check what comes: %w.", path, err).
				WithHint("Download it by hand, and then: centram model import FILE")
		}
		out.Files = append(out.Files, f)
	}
	return out, nil
}

// Bytes is the number of bytes of a model.
func (m Model) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Fetch gets all files of the model into a folder, one after the other, and returns the path of the first, by which the model
// is imported. Files that another program has of the hub are used where they are, if all are there and right. It fails as the
// function Fetch does.
func (m Model) Fetch(ctx context.Context, h *hub.Hub, folder string, cfg Config) (path string, err error) {
	tell := cfg.Tell
	if tell == nil {
		tell = func(Progress) {}
	}
	if path := m.cached(ctx, h, tell); path != "" {
		return path, nil
	}
	before := int64(0)
	for i, f := range m.Files {
		to := File{filepath.Join(folder, f.Name()), f.Size, f.SHA256}
		if cfg.Dir == "" {
			cfg.Dir = filepath.Join(folder, Folder)
		}
		cfg.Tell = func(p Progress) { tell(Progress{p.Stage, before + p.Done, m.Bytes()}) }
		if err := Fetch(ctx, to, FromHub(h, hub.File{Repo: m.Repo, Revision: m.Revision, Path: f.Path}, f.Size), cfg); err != nil {
			return "", err
		}
		before += f.Size
		if i == 0 {
			path = to.Path
		}
	}
	return path, nil
}

// Folder is where files lie that are not whole, in the folder of models. Its name begins with a dot, so that nobody takes them
// for models.
const Folder = ".downloads"

// cached is the path of the first file in the cache of another program, if all are there.
func (m Model) cached(ctx context.Context, h *hub.Hub, tell func(Progress)) string {
	var first string
	var paths []string
	for _, f := range m.Files {
		path, ok := h.Cached(hub.File{Repo: m.Repo, Revision: m.Revision, Path: f.Path}, f.Size)
		if !ok || len(paths) > 0 && filepath.Dir(path) != filepath.Dir(first) {
			return ""
		}
		if first == "" {
			first = path
		}
		paths = append(paths, path)
	}
	before := int64(0)
	for i, path := range paths {
		digest, err := Digest(ctx, path, func(done int64) { tell(Progress{Verifying, before + done, m.Bytes()}) })
		if err != nil || digest != m.Files[i].SHA256 {
			return ""
		}
		before += m.Files[i].Size
	}
	return first
}

// discard removes what is here of files that are not whole, but for those that are fetched for another model.
func (m Model) discard(dir string) error {
	for _, f := range m.Files {
		if err := Discard(dir, f.SHA256); err != nil && centram.CodeOf(err) != centram.Conflict {
			return err
		}
	}
	return nil
}
