package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/transfer"
	"github.com/centram/centram/p2p/wire"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is a node with blobs. All nodes of these tests have an open policy but where a test says otherwise.
type place struct {
	*p2ptest.Node
	*transfer.Service
	store *blob.Store
	stop  func()
}

func start(t *testing.T, net *p2ptest.Net, i int, dir string, cfg p2p.Config, tcfg transfer.Config) *place {
	t.Helper()
	store, err := blob.New(blob.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	p := &place{store: store}
	if cfg.Policy == "" {
		cfg.Policy = p2p.PolicyOpen
	}
	p.Node = net.Node(i, cfg, func(n *p2p.Node) {
		tcfg.Node, tcfg.Store = n, store
		p.Service = transfer.New(tcfg)
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Service.Run(ctx) }()
	p.stop = func() { cancel(); <-done }
	t.Cleanup(p.stop)
	return p
}

func dial(to ...int) p2p.Config {
	cfg := p2p.Config{}
	for _, i := range to {
		cfg.Peers = append(cfg.Peers, p2ptest.Addr(i).String())
	}
	return cfg
}

// data is n bytes that do not compress and are the same in every run.
func data(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b)
	return b
}

func put(t *testing.T, p *place, b []byte) wire.Hash {
	t.Helper()
	m, err := p.store.Put(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return m.Blob
}

func holds(t *testing.T, p *place, h wire.Hash, want []byte) {
	t.Helper()
	path, err := p.store.Path(h)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes %v, want the %d of the blob", len(got), err, len(want))
	}
}

func TestABlobComesFromSeveralPeersAndEachGetsAReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 2 * time.Millisecond})
		var receipts [4]atomic.Uint64
		var sources []*place
		want := data(1, 20<<20+17)
		var h wire.Hash
		for i := 1; i <= 3; i++ {
			p := start(t, net, i, t.TempDir(), p2p.Config{Upload: 4 << 20}, transfer.Config{
				Receipt: func(_ wire.Record, _ centram.PeerID, d *wire.TransferDone) { receipts[i].Add(d.Bytes) },
			})
			h = put(t, p, want)
			sources = append(sources, p)
		}
		me := start(t, net, 4, t.TempDir(), dial(1, 2, 3), transfer.Config{})
		p2ptest.Eventually(t, 10*time.Second, "three sessions", func() bool { return len(me.Peers()) == len(sources) })
		last := 0
		if err := me.Fetch(t.Context(), h, transfer.Options{Progress: func(have, of int) {
			if have < last || of != 21 {
				t.Errorf("progress %d of %d after %d", have, of, last)
			}
			last = have
		}}); err != nil {
			t.Fatal(err)
		}
		holds(t, me, h, want)
		time.Sleep(time.Second)
		sum := uint64(0)
		for i := 1; i <= 3; i++ {
			if receipts[i].Load() == 0 {
				t.Errorf("node %d has no receipt", i)
			}
			sum += receipts[i].Load()
		}
		if sum < uint64(len(want)) || sum > uint64(len(want))*5/4 {
			t.Errorf("%d bytes in the receipts, want %d and little more", sum, len(want))
		}
	})
}

func TestAFetchWaitsForAPeerAndGoesOnAfterLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 20 * time.Millisecond})
		want := data(2, 30<<20)
		dir := t.TempDir()
		me := start(t, net, 2, t.TempDir(), dial(1), transfer.Config{})
		h := wire.Hash(sha256.Sum256(want))
		if err := me.Fetch(t.Context(), h, transfer.Options{}); centram.CodeOf(err) != centram.NotFound {
			t.Fatalf("with nobody there: got %v, want not found", err)
		}
		fetched := make(chan error, 1)
		go func() { fetched <- me.Fetch(t.Context(), h, transfer.Options{Wait: 5 * time.Minute}) }()
		from := start(t, net, 1, dir, p2p.Config{}, transfer.Config{})
		put(t, from, want)
		for range 3 {
			time.Sleep(1500 * time.Millisecond)
			from.Kill()
			from.stop()
			from = start(t, net, 1, dir, p2p.Config{}, transfer.Config{})
		}
		if err := <-fetched; err != nil {
			t.Fatal(err)
		}
		holds(t, me, h, want)
	})
}

func TestWhoFetchesGivesToOthersAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 20 * time.Millisecond})
		want := data(3, 16<<20)
		first := start(t, net, 1, t.TempDir(), p2p.Config{Upload: 2 << 20}, transfer.Config{})
		h := put(t, first, want)
		a := start(t, net, 2, t.TempDir(), dial(1), transfer.Config{})
		b := start(t, net, 3, t.TempDir(), dial(1, 2), transfer.Config{})
		p2ptest.Eventually(t, 10*time.Second, "all sessions", func() bool { return len(b.Peers()) == 2 && len(a.Peers()) == 2 })
		began := time.Now()
		errs := make(chan error, 2)
		for _, p := range []*place{a, b} {
			go func() { errs <- p.Fetch(t.Context(), h, transfer.Options{Wait: time.Minute}) }()
		}
		if err := errors.Join(<-errs, <-errs); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		holds(t, a, h, want)
		holds(t, b, h, want)
		// Alone, the first would need 16 s for two copies at 2 MiB/s.
		if took > 14*time.Second {
			t.Errorf("took %v, want well under 16 s: nothing went between the two who fetched", took)
		}
	})
}

func TestStrangersGetNoBlobUnlessThePolicyIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		from := start(t, net, 1, t.TempDir(), p2p.Config{Policy: p2p.PolicyPaired}, transfer.Config{})
		want := data(4, 3<<20)
		h := put(t, from, want)
		me := start(t, net, 2, t.TempDir(), dial(1), transfer.Config{})
		p2ptest.Eventually(t, 10*time.Second, "a session", func() bool { return len(me.Peers()) == 1 })
		if err := me.Fetch(t.Context(), h, transfer.Options{}); centram.CodeOf(err) != centram.Forbidden {
			t.Fatalf("as a stranger: got %v, want forbidden", err)
		}
		if err := me.PairWithCode(t.Context(), from.ID(), from.ShowCode().Code); err != nil {
			t.Fatal(err)
		}
		if err := me.Fetch(t.Context(), h, transfer.Options{}); err != nil {
			t.Fatalf("as a friend: %v", err)
		}
		holds(t, me, h, want)
	})
}

func TestAnOfferIsFetchedIfItIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		me := start(t, net, 2, t.TempDir(), p2p.Config{}, transfer.Config{
			Wanted: func(_ context.Context, _ *p2p.Peer, o *wire.TransferOffer) error {
				if o.Kind != "genome" {
					return centram.Errorf(centram.Forbidden, "only genomes are taken")
				}
				return nil
			},
		})
		from := start(t, net, 1, t.TempDir(), dial(2), transfer.Config{})
		want := data(5, 2<<20)
		h := put(t, from, want)
		p2ptest.Eventually(t, 10*time.Second, "a session", func() bool { return len(from.Peers()) == 1 })
		p := from.Peer(me.ID())
		if err := from.Offer(t.Context(), p, h, "model", "x"); centram.CodeOf(err) != centram.Forbidden {
			t.Errorf("not wanted: got %v, want forbidden", err)
		}
		if err := from.Offer(t.Context(), p, h, "genome", "x"); err != nil {
			t.Fatal(err)
		}
		p2ptest.Eventually(t, 10*time.Second, "the blob", func() bool { return me.store.Have(h).Complete })
		holds(t, me, h, want)
		if err := me.Offer(t.Context(), me.Peer(from.ID()), h, "genome", "x"); centram.CodeOf(err) != centram.Forbidden {
			t.Errorf("where nothing is wanted: got %v, want forbidden", err)
		}
	})
}

