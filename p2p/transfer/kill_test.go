package transfer_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
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

// killRole makes the test's program a node of TestABlobArrivesThroughKills: "send", or "receive" with a hash.
const killRole = "CENTRAM_TEST_KILL"

func init() {
	if role := os.Getenv(killRole); role != "" {
		if err := killNode(strings.Fields(role)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// killNode is one of the two nodes: role, folder, own address, the other's address, hash.
func killNode(args []string) error {
	role, dir, own, other := args[0], args[1], args[2], args[3]
	ctx := context.Background()
	store, err := blob.New(blob.Config{Dir: dir})
	if err != nil {
		return err
	}
	cfg := p2p.Config{Key: p2ptest.Key(len(role)), Listen: own, Quiet: true, Policy: p2p.PolicyOpen, Log: slog.New(slog.DiscardHandler)}
	if role == "receive" {
		cfg.Peers = []string{other}
	}
	n, err := p2p.New(ctx, cfg)
	if err != nil {
		return err
	}
	s := transfer.New(transfer.Config{Node: n, Store: store})
	failed := make(chan error, 2)
	go func() { failed <- n.Run(ctx) }()
	go func() { failed <- s.Run(ctx) }()
	if role == "send" {
		if _, err := store.Link(ctx, args[4]); err != nil {
			return err
		}
		return <-failed
	}
	var h wire.Hash
	if err := h.UnmarshalText([]byte(args[4])); err != nil {
		return err
	}
	err = s.Fetch(ctx, h, transfer.Options{Wait: time.Minute, Progress: func(have, of int) { fmt.Println("chunk", have, of) }})
	if err != nil {
		return err
	}
	path, err := store.Path(h)
	fmt.Println("done", path)
	return err
}

// TestABlobArrivesThroughKills sends 512 MiB between two processes; the sender is killed and started again three times, the
// receiver twice. Every chunk that was written before a kill counts after it.
func TestABlobArrivesThroughKills(t *testing.T) {
	if testing.Short() {
		t.Skip("half a gigabyte")
	}
	const size, chunks = 512 << 20, 512
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	sum := makeFile(t, file, size)
	from, to := freeUDP(t), freeUDP(t)
	start := func(args ...string) (*exec.Cmd, io.ReadCloser) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killRole+"="+strings.Join(args, " "))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd, out
	}
	send := func() *exec.Cmd {
		cmd, _ := start("send", filepath.Join(dir, "from"), from, to, file)
		return cmd
	}
	sender := send()
	killSender := []int{80, 240, 400} // chunks that are there
	killReceiver := []int{160, 320}
	began, written, kills := time.Now(), 0, 0
	var result string
	for result == "" {
		receiver, out := start("receive", filepath.Join(dir, "to"), to, from, sum)
		lines := bufio.NewScanner(out)
		killed := false
		for lines.Scan() {
			var have, of int
			switch words := strings.Fields(lines.Text()); words[0] {
			case "chunk":
				_, _ = fmt.Sscan(words[1], &have)
				_, _ = fmt.Sscan(words[2], &of)
				written++
			case "done":
				result = words[1]
			default:
				t.Fatalf("the receiver says: %s", lines.Text())
			}
			if len(killSender) > 0 && have >= killSender[0] {
				killSender = killSender[1:]
				_ = sender.Process.Kill()
				_ = sender.Wait()
				sender = send()
			}
			if len(killReceiver) > 0 && have >= killReceiver[0] && !killed {
				killReceiver, killed = killReceiver[1:], true
				kills++
				_ = receiver.Process.Kill()
			}
			if time.Since(began) > 3*time.Minute {
				t.Fatalf("%d chunks after 3 minutes", have)
			}
		}
		_ = receiver.Wait()
	}
	if len(killSender)+len(killReceiver) > 0 {
		t.Errorf("not all kills happened: %v %v are left", killSender, killReceiver)
	}
	if got := hashOf(t, result); got != sum {
		t.Errorf("got %s, want %s", got, sum)
	}
	t.Logf("%d chunks were written in %v, for %d; the receiver was killed %d times", written, time.Since(began).Round(time.Millisecond), chunks, kills)
	if written > chunks+kills {
		t.Errorf("%d chunks were written, want at most one a kill more than %d", written, chunks)
	}
}

func makeFile(t *testing.T, path string, size int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, h), rand.NewChaCha8([32]byte{7}), size); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// freeUDP is an address of this machine that nobody listens on.
func freeUDP(t testing.TB) string {
	t.Helper()
	s, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.LocalAddr().String()
}
