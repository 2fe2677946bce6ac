// Package hub reads files of Hugging Face, or of a server that behaves as it does. A file has an address that redirects to
// another host, by a link that expires; what the hub says of the file comes with the first answer.
//
// The owner's token goes to the hub alone, whatever it redirects to.
package hub

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram"
)

// Config says which hub, and who asks. The zero value is Hugging Face, without a token.
type Config struct {
	Endpoint  string            // such as https://huggingface.co
	Token     string            // of an account, for models that not everybody may have
	Offline   bool              // nothing is asked
	Cache     string            // folder in which other programs keep what they have of the hub; see Cached
	Transport http.RoundTripper // nil means one made for large files
}

// FromEnvironment is the Config that programs of Hugging Face would have: HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME,
// HF_HUB_OFFLINE and HF_HUB_CACHE. lookup is os.LookupEnv but in tests.
func FromEnvironment(lookup func(string) (string, bool)) Config {
	get := func(key string) string {
		v, _ := lookup(key)
		return strings.TrimSpace(v)
	}
	home := get("HF_HOME")
	if home == "" {
		cache := get("XDG_CACHE_HOME")
		if h := get("HOME"); cache == "" && h != "" {
			cache = filepath.Join(h, ".cache")
		}
		if cache != "" {
			home = filepath.Join(cache, "huggingface")
		}
	}
	in := func(name string) string {
		if home == "" {
			return ""
		}
		return filepath.Join(home, name)
	}
	c := Config{Endpoint: get("HF_ENDPOINT"), Token: get("HF_TOKEN"), Cache: cmp.Or(get("HF_HUB_CACHE"), in("hub"))}
	switch strings.ToLower(get("HF_HUB_OFFLINE")) {
	case "1", "true", "yes", "on":
		c.Offline = true
	}
	if path := cmp.Or(get("HF_TOKEN_PATH"), in("token")); c.Token == "" && path != "" {
		b, _ := os.ReadFile(path) // most people have none
		c.Token = strings.TrimSpace(string(b))
	}
	return c
}

// Hub may be used from many goroutines.
type Hub struct {
	cfg    Config
	base   *url.URL
	client *http.Client

	mu    sync.Mutex
	links map[File]*url.URL // where files were last, until the link expires
}

// New returns a Hub. It fails with centram.Invalid if the endpoint is no address.
func New(cfg Config) (*Hub, error) {
	cfg.Endpoint = strings.TrimRight(cmp.Or(cfg.Endpoint, "https://huggingface.co"), "/")
	base, err := url.Parse(cfg.Endpoint)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" || base.User != nil {
		return nil, centram.Errorf(centram.Invalid, "%q cannot be the address of a hub.", cfg.Endpoint).
			WithHint("It comes from HF_ENDPOINT and looks like https://huggingface.co; unset it to use that one.")
	}
	if cfg.Transport == nil {
		cfg.Transport = transport()
	}
	h := &Hub{cfg: cfg, base: base, links: map[File]*url.URL{}}
	h.client = &http.Client{Transport: cfg.Transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // follow does it, as it knows who may see the token
	}}
	return h, nil
}

// transport is for few large answers: HTTP/1.1, as streams of one HTTP/2 connection share its window, and nothing unpacked.
func transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone() // with the environment's proxies
	t.DisableCompression = true
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.ResponseHeaderTimeout = 30 * time.Second
	t.MaxIdleConnsPerHost = 8
	t.ReadBufferSize = 64 << 10
	return t
}

// Name is the hub's host.
func (h *Hub) Name() string { return h.base.Host }

// Reach finds out whether the hub can be reached, and how far this machine's clock is ahead of its. It fails with
// centram.Unavailable.
func (h *Hub) Reach(ctx context.Context) (ahead time.Duration, err error) {
	before := time.Now()
	resp, err := h.do(ctx, http.MethodHead, h.base, nil)
	if err != nil {
		return 0, h.unreachable(err)
	}
	resp.Body.Close()
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, nil // it does not say
	}
	return before.Add(time.Since(before) / 2).Sub(theirs), nil
}

// File is a file of a repository.
type File struct {
	Repo     string // OWNER/NAME
	Revision string // a commit, a branch or a tag
	Path     string
}

func (f File) String() string { return f.Repo + "/" + f.Path }

// Found is what the hub says of a file.
type Found struct {
	Commit string // of the revision
	Size   int64  // -1 if it does not say
	SHA256 string // in hex; empty for small files, of which the hub has another hash
}

