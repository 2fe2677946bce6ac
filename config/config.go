// Package config says how Centram is set up. A value comes from a flag, else from the environment (CENTRAM_...), else
// from the file config.toml, else from the defaults; a Config remembers which it was.
//
// The file is flat TOML: one line a key, no tables. A key that does not exist or a value that cannot be is an error that
// names the file, the line and the key, because a setting that is silently ignored is worse than none.
package config

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/centram/centram"
)

// Config is how Centram is set up.
type Config struct {
	Listen         string
	Model          string
	Context        int
	Parallel       int
	Threads        int
	GPULayers      int
	KeepAlive      time.Duration
	MemoryLimit    int64
	Draft          string
	Data           string
	Models         string
	Toy            string // "on" or "off"
	Hub            string // empty for that of the environment
	DownloadRate   int64
	LogLevel       string
	TLSCert        string
	TLSKey         string
	AllowedHosts   []string
	AllowedOrigins []string
	P2PListen      string // "off" turns the network off
	P2PName        string
	P2PNetwork     string
	P2PPolicy      string
	P2PPeers       []string
	P2PDiscovery   string // "on" or "off"
	P2PUpload      int64
	BlobQuota      int64

	Hyperlink       string
	HyperlinkShare  string
	HyperlinkMemory int64
	HyperlinkQuota  int64

	Paths   Paths
	origins map[string]Origin
}

// Origin says where a value comes from.
type Origin struct {
	Layer Layer  `json:"layer"`
	Where string `json:"where,omitempty"` // the variable, or file and line
}

// Layer is one of the words below.
type Layer string

const (
	Default     Layer = "default"
	File        Layer = "file"
	Environment Layer = "environment"
	Flag        Layer = "flag"
)

// Load reads the environment and the file. lookup is os.LookupEnv but in tests. It fails with centram.Invalid.
func Load(lookup func(string) (string, bool)) (*Config, error) {
	paths, err := FindPaths(lookup)
	if err != nil {
		return nil, err
	}
	c := &Config{Paths: paths, origins: map[string]Origin{}}
	for _, k := range keys {
		if err := k.set(c, k.fallback); err != nil {
			return nil, fmt.Errorf("the default of %s: %w", k.Name, err)
		}
	}
	if err := c.readFile(paths.File); err != nil {
		return nil, err
	}
	for _, k := range keys {
		text, ok := lookup(k.Variable())
		if !ok || text == "" {
			continue
		}
		if err := k.set(c, text); err != nil {
			return nil, centram.Errorf(centram.Invalid, "The environment variable %s is not right: %w.", k.Variable(), err).
				WithHint("Change it or unset it. What it means: %s.", k.Help)
		}
		c.origins[k.Name] = Origin{Environment, k.Variable()}
	}
	c.Data = cmp.Or(c.Data, paths.Data)
	c.Models = cmp.Or(c.Models, c.Data+string(os.PathSeparator)+"models")
	return c, nil
}

// SetFlag sets a value that was given on the command line.
func (c *Config) SetFlag(key, flag, value string) error {
	k, err := Lookup(key)
	if err != nil {
		return err
	}
	if err := k.set(c, value); err != nil {
		return centram.Errorf(centram.Invalid, "--%s is not right: %w.", flag, err).WithHint("What it means: %s.", k.Help)
	}
	c.origins[key] = Origin{Flag, "--" + flag}
	return nil
}

// Origin says where the value of key comes from.
func (c *Config) Origin(key string) Origin {
	if o, ok := c.origins[key]; ok {
		return o
	}
	return Origin{Layer: Default}
}

// Value is the value of key as a person would write it. Key must exist.
func (c *Config) Value(key string) string {
	k, err := Lookup(key)
	if err != nil {
		return ""
	}
	return k.get(c)
}

// Lookup finds a key by its name. It fails with centram.NotFound and the name that was probably meant.
func Lookup(name string) (Key, error) {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i >= 0 {
		return keys[i], nil
	}
	return Key{}, centram.Errorf(centram.NotFound, "There is no setting %q.", name).WithHint("%s", meant(name))
}

// meant names the key that is most like name.
func meant(name string) string {
	best, least := "", 4 // more than that many slips, and it was another word
	for _, k := range keys {
		if d := distance(strings.ToLower(strings.ReplaceAll(name, "-", "_")), k.Name); d < least {
			best, least = k.Name, d
		}
	}
	if best == "" {
		return "See which there are with: centram config get"
	}
	return fmt.Sprintf("Perhaps %q was meant. See them all with: centram config get", best)
}

// distance is how many letters to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
