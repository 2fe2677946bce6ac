package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram"
)

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

// load reads a home directory whose file holds text.
func load(t *testing.T, text string, vars map[string]string) (*Config, error) {
	t.Helper()
	home := t.TempDir()
	if text != "" {
		if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]string{"CENTRAM_HOME": home}
	for k, v := range vars {
		all[k] = v
	}
	return Load(env(all))
}

func TestDefaultsHold(t *testing.T) {
	c, err := load(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:9740" || c.KeepAlive != 5*time.Minute || c.Data != c.Paths.Data || !strings.HasSuffix(c.Models, "data/models") {
		t.Errorf("got %+v", c)
	}
	if o := c.Origin("listen"); o.Layer != Default {
		t.Errorf("got %v, want the default", o)
	}
}

func TestEveryDefaultIsWrittenAsItIsPrinted(t *testing.T) {
	for _, k := range keys {
		var c Config
		if err := k.set(&c, k.fallback); err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
		if got := k.get(&c); got != k.fallback {
			t.Errorf("%s: got %q, want %q", k.Name, got, k.fallback)
		}
	}
}

func TestTheHigherLayerWins(t *testing.T) {
	c, err := load(t, "# mine\nthreads = 3\ncontext = 1024\nlisten = \"127.0.0.1:1\"\n",
		map[string]string{"CENTRAM_CONTEXT": "2048", "CENTRAM_LISTEN": "127.0.0.1:2"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetFlag("listen", "listen", "127.0.0.1:3"); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]struct {
		value string
		layer Layer
		where string
	}{
		"threads":  {"3", File, ":2"},
		"context":  {"2048", Environment, "CENTRAM_CONTEXT"},
		"listen":   {"127.0.0.1:3", Flag, "--listen"},
		"parallel": {"0", Default, ""},
	} {
		o := c.Origin(key)
		if c.Value(key) != want.value || o.Layer != want.layer || !strings.HasSuffix(o.Where, want.where) {
			t.Errorf("%s: got %s from %v, want %v", key, c.Value(key), o, want)
		}
	}
}

func TestMistakesAreNamedWithFileLineAndKey(t *testing.T) {
	for text, want := range map[string]string{
		"listen = \"127.0.0.1:9740\"\nthread = 3\n":     `config.toml:2: there is no setting "thread"`,
		"\n\nthreads = \"3\"\n":                         `config.toml:3: threads: the text "3" is not a whole number`,
		"threads = -1":                                  `config.toml:1: threads: "-1" is not a whole number, not negative`,
		"listen = 9740":                                 `config.toml:1: listen: the number 9740 is not an address`,
		"listen = \"nonsense\"":                         `config.toml:1: listen: "nonsense" is not an address`,
		"keep_alive = \"soon\"":                         `config.toml:1: keep_alive: "soon" is not a time`,
		"memory_limit = \"many\"":                       `config.toml:1: memory_limit: "many" is not a size`,
		"log_level = \"loud\"":                          `config.toml:1: log_level: "loud" is not debug`,
		"p2p_listen = \"on\"":                           `config.toml:1: p2p_listen: "on" is not an address such as :9743, or off`,
		"p2p_policy = \"closed\"":                       `config.toml:1: p2p_policy: "closed" is not open, paired or private`,
		"p2p_discovery = \"maybe\"":                     `config.toml:1: p2p_discovery: "maybe" is not on or off`,
		"p2p_name = \"a\\u001bb\"":                      `config.toml:1: p2p_name: "a\x1bb" is not a name`,
		"allowed_hosts = \"a\"":                         `config.toml:1: allowed_hosts: the text "a" is not a list`,
		"context = 1.5":                                 `config.toml:1: context: 1.5 is not a whole number`,
		"threads = 1\nthreads":                          `config.toml:2:`,
		"[listen]\nport = 1":                            `config.toml:1: listen:`,
		"threads = 1\n[server]\nlisten = \"1.2.3.4:5\"": `config.toml:2: there is no setting "server"`,
	} {
		_, err := load(t, text, nil)
		if centram.CodeOf(err) != centram.Invalid || !strings.Contains(err.Error(), want) || centram.HintOf(err) == "" {
			t.Errorf("%q: got %v (hint %q), want %s", text, err, centram.HintOf(err), want)
		}
	}
}

func TestAWrongVariableIsNamed(t *testing.T) {
	_, err := load(t, "", map[string]string{"CENTRAM_THREADS": "many"})
	if err == nil || !strings.Contains(err.Error(), "CENTRAM_THREADS") {
		t.Errorf("got %v", err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "5": 5, "1KB": 1000, "2 MiB": 2 << 20, "1.5gb": 1_500_000_000, "12GB": 12e9} {
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]string{"20GB": "20GB", "2 MiB": "2MiB", "1500": "1500", "1.5gb": "1500MB", "0": "0"} {
		n, err := parseSize(text)
		if got := printSize(n); err != nil || got != want {
			t.Errorf("%s is printed as %s, want %s (%v)", text, got, want, err)
		}
	}
	for _, text := range []string{"-1GB", "GB", "1e30GB", "NaN", "one"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%s: got %v, want an error", text, got)
		}
	}
}

func TestWriteKeyKeepsTheRest(t *testing.T) {
	for _, row := range []struct{ before, key, value, after string }{
		{"", "threads", "4", "threads = 4\n"},
		{"# hello\nthreads = 2 # two\n\n# end", "threads", "4", "# hello\nthreads = 4 # two\n\n# end"},
		{"threads = 2", "model", "qwen", "threads = 2\nmodel = 'qwen'\n"},
		{"model = \"a#b\"\n", "model", "c", "model = 'c'\n"},
		{"model = 'x'   # mine\n", "model", "y", "model = 'y'\n"},
		{"allowed_hosts = [\"a\"]\n", "allowed_hosts", "b, c", "allowed_hosts = ['b', 'c']\n"},
	} {
		path := filepath.Join(t.TempDir(), "below", "config.toml")
		if row.before != "" {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(row.before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := WriteKey(path, row.key, row.value); err != nil {
			t.Errorf("%q: %v", row.before, err)
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != row.after {
			t.Errorf("%q: got %q, want %q (%v)", row.before, got, row.after, err)
		}
	}
}

func TestWriteKeyRefusesWhatCannotBe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	before := "allowed_hosts = [\n  \"a\",\n]\n"
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		key, value string
		code       centram.Code
	}{
		{"thread", "4", centram.NotFound},
		{"threads", "four", centram.Invalid},
		{"allowed_hosts", "b", centram.Invalid}, // set over several lines
	} {
		if err := WriteKey(path, row.key, row.value); centram.CodeOf(err) != row.code {
			t.Errorf("%s = %s: got %v, want %s", row.key, row.value, err, row.code)
		}
	}
	if after, _ := os.ReadFile(path); string(after) != before {
		t.Errorf("the file was changed to %q", after)
	}
}