// Head asks the hub about a file. It fails with centram.NotFound, centram.Unauthorized, centram.Forbidden or
// centram.Unavailable.
func (h *Hub) Head(ctx context.Context, f File) (Found, error) {
	resp, err := h.do(ctx, http.MethodHead, h.address(f), nil)
	if err != nil {
		return Found{}, h.unreachable(err)
	}
	resp.Body.Close()
	for hops := 0; redirects(resp.StatusCode) && resp.Header.Get("X-Linked-Etag") == ""; hops++ {
		next, err := h.location(resp)
		if err != nil {
			return Found{}, err
		}
		if next.Host != h.base.Host || hops == maxHops { // what another host says of the file is not asked for
			break
		}
		if resp, err = h.do(ctx, http.MethodHead, next, nil); err != nil {
			return Found{}, h.unreachable(err)
		}
		resp.Body.Close()
	}
	if resp.StatusCode >= 400 {
		return Found{}, h.refused(resp, f)
	}
	found := Found{Commit: resp.Header.Get("X-Repo-Commit"), Size: -1, SHA256: etag(cmp.Or(resp.Header.Get("X-Linked-Etag"), resp.Header.Get("ETag")))}
	if b, err := hex.DecodeString(found.SHA256); err != nil || len(b) != 32 {
		found.SHA256 = ""
	}
	size := resp.Header.Get("X-Linked-Size")
	if size == "" && !redirects(resp.StatusCode) {
		size = resp.Header.Get("Content-Length")
	}
	if n, err := strconv.ParseInt(size, 10, 64); err == nil && n >= 0 {
		found.Size = n
	}
	return found, nil
}

// etag is what an ETag says without its marks.
func etag(s string) string { return strings.Trim(strings.TrimPrefix(s, "W/"), `"`) }

// ErrWhole is what Open fails with if the server gives a file only from its beginning.
var ErrWhole = errors.New("the server does not give parts of the file")

// Open returns the bytes of a file from an offset on, up to another one. The size is that of the whole file, which the
// answer has to agree with. It fails with ErrWhole, if from is not 0 and the server answers with the whole file, and as Head
// does; what may be tried again is centram.Unavailable.
func (h *Hub) Open(ctx context.Context, f File, size, from, to int64) (io.ReadCloser, error) {
	for fresh := false; ; fresh = true {
		at, known := h.link(f, fresh)
		resp, err := h.follow(ctx, f, at, http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", from, to-1)}})
		if err != nil {
			return nil, err
		}
		body, err := ranged(resp, size, from, to)
		if err == nil {
			return body, nil
		}
		resp.Body.Close()
		if expired(resp.StatusCode) && known && !fresh {
			continue // the link has expired
		}
		if err == errStatus {
			err = h.refused(resp, f)
		}
		h.forget(f)
		return nil, err
	}
}

// expired are the answers of hosts whose link is too old.
func expired(status int) bool {
	return status == http.StatusForbidden || status == http.StatusUnauthorized || status == http.StatusNotFound ||
		status == http.StatusGone || status == http.StatusBadRequest
}

// errStatus says that the status of an answer is its only news.
var errStatus = errors.New("status")

// ranged checks that an answer is the part of the file that was asked for.
func ranged(resp *http.Response, size, from, to int64) (io.ReadCloser, error) {
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, centram.Errorf(centram.Unavailable, "The server sent the file packed as %s, which was not asked for.", e)
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		var first, last, whole int64
		cr := resp.Header.Get("Content-Range")
		if n, err := fmt.Sscanf(cr, "bytes %d-%d/%d", &first, &last, &whole); err != nil || n != 3 || first != from || last != to-1 {
			return nil, centram.Errorf(centram.Unavailable, "The server sent another part of the file (%q) than bytes %d to %d.", cr, from, to-1)
		}
		if whole != size {
			return nil, wrongSize(whole, size)
		}
		return limited(resp, to-from), nil
	case http.StatusOK:
		if n := resp.ContentLength; n >= 0 && n != size {
			return nil, wrongSize(n, size)
		}
		if from > 0 {
			return nil, ErrWhole
		}
		return limited(resp, to), nil
	case http.StatusRequestedRangeNotSatisfiable:
		var whole int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes */%d", &whole); err == nil && whole != size {
			return nil, wrongSize(whole, size)
		}
		return nil, centram.Errorf(centram.Unavailable, "The server has no bytes %d to %d of the file.", from, to-1)
	}
	return nil, errStatus
}

func wrongSize(got, want int64) error {
	return centram.Errorf(centram.Invalid, "The file on the server has %d bytes, not the %d that it should have.", got, want).
		WithHint("It is another file. If it was replaced on the hub, see whether there is a newer version of Centram.")
}

// limited reads at most n bytes, however many come.
func limited(resp *http.Response, n int64) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, n), resp.Body}
}

func (h *Hub) address(f File) *url.URL {
	return h.base.JoinPath(f.Repo, "resolve", cmp.Or(f.Revision, "main"), f.Path)
}

// link is where a file was last, or else its address on the hub.
func (h *Hub) link(f File, fresh bool) (at *url.URL, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if fresh {
		delete(h.links, f)
	}
	if at, known = h.links[f]; known {
		return at, true
	}
	return h.address(f), false
}

func (h *Hub) forget(f File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.links, f)
}
