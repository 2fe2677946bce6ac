// Package hubtest is a hub on this machine, for tests: it behaves as Hugging Face does, on two ports, and misbehaves as
// networks do, at moments drawn from a seed.
package hubtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Token is of the account that may have the files of repositories that begin with "gated/".
const Token = "hf_test"

// Faults says how often a request for bytes of a file goes wrong, of 1, and how.
type Faults struct {
	Reset   float64       // the connection breaks in the middle
	Stall   float64       // nothing more comes, in the middle
	Refuse  float64       // 503 at once, sometimes with Retry-After
	Expire  float64       // the link is too old
	Wrong   float64       // a byte is another one
	Lie     float64       // another size of the whole file is claimed
	Whole   bool          // the server does not give parts
	Slow    time.Duration // between two writes of 16 KiB
	NoSizes bool          // the hub does not say sizes and hashes
}

// Hub is a running hub.
type Hub struct {
	URL    string // of the hub; files come from another host
	Commit string

	mu     sync.Mutex
	rng    *rand.Rand
	faults Faults
	files  map[string][]byte // by REPO/PATH
	sums   map[string]string // their SHA-256 in hex
	links  map[string]string // the signed ones that hold, and of which file
	sent   map[string]int64  // bytes of files
	asked  []string
	leaked bool
	cdn    string
}

// New starts a hub that ends with the test.
func New(t testing.TB, seed uint64, faults Faults) *Hub {
	h, stop := Start(seed, faults)
	t.Cleanup(stop)
	return h
}

// Start starts a hub that ends with stop, for programs that are tests without being run by go test.
func Start(seed uint64, faults Faults) (h *Hub, stop func()) {
	h = &Hub{
		Commit: strings.Repeat("c0ffee00", 5), rng: rand.New(rand.NewPCG(seed, 6)), faults: faults,
		files: map[string][]byte{}, sums: map[string]string{}, links: map[string]string{}, sent: map[string]int64{},
	}
	cdn, hub := serve(h.serveBytes), serve(h.serveHub)
	h.cdn, h.URL = cdn.URL, hub.URL
	return h, func() {
		for _, s := range []*httptest.Server{hub, cdn} {
			s.CloseClientConnections()
			s.Close()
		}
	}
}

// serve starts a server whose connections hold little that was not read yet, so that what was sent is about what came.
func serve(f http.HandlerFunc) *httptest.Server {
	s := httptest.NewUnstartedServer(f)
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(256 << 10)
		return ctx
	}
	s.Start()
	return s
}

// Add puts a file on the hub, and returns its SHA-256 in hex.
func (h *Hub) Add(repo, path string, content []byte) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[repo+"/"+path], h.sums[repo+"/"+path] = content, digest(content)
	return h.sums[repo+"/"+path]
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Set changes how it misbehaves from now on.
func (h *Hub) Set(f Faults) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = f
}

// Sent is how many bytes of a file were sent.
func (h *Hub) Sent(repo, path string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent[repo+"/"+path]
}

// Leaked says whether the token came to the host that has no business with it.
func (h *Hub) Leaked() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leaked
}

// Asked are the requests that came to the hub, each as METHOD PATH.
func (h *Hub) Asked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.asked...)
}

// serveHub answers /REPO/resolve/REVISION/PATH and /api/models/REPO/tree/REVISION.
func (h *Hub) serveHub(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, r.Method+" "+r.URL.Path)
	if repo, ok := strings.CutPrefix(r.URL.Path, "/api/models/"); ok {
		repo, _, _ = strings.Cut(repo, "/tree/")
		h.tree(w, repo)
		return
	}
	repo, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/resolve/")
	_, path, _ := strings.Cut(rest, "/")
	name := repo + "/" + path
	content, ok := h.files[name]
	if !ok {
		http.Error(w, "Entry not found", http.StatusNotFound)
		return
	}
	if strings.HasPrefix(repo, "gated/") && r.Header.Get("Authorization") != "Bearer "+Token {
		http.Error(w, "Access to this model is restricted", http.StatusUnauthorized)
		return
	}
	link := fmt.Sprintf("/signed/%x", h.rng.Uint64())
	h.links[link] = name
	w.Header().Set("X-Repo-Commit", h.Commit)
	if !h.faults.NoSizes {
		w.Header().Set("X-Linked-Etag", `"`+h.sums[name]+`"`)
		w.Header().Set("X-Linked-Size", strconv.Itoa(len(content)))
	}
	w.Header().Set("Location", h.cdn+link)
	w.WriteHeader(http.StatusFound)
}

