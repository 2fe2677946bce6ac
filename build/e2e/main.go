// Command e2e starts the built program with a home of its own, and runs the page's browser tests against it. The model
// is a small one (random weights, real everything else), or the file in MODEL; others are on a hub of this machine, to be
// downloaded. build/e2e.sh calls it.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/centram/centram/gguf"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	home, err := os.MkdirTemp("", "centram-e2e")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	model := os.Getenv("MODEL")
	if model == "" {
		model = filepath.Join(home, "noise.gguf")
		if err := makeNoise(model); err != nil {
			return err
		}
	}
	hub, stop, err := startHub(filepath.Join(home, "centram"))
	if err != nil {
		return err
	}
	defer stop()
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	daemon := exec.CommandContext(ctx, "bin/centram", "serve", "--no-peers", "--listen", addr)
	daemon.Env = append(os.Environ(), "CENTRAM_HOME="+filepath.Join(home, "centram"), "HF_ENDPOINT="+hub.URL)
	daemon.Stdout, daemon.Stderr = os.Stderr, os.Stderr
	if err := daemon.Start(); err != nil {
		return err
	}
	defer func() {
		daemon.Process.Signal(os.Interrupt)
		err = errors.Join(err, daemon.Wait()) // a daemon that does not end well fails the test too
	}()
	url := "http://" + addr
	if err := waitFor(ctx, url+"/health"); err != nil {
		return err
	}
	node := exec.CommandContext(ctx, "npm", "run", "--silent", "e2e")
	node.Dir = "web"
	node.Env = append(os.Environ(), "CENTRAM_URL="+url, "CENTRAM_HOME="+filepath.Join(home, "centram"), "MODEL="+model, "HUB="+hub.URL)
	if picture := os.Getenv("SCREENSHOT"); picture != "" {
		abs, err := filepath.Abs(picture)
		if err != nil {
			return err
		}
		node.Env = append(node.Env, "SCREENSHOT="+abs)
	}
	node.Stdout, node.Stderr = os.Stdout, os.Stderr
	return node.Run()
}

// makeNoise writes a model that answers noise, slowly enough for a test to act in the middle of an answer.
func makeNoise(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := gguf.Generate(f, noise(), 1); err != nil {
		return err
	}
	return f.Close()
}

func noise() gguf.Shape {
	shape := gguf.Toy()
	shape.Embedding, shape.FeedForward, shape.Context, shape.VocabSize = 256, 704, 4096, 16000
	return shape
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func waitFor(ctx context.Context, url string) error {
	for range 300 {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("%s did not answer within 30 seconds", url)
}
