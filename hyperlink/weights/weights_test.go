package weights_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/hyperlink/weights"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/transfer"
	"github.com/centram/centram/p2p/wire"
)

// machine is a node on the loopback interface with blobs and layers.
type machine struct {
	*p2p.Node
	blobs  *blob.Store
	layers *weights.Store
	dir    string
	given  atomic.Uint64 // bytes of blobs, by the receipts of who got them
}

// machines starts n of them, each connected to all before it.
func machines(t *testing.T, n int) []*machine {
	t.Helper()
	var all []*machine
	var peers []string
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); wg.Wait() })
	for i := range n {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize))
		node, err := p2p.New(t.Context(), p2p.Config{
			Key: key, Listen: "127.0.0.1:0", Quiet: true, Policy: p2p.PolicyOpen, Peers: append([]string(nil), peers...), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, fmt.Sprint("127.0.0.1:", node.Port()))
		m := &machine{Node: node, dir: t.TempDir()}
		if m.blobs, err = blob.New(blob.Config{Dir: filepath.Join(m.dir, "blobs")}); err != nil {
			t.Fatal(err)
		}
		files := transfer.New(transfer.Config{Node: node, Store: m.blobs, Log: slog.New(slog.DiscardHandler), Receipt: func(_ wire.Record, _ centram.PeerID, d *wire.TransferDone) {
			m.given.Add(d.Bytes)
		}})
		m.layers, err = weights.New(weights.Config{
			Blobs: m.blobs, Dir: filepath.Join(m.dir, "layers"),
			Fetch: func(ctx context.Context, b wire.Hash) error {
				return files.Fetch(ctx, b, transfer.Options{Wait: 5 * time.Second})
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = node.Run(ctx) })
		wg.Go(func() { _ = files.Run(ctx) })
		all = append(all, m)
	}
	for i, m := range all {
		for _, o := range all[:i] {
			p2ptest.Eventually(t, 10*time.Second, "a session", func() bool { return m.Peer(o.ID()) != nil })
		}
	}
	return all
}

func model(t *testing.T, s gguf.Shape) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Generate(f, s, 1); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAMachineFetchesTheWeightsOfItsLayersAndNoMore(t *testing.T) {
	shape := gguf.Toy()
	shape.Layers, shape.Embedding, shape.FeedForward, shape.Type = 8, 256, 1024, gguf.Q8_0
	path := model(t, shape)
	all := machines(t, 3)
	owner, second, third := all[0], all[1], all[2]
	published, err := owner.layers.Publish(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := gguf.OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	for _, r := range []centram.LayerRange{{First: 2, End: 5}, {First: 5, End: 8}} {
		id, err := published.Recipe(t.Context(), gguf.Share{Layers: r})
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := gguf.Slice(&want, whole, gguf.Share{Layers: r}); err != nil {
			t.Fatal(err)
		}
		before := owner.given.Load()
		file, err := second.layers.Slice(t.Context(), id, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond) // for the last receipt
		travelled := owner.given.Load() - before
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("layers %v: the file differs from the slice of the whole", r)
		}
		if ratio := float64(travelled) / float64(len(got)); ratio < 0.9 || ratio > 1.02 { // and QUIC adds three hundredths
			t.Errorf("layers %v: %d bytes travelled for a file of %d: %.3f, want at most 1.02", r, travelled, len(got), ratio)
		} else {
			t.Logf("layers %v: %.3f of the file travelled", r, ratio)
		}
		if again, err := second.layers.Slice(t.Context(), id, nil); err != nil || again != file {
			t.Errorf("the second time: got %s, %v, want %s", again, err, file)
		}
	}
	// The owner leaves; the second machine gives the layers that it has fetched from its own files.
	id, err := published.Recipe(t.Context(), gguf.Share{Layers: centram.LayerRange{First: 2, End: 5}})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range second.blobs.List() {
		if i.Size > 1<<16 && i.Link == "" {
			t.Errorf("the blob %v of %d bytes takes the disk twice", i.Blob, i.Size)
		}
	}
	owner.Peer(third.ID()).End(wire.ShuttingDown)
	p2ptest.Eventually(t, 10*time.Second, "a session", func() bool { return third.Peer(second.ID()) != nil })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := third.layers.Slice(t.Context(), id, nil); err != nil {
		t.Errorf("from the second machine alone: %v", err)
	}
}

func TestWeightsThatNobodyHasAreAnError(t *testing.T) {
	all := machines(t, 2)
	_, err := all[0].layers.Slice(t.Context(), wire.Hash{1}, nil)
	if got := centram.CodeOf(err); got != centram.NotFound {
		t.Errorf("got %v (%v), want %v", got, err, centram.NotFound)
	}
	if left, _ := filepath.Glob(filepath.Join(all[0].dir, "layers", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
