package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/llama"
	"github.com/centram/centram/models"
	"github.com/centram/centram/server"
	"github.com/centram/centram/server/web"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// verdict is what a check found. Fix is the next thing to do unless all is well.
type verdict struct {
	Status status `json:"status"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

type status string

const (
	ok   status = "ok"
	warn status = "warn"
	fail status = "fail"
)

func fine(format string, args ...any) verdict {
	return verdict{Status: ok, Detail: fmt.Sprintf(format, args...)}
}

// doctor looks at everything that could be wrong. Later checks use what earlier ones found.
type doctor struct {
	app    *app
	client *client // nil if no daemon runs
	node   server.NodeState
	models []models.Model
}

var checks = []struct {
	name  string
	check func(*doctor, context.Context) verdict
}{
	{"daemon", (*doctor).daemon},
	{"versions", (*doctor).versions},
	{"network", (*doctor).network},
	{"nearby", (*doctor).nearby},
	{"peers", (*doctor).versionsOf},
	{"identity", (*doctor).identity},
	{"settings", (*doctor).settings},
	{"data directory", (*doctor).data},
	{"disk", (*doctor).disk},
	{"clock", (*doctor).clock},
	{"page", (*doctor).page},
	{"processor", (*doctor).processor},
	{"gpu", (*doctor).gpu},
	{"hub", (*doctor).hub},
	{"models", (*doctor).list},
	{"hashes", (*doctor).hashes},
	{"memory", (*doctor).memory},
}

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "doctor", Short: "Look at the usual causes of trouble, and name the fix", Args: cobra.NoArgs}
	asJSON := jsonFlag(cmd)
	bundle := cmd.Flags().String("bundle", "", "also write what others need to look into a problem to this new `file`, a zip without secrets")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		type result struct {
			Name string `json:"name"`
			verdict
		}
		d := &doctor{app: a}
		results, failed := []result{}, 0
		for _, c := range checks {
			v := c.check(d, cmd.Context())
			if v.Status == fail {
				failed++
			}
			results = append(results, result{c.name, v})
			if !*asJSON {
				a.printVerdict(c.name, v)
			}
		}
		if *asJSON {
			if err := a.printJSON(map[string]any{"ok": failed == 0, "checks": results}); err != nil {
				return err
			}
		}
		if *bundle != "" {
			if err := d.bundle(*bundle, results); err != nil {
				return err
			}
			a.hint("Written to %s. Read it before you send it to anybody.", *bundle)
		}
		if failed > 0 {
			return centram.Errorf(centram.Internal, "%s failed.", plural(failed, "check")).
				WithHint("Do what stands there, and run again: centram doctor")
		}
		return nil
	}
	return cmd
}

func (a *app) printVerdict(name string, v verdict) {
	colours := map[status]string{ok: "32", warn: "33", fail: "31"}
	fmt.Fprintf(a.out, "%s %-15s %s\n", a.colour(colours[v.Status], fmt.Sprintf("%-4s", v.Status)), name, v.Detail)
	if v.Fix != "" {
		fmt.Fprintf(a.out, "     %-15s -> %s\n", "", v.Fix)
	}
}

func (d *doctor) daemon(ctx context.Context) verdict {
	c, err := d.app.daemon(ctx)
	switch {
	case err == nil && c.token == "":
		return verdict{warn, "one runs at " + c.url + ", but on another data directory", "Set CENTRAM_HOME or CENTRAM_DATA as it was for it."}
	case err == nil:
		d.client = c
		return fine("running at %s", c.url)
	case !errors.Is(err, errNoDaemon):
		return verdict{fail, err.Error(), centram.HintOf(err)}
	}
	l, err := net.Listen("tcp", d.app.cfg.Listen)
	if err != nil {
		return verdict{fail, fmt.Sprintf("not running, and %s cannot be listened on: %v", d.app.cfg.Listen, err), "Choose another address with: centram config set listen 127.0.0.1:9750"}
	}
	l.Close()
	return fine("not running; %s is free. Start it with: centram serve", d.app.cfg.Listen)
}

func (d *doctor) versions(context.Context) verdict {
	own := buildVersion()
	if d.client == nil || d.client.version == own {
		return fine("centram %s, llama.cpp %s", own.Version, own.Llama)
	}
	return verdict{
		warn, fmt.Sprintf("this is %s (%s), the daemon is %s (%s)", own.Version, own.Commit, d.client.version.Version, d.client.version.Commit),
		"Start the daemon again, so that it is the same program.",
	}
}

func (d *doctor) settings(context.Context) verdict { // they were read, or we would not be here
	if _, err := os.Stat(d.app.cfg.Paths.File); err != nil {
		return fine("the defaults; there is no %s", d.app.cfg.Paths.File)
	}
	return fine("%s is sound", d.app.cfg.Paths.File)
}

func (d *doctor) data(context.Context) verdict {
	dir := d.app.cfg.Data
	fix := "Make it yours, or choose another one with: centram config set data PATH"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return verdict{fail, err.Error(), fix}
	}
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return verdict{fail, dir + " cannot be written to: " + err.Error(), fix}
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return verdict{fail, err.Error(), fix}
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o077 != 0 {
		return verdict{warn, fmt.Sprintf("%s may be read by others (mode %o)", dir, info.Mode().Perm()), "chmod 700 " + dir}
	}
	return fine("%s can be written to", dir)
}

func (d *doctor) disk(context.Context) verdict {
	var s unix.Statfs_t
	if err := unix.Statfs(d.app.cfg.Data, &s); err != nil {
		return verdict{warn, "free space is not known: " + err.Error(), "Look with: df -h"}
	}
	free := uint64(s.Bavail) * uint64(s.Bsize)
	v := fine("%s free", bytesText(free))
	switch {
	case free < 200e6:
		v.Status, v.Fix = fail, "Make room: the database cannot grow."
	case free < 5e9:
		v.Status, v.Fix = warn, "Make room if a model is to be kept here: one of 7B parameters takes about 5 GB."
	}
	return v
}

// clock is off if it is before this year's programs, or if files were written in what it takes for the future.
func (d *doctor) clock(context.Context) verdict {
	now := time.Now()
	fix := "Set the clock: sudo timedatectl set-ntp true"
	if now.Year() < 2026 {
		return verdict{fail, "it is not " + now.Format(time.DateOnly), fix}
	}
	newest := time.Time{}
	_ = filepath.WalkDir(d.app.cfg.Data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() && path != d.app.cfg.Data {
			return fs.SkipDir
		}
		if info, err := e.Info(); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return nil
	})
	if ahead := newest.Sub(now); ahead > time.Minute {
		return verdict{warn, "files in the data directory are from the future, by " + span(ahead), fix}
	}
	return fine("%s", now.Format(time.RFC3339))
}

func (d *doctor) page(context.Context) verdict {
	if found, err := fs.Glob(web.Apps(), "*/assets"); err == nil && len(found) > 0 {
		return fine("built into this program")
	}
	return verdict{warn, "not built into this program; the API and the terminal work", "Install Node and npm, then: make"}
}

func (d *doctor) processor(context.Context) verdict {
	features := llama.SystemInfo()
	v := fine("%s, %s", plural(runtime.NumCPU(), "processor"), features)
	if runtime.GOARCH == "amd64" && !strings.Contains(features, "AVX2 = 1") {
		v.Status, v.Fix = warn, "Build on this machine with: make. Without AVX2, models are several times slower."
	}
	if t := d.app.cfg.Threads; t > runtime.NumCPU() {
		return verdict{warn, fmt.Sprintf("%d threads for %s", t, plural(runtime.NumCPU(), "processor")), "centram config set threads 0"}
	}
	return v
}

func (d *doctor) gpu(context.Context) verdict {
	if llama.GPUOffload() {
		var all []string
		for _, g := range llama.Devices() {
			if g.Kind == llama.GPU || g.Kind == llama.IntegratedGPU {
				all = append(all, fmt.Sprintf("%s, %s, %s of %s free", g.Name, g.Description, bytesText(g.Free), bytesText(g.Total)))
			}
		}
		return fine("used: %s", strings.Join(all, "; "))
	}
	v := fine("none; models run on the processor")
	if b, err := os.ReadFile("/proc/driver/nvidia/version"); err == nil {
		driver, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
		return verdict{warn, "there is an NVIDIA GPU that this build for " + buildVersion().Backend + " does not use (" + driver + ")", "Build with: make cuda"}
	}
	if seen, _ := filepath.Glob("/sys/class/drm/card*/device/vendor"); len(seen) > 0 && nvidia(seen) {
		return verdict{warn, "there is an NVIDIA GPU without NVIDIA's driver", "Install the driver, and then build with: make cuda"}
	}
	if runtime.GOOS == "darwin" && runtime.GOARCH == "arm64" {
		return verdict{warn, "there is an Apple GPU that this build does not use", "Build with: make metal"}
	}
	return v
}

// nvidia says whether one of the files of vendors names NVIDIA.
func nvidia(vendors []string) bool {
	return slices.ContainsFunc(vendors, func(path string) bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.TrimSpace(string(b)) == "0x10de"
	})
}

func (d *doctor) list(ctx context.Context) verdict {
	l, err := d.app.ownLibrary(ctx)
	if err != nil {
		return verdict{fail, err.Error(), centram.HintOf(err)}
	}
	defer l.Close()
	if d.models, err = l.library.List(ctx); err != nil {
		return verdict{fail, err.Error(), "The database may be damaged; put a backup in its place."}
	}
	if len(d.models) == 0 {
		return verdict{warn, "there is none yet", "centram model download qwen2.5-1.5b"}
	}
	for _, m := range d.models {
		if m.State != models.Ready {
			return verdict{warn, fmt.Sprintf("%s is %s: %v", m.Name, m.State, m.Err), "Put the file back, or: centram model rm " + m.Name}
		}
		if _, err := models.CheckFile(m.Path); err != nil {
			return verdict{fail, fmt.Sprintf("%s: %v", m.Name, err), "Get the file again, or: centram model rm " + m.Name}
		}
	}
	return fine("%s, all readable", plural(len(d.models), "model"))
}

func (d *doctor) memory(context.Context) verdict {
	total, free := totalMemory(), freeMemory()
	if total == 0 {
		return verdict{warn, "not known", ""}
	}
	have := bytesText(total)
	if free > 0 {
		have += ", " + bytesText(free) + " free"
	}
	for _, m := range d.models {
		if uint64(m.SizeBytes) > total/10*9 && !llama.GPUOffload() {
			return verdict{warn, fmt.Sprintf("%s, but %s alone takes %s", have, m.Name, bytesText(m.SizeBytes)), "Use a smaller model, or a smaller quantization of it."}
		}
	}
	if free > 0 && free < 500e6 {
		return verdict{warn, have, "Close other programs before you load a model."}
	}
	return fine("%s", have)
}
