// Package catalogue lists models that can be had: where their files lie on a hub, how many bytes each has and what its
// SHA-256 is, under which licence it is given, and what a machine needs to run it. The list is data, catalogue.json; the
// owner of a node may add to it with a file of the same form.
package catalogue

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/centram/centram"
)

//go:embed catalogue.json
var builtIn []byte

// Entry is a model that can be had.
type Entry struct {
	Name         string `json:"name"` // under which it is asked for, and listed when it is here
	Title        string `json:"title"`
	Kind         Kind   `json:"kind"`
	Parameters   string `json:"parameters"` // as people say it, such as 0.5B
	Repo         string `json:"repo"`       // OWNER/NAME on the hub
	Revision     string `json:"revision"`   // a commit, so that it stays the same
	Quantization string `json:"quantization"`
	Files        []File `json:"files"`

	License string `json:"license"` // a key of the licences

	Layers          int   `json:"layers,omitempty"`
	KVBytesPerToken int64 `json:"kv_bytes_per_token,omitempty"`
	Context         int   `json:"context,omitempty"` // tokens it was trained for

	Draft       string `json:"draft,omitempty"`       // a small model with the same vocabulary, to guess tokens for this one
	Unsupported string `json:"unsupported,omitempty"` // why it cannot be run yet
}

// Kind says what a model is for.
type Kind string

const (
	Chat   Kind = "chat"
	Code   Kind = "code"
	Vision Kind = "vision"
	Test   Kind = "test"
)

// File is a file of a model.
type File struct {
	Path   string `json:"path"` // in the repository
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`         // in hex
	Role   string `json:"role,omitempty"` // "projector" for what reads pictures, else weights
}

// Name is that of the file without folders.
func (f File) Name() string { return path.Base(f.Path) }

// Bytes is the size of all files.
func (e Entry) Bytes() (n int64) {
	for _, f := range e.Files {
		n += f.Size
	}
	return n
}

// Memory is about what the model takes with conversations of so many tokens in all: the weights, a 16-bit cache, and 15 %
// of the weights but at least 128 MiB for what is computed on the way.
func (e Entry) Memory(tokens int) int64 {
	return e.Bytes() + max(e.Bytes()*15/100, 128<<20) + int64(tokens)*e.KVBytesPerToken
}

// License is under what a model is given.
type License struct {
	ID         string `json:"id"`
	Title      string `json:"title"`
	URL        string `json:"url"`
	Commercial bool   `json:"commercial"` // it may be used to earn money
}

// Catalogue is a list of models.
type Catalogue struct {
	entries  []Entry
	licenses map[string]License
}

// Load returns the list that comes with Centram, and of each file, one after the other, the entries in place of those of the
// same name and behind the others. It is fine if there is no such file; one that cannot be is centram.Invalid.
func Load(additions ...string) (*Catalogue, error) {
	c := &Catalogue{licenses: map[string]License{}}
	if err := c.add(builtIn); err != nil {
		return nil, fmt.Errorf("read the catalogue that comes with Centram: %w", err)
	}
	for _, path := range additions {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = c.add(b)
		}
		if err != nil {
			return nil, centram.Errorf(centram.Invalid, "The catalogue %s cannot be read: %w.", path, err).
				WithHint("Mend it, or move it away: without it there is the list that comes with Centram.")
		}
	}
	return c, nil
}

// Write writes entries as a file that Load takes. Their licences have to be known from elsewhere.
func Write(w io.Writer, entries []Entry) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(map[string][]Entry{"models": entries})
}

// All returns all entries, in the order of the list.
func (c *Catalogue) All() []Entry { return slices.Clone(c.entries) }

// License returns the licence of an entry.
func (c *Catalogue) License(e Entry) License { return c.licenses[e.License] }

// Find returns the entry of a name, in any case. It fails with centram.NotFound, and names what was probably meant.
func (c *Catalogue) Find(name string) (Entry, error) {
	name = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), ":latest")
	name = strings.Replace(name, ":", "-", 1) // Ollama's way to write it: qwen2.5:3b
	if i := slices.IndexFunc(c.entries, func(e Entry) bool { return e.Name == name }); i >= 0 {
		return c.entries[i], nil
	}
	err := centram.Errorf(centram.NotFound, "There is no model %q in the catalogue.", name)
	if found := c.Search(name); len(found) > 0 {
		return Entry{}, err.WithHint("Did you mean %s? See all with: centram model search", found[0].Name)
	}
	return Entry{}, err.WithHint("See all with: centram model search")
}

// Names are the names of entries by that of their first file, by which a model is imported.
func (c *Catalogue) Names() map[string]string {
	out := map[string]string{}
	for _, e := range c.entries {
		out[e.Files[0].Name()] = e.Name
	}
	return out
}

// Search returns the entries in which each of the words occurs, or all if there are no words.
func (c *Catalogue) Search(words ...string) []Entry {
	var out []Entry
	for _, e := range c.entries {
		text := strings.ToLower(strings.Join([]string{e.Name, e.Title, string(e.Kind), e.Quantization, c.licenses[e.License].Title}, " "))
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, strings.ToLower(w)) }) {
			out = append(out, e)
		}
	}
	return out
}

// add takes in a list in JSON.
func (c *Catalogue) add(b []byte) error {
	var list struct {
		Licenses map[string]License `json:"licenses"`
		Models   []Entry            `json:"models"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return err
	}
	for id, l := range list.Licenses {
		l.ID = id
		c.licenses[id] = l
	}
	for i, e := range list.Models {
		if err := c.check(e); err != nil {
			return fmt.Errorf("model %d, %q: %w", i+1, e.Name, err)
		}
		if at := slices.IndexFunc(c.entries, func(old Entry) bool { return old.Name == e.Name }); at >= 0 {
			c.entries[at] = e
		} else {
			c.entries = append(c.entries, e)
		}
	}
	return nil
}

