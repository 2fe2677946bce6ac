package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/config"
	"github.com/centram/centram/engine"
	"github.com/centram/centram/engine/local"
	"github.com/centram/centram/hyperlink"
	"github.com/centram/centram/hyperlink/pool"
	"github.com/centram/centram/hyperlink/weights"
	"github.com/centram/centram/identity"
	"github.com/centram/centram/models"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/gossip"
	"github.com/centram/centram/p2p/transfer"
	"github.com/centram/centram/p2p/wire"
	"github.com/centram/centram/server"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"
)

// network is the daemon's part among other nodes. Whatever goes wrong with it turns it off and stops nothing else: a person
// who wants to chat needs no peers.
type network struct {
	app     *app
	log     *slog.Logger
	id      centram.PeerID // zero if there are no keys, or they could not be read
	blobs   *blob.Store    // nil if the folder could not be used
	node    *p2p.Node      // nil while the network is off
	records *gossip.Catalogue
	peers   *gossip.Peers
	files   *transfer.Service
	pool    *pool.Pool // nil without blobs
	layers  *weights.Store
	shared  chan struct{} // has a value when there may be a model that others can have
	metrics *prometheus.Registry
	ran     bool

	models *models.Library
	// resident is the memory that models of this machine take. It is set before the network runs.
	resident func() uint64

	mu  sync.Mutex // guards off
	off error      // why the network is off; nil means it is on
}

// newNetwork takes the port for other nodes, or notes why that cannot be.
func (d *daemon) newNetwork(ctx context.Context, events *server.Events) *network {
	cfg := d.app.cfg
	n := &network{app: d.app, log: d.log, metrics: prometheus.NewRegistry(), shared: make(chan struct{}, 1)}
	var err error
	n.blobs, err = blob.New(blob.Config{Dir: filepath.Join(cfg.Data, "blobs"), Quota: cfg.BlobQuota})
	if err != nil {
		d.log.WarnContext(ctx, "The folder of blobs cannot be used", "err", err, "next", "centram doctor")
	}
	if err := n.open(ctx, d, events); err != nil {
		n.turnOff(ctx, err)
	}
	return n
}

func (n *network) open(ctx context.Context, d *daemon, events *server.Events) error {
	cfg := n.app.cfg
	f, err := n.file(ctx)
	if err != nil {
		return err
	}
	n.id = f.Peer
	if cfg.P2PListen == "off" {
		return server.ErrOff
	}
	keys, err := n.keys(ctx, f)
	if err != nil {
		return err
	}
	trace, _ := n.app.lookup("QLOGDIR")
	var peers []string
	for _, host := range cfg.P2PPeers {
		if _, err := p2p.ParseHost(host); err != nil {
			n.log.WarnContext(ctx, "A peer of the settings is not dialled", "peer", host, "err", err, "next", centram.HintOf(err))
			continue
		}
		peers = append(peers, host)
	}
	node, err := n.listen(ctx, p2p.Config{
		Key: keys.Network, Network: cfg.P2PNetwork, Name: nodeName(cfg), Version: buildVersion().Version, Listen: cfg.P2PListen,
		Policy: p2p.Policy(cfg.P2PPolicy), Quiet: cfg.P2PDiscovery == "off", Peers: peers, Upload: cfg.P2PUpload, DB: d.db.DB, Trace: trace != "",
		Caps: n.abilities(), Changed: func(c p2p.Change) { n.changed(c, events) }, Log: d.log,
	})
	if err != nil {
		return err
	}
	n.offer(node, gossip.Config{Key: keys.Network, Network: wire.NetworkOf(cfg.P2PNetwork), DB: d.db.DB})
	if err := n.records.Load(ctx); err != nil {
		n.log.WarnContext(ctx, "Records not loaded", "err", err)
	}
	return nil
}

// offer gives the node its services: what it answers to other nodes is what is registered here.
func (n *network) offer(node *p2p.Node, records gossip.Config) {
	records.Node, records.Log = node, n.log
	n.node, n.records = node, gossip.New(records)
	n.peers = gossip.NewPeers(n.records)
	if n.blobs != nil {
		n.files = transfer.New(transfer.Config{Node: node, Store: n.blobs, Log: n.log})
		n.offerLayers(node)
	}
}

