package download

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/centram/centram"
	"github.com/centram/centram/models/hub"
	"github.com/centram/centram/models/hub/hubtest"
)

// order is a Fetch that another process does, so that it can be killed.
type order struct {
	Endpoint string
	Repo     string
	File     File
}

const orderVariable = "CENTRAM_TEST_FETCH"

// TestMain is also the other process.
func TestMain(m *testing.M) {
	text := os.Getenv(orderVariable)
	if text == "" {
		os.Exit(m.Run())
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	if err := o.fetch(context.Background(), func(p Progress) { fmt.Println(p.Stage, p.Done) }); err != nil {
		json.NewEncoder(os.Stderr).Encode(map[string]any{"code": centram.CodeOf(err), "message": err.Error(), "hint": centram.HintOf(err)})
		os.Exit(1)
	}
}

func (o order) fetch(ctx context.Context, tell func(Progress)) error {
	dialer := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { // so that what was sent is about what came
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 256<<10) })
	}}
	h, err := hub.New(hub.Config{Endpoint: o.Endpoint, Token: hubtest.Token, Transport: &http.Transport{DialContext: dialer.DialContext}})
	if err != nil {
		return err
	}
	src := FromHub(h, hub.File{Repo: o.Repo, Revision: "main", Path: "a/model.gguf"}, o.File.Size)
	return Fetch(ctx, o.File, src, Config{Stall: 300 * time.Millisecond, Wait: 5 * time.Millisecond, Tell: tell})
}

// start starts another process that fetches.
func (o order) start(t *testing.T) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd, stderr = exec.Command(os.Args[0]), new(bytes.Buffer)
	cmd.Env = append(os.Environ(), orderVariable+"="+string(text))
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stderr
}

func content(seed uint64, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// file puts a random file on a hub, and says what to fetch.
func file(t *testing.T, h *hubtest.Hub, repo string, seed uint64, size int) order {
	sum := h.Add(repo, "a/model.gguf", content(seed, size))
	return order{h.URL, repo, File{filepath.Join(t.TempDir(), "model.gguf"), int64(size), sum}}
}

// usable looks whether there is a file under the name, and fails if its bytes are others.
func usable(t *testing.T, f File) bool {
	t.Helper()
	digest, err := Digest(t.Context(), f.Path, func(int64) {})
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	if err != nil || digest != f.SHA256 {
		t.Fatalf("a file with the hash %s (%v) is under the name, want %s", digest, err, f.SHA256)
	}
	return true
}

// nothingLeft fails if anything but the file is in its folder.
func nothingLeft(t *testing.T, f File) {
	t.Helper()
	for _, dir := range []string{filepath.Dir(f.Path), filepath.Join(filepath.Dir(f.Path), ".downloads")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != filepath.Base(f.Path) && e.Name() != ".downloads" {
				t.Errorf("%s was left in %s", e.Name(), dir)
			}
		}
	}
}

func TestWhateverTheNetworkDoesAFileIsRightOrThereIsAClearError(t *testing.T) {
	runs := 120
	if testing.Short() {
		runs = 20
	}
	for seed := range uint64(runs) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			badNetwork(t, seed)
		})
	}
}

func badNetwork(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 4))
	some := func(most float64) float64 { return most * rng.Float64() * float64(rng.IntN(2)) }
	faults := hubtest.Faults{
		Reset: some(0.5), Stall: some(0.1), Refuse: some(0.3), Expire: some(0.3), Whole: rng.IntN(8) == 0,
		Slow: time.Duration(rng.IntN(3)) * time.Millisecond,
	}
	if rng.IntN(5) == 0 {
		faults.Wrong = rng.Float64() * 0.5
	}
	if rng.IntN(5) == 0 {
		faults.Lie = rng.Float64() * 0.5
	}
	h := hubtest.New(t, seed, faults)
	repo := []string{"open/models", "gated/models"}[rng.IntN(2)]
	o := file(t, h, repo, seed, 1+rng.IntN(6<<20))
	for range rng.IntN(4) {
		sent := h.Sent(o.Repo, "a/model.gguf")
		cmd, _ := o.start(t)
		for began := time.Now(); h.Sent(o.Repo, "a/model.gguf") == sent && time.Since(began) < time.Second; {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if usable(t, o.File) {
			break
		}
	}
	for try := 0; !usable(t, o.File); try++ {
		if try == 4 {
			h.Set(hubtest.Faults{}) // the network is well again
		}
		if try == 6 {
			t.Fatal("it does not come although the network is well")
		}
		cmd, stderr := o.start(t)
		err := cmd.Wait()
		if usable(t, o.File) != (err == nil) {
			t.Fatalf("it ended with %v (%s), and the file is usable: %v", err, stderr, err != nil)
		}
		if err != nil {
			clear(t, stderr.Bytes(), faults, try >= 4)
		}
	}
	nothingLeft(t, o.File)
	if h.Leaked() {
		t.Error("the token came to another host than the hub")
	}
}

// clear wants an error that names a cause that there was, and what to do.
func clear(t *testing.T, stderr []byte, f hubtest.Faults, well bool) {
	t.Helper()
	var said struct {
		Code          centram.Code
		Message, Hint string
	}
	if err := json.Unmarshal(stderr, &said); err != nil {
		t.Fatalf("it said %q", stderr)
	}
	allowed := said.Code == centram.Unavailable && !well || said.Code == centram.Invalid && f.Wrong+f.Lie > 0
	if !allowed || said.Message == "" || said.Hint == "" {
		t.Errorf("with %+v, the network well: %v, it said %+v", f, well, said)
	}
}