// TestAPeerThatSendsWrongChunksIsLeft has one liar among three: the blob is right, and the liar is known. It is dialled again
// at once, so that it is for but a moment that there is no session with it; nothing more is asked of it in the next one.
func TestAPeerThatSendsWrongChunksIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 2 * time.Millisecond})
		want := data(6, 12<<20)
		good := start(t, net, 1, t.TempDir(), p2p.Config{Upload: 4 << 20}, transfer.Config{})
		h := put(t, good, want)
		m, err := good.store.Manifest(h)
		if err != nil {
			t.Fatal(err)
		}
		var lies atomic.Int32
		liar := net.Node(2, p2p.Config{Policy: p2p.PolicyOpen}, func(n *p2p.Node) {
			p2p.Answer(n.Mux(), func(ctx context.Context, p *p2p.Peer, _ *wire.ManifestGet) (*wire.Manifest, error) {
				return m, p.Tell(ctx, &wire.HaveMap{Blob: h, Complete: true})
			})
			p2p.Serve(n.Mux(), func(ctx context.Context, _ *p2p.Peer, q *wire.ChunkGet, x *p2p.Exchange) error {
				lies.Add(1)
				for {
					if err := x.SendMore(ctx, &wire.ChunkData{Index: q.Ranges[0].First, Data: make([]byte, 1<<20)}); err != nil {
						return err
					}
					next, err := x.Receive(ctx)
					if err != nil {
						return err
					}
					q = next.(*wire.ChunkGet)
				}
			})
		})
		me := start(t, net, 3, t.TempDir(), dial(1, 2), transfer.Config{})
		p2ptest.Eventually(t, 10*time.Second, "two sessions", func() bool { return len(me.Peers()) == 2 })
		id, err := transfer.ManifestHash(m)
		if err != nil {
			t.Fatal(err)
		}
		honest, lying := me.Peer(good.ID()), me.Peer(liar.ID())
		fetched := make(chan error, 1)
		go func() { fetched <- me.Fetch(t.Context(), h, transfer.Options{Manifest: id}) }()
		select {
		case <-lying.Done():
		case <-time.After(2 * time.Second):
			t.Fatal("the liar is not cut off")
		}
		if err := <-fetched; err != nil {
			t.Fatal(err)
		}
		holds(t, me, h, want)
		if me.Peer(liar.ID()) == nil || lies.Load() != 1 {
			t.Errorf("the liar was asked %d times, want once though it is back", lies.Load())
		}
		if me.Peer(good.ID()) != honest {
			t.Error("the honest source has lost its session")
		}
	})
}

// TestRangesOfAFileGoFromSliceToSlice has tensors of one node's file fetched by another, which puts them in a file of its own
// and gives them to a third out of that.
func TestRangesOfAFileGoFromSliceToSlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
		model := data(7, 8<<20)
		ranges := []blob.Range{{Offset: 5, Length: 3<<20 + 1}, {Offset: 4<<20 - 7, Length: 100}, {Offset: 5<<20 + 3, Length: 2 << 20}}
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := os.WriteFile(path, model, 0o600); err != nil {
			t.Fatal(err)
		}
		owner := start(t, net, 1, t.TempDir(), p2p.Config{}, transfer.Config{})
		list, err := owner.store.LinkRanges(t.Context(), path, ranges, nil)
		if err != nil {
			t.Fatal(err)
		}
		me := start(t, net, 2, t.TempDir(), dial(1), transfer.Config{})
		p2ptest.Eventually(t, 10*time.Second, "a session", func() bool { return len(me.Peers()) == 1 })
		slice := []byte("head")
		at := map[wire.Hash]int64{}
		for i, m := range list {
			if err := me.Fetch(t.Context(), m.Blob, transfer.Options{}); err != nil {
				t.Fatal(err)
			}
			r := ranges[i]
			reads(t, me, m.Blob, model[r.Offset:][:r.Length])
			at[m.Blob] = int64(len(slice))
			slice = append(slice, model[r.Offset:][:r.Length]...)
		}
		path = filepath.Join(t.TempDir(), "slice.gguf")
		if err := os.WriteFile(path, slice, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := me.store.Replace(t.Context(), path, at, nil); err != nil {
			t.Fatal(err)
		}
		if u := me.store.Usage(); u.Bytes != 0 {
			t.Errorf("%d bytes are used beside the slice, want 0", u.Bytes)
		}
		owner.Kill()
		owner.stop()
		third := start(t, net, 3, t.TempDir(), dial(2), transfer.Config{})
		p2ptest.Eventually(t, 10*time.Second, "a session with the second", func() bool { return third.Peer(me.ID()) != nil })
		for i, m := range list {
			if err := third.Fetch(t.Context(), m.Blob, transfer.Options{}); err != nil {
				t.Fatal(err)
			}
			holds(t, third, m.Blob, model[ranges[i].Offset:][:ranges[i].Length])
		}
	})
}