// offerLayers has this node compute layers for others, and others for it.
func (n *network) offerLayers(node *p2p.Node) {
	cfg := n.app.cfg
	var err error
	n.layers, err = weights.New(weights.Config{
		Blobs: n.blobs, Dir: filepath.Join(cfg.Data, "layers"), Quota: cfg.HyperlinkQuota, Fetch: fetchFrom(n.files),
	})
	if err != nil {
		n.log.Warn("The folder of layers cannot be used, so no model is split", "err", err, "next", "centram doctor")
		return
	}
	run := runConfig(cfg)
	n.pool = pool.New(pool.Config{
		Node: node, Records: n.records, Layers: n.layers, Privacy: pool.Privacy(cfg.Hyperlink), Share: n.share,
		Spare: func() int64 { return roomFor(cfg) },
		OpenStage: func(ctx context.Context, path string, context, lanes, batch int) (engine.Stage, error) {
			run := run
			run.Context, run.Sequences, run.BatchSize = context, lanes, batch
			return local.OpenStage(ctx, path, run)
		},
		OpenText: func(ctx context.Context, path string) (hyperlink.Text, engine.Info, error) {
			return local.OpenText(ctx, path, run)
		},
		OpenTable: func(path string) (hyperlink.Table, error) { return local.OpenTable(path) },
		Backend:   strings.ToLower(buildVersion().Backend), Build: "llama.cpp/" + buildVersion().Llama, Log: n.log,
	})
}

// share is the memory that layers of others may take: what the owner says, or what models of this machine leave.
func (n *network) share() int64 {
	cfg := n.app.cfg
	switch {
	case cfg.HyperlinkShare == "off":
		return 0
	case cfg.HyperlinkMemory > 0:
		return cfg.HyperlinkMemory
	}
	free := roomFor(cfg)
	if n.resident != nil {
		free -= int64(n.resident())
	}
	return max(0, free)
}

// roomFor is the memory that a plan may count with. With a GPU the budget is not guessed, but a plan needs a number.
func roomFor(cfg *config.Config) int64 {
	if budget := memoryBudget(cfg); budget > 0 {
		return int64(budget)
	}
	return int64(totalMemory() / 5 * 4)
}

func (n *network) abilities() []string {
	if n.blobs == nil {
		return nil
	}
	caps := []string{transfer.Ability}
	if n.app.cfg.HyperlinkShare != "off" {
		caps = append(caps, hyperlink.Ability)
	}
	return caps
}

// listen makes the node. If its port is taken it takes any: peers that were given that port by hand will not find it, but
// all others will.
func (n *network) listen(ctx context.Context, cfg p2p.Config) (*p2p.Node, error) {
	// Counters of its own: a second attempt cannot register what the first one has.
	attempt := func() (*p2p.Node, error) {
		counters := prometheus.NewRegistry()
		cfg.Metrics = counters
		node, err := p2p.New(ctx, cfg)
		if err == nil {
			n.metrics = counters
		}
		return node, err
	}
	node, err := attempt()
	if centram.CodeOf(err) != centram.Conflict {
		return node, err
	}
	taken := err
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, taken
	}
	cfg.Listen = net.JoinHostPort(host, "0")
	if node, err = attempt(); err != nil {
		return nil, taken
	}
	n.log.WarnContext(ctx, "The port for other nodes is taken, so another is used", "err", taken, "port", node.Port(), "next", centram.HintOf(taken))
	return node, nil
}

