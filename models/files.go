package models

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/centram/centram"
)

// file is what a file of a model was when it was checked. Size is -1 for one that was not there.
type file struct {
	Path  string `json:"path"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"`
}

var partName = regexp.MustCompile(`^(.+)-(\d{5})-of-(\d{5})\.gguf$`)

// maxParts bounds how many files a name can make us look at.
const maxParts = 512

// filesOf returns the files, as they are now, of the model that path is or is a part of.
func filesOf(path string) ([]file, error) {
	if !strings.EqualFold(filepath.Ext(path), ".gguf") {
		return nil, centram.Errorf(centram.Invalid, "%s does not end in .gguf.", path).
			WithHint("Models are GGUF files; rename it if it is one.")
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, centram.Errorf(centram.NotFound, "There is no file %s.", path)
	}
	if err != nil {
		return nil, centram.Errorf(centram.Invalid, "The file %s cannot be opened: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, centram.Errorf(centram.Invalid, "%s is not a file.", path)
	}
	return fingerprint(Parts(path)), nil
}

// convertible fails with centram.Invalid, and says what to do, if path is what Hugging Face keeps models as.
func convertible(path string) error {
	dir := path
	if strings.EqualFold(filepath.Ext(path), ".safetensors") {
		dir = filepath.Dir(path)
	} else if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return nil
	}
	return centram.Errorf(centram.Invalid, "%s is no GGUF file.", path).
		WithHint("A folder from Hugging Face is converted with: centram model import %s", dir)
}

// Parts returns the paths of all files of a model, going by the name of one.
func Parts(path string) []string {
	path = filepath.Clean(path)
	dir, base := filepath.Split(path)
	m := partName.FindStringSubmatch(base)
	if m == nil {
		return []string{path}
	}
	count, err := strconv.Atoi(m[3])
	if err != nil || count < 2 || count > maxParts {
		return []string{path}
	}
	var all []string
	for i := range count {
		all = append(all, filepath.Join(dir, fmt.Sprintf("%s-%05d-of-%s.gguf", m[1], i+1, m[3])))
	}
	return all
}

func fingerprint(paths []string) []file {
	files := make([]file, len(paths))
	for i, path := range paths {
		files[i] = file{Path: path, Size: -1}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			files[i].Size, files[i].MTime = info.Size(), info.ModTime().UnixNano()
		}
	}
	return files
}

func present(files []file) bool {
	return !slices.ContainsFunc(files, func(f file) bool { return f.Size < 0 })
}

// same reports whether two lists are of the same content under the same file names, perhaps in different directories.
func same(a, b []file) bool {
	return slices.EqualFunc(a, b, func(a, b file) bool {
		return a.Size == b.Size && a.MTime == b.MTime && filepath.Base(a.Path) == filepath.Base(b.Path)
	})
}

// within reports whether path is somewhere in a folder. No folder is "".
func within(folder, path string) bool {
	if folder == "" {
		return false
	}
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
}

// removeFiles deletes the files of m in the models folder.
func (l *Library) removeFiles(m Model) error {
	if m.BuiltIn {
		return centram.Errorf(centram.Forbidden, "The model %s comes with Centram, so its file stays.", m.Name).
			WithHint("Remove it from the list only. To have it back: centram model import %s", m.Path)
	}
	if !within(l.Dir, m.Path) {
		return centram.Errorf(centram.Forbidden, "%s lies outside the models folder, so it is yours to delete.", m.Path).
			WithHint("Remove the model from the list only, and then the file by hand.")
	}
	return removeFrom(l.Dir, paths(m.files)...)
}

func (l *Library) removeAdapterFile(a Adapter) error {
	if !within(l.AdapterDir, a.Path) {
		return centram.Errorf(centram.Forbidden, "%s lies outside the folder of adapters, so it is yours to delete.", a.Path).
			WithHint("Remove the adapter from the list only, and then the file by hand.")
	}
	return removeFrom(l.AdapterDir, a.Path)
}

// removeFrom deletes files in a folder, if they are there. A symbolic link is removed and not what it points at, and one to
// a directory is not followed out of the folder.
func removeFrom(folder string, files ...string) error {
	root, err := os.OpenRoot(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", folder, err)
	}
	defer root.Close()
	for _, path := range files {
		rel, err := filepath.Rel(folder, path)
		if err != nil {
			return fmt.Errorf("delete %s: %w", path, err)
		}
		if err := root.Remove(rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return centram.Errorf(centram.Forbidden, "The file %s could not be deleted: %w", path, err).
				WithHint("Remove it from the list only, and see who may change its folder: ls -ld %s", filepath.Dir(path))
		}
	}
	return nil
}
