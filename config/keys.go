package config

import (
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Key is one setting.
type Key struct {
	Name     string
	Help     string
	fallback string // as it would be written
	kind     kind
	field    func(*Config) any // a pointer to the field
}

// Keys lists all settings, in the order in which a person would want to read them.
func Keys() []Key { return slices.Clone(keys) }

// Variable is the environment variable that sets the key.
func (k Key) Variable() string { return "CENTRAM_" + strings.ToUpper(k.Name) }

var keys = []Key{
	{"listen", "address and port of the daemon", "127.0.0.1:9740", address, func(c *Config) any { return &c.Listen }},
	{"model", "model to load at the start and to use when none is named: a name or a file", "", text, func(c *Config) any { return &c.Model }},
	{"draft", "small model that guesses tokens for larger ones with the same vocabulary, so that several are checked at once; empty means none", "", text, func(c *Config) any { return &c.Draft }},
	{"context", "tokens that each conversation has room for; 0 means 8192, or less if the model was trained for less", "0", count, func(c *Config) any { return &c.Context }},
	{"parallel", "answers that one model writes at once; 0 means 4", "0", count, func(c *Config) any { return &c.Parallel }},
	{"threads", "threads to compute with; 0 means one for each physical core, and fewer while other programs use them", "0", count, func(c *Config) any { return &c.Threads }},
	{"gpu_layers", "layers to put on the GPU; 0 means as many as fit into its free memory, -1 none", "0", layers, func(c *Config) any { return &c.GPULayers }},
	{"keep_alive", "how long an unused model stays in memory, such as 5m; -1s means for ever", "5m0s", duration, func(c *Config) any { return &c.KeepAlive }},
	{"memory_limit", "memory that models may take together, such as 12GB; 0 means 80 % of this machine's", "0", size, func(c *Config) any { return &c.MemoryLimit }},
	{"data", "directory of the database; empty means the usual place", "", directory, func(c *Config) any { return &c.Data }},
	{"models", "directory whose GGUF files appear in the list by themselves; empty means \"models\" in the data directory", "", directory, func(c *Config) any { return &c.Models }},
	{"toy", "whether the small model that comes with Centram is in the list: on or off", "on", onOff, func(c *Config) any { return &c.Toy }},
	{"hub", "address of the hub that models are downloaded from; empty means that of HF_ENDPOINT, or else https://huggingface.co", "", text, func(c *Config) any { return &c.Hub }},
	{"download_rate", "bytes a second that models are downloaded with, such as 2MB; 0 means no limit", "0", size, func(c *Config) any { return &c.DownloadRate }},
	{"log_level", "what the daemon logs: debug, info, warn or error", "info", level, func(c *Config) any { return &c.LogLevel }},
	{"tls_cert", "certificate in PEM form, needed to let other machines in", "", directory, func(c *Config) any { return &c.TLSCert }},
	{"tls_key", "key of the certificate", "", directory, func(c *Config) any { return &c.TLSKey }},
	{"allowed_hosts", "names by which others may reach the daemon, beside localhost", "", list, func(c *Config) any { return &c.AllowedHosts }},
	{"allowed_origins", "pages elsewhere that may call the API, such as https://example.org", "", list, func(c *Config) any { return &c.AllowedOrigins }},
	{"p2p_listen", "UDP address and port for other nodes, or off for none", ":9743", peerAddress, func(c *Config) any { return &c.P2PListen }},
	{"p2p_name", "what other nodes show for this one; empty means the name of this machine", "", label, func(c *Config) any { return &c.P2PName }},
	{"p2p_network", "name of the network: nodes of different ones do not talk to each other; empty means the open one", "", text, func(c *Config) any { return &c.P2PNetwork }},
	{"p2p_policy", "who gets what costs or reveals something: open (everybody), paired, or private (strangers are not let in at all)", "paired", policy, func(c *Config) any { return &c.P2PPolicy }},
	{"p2p_peers", "nodes to connect to, each as HOST:PORT", "", list, func(c *Config) any { return &c.P2PPeers }},
	{"p2p_discovery", "whether nodes on the local network find each other by themselves: on or off", "on", onOff, func(c *Config) any { return &c.P2PDiscovery }},
	{"p2p_upload", "bytes a second that other nodes may get of files, such as 2MB; 0 means no limit", "0", size, func(c *Config) any { return &c.P2PUpload }},
	{"hyperlink", "which machines may compute a part of a model that is too big for this one, and can read what is said to it: trusted (paired ones), any, or local (none)", "trusted", privacy, func(c *Config) any { return &c.Hyperlink }},
	{"hyperlink_share", "whether this machine computes parts of the models of others that may ask: on or off", "on", onOff, func(c *Config) any { return &c.HyperlinkShare }},
	{"hyperlink_memory", "memory for the models of others, such as 4GB; 0 means what models of this machine leave free", "0", size, func(c *Config) any { return &c.HyperlinkMemory }},
	{"hyperlink_quota", "disk that layers of models may take; 0 means no limit", "40GB", size, func(c *Config) any { return &c.HyperlinkQuota }},
	{"blob_quota", "disk that files from other nodes may take together; 0 means no limit", "20GB", size, func(c *Config) any { return &c.BlobQuota }},
}

// kind is what values of a key look like: how a text becomes one, and the other way round.
type kind struct {
	name  string
	parse func(text string) (any, error)
	print func(any) string
}

var (
	text        = kind{"a text", func(s string) (any, error) { return s, nil }, func(v any) string { return v.(string) }}
	label       = kind{"a name of at most 64 bytes that can be printed", parseName, text.print}
	address     = kind{"an address such as 127.0.0.1:9740", parseAddress, text.print}
	peerAddress = kind{"an address such as :9743, or off", parsePeerAddress, text.print}
	directory   = kind{"a path", parsePath, text.print}
	level       = kind{"debug, info, warn or error", oneOf("debug", "info", "warn", "error"), text.print}
	policy      = kind{"open, paired or private", oneOf("open", "paired", "private"), text.print}
	privacy     = kind{"trusted, any or local", oneOf("trusted", "any", "local"), text.print}
	onOff       = kind{"on or off", oneOf("on", "off"), text.print}
	count       = kind{"a whole number, not negative", func(s string) (any, error) { return parseInt(s, 0) }, printInt}
	layers      = kind{"a whole number from -1 up", func(s string) (any, error) { return parseInt(s, -1) }, printInt}
	duration    = kind{"a time such as 90s, 5m or 1h", parseDuration, func(v any) string { return v.(time.Duration).String() }}
	size        = kind{"a size such as 800MB or 12GB", parseSize, printSize}
	list        = kind{"texts, separated by commas", parseList, func(v any) string { return strings.Join(v.([]string), ",") }}
)

func (k Key) set(c *Config, text string) error {
	v, err := k.kind.parse(text)
	if err != nil {
		return fmt.Errorf("%q is not %s", text, k.kind.name)
	}
	switch field := k.field(c).(type) {
	case *string:
		*field = v.(string)
	case *int:
		*field = v.(int)
	case *int64:
		*field = v.(int64)
	case *time.Duration:
		*field = v.(time.Duration)
	case *[]string:
		*field = v.([]string)
	}
	return nil
}

func (k Key) get(c *Config) string {
	switch field := k.field(c).(type) {
	case *string:
		return k.kind.print(*field)
	case *int:
		return k.kind.print(*field)
	case *int64:
		return k.kind.print(*field)
	case *time.Duration:
		return k.kind.print(*field)
	case *[]string:
		return k.kind.print(*field)
	}
	return ""
}

func parseAddress(s string) (any, error) {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	return s, err
}

// parsePath makes a path absolute, so that it means the same wherever Centram is started.
func parsePath(s string) (any, error) {
	if s == "" {
		return "", nil
	}
	if rest, ok := strings.CutPrefix(s, "~/"); ok {
		home, err := os.UserHomeDir()
		return filepath.Join(home, rest), err
	}
	return filepath.Abs(s)
}

func parsePeerAddress(s string) (any, error) {
	if s == "off" {
		return s, nil
	}
	return parseAddress(s)
}

// parseName takes what other nodes take for a name.
func parseName(s string) (any, error) {
	if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil, strconv.ErrSyntax
	}
	return s, nil
}