// nodeName is what the owner calls this node, or else what the machine is called.
func nodeName(cfg *config.Config) string {
	if cfg.P2PName != "" {
		return cfg.P2PName
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	host = printable(host)
	return strings.ToValidUTF8(host[:min(len(host), 64)], "")
}

// file reads the file of this node's keys, which are made if there are none.
func (n *network) file(ctx context.Context) (*identity.File, error) {
	path := n.app.identityPath()
	f, err := identity.Read(path)
	if centram.CodeOf(err) != centram.NotFound {
		return f, err
	}
	keys := identity.New(time.Now())
	if err := identity.Write(path, keys, ""); err != nil {
		return nil, err
	}
	n.log.InfoContext(ctx, "This node has keys now", "id", keys.Peer(), "file", path, "next", "keep a copy: centram identity export FILE")
	return identity.Read(path)
}

// keys opens the file, which may be sealed: programs give the passphrase in the environment, and a person types it.
func (n *network) keys(ctx context.Context, f *identity.File) (*identity.Identity, error) {
	if !f.Sealed() {
		return f.Open("")
	}
	sealed := centram.Errorf(centram.Unavailable, "The keys of this node are sealed, so the network is off.").
		WithHint("Start the daemon in a terminal, or with the passphrase in %s.", passphraseVariable)
	if p, _ := n.app.lookup(passphraseVariable); p != "" {
		keys, err := f.Open(p)
		if centram.CodeOf(err) == centram.Unauthorized {
			return nil, centram.Errorf(centram.Unavailable, "The passphrase in %s is not that of the keys, so the network is off.", passphraseVariable).
				WithHint("Start the daemon with the right one.")
		}
		return keys, err
	}
	if !terminal(n.app.in) {
		return nil, sealed
	}
	for range attempts {
		p, err := n.askPassphrase(ctx)
		if err != nil {
			return nil, sealed
		}
		keys, err := f.Open(p)
		if centram.CodeOf(err) != centram.Unauthorized {
			return keys, err
		}
		n.app.hint("That is not the passphrase.")
	}
	return nil, sealed
}

const attempts = 3 // to type a passphrase

// askPassphrase gives the terminal back as it was when ctx ends, such as by Ctrl+C.
func (n *network) askPassphrase(ctx context.Context) (string, error) {
	in, ok := n.app.in.(*os.File)
	if !ok {
		return "", errors.New("no terminal")
	}
	fd := int(in.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	type typed struct {
		text string
		err  error
	}
	answer := make(chan typed, 1)
	go func() {
		p, err := n.app.passphrase("Passphrase of this node's keys: ")
		answer <- typed{p, err}
	}()
	select {
	case a := <-answer:
		return a.text, a.err
	case <-ctx.Done():
		_ = term.Restore(fd, state) // who waits for the line goes with the program
		return "", ctx.Err()
	}
}

// changed is told by the node what happens to peers.
func (n *network) changed(c p2p.Change, events *server.Events) {
	events.Peer(c)
	if c.Kind != "pairing" {
		return
	}
	for _, p := range n.node.Pairings() {
		if p.Peer == c.Peer && !p.Outgoing && !p.Mine && p.Failed == "" {
			n.log.Info("A node wants to pair", "peer", p.Peer.Short(), "name", printable(p.Name), "next", "centram peer pair "+p.Peer.Short())
		}
	}
}

// Run takes part until ctx ends. It returns nil in any case.
func (n *network) Run(ctx context.Context) error {
	if n.node == nil {
		return nil
	}
	n.ran = true
	n.log.InfoContext(ctx, "On the network", "id", n.id.Short(), "name", n.node.Name(), "port", n.node.Port(), "policy", n.node.Policy())
	staying, leave := context.WithCancel(context.WithoutCancel(ctx))
	g, running := errgroup.WithContext(staying)
	g.Go(func() error { // the others go when this has
		defer leave()
		select {
		case <-ctx.Done():
			n.leave(staying)
		case <-running.Done():
		}
		return nil
	})
	g.Go(func() error { return n.node.Run(running) })
	g.Go(func() error { return n.records.Run(running) })
	g.Go(func() error { return n.peers.Run(running) })
	if n.files != nil {
		g.Go(func() error { return n.files.Run(running) })
		g.Go(func() error { return n.shareModels(running) })
	}
	if n.pool != nil {
		g.Go(func() error { return n.pool.Run(running) })
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		n.turnOff(ctx, centram.Errorf(centram.Unavailable, "The network has failed: %w", err).WithHint("Start the daemon again."))
	}
	return nil
}

// leave has others take over the layers that this node computes for them.
func (n *network) leave(ctx context.Context) {
	if n.pool == nil || len(n.pool.Host().Seats()) == 0 {
		return
	}
	n.log.InfoContext(ctx, "Other machines are asked to take over the layers that are served here")
	ctx, cancel := context.WithTimeout(ctx, leaveFor)
	defer cancel()
	n.pool.Host().Leave(ctx)
}

const leaveFor = 5 * time.Second // of the ten that a daemon may take to end

// turnOff notes why there is no network, and tells the owner unless that is the owner's wish.
func (n *network) turnOff(ctx context.Context, err error) {
	if !errors.Is(err, server.ErrOff) {
		n.log.WarnContext(ctx, "The network is off", "err", err, "next", centram.HintOf(err))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.off = centram.Errorf(centram.Unavailable, "%w", err).WithHint("%s", cmp.Or(centram.HintOf(err), "Look for the cause with: centram doctor"))
}

// Off says why the network is off, or nil.
func (n *network) Off() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.off
}

// Close gives back the port of a network that was never run.
func (n *network) Close() {
	if n.node != nil && !n.ran {
		n.node.Close()
	}
}

// forServer is the network as the server works with it.
func (n *network) forServer(library *models.Library) server.Network {
	out := server.Network{Off: n.Off, ID: n.id, Name: n.app.cfg.P2PNetwork}
	if n.blobs != nil {
		out.Blobs = n.blobs
	}
	if n.files != nil {
		out.Fetch = func(ctx context.Context, hash wire.Hash, wait time.Duration, progress func(have, of int)) error {
			return n.files.Fetch(ctx, hash, transfer.Options{Wait: wait, Progress: progress})
		}
	}
	if n.node != nil {
		out.Node, out.Records = n.node, n.known
	}
	if n.pool != nil {
		out.Hyperlink = splitter{n, library}
	}
	return out
}

func (n *network) known() []server.Record {
	entries := n.records.Entries()
	out := make([]server.Record, len(entries))
	for i, e := range entries {
		out[i] = server.Record{
			ID: e.ID.String(), Type: wire.Type(e.Record[0]).Name(), Author: e.Author.String(), Received: e.Received, Size: len(e.Record),
		}
	}
	return out
}
