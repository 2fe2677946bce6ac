package main

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/config"
	"github.com/centram/centram/llama"
	"github.com/centram/centram/server"
)

// bundle writes what is worth knowing for who looks into a problem. What says who the owner is, or opens something, is left out:
// no conversation, no token, no key; names of folders, of this machine and of its owner are replaced.
func (d *doctor) bundle(path string, results any) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return centram.Errorf(centram.Conflict, "There is a file %s already.", path).WithHint("Choose another name: nothing is written over.")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, secret := zip.NewWriter(f), d.app.secrets()
	for name, content := range map[string]any{
		"checks.json": results, "version.json": buildVersion(), "settings.json": d.app.settingsFor(), "models.json": d.describeModels(), "system.json": system(),
	} {
		w, err := z.Create(name)
		if err != nil {
			return err
		}
		b, err := json.MarshalIndent(content, "", "  ")
		if err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
		if _, err := io.WriteString(w, secret.Replace(string(b))+"\n"); err != nil {
			return err
		}
	}
	return z.Close()
}

// settingsFor are the settings and where they come from. Of what names others, only how much there is.
func (a *app) settingsFor() map[string]string {
	out := map[string]string{}
	for _, k := range config.Keys() {
		value := a.cfg.Value(k.Name)
		switch k.Name {
		case "p2p_peers", "allowed_hosts", "allowed_origins":
			value = plural(len(strings.FieldsFunc(value, func(r rune) bool { return r == ',' })), "entry")
		case "p2p_network", "p2p_name":
			value = map[bool]string{true: "not set", false: "set"}[value == ""]
		}
		out[k.Name] = value + " (" + string(a.cfg.Origin(k.Name).Layer) + ")"
	}
	return out
}

// describeModels says what the models are, but not where, nor what they are called: a name may say what somebody works on.
func (d *doctor) describeModels() []map[string]any {
	out := []map[string]any{}
	for _, m := range d.models {
		out = append(out, map[string]any{
			"architecture": m.Architecture, "parameters": m.Parameters, "layers": m.Layers, "context": m.Context, "quantization": m.Quantization,
			"size_bytes": m.SizeBytes, "chat_template": m.ChatTemplate, "state": m.State,
		})
	}
	return out
}

func system() map[string]any {
	out := map[string]any{
		"os": runtime.GOOS, "arch": runtime.GOARCH, "processors": runtime.NumCPU(), "memory": totalMemory(), "free": freeMemory(), "features": llama.SystemInfo(),
	}
	for name, path := range map[string]string{"kernel": "/proc/sys/kernel/osrelease", "release": "/etc/os-release"} {
		if b, err := os.ReadFile(path); err == nil {
			out[name] = strings.TrimSpace(string(b))
		}
	}
	return out
}

// secrets replaces what nobody else should know. The longest come first, since they may contain others.
func (a *app) secrets() *strings.Replacer {
	var pairs []string
	hide := func(what, by string) {
		if len(what) > 2 {
			pairs = append(pairs, what, by)
		}
	}
	token, _ := server.LoadToken(a.cfg.Data)
	hide(token, "[token]")
	for _, variable := range []string{"HF_TOKEN", passphraseVariable} {
		value, _ := a.lookup(variable)
		hide(value, "["+variable+"]")
	}
	hide(a.cfg.Data, "[data]")
	hide(filepath.Dir(a.cfg.Paths.File), "[settings]")
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		hide(home, "[home]")
	}
	hide(a.cfg.P2PName, "[name]")
	if host, err := os.Hostname(); err == nil && host != "localhost" {
		hide(host, "[host]")
	}
	if u, err := user.Current(); err == nil && u.Username != "root" {
		hide(u.Username, "[user]")
	}
	return strings.NewReplacer(pairs...)
}
