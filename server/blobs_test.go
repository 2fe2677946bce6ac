package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/transfer"
	"github.com/centram/centram/p2p/wire"
)

// blobStore makes a place for blobs, and a file of some chunks.
func blobStore(t *testing.T) (*blob.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := blob.New(blob.Config{Dir: filepath.Join(dir, "blobs"), Quota: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 5<<20+7)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return s, file
}

// fetch begins to fetch a blob and returns the stream of what happens.
func (n *node) fetch(hash wire.Hash) *viewer {
	n.t.Helper()
	return n.viewBy("POST", "/api/v1/blobs/"+hash.String()+"/fetch", `{}`)
}

func TestBlobsOverREST(t *testing.T) {
	blobs, file := blobStore(t)
	n := start(t, func(c *Config) { c.Network = Network{Blobs: blobs} })
	b := as[Blob](t, n.send(201, "POST", "/api/v1/blobs", fmt.Sprintf(`{"path":%q}`, file)))
	if !b.Complete || b.Size != 5<<20+7 || b.Chunks != 6 || b.Of != 6 || b.Link != file || len(b.Hash) != 64 {
		t.Errorf("got %+v", b)
	}
	list := as[struct {
		Blobs         []Blob
		Bytes         int64
		Pinned, Quota int64 `json:"-"`
		PinnedBytes   int64 `json:"pinned_bytes"`
		QuotaBytes    int64 `json:"quota_bytes"`
	}](t, n.send(200, "GET", "/api/v1/blobs", ""))
	if len(list.Blobs) != 1 || list.Blobs[0].Hash != b.Hash || list.Bytes != 0 || list.QuotaBytes != 64<<20 {
		t.Errorf("got %+v", list)
	}
	// What is here needs no network.
	if name, data := n.fetch(b.hash()).next(); name != "done" || !strings.Contains(data, fmt.Sprintf(`"path":%q`, file)) {
		t.Errorf("got %s %s", name, data)
	}
	n.send(404, "POST", "/api/v1/blobs", `{"path":"/nowhere"}`)
	n.send(404, "DELETE", "/api/v1/blobs/"+strings.Repeat("0", 64), "")
	n.send(503, "POST", "/api/v1/blobs/"+strings.Repeat("0", 64)+"/fetch", `{}`)
	n.send(400, "POST", "/api/v1/blobs/xyz/fetch", `{}`)
	n.send(204, "DELETE", "/api/v1/blobs/"+b.Hash[:8], "")
	n.send(404, "DELETE", "/api/v1/blobs/"+b.Hash, "")
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// A blob that is a range of a file has no file of its own: who fetches it is told where in which file it is.
func TestABlobThatIsARangeIsFoundInItsFile(t *testing.T) {
	blobs, file := blobStore(t)
	m, err := blobs.LinkRange(t.Context(), file, 1<<20+5, 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, func(c *Config) { c.Network = Network{Blobs: blobs} })
	name, data := n.fetch(m.Blob).next()
	if name != "done" {
		t.Fatalf("got %s %s", name, data)
	}
	b := as[FetchedBlob](t, reply{body: []byte(data)})
	if b.Path != file || b.Link != file || b.Offset != 1<<20+5 || b.Size != 2<<20 {
		t.Errorf("got %+v", b)
	}
	if err := os.WriteFile(file, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.send(503, "POST", "/api/v1/blobs/"+b.Hash+"/fetch", `{}`) // it is gone with what the file was
}

func TestABlobComesFromAPeer(t *testing.T) {
	theirs, file := blobStore(t)
	m, err := theirs.Link(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := blobStore(t)
	net := p2ptest.New(t, 1, p2ptest.Faults{})
	var files *transfer.Service
	own := net.Node(0, p2p.Config{Policy: p2p.PolicyOpen}, func(n *p2p.Node) { files = transfer.New(transfer.Config{Node: n, Store: ours}) })
	net.Node(1, p2p.Config{Policy: p2p.PolicyOpen}, func(n *p2p.Node) { transfer.New(transfer.Config{Node: n, Store: theirs}) })
	n := start(t, func(c *Config) {
		c.Network = Network{
			Node: own, ID: own.ID(), Blobs: ours,
			Fetch: func(ctx context.Context, hash wire.Hash, wait time.Duration, progress func(have, of int)) error {
				return files.Fetch(ctx, hash, transfer.Options{Wait: wait, Progress: progress})
			},
		}
	})
	if name, data := n.fetch(m.Blob).next(); name != "failed" || !strings.Contains(data, "not_found") {
		t.Errorf("got %s %s, want that nobody has it", name, data)
	}
	n.join(1)
	v := n.fetch(m.Blob)
	steps, last, data := 0, "", ""
	for name, d := v.next(); name != ""; name, d = v.next() {
		last, data = name, d
		if name == "progress" {
			steps++
		}
	}
	got := as[FetchedBlob](t, reply{body: []byte(data)})
	if last != "done" || steps == 0 || !got.Complete || got.Link != "" || got.Path != filepath.Join(ours.Dir, m.Blob.String()) {
		t.Errorf("got %d steps and %s %s", steps, last, data)
	}
	want, _ := os.ReadFile(file)
	if have, err := os.ReadFile(got.Path); err != nil || string(have) != string(want) {
		t.Errorf("got %d bytes, want %d (%v)", len(have), len(want), err)
	}
	if got := n.do(n.request(http.MethodPost, "/api/v1/blobs/"+strings.Repeat("1", 64)+"/fetch", strings.NewReader(`{"wait_s":-1}`))); got.status != 400 {
		t.Errorf("got %d, want 400", got.status)
	}
}