// tensors links n ranges of a file, which share nothing. Every tenth has more than a chunk.
func tensors(t *testing.T, p *place, n int) []*wire.Manifest {
	t.Helper()
	var ranges []blob.Range
	end := int64(0)
	for i := range n {
		r := blob.Range{Offset: end, Length: 3000}
		if i%10 == 0 {
			r.Length = wire.ChunkSize + 1
		}
		ranges = append(ranges, r)
		end += r.Length
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, data(8, int(end)), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := p.store.LinkRanges(t.Context(), path, ranges, nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestAllTensorsOfAModelComeFromOnePeer has many blobs fetched in one session: a few at a time, and more at once than the
// peer serves. None is to be waited for longer than the others are in its way.
func TestAllTensorsOfAModelComeFromOnePeer(t *testing.T) {
	for name, atOnce := range map[string]int{"a few at a time": 4, "all at once": 300} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := p2ptest.New(t, 1, p2ptest.Faults{Latency: time.Millisecond})
				owner := start(t, net, 1, t.TempDir(), p2p.Config{Upload: 8 << 20}, transfer.Config{})
				list := tensors(t, owner, 300)
				me := start(t, net, 2, t.TempDir(), dial(1), transfer.Config{})
				p2ptest.Eventually(t, 10*time.Second, "a session", func() bool { return len(me.Peers()) == 1 })
				began := time.Now()
				var g errgroup.Group
				g.SetLimit(atOnce)
				for i, m := range list {
					g.Go(func() error {
						if err := me.Fetch(t.Context(), m.Blob, transfer.Options{}); err != nil {
							return fmt.Errorf("tensor %d: %w", i, err)
						}
						return nil
					})
				}
				if err := g.Wait(); err != nil {
					t.Fatal(err)
				}
				// At 8 MiB/s the 31 MB take 3.7 s.
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("took %v, want 4 s and little more", took)
				}
				for _, m := range list {
					if !me.store.Have(m.Blob).Complete {
						t.Errorf("%s is not here", m.Blob)
					}
				}
			})
		})
	}
}

// TestAPeerIsAskedOnceForABlob counts what a fetch asks of a peer that has all of the blob.
func TestAPeerIsAskedOnceForABlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := p2ptest.New(t, 1, p2ptest.Faults{Latency: 20 * time.Millisecond})
		want := data(9, 3<<20)
		me := start(t, net, 2, t.TempDir(), dial(1), transfer.Config{})
		store, err := blob.New(blob.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		m, err := store.Put(t.Context(), bytes.NewReader(want), int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		var manifests, streams, chunks atomic.Int32
		net.Node(1, p2p.Config{Policy: p2p.PolicyOpen}, func(n *p2p.Node) {
			p2p.Answer(n.Mux(), func(ctx context.Context, p *p2p.Peer, _ *wire.ManifestGet) (*wire.Manifest, error) {
				manifests.Add(1)
				return m, p.Tell(ctx, &wire.HaveMap{Blob: m.Blob, Complete: true})
			})
			p2p.Serve(n.Mux(), func(ctx context.Context, _ *p2p.Peer, q *wire.ChunkGet, x *p2p.Exchange) error {
				streams.Add(1)
				for {
					i := q.Ranges[0].First
					chunks.Add(1)
					if err := x.SendMore(ctx, &wire.ChunkData{Index: i, Data: want[i<<20:][:1<<20]}); err != nil {
						return err
					}
					next, err := x.Receive(ctx)
					if err != nil {
						return err
					}
					q = next.(*wire.ChunkGet)
				}
			})
		})
		p2ptest.Eventually(t, 10*time.Second, "a session", func() bool { return len(me.Peers()) == 1 })
		if err := me.Fetch(t.Context(), m.Blob, transfer.Options{}); err != nil {
			t.Fatal(err)
		}
		if manifests.Load() != 1 || streams.Load() != 1 || chunks.Load() != 3 {
			t.Errorf("%d manifests, %d streams and %d chunks, want 1, 1 and 3", manifests.Load(), streams.Load(), chunks.Load())
		}
	})
}

// reads compares a blob, wherever it lies, with what it should be.
func reads(t *testing.T, p *place, h wire.Hash, want []byte) {
	t.Helper()
	f, err := p.store.Open(h)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes %v, want the %d of the blob", len(got), err, len(want))
	}
}
