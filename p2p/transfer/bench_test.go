package transfer_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/transfer"
	"golang.org/x/sync/errgroup"
)

// BenchmarkFetch brings the same bytes from node to node over the loopback: as one blob, and as the 300 that the tensors of a
// model are, of 100 KB to 3 MB.
func BenchmarkFetch(b *testing.B) {
	const blobs = 300
	random := rand.New(rand.NewPCG(1, 1))
	var ranges []blob.Range
	end := int64(0)
	for range blobs {
		n := 100_000 + random.Int64N(2_900_000)
		ranges = append(ranges, blob.Range{Offset: end, Length: n})
		end += n
	}
	path := filepath.Join(b.TempDir(), "model.gguf")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	fill := rand.NewChaCha8([32]byte{9})
	buf := make([]byte, 1<<20)
	for at := int64(0); at < end; at += int64(len(buf)) {
		_, _ = fill.Read(buf)
		if _, err := f.Write(buf[:min(int64(len(buf)), end-at)]); err != nil {
			b.Fatal(err)
		}
	}
	for _, row := range []struct {
		name   string
		ranges []blob.Range
	}{
		{"one", []blob.Range{{Offset: 0, Length: end}}},
		{"many", ranges},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.SetBytes(end)
			for range b.N {
				b.StopTimer()
				from, to := freeUDP(b), freeUDP(b)
				owner := listen(b, 1, from)
				list, err := owner.store.LinkRanges(b.Context(), path, row.ranges, nil)
				if err != nil {
					b.Fatal(err)
				}
				me := listen(b, 2, to, from)
				p2ptest.Eventually(b, 10*time.Second, "a session", func() bool { return len(me.Peers()) == 1 })
				b.StartTimer()
				var g errgroup.Group
				g.SetLimit(8)
				for _, m := range list {
					g.Go(func() error { return me.Fetch(b.Context(), m.Blob, transfer.Options{}) })
				}
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				me.stop()
				owner.stop()
				b.StartTimer()
			}
		})
	}
}

// listening is a node of this machine's network.
type listening struct {
	*p2p.Node
	*transfer.Service
	store *blob.Store
	stop  func()
}

func listen(b *testing.B, i int, at string, peers ...string) *listening {
	b.Helper()
	store, err := blob.New(blob.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n, err := p2p.New(ctx, p2p.Config{
		Key: p2ptest.Key(i), Listen: at, Peers: peers, Quiet: true, Policy: p2p.PolicyOpen, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	l := &listening{Node: n, Service: transfer.New(transfer.Config{Node: n, Store: store}), store: store}
	var g errgroup.Group
	g.Go(func() error { return l.Node.Run(ctx) })
	g.Go(func() error { return l.Service.Run(ctx) })
	l.stop = func() { cancel(); _ = g.Wait() }
	b.Cleanup(l.stop)
	return l
}