var (
	validName     = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)
	validRepo     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	validRevision = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	validFile     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._ -]*(/[A-Za-z0-9][A-Za-z0-9._ -]*)*$`)
)

// maxSize bounds what a list may claim, so that sums do not overflow.
const maxSize = 1 << 44

func (c *Catalogue) check(e Entry) error {
	switch {
	case !validName.MatchString(e.Name):
		return errors.New("the name has to be of lower-case letters, digits, dots, dashes and underscores")
	case !validRepo.MatchString(e.Repo):
		return fmt.Errorf("the repository %q is not of the form OWNER/NAME", e.Repo)
	case !validRevision.MatchString(cmp.Or(e.Revision, "main")):
		return fmt.Errorf("%q cannot be a revision", e.Revision)
	case len(e.Files) == 0 || len(e.Files) > 512:
		return errors.New("there have to be between 1 and 512 files")
	case c.licenses[e.License].ID == "":
		return fmt.Errorf("the licence %q is not described under \"licenses\"", e.License)
	case e.KVBytesPerToken < 0 || e.KVBytesPerToken > 1<<30:
		return errors.New("kv_bytes_per_token cannot be right")
	}
	seen := map[string]bool{}
	for _, f := range e.Files {
		if err := f.Check(); err != nil {
			return err
		}
		if seen[f.Name()] {
			return fmt.Errorf("the file %s is there twice", f.Name())
		}
		seen[f.Name()] = true
	}
	return nil
}

// Check says what is wrong with a file's description.
func (f File) Check() error {
	hash, err := hex.DecodeString(f.SHA256)
	switch {
	case !validFile.MatchString(f.Path):
		return fmt.Errorf("%q cannot be the path of a file", f.Path)
	case err != nil || len(hash) != 32 || strings.ToLower(f.SHA256) != f.SHA256:
		return fmt.Errorf("the sha256 of %s is not 64 digits of lower-case hex", f.Path)
	case f.Size <= 0 || f.Size > maxSize:
		return fmt.Errorf("%s cannot have %d bytes", f.Path, f.Size)
	}
	return nil
}
