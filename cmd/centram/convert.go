package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/models"
	"github.com/centram/centram/models/convert"
	"github.com/centram/centram/server"
	"github.com/spf13/cobra"
)

// conversion is how a folder is imported.
type conversion struct {
	name, typ, out string
}

// conversionFlags adds the flags of importing a folder.
func conversionFlags(cmd *cobra.Command) *conversion {
	var c conversion
	cmd.Flags().StringVar(&c.name, "name", "", "what to call the model (after the file or folder)")
	cmd.Flags().StringVar(&c.typ, "type", "", "of a folder: `type` of the numbers, f32, f16 or bf16 (as they are)")
	cmd.Flags().StringVarP(&c.out, "out", "o", "", "of a folder: `file` to write (into the models folder, after the name)")
	return &c
}

// importModel adds a file to the list, or a folder of Hugging Face after it was converted.
func (a *app) importModel(ctx context.Context, l library, path string, c conversion) (server.Model, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		if c.typ != "" || c.out != "" {
			return server.Model{}, usageError{errors.New("--type and --out are for a folder, which is converted"), "A file is taken as it is, where it is."}
		}
		return l.Import(ctx, path, c.name)
	}
	out, err := a.conversionPath(ctx, l, path, c)
	if err != nil {
		return server.Model{}, err
	}
	bar := a.newProgress("Converting")
	_, err = convert.Folder(ctx, path, out, convert.Config{
		Type:     convert.Type(strings.ToLower(c.typ)),
		Progress: func(done, total int64) { bar.show(float64(done) / float64(total)) },
	})
	bar.clear()
	if ctx.Err() != nil {
		return server.Model{}, centram.Errorf(centram.Unavailable, "stopped: %w", ctx.Err()).WithHint("Nothing was left of it. The same command begins again.")
	}
	if err != nil {
		return server.Model{}, err
	}
	return l.Import(ctx, out, c.name)
}

// conversionPath is the file that a folder is converted to. What cannot be listed later is refused before an hour's work.
func (a *app) conversionPath(ctx context.Context, l library, dir string, c conversion) (string, error) {
	name := c.name
	if name == "" {
		name = models.NameAfter(convert.NameOf(dir))
	}
	file, err := models.FileFor(name)
	if err != nil {
		return "", err
	}
	if c.name != "" {
		if _, err := l.Get(ctx, c.name); err == nil {
			return "", centram.Errorf(centram.Conflict, "There is a model %s already.", c.name).WithHint("Choose another name.")
		} else if centram.CodeOf(err) != centram.NotFound {
			return "", err
		}
	}
	if c.out != "" {
		if !strings.EqualFold(filepath.Ext(c.out), ".gguf") {
			return "", usageError{fmt.Errorf("--out %s does not end in .gguf", c.out), "Models are GGUF files."}
		}
		return filepath.Abs(c.out)
	}
	if err := os.MkdirAll(a.cfg.Models, 0o700); err != nil {
		return "", fmt.Errorf("make the models folder: %w", err)
	}
	path := filepath.Join(a.cfg.Models, file)
	if _, err := os.Lstat(path); err == nil {
		return "", centram.Errorf(centram.Conflict, "%s is there already", path).
			WithHint("Choose another name with --name, or remove that model first: centram model rm %s --file", name)
	}
	return path, nil
}
