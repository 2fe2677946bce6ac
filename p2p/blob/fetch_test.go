package blob

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

func mustFetch(t testing.TB, cfg FetchConfig) *Result {
	t.Helper()
	r, err := Fetch(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFetchBringsABlobOfAnySize(t *testing.T) {
	for _, n := range []int{0, 1, mib, mib + 1, 7*mib + 5} {
		s := open(t, t.TempDir())
		b := content(n)
		src := &remote{name: 1, content: b}
		r := mustFetch(t, FetchConfig{Store: s, Manifest: manifestOf(b), Sources: of(src)})
		wantBlob(t, s, b)
		if len(src.asks()) != int(manifestOf(b).Count()) {
			t.Errorf("asked for %v, want each chunk once", src.asks())
		}
		if done := r.Receipts; n > 0 && (len(done) != 1 || done[0].Bytes != uint64(n) || !done[0].Whole || len(done[0].Bad) > 0) {
			t.Errorf("receipts %+v, want %d bytes", done, n)
		}
		r = mustFetch(t, FetchConfig{Store: s, Manifest: manifestOf(b), Sources: of()})
		if len(r.Receipts) > 0 {
			t.Errorf("receipts %+v for a blob that was here", r.Receipts)
		}
	}
}

func TestFetchUsesAllSourcesAndAsksForNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(32 * mib)
		m := manifestOf(b)
		p := begin(t, s, m)
		write(t, p, b, 0, 5, 31)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		odd := []uint32{}
		for i := range uint32(16) {
			odd = append(odd, 2*i+1)
		}
		sources := []*remote{
			{name: 1, content: b, pace: 100 * time.Millisecond},
			{name: 2, content: b, pace: 100 * time.Millisecond},
			{name: 3, content: b, pace: 100 * time.Millisecond, has: odd},
		}
		var told []int
		r := mustFetch(t, FetchConfig{
			Store: s, Manifest: m, Sources: of(sources[0], sources[1], sources[2]),
			Progress: func(have, of int) { told = append(told, have) },
		})
		wantBlob(t, s, b)
		times := map[uint32]int{}
		for _, src := range sources {
			if n := len(src.asks()); n < 5 {
				t.Errorf("source %d was asked for %d chunks, want a good share", src.name, n)
			}
			if done := receiptOf(t, r, src.name); done.Bytes != uint64(len(src.asks()))*mib || done.TimeMs <= 0 {
				t.Errorf("receipt %+v for %d chunks", done, len(src.asks()))
			}
			for _, i := range src.asks() {
				times[i]++
			}
		}
		for i := range uint32(32) {
			if want := 1; i == 0 || i == 5 || i == 31 {
				if times[i] != 0 {
					t.Errorf("chunk %d, which is there, was asked for", i)
				}
			} else if times[i] != want {
				t.Errorf("chunk %d was asked for %d times", i, times[i])
			}
		}
		if !slices.IsSorted(told) || len(told) != 29 || told[28] != 32 {
			t.Errorf("told of %v, want 4 to 32", told)
		}
	})
}

func TestASourceThatSendsAWrongChunkIsLeftAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(20 * mib)
		liar := &remote{name: 6, content: b, pace: time.Millisecond}
		liar.answer = func(_ context.Context, i uint32) (Answer, error) {
			if len(liar.asks()) == 3 {
				return Answer{Index: i, Data: make([]byte, mib)}, nil
			}
			return Answer{Index: i, Data: chunkOf(b, i)}, nil
		}
		sources := make(chan Source, 3)
		sources <- liar
		sources <- &remote{name: 1, content: b, pace: 50 * time.Millisecond}
		go func() {
			time.Sleep(200 * time.Millisecond)
			sources <- liar // it tries again
			close(sources)
		}()
		r := mustFetch(t, FetchConfig{Store: s, Manifest: manifestOf(b), Sources: sources})
		wantBlob(t, s, b)
		asked := liar.asks()
		if done := receiptOf(t, r, 6); !slices.Equal(done.Bad, asked[2:3]) || done.Bytes != 2*mib || len(asked) != 3 {
			t.Errorf("receipt %+v after asks for %v, want two good chunks and one bad", done, asked)
		}
		bad, ok := errors.AsType[*BadChunk](r.Lost[centram.PeerID{6}])
		if !ok || bad.Index != asked[2] {
			t.Errorf("it was left because of %v, want its bad chunk", r.Lost[centram.PeerID{6}])
		}
	})
}