func (h *Hub) tree(w http.ResponseWriter, repo string) {
	list := []any{map[string]any{"type": "directory", "path": "folder", "size": 0}, map[string]any{"type": "file", "path": "README.md", "size": 12}}
	for name, content := range h.files {
		if path, ok := strings.CutPrefix(name, repo+"/"); ok {
			list = append(list, map[string]any{
				"type": "file", "path": path, "size": len(content), "lfs": map[string]any{"oid": h.sums[name], "size": len(content)},
			})
		}
	}
	if len(list) == 2 {
		http.Error(w, "Repository not found", http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(list)
}

// answer is how a request for bytes is answered.
type answer struct {
	name              string
	content           []byte
	from, to          int
	claimed           int // size of the whole
	status            int
	stopAt            int // of the bytes, or -1
	stall, retryAfter bool
	slow              time.Duration
}

// serveBytes is the other host.
func (h *Hub) serveBytes(w http.ResponseWriter, r *http.Request) {
	a := h.decide(r)
	if a.status >= 400 {
		if a.retryAfter {
			w.Header().Set("Retry-After", "1")
		}
		if a.status == http.StatusRequestedRangeNotSatisfiable {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", len(a.content)))
		}
		w.WriteHeader(a.status)
		return
	}
	w.Header().Set("ETag", `"`+strings.Repeat("e", 32)+`"`)
	if a.status == http.StatusPartialContent {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a.from, a.to-1, a.claimed))
		w.Header().Set("Content-Length", strconv.Itoa(a.to-a.from))
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(a.claimed))
	}
	w.WriteHeader(a.status)
	h.send(w, r, a)
}

// decide draws how a request is answered.
func (h *Hub) decide(r *http.Request) (a answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaked = h.leaked || r.Header.Get("Authorization") != ""
	happens := func(p float64) bool { return h.rng.Float64() < p }
	name, ok := h.links[r.URL.Path]
	if !ok || happens(h.faults.Expire) {
		delete(h.links, r.URL.Path)
		return answer{status: http.StatusForbidden}
	}
	if happens(h.faults.Refuse) {
		return answer{status: http.StatusServiceUnavailable, retryAfter: happens(0.2)}
	}
	a = answer{name: name, content: h.files[name], status: http.StatusOK, stopAt: -1, slow: h.faults.Slow}
	a.to, a.claimed = len(a.content), len(a.content)
	if spec := r.Header.Get("Range"); spec != "" && !h.faults.Whole {
		a.status = http.StatusPartialContent
		if n, err := fmt.Sscanf(spec, "bytes=%d-%d", &a.from, &a.to); n == 2 && err == nil {
			a.to++
		}
		if a.to = min(a.to, len(a.content)); a.from >= a.to {
			a.status = http.StatusRequestedRangeNotSatisfiable
			return a
		}
	}
	if happens(h.faults.Lie) {
		a.claimed += 1 + h.rng.IntN(1000)
	}
	if happens(h.faults.Wrong) {
		a.content = append([]byte(nil), a.content...)
		a.content[a.from+h.rng.IntN(a.to-a.from)] ^= 1 << h.rng.IntN(8)
	}
	if a.stall = happens(h.faults.Stall); a.stall || happens(h.faults.Reset) {
		a.stopAt = a.from + h.rng.IntN(a.to-a.from)
	}
	return a
}

// send sends the bytes, up to where it goes wrong.
func (h *Hub) send(w http.ResponseWriter, r *http.Request, a answer) {
	for at := a.from; at < a.to; {
		if at == a.stopAt && a.stall {
			<-r.Context().Done()
		}
		if at == a.stopAt || r.Context().Err() != nil {
			panic(http.ErrAbortHandler) // which breaks the connection
		}
		end := min(at+16<<10, a.to)
		if a.stopAt >= 0 {
			end = min(end, a.stopAt)
		}
		n, err := w.Write(a.content[at:end])
		h.mu.Lock()
		h.sent[a.name] += int64(n)
		h.mu.Unlock()
		if err != nil {
			return
		}
		at = end
		if a.slow > 0 || at == a.stopAt {
			w.(http.Flusher).Flush()
		}
		if a.slow > 0 {
			time.Sleep(a.slow)
		}
	}
}