// A connection that is cut loses what was not written yet, and what is between the two machines: less than 1 MiB each here.
func TestAKillCostsLittle(t *testing.T) {
	const size, kills, most = 48 << 20, 6, 4 << 20
	h := hubtest.New(t, 1, hubtest.Faults{Slow: time.Millisecond})
	o := file(t, h, "open/models", 1, size)
	sent := func() int64 { return h.Sent(o.Repo, "a/model.gguf") }
	rng := rand.New(rand.NewPCG(1, 1))
	for range kills {
		enough := sent() + 3<<20 + rng.Int64N(3<<20)
		cmd, stderr := o.start(t)
		for began := time.Now(); sent() < enough; time.Sleep(time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatalf("%d bytes were sent in a minute: %s", sent(), stderr)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	if usable(t, o.File) {
		t.Fatal("it was complete before the last kill, which so proves nothing")
	}
	cmd, stderr := o.start(t)
	if err := cmd.Wait(); err != nil || !usable(t, o.File) {
		t.Fatalf("it ended with %v: %s", err, stderr)
	}
	twice := sent() - size
	t.Logf("%d MiB, killed %d times: %d KiB were sent twice", size>>20, kills, twice>>10)
	if twice > kills*most {
		t.Errorf("%d bytes were sent twice, want at most %d for each kill", twice, most)
	}
	nothingLeft(t, o.File)
}

func TestProgressNeverFalls(t *testing.T) {
	h := hubtest.New(t, 3, hubtest.Faults{Reset: 0.5, Expire: 0.3})
	o := file(t, h, "open/models", 3, 9<<20)
	var last Progress
	err := o.fetch(t.Context(), func(p Progress) {
		if p.Total != o.File.Size || p.Done > p.Total || p.Stage == last.Stage && p.Done < last.Done || last.Stage == Verifying && p.Stage != Verifying {
			t.Errorf("after %+v came %+v", last, p)
		}
		last = p
	})
	if err != nil || !usable(t, o.File) {
		t.Fatal(err)
	}
	if last != (Progress{Verifying, o.File.Size, o.File.Size}) {
		t.Errorf("got %+v last, want all to be verified", last)
	}
}

func TestTwoProcessesDoNotFetchOneFileAtOnce(t *testing.T) {
	h := hubtest.New(t, 1, hubtest.Faults{Slow: 5 * time.Millisecond})
	o := file(t, h, "open/models", 1, 8<<20)
	ctx, cancel := context.WithCancel(t.Context())
	begun, ended := make(chan bool, 1), make(chan error, 1)
	go func() {
		ended <- o.fetch(ctx, func(p Progress) {
			if p.Done > 0 {
				select {
				case begun <- true:
				default:
				}
			}
		})
	}()
	<-begun
	cmd, stderr := o.start(t)
	if err := cmd.Wait(); err == nil || !strings.Contains(stderr.String(), string(centram.Conflict)) {
		t.Errorf("the second one ended with %v: %s, want a conflict", err, stderr)
	}
	if err := Discard(filepath.Join(filepath.Dir(o.File.Path), ".downloads"), o.File.SHA256); centram.CodeOf(err) != centram.Conflict {
		t.Errorf("got %v, want what is being fetched not to be discarded", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it cancelled", err)
	}
	if err := Discard(filepath.Join(filepath.Dir(o.File.Path), ".downloads"), o.File.SHA256); err != nil {
		t.Error(err)
	}
	nothingLeft(t, o.File)
}

func TestWhatIsHereIsNotFetched(t *testing.T) {
	h := hubtest.New(t, 1, hubtest.Faults{})
	o := file(t, h, "open/models", 1, 1<<20)
	if err := os.WriteFile(o.File.Path, content(1, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.fetch(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(o.File.Path, content(2, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.fetch(t.Context(), nil); centram.CodeOf(err) != centram.Conflict || !strings.Contains(err.Error(), o.File.Path) {
		t.Errorf("got %v, want another file of that name to be left alone", err)
	}
	if n := h.Sent(o.Repo, "a/model.gguf"); n != 0 {
		t.Errorf("%d bytes were sent, want none", n)
	}
}

func TestWhatTheDiskHasDamagedIsFetchedAgain(t *testing.T) {
	h := hubtest.New(t, 1, hubtest.Faults{Slow: time.Millisecond})
	o := file(t, h, "open/models", 1, 8<<20)
	ctx, cancel := context.WithCancel(t.Context())
	err := o.fetch(ctx, func(p Progress) {
		if p.Done > 2<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	part := filepath.Join(filepath.Dir(o.File.Path), ".downloads", o.File.SHA256+incompleteExt)
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 1000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	h.Set(hubtest.Faults{})
	if err := o.fetch(t.Context(), func(Progress) {}); err != nil || !usable(t, o.File) {
		t.Errorf("got %v, want the file", err)
	}
	nothingLeft(t, o.File)
}

// slowly is a source without a network.
type slowly struct{ content []byte }

func (s slowly) Open(_ context.Context, from, to int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s.content[from:to])), nil
}

func TestARateIsKept(t *testing.T) {
	f := File{filepath.Join(t.TempDir(), "model.gguf"), 4 << 20, digestOf(content(1, 4<<20))}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := Fetch(t.Context(), f, slowly{content(1, 4<<20)}, Config{Limit: rate.NewLimiter(1<<20, 256<<10)})
		if took := time.Since(began); err != nil || took < 3*time.Second || took > 5*time.Second {
			t.Errorf("4 MiB at 1 MiB/s took %v (%v), want about 4s", took, err)
		}
	})
	usable(t, f)
}

func digestOf(b []byte) string {
	sum := newHash()
	sum.Write(b)
	return hex.EncodeToString(sum.Sum(nil))
}
