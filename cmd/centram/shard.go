package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/hyperlink/weights"
	"github.com/centram/centram/identity"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/transfer"
	"github.com/centram/centram/p2p/wire"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

// shard is one machine of a demonstration: a node with keys of its own, in a network of its own, that hosts layers.
type shard struct {
	*p2p.Node
	host   *hyperlink.Host
	layers *weights.Store
	stop   func() error
}

// shardConfig says how a shard is run.
type shardConfig struct {
	Port    int
	Network string // whose members trust each other: nobody else knows its name
	Peers   []string
	Dir     string // for what it fetches
	Run     local.Config
	Log     *slog.Logger
}

func startShard(ctx context.Context, cfg shardConfig) (*shard, error) {
	node, err := p2p.New(ctx, p2p.Config{
		Key: identity.New(time.Now()).Network, Network: cfg.Network, Listen: fmt.Sprint("127.0.0.1:", cfg.Port), Quiet: true,
		Policy: p2p.PolicyOpen, Peers: cfg.Peers, Log: cfg.Log, Caps: []string{hyperlink.Ability, transfer.Ability},
	})
	if err != nil {
		return nil, err
	}
	blobs, err := blob.New(blob.Config{Dir: filepath.Join(cfg.Dir, "blobs")})
	if err != nil {
		node.Close()
		return nil, err
	}
	files := transfer.New(transfer.Config{Node: node, Store: blobs, Log: cfg.Log})
	layers, err := weights.New(weights.Config{Blobs: blobs, Dir: filepath.Join(cfg.Dir, "layers"), Fetch: fetchFrom(files)})
	if err != nil {
		node.Close()
		return nil, err
	}
	s := &shard{Node: node, layers: layers}
	s.host = hyperlink.NewHost(hyperlink.HostConfig{Node: node, Open: openLayers(layers, cfg.Run), Log: cfg.Log})
	running, cancel := context.WithCancel(ctx)
	g, running := errgroup.WithContext(running)
	g.Go(func() error { return node.Run(running) })
	g.Go(func() error { return files.Run(running) })
	s.stop = sync.OnceValue(func() error { cancel(); return g.Wait() })
	return s, nil
}

// fetchFrom brings blobs from whoever is connected.
func fetchFrom(files *transfer.Service) func(context.Context, wire.Hash) error {
	return func(ctx context.Context, b wire.Hash) error {
		return files.Fetch(ctx, b, transfer.Options{Wait: 10 * time.Second})
	}
}

// openLayers loads the layers that a chain wants of this machine, fetching what is not here.
func openLayers(layers *weights.Store, run local.Config) hyperlink.Opener {
	return func(ctx context.Context, a hyperlink.Assignment) (engine.Stage, error) {
		path, err := layers.Slice(ctx, a.Weights, nil)
		if err != nil {
			return nil, err
		}
		run.Context, run.Sequences, run.BatchSize = a.Context, a.Lanes, a.BatchSize
		return local.OpenStage(ctx, path, run)
	}
}

const networkVariable = "CENTRAM_DEMO_NETWORK" // not in the command line, which others can see

// shardCommand runs a shard until its standard input ends, so that none outlives the demonstration.
func (a *app) shardCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "shard", Hidden: true, Args: cobra.NoArgs}
	port := cmd.Flags().Int("port", 9802, "")
	peers := cmd.Flags().String("peers", "", "")
	dir := cmd.Flags().String("dir", "", "")
	threads := cmd.Flags().Int("threads", 1, "")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		network, _ := a.lookup(networkVariable)
		if network == "" || *dir == "" {
			return usageError{errors.New("a shard is started by: centram hyperlink demo"), ""}
		}
		runtime.GOMAXPROCS(*threads) // as in the process that demonstrates
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, a.in)
			cancel()
		}()
		s, err := startShard(ctx, shardConfig{
			Port: *port, Network: network, Peers: strings.Fields(*peers), Dir: *dir, Run: local.Config{Threads: *threads}, Log: a.logger(),
		})
		if err != nil {
			return err
		}
		fmt.Fprintln(a.out, s.ID())
		<-ctx.Done()
		return s.stop()
	}
	return cmd
}