func TestASourceThatHasLessThanItSaysDoesNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(12 * mib)
		liar := &remote{name: 1, content: b, answer: func(_ context.Context, i uint32) (Answer, error) {
			return Answer{Index: i, Reject: wire.RejectMissing}, nil
		}}
		mustFetch(t, FetchConfig{
			Store: s, Manifest: manifestOf(b), Sources: of(liar, &remote{name: 2, content: b, pace: 100 * time.Millisecond}),
		})
		wantBlob(t, s, b)
		if n := len(liar.asks()); n > 12 {
			t.Errorf("it was asked %d times, want once a chunk", n)
		}
	})
}

func TestFetchEndsWhenNobodyHasWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(4 * mib)
		begun := time.Now()
		r, err := Fetch(t.Context(), FetchConfig{
			Store: s, Manifest: manifestOf(b), Sources: of(&remote{name: 1, content: b, has: []uint32{0, 2, 3}}), Linger: time.Minute,
		})
		wantCode(t, err, centram.Unavailable)
		e, _ := errors.AsType[*centram.Error](err)
		if e.Hint == "" || e.Details["have"] != 3 || e.Details["of"] != 4 {
			t.Errorf("error %+v does not say that 3 of 4 chunks are here", e)
		}
		if took := time.Since(begun); took < time.Minute || took > 61*time.Second {
			t.Errorf("it took %v, want the minute that it may linger", took)
		}
		if done := receiptOf(t, r, 1); done.Bytes != 3*mib || done.Whole {
			t.Errorf("receipt %+v, want 3 MiB of a blob that is not whole", done)
		}
		if got := chunks(s.Have(manifestOf(b).Blob).Bits); !slices.Equal(got, []uint32{0, 2, 3}) {
			t.Errorf("have chunks %v, want 0, 2 and 3", got)
		}
	})
}

func TestASourceThatGetsChunksIsAskedForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin, s := open(t, t.TempDir()), open(t, t.TempDir())
		b := content(4 * mib)
		m := manifestOf(b)
		p := begin(t, origin, m)
		write(t, p, b, 1)
		go func() {
			for _, i := range []uint32{0, 2, 3} {
				time.Sleep(10 * time.Second)
				p.Write(i, chunkOf(b, i))
			}
		}()
		mustFetch(t, FetchConfig{Store: s, Manifest: m, Sources: of(&stored{origin, m.Blob})})
		wantBlob(t, s, b)
	})
}

// stored is a source that reads from a Store.
type stored struct {
	*Store
	blob wire.Hash
}

func (s *stored) ID() centram.PeerID { return centram.PeerID{42} }
func (s *stored) Have() wire.HaveMap { return s.Store.Have(s.blob) }

func (s *stored) Chunks(ctx context.Context, asks <-chan wire.ChunkRange, got func(Answer) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-asks:
			for i := range r.Count {
				data, err := s.ReadChunk(s.blob, r.First+i, nil)
				if err != nil {
					return err
				}
				if err := got(Answer{Index: r.First + i, Data: data}); err != nil {
					return err
				}
			}
		}
	}
}

func TestASlowSourceDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(30 * mib)
		slow := &remote{name: 1, content: b, pace: 8 * time.Second}
		begun := time.Now()
		r := mustFetch(t, FetchConfig{
			Store: s, Manifest: manifestOf(b), Sources: of(slow, &remote{name: 2, content: b, pace: 20 * time.Millisecond}),
		})
		wantBlob(t, s, b)
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %v, want little more than the fast source needs", took)
		}
		if r.Lost[slow.ID()] != nil {
			t.Errorf("the slow source was left: %v", r.Lost[slow.ID()])
		}
	})
}

func TestASilentSourceIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(8 * mib)
		mute := &remote{name: 1, content: b, pace: time.Hour}
		other := &remote{name: 2, content: b, pace: 9 * time.Second}
		begun := time.Now()
		r := mustFetch(t, FetchConfig{Store: s, Manifest: manifestOf(b), Sources: of(mute, other)})
		if took := time.Since(begun); took > 80*time.Second {
			t.Errorf("it took %v, want what the other source needs for 8 chunks", took)
		}
		if r.Lost[mute.ID()] == nil || r.Lost[other.ID()] != nil {
			t.Errorf("lost %v, want the silent source", r.Lost)
		}
	})
}

func TestASourceMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(20 * mib)
		gone := errors.New("connection reset")
		leaver := &remote{name: 1, content: b, pace: 10 * time.Millisecond}
		leaver.answer = func(_ context.Context, i uint32) (Answer, error) {
			if len(leaver.asks()) > 4 {
				return Answer{}, gone
			}
			return Answer{Index: i, Data: chunkOf(b, i)}, nil
		}
		r := mustFetch(t, FetchConfig{
			Store: s, Manifest: manifestOf(b), Sources: of(leaver, &remote{name: 2, content: b, pace: 30 * time.Millisecond}),
		})
		wantBlob(t, s, b)
		if err := r.Lost[leaver.ID()]; !errors.Is(err, gone) {
			t.Errorf("it was left because of %v, want %v", err, gone)
		}
	})
}

func TestFetchGoesOnWhenASourceReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(6 * mib)
		leaver := &remote{name: 1, content: b}
		leaver.answer = func(_ context.Context, i uint32) (Answer, error) {
			if n := len(leaver.asks()); n == 3 {
				return Answer{}, errors.New("connection reset")
			}
			return Answer{Index: i, Data: chunkOf(b, i)}, nil
		}
		sources := make(chan Source)
		go func() {
			sources <- leaver
			time.Sleep(29 * time.Second)
			sources <- leaver
		}()
		r := mustFetch(t, FetchConfig{Store: s, Manifest: manifestOf(b), Sources: sources})
		wantBlob(t, s, b)
		if done := receiptOf(t, r, 1); done.Bytes != 6*mib || len(r.Receipts) != 1 || len(r.Lost) > 0 {
			t.Errorf("result %+v, want one receipt for all", r)
		}
		if n := len(leaver.asks()); n != 7 {
			t.Errorf("asked for %d chunks, want 6 and the one that was lost", n)
		}
	})
}

func TestASecondFetchGoesOnWhereTheFirstWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := content(6 * mib)
		m := manifestOf(b)
		_, err := Fetch(t.Context(), FetchConfig{
			Store: open(t, dir), Manifest: m, Sources: of(&remote{name: 1, content: b, answer: func(_ context.Context, i uint32) (Answer, error) {
				if i == 4 {
					return Answer{}, errors.New("connection reset")
				}
				return Answer{Index: i, Data: chunkOf(b, i)}, nil
			}}),
		})
		wantCode(t, err, centram.Unavailable)
		src := &remote{name: 1, content: b}
		s := open(t, dir)
		mustFetch(t, FetchConfig{Store: s, Manifest: m, Sources: of(src)})
		if got := src.asks(); !slices.Equal(got, []uint32{4, 5}) {
			t.Errorf("asked for %v, want 4 and 5", got)
		}
		wantBlob(t, s, b)
	})
}

func TestAReconnectedSourceTakesThePlaceOfTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(6 * mib)
		begun := time.Now()
		old := &remote{name: 1, content: b, pace: time.Hour}
		r := mustFetch(t, FetchConfig{
			Store: s, Manifest: manifestOf(b), Sources: of(old, &remote{name: 1, content: b, pace: time.Millisecond}),
		})
		wantBlob(t, s, b)
		if len(r.Receipts) != 1 || r.Receipts[0].Bytes != 6*mib || len(r.Lost) > 0 {
			t.Errorf("result %+v, want one receipt for all", r)
		}
		if took := old.left.Sub(begun); took > 0 {
			t.Errorf("the old one was left after %v, want at once", took)
		}
	})
}

func TestTwoFetchesOfOneBlobTransferItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(8 * mib)
		m := manifestOf(b)
		src := [2]*remote{{name: 1, content: b, pace: time.Second}, {name: 2, content: b, pace: time.Second}}
		errs := make(chan error)
		for _, src := range src {
			go func() {
				_, err := Fetch(t.Context(), FetchConfig{Store: s, Manifest: m, Sources: of(src)})
				errs <- err
			}()
		}
		if err := errors.Join(<-errs, <-errs); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, s, b)
		if n := len(src[0].asks()) + len(src[1].asks()); n != 8 {
			t.Errorf("%d chunks were transferred, want 8", n)
		}
	})
}

func TestASecondFetchTakesOverWhenTheFirstIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(8 * mib)
		m := manifestOf(b)
		ctx, stop := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		first := make(chan error)
		go func() {
			_, err := Fetch(ctx, FetchConfig{Store: s, Manifest: m, Sources: of(&remote{name: 1, content: b, pace: time.Second})})
			first <- err
		}()
		time.Sleep(3500 * time.Millisecond)
		second := make(chan error)
		src := &remote{name: 2, content: b}
		go func() {
			_, err := Fetch(t.Context(), FetchConfig{Store: s, Manifest: m, Sources: of(src)})
			second <- err
		}()
		synctest.Wait()
		stop(enough)
		if err := <-first; !errors.Is(err, enough) {
			t.Errorf("the first ends with %v, want %v", err, enough)
		}
		if err := <-second; err != nil {
			t.Fatal(err)
		}
		wantBlob(t, s, b)
		if got := src.asks(); !slices.Equal(got, []uint32{3, 4, 5, 6, 7}) {
			t.Errorf("the second asked for %v, want 3 to 7", got)
		}
	})
}

func TestABusySourceIsAskedAgainWhenItWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		b := content(2 * mib)
		src := &remote{name: 1, content: b}
		begun := time.Now()
		src.answer = func(_ context.Context, i uint32) (Answer, error) {
			if time.Since(begun) < 40*time.Second {
				return Answer{Index: i, Reject: wire.RejectBusy, Retry: 20 * time.Second}, nil
			}
			return Answer{Index: i, Data: chunkOf(b, i)}, nil
		}
		mustFetch(t, FetchConfig{Store: s, Manifest: manifestOf(b), Sources: of(src)})
		if n := len(src.asks()); n > 6 {
			t.Errorf("it was asked %d times in 40 s, want twice every 20 s", n)
		}
	})
}

func TestSourcesThatDoNotPlayByTheRulesAreLeft(t *testing.T) {
	for name, src := range map[string]struct {
		answer Answer
		want   centram.Code
	}{
		"wants to be paid":  {Answer{Index: 0, Reject: wire.RejectUnpaid}, centram.Forbidden},
		"was not asked":     {Answer{Index: 3, Data: chunkOf(content(4*mib), 3)}, centram.Internal},
		"no such chunk":     {Answer{Index: 1 << 30, Data: []byte{1}}, centram.Internal},
		"refuses unasked":   {Answer{Index: 3, Reject: wire.RejectBusy}, centram.Internal},
		"sends empty chunk": {Answer{Index: 0, Data: []byte{}}, centram.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			b := content(4 * mib)
			bad := &remote{name: 1, content: b, answer: func(context.Context, uint32) (Answer, error) { return src.answer, nil }}
			r, err := Fetch(t.Context(), FetchConfig{Store: s, Manifest: manifestOf(b), Sources: of(bad)})
			wantCode(t, err, centram.Unavailable)
			wantCode(t, r.Lost[bad.ID()], src.want)
			if done := receiptOf(t, r, 1); done.Bytes != 0 {
				t.Errorf("receipt %+v for nothing", done)
			}
		})
	}
}

func TestAFetchWithAManifestThatLiesDoesNotEndWell(t *testing.T) {
	s := open(t, t.TempDir())
	b := content(3 * mib)
	lie := lieOf(manifestOf(b), wire.Hash{1})
	src := &remote{name: 1, content: b}
	sources := make(chan Source, 1)
	sources <- &named{src, lie.Blob}
	close(sources)
	r, err := Fetch(t.Context(), FetchConfig{Store: s, Manifest: lie, Sources: sources})
	wantCode(t, err, centram.Unavailable)
	if bad := r.Receipts[0].Bad; !slices.Equal(bad, []uint32{2}) {
		t.Errorf("bad chunks %v, want the last", bad)
	}
	if s.Have(lie.Blob).Complete {
		t.Error("the blob is there")
	}
}

// named says that it has all of a blob, be it true or not.
type named struct {
	*remote
	blob wire.Hash
}

func (n *named) Have() wire.HaveMap { return wire.HaveMap{Blob: n.blob, Complete: true} }

func BenchmarkFetchFromLocalSources(b *testing.B) {
	const n = 256 * mib
	data := make([]byte, n)
	copy(data, content(mib))
	for i := range n / mib {
		copy(data[i*mib:], strconv.Itoa(i))
	}
	m := manifestOf(data)
	parent := "/dev/shm"
	if dir := os.Getenv("CENTRAM_BENCH_DIR"); dir != "" {
		parent = dir
	}
	if _, err := os.Stat(parent); err != nil {
		parent = b.TempDir()
	}
	b.SetBytes(n)
	for b.Loop() {
		dir, err := os.MkdirTemp(parent, "centram-blob-")
		if err != nil {
			b.Fatal(err)
		}
		var had atomic.Int64
		mustFetch(b, FetchConfig{
			Store: open(b, dir), Manifest: m,
			Sources:  of(&named{&remote{name: 1, content: data}, m.Blob}, &named{&remote{name: 2, content: data}, m.Blob}),
			Progress: func(have, _ int) { had.Store(int64(have)) },
		})
		if had.Load() != n/mib {
			b.Fatalf("%d chunks came, want %d", had.Load(), n/mib)
		}
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
}