func oneOf(words ...string) func(string) (any, error) {
	return func(s string) (any, error) {
		if !slices.Contains(words, s) {
			return nil, strconv.ErrSyntax
		}
		return s, nil
	}
}

func parseInt(s string, least int) (any, error) {
	n, err := strconv.Atoi(s)
	if err == nil && (n < least || n > math.MaxInt32) {
		err = strconv.ErrRange
	}
	return n, err
}

func printInt(v any) string { return strconv.Itoa(v.(int)) }

func parseDuration(s string) (any, error) { return time.ParseDuration(s) }

var units = []struct {
	suffix string
	bytes  float64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1}, {"", 1},
}

func parseSize(s string) (any, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(strings.ToLower(s), strings.ToLower(u.suffix))
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err == nil && !(n >= 0 && n*u.bytes < 1<<62) {
			err = strconv.ErrRange
		}
		return int64(n * u.bytes), err
	}
	return nil, strconv.ErrSyntax
}

// printSize chooses the unit that makes the shortest text: 20GB rather than 19531250KiB.
func printSize(v any) string {
	n := float64(v.(int64))
	best := strconv.FormatFloat(n, 'f', -1, 64)
	for _, u := range units {
		if n == 0 || u.bytes == 1 || math.Mod(n, u.bytes) != 0 {
			continue
		}
		if text := strconv.FormatFloat(n/u.bytes, 'f', -1, 64) + u.suffix; len(text) < len(best) {
			best = text
		}
	}
	return best
}

func parseList(s string) (any, error) {
	list := []string{}
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list, nil
}
