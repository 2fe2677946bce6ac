package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/transfer"
	"github.com/centram/centram/p2p/wire"
	"github.com/quic-go/quic-go"
)

const (
	blobSize     = 512 << 20
	messageSize  = 8 << 10
	roundTrips   = 2000
	underBulk    = 500
	handshakeRun = 2 * time.Second
)

// peers measures the network on the loopback interface, both ends in this process, beside bare quic-go.
func (c config) peers() ([]*figure, error) {
	copied := &figure{Name: "blob, verified, MiB/s", Reference: "quic-go copy", Floor: 0.8}
	p50 := &figure{Name: "8 KiB round trip p50, /s", Reference: "quic-go echo"}
	p99 := &figure{Name: "8 KiB round trip p99, /s", Reference: "quic-go echo"}
	busy50 := &figure{Name: "the same p50 under bulk, /s", Reference: "quic-go echo"}
	busy99 := &figure{Name: "the same p99 under bulk, /s", Reference: "quic-go echo"}
	calls := &figure{Name: "sessions begun, /s", Reference: "quic-go dials"}
	figures := []*figure{copied, p50, p99, busy50, busy99, calls}
	if !slices.ContainsFunc(figures, c.wants) {
		return nil, nil
	}
	// In memory, if there is such a place: the disk is not what is measured.
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "centram-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "source")
	if err := randomFile(file, blobSize); err != nil {
		return nil, err
	}
	for round := range c.runs + 1 {
		var a, b network
		err := inTurn(round,
			func() (err error) { a, err = ourNetwork(dir, file); return err },
			func() (err error) { b, err = theirNetwork(dir, file); return err })
		if err != nil {
			return nil, err
		}
		if round == 0 {
			continue
		}
		for i, f := range figures {
			f.pairs = append(f.pairs, pair{a.values()[i], b.values()[i]})
		}
	}
	for _, f := range figures {
		f.print()
	}
	return figures, nil
}

// network is what one side of the comparison reached.
type network struct {
	copied         float64 // MiB/s
	p50, p99       float64 // round trips a second, if all took that long
	busy50, busy99 float64
	calls          float64 // a second
}

func (n network) values() []float64 {
	return []float64{n.copied, n.p50, n.p99, n.busy50, n.busy99, n.calls}
}

func randomFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, mrand.NewChaCha8([32]byte{1}), size); err != nil {
		return err
	}
	return f.Close()
}

// times returns the median and the 99th percentile of n calls, as calls a second.
func times(n int, call func() error) (p50, p99 float64, err error) {
	took := make([]float64, n)
	for i := range took {
		began := time.Now()
		if err := call(); err != nil {
			return 0, 0, err
		}
		took[i] = time.Since(began).Seconds()
	}
	slices.Sort(took)
	return 1 / took[n/2], 1 / took[n*99/100], nil
}

// rate is how often call succeeds in a second.
func rate(call func() error) (float64, error) {
	n, began := 0, time.Now()
	for time.Since(began) < handshakeRun {
		if err := call(); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// node is a running node with blobs.
type node struct {
	*p2p.Node
	blobs *blob.Store
	*transfer.Service
	stop func()
}

// startNode runs the node i, which dials peer unless that is empty, and has friends: strangers are answered at a pace.
func startNode(dir, peer string, i byte, friends ...byte) (*node, error) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{i}, ed25519.SeedSize))
	cfg := p2p.Config{Key: key, Listen: "127.0.0.1:0", Quiet: true, Policy: p2p.PolicyOpen, Log: slog.New(slog.DiscardHandler)}
	if peer != "" {
		cfg.Peers = []string{peer}
	}
	n, err := p2p.New(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	for _, f := range friends {
		id := centram.PeerID(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{f}, ed25519.SeedSize)).Public().(ed25519.PublicKey))
		if err := n.Book().Trust(context.Background(), id, wire.Friend); err != nil {
			return nil, err
		}
	}
	store, err := blob.New(blob.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	out := &node{Node: n, blobs: store, Service: transfer.New(transfer.Config{Node: n, Store: store})}
	p2p.Answer(n.Mux(), func(_ context.Context, _ *p2p.Peer, q *wire.CatRecon) (*wire.CatRecon, error) { return q, nil })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { _ = n.Run(ctx); done <- struct{}{} }()
	go func() { _ = out.Service.Run(ctx); done <- struct{}{} }()
	out.stop = func() { cancel(); <-done; <-done }
	return out, nil
}

func (n *node) address() string { return fmt.Sprint("127.0.0.1:", n.Port()) }

// met waits for a session.
func met(n, other *node) (*p2p.Peer, error) {
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
		if p := n.Peer(other.ID()); p != nil {
			return p, nil
		}
	}
	return nil, errors.New("two nodes on one machine did not meet")
}

func ourNetwork(dir, file string) (out network, err error) {
	ctx := context.Background()
	from, err := startNode(filepath.Join(dir, "from"), "", 1, 2)
	if err != nil {
		return out, err
	}
	defer from.stop()
	linked, err := from.blobs.Link(ctx, file)
	if err != nil {
		return out, err
	}
	target := filepath.Join(dir, "to")
	to, err := startNode(target, from.address(), 2, 1)
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(target)
	defer to.stop()
	peer, err := met(to, from)
	if err != nil {
		return out, err
	}
	ask := func() error {
		_, err := p2p.Ask[wire.CatRecon](ctx, peer, &wire.CatRecon{Session: 1, Ranges: make([]byte, messageSize)})
		return err
	}
	if out.p50, out.p99, err = times(roundTrips, ask); err != nil {
		return out, err
	}
	began := time.Now()
	fetched := make(chan error, 1)
	go func() { fetched <- to.Fetch(ctx, linked.Blob, transfer.Options{}) }()
	if err := <-fetched; err != nil {
		return out, err
	}
	out.copied = blobSize / float64(1<<20) / time.Since(began).Seconds()
	if err := to.blobs.Remove(linked.Blob); err != nil {
		return out, err
	}
	go func() { fetched <- to.Fetch(ctx, linked.Blob, transfer.Options{}) }()
	out.busy50, out.busy99, err = times(underBulk, ask)
	if err := errors.Join(err, <-fetched); err != nil {
		return out, err
	}
	out.calls, err = rate(func() error {
		n, err := startNode(filepath.Join(dir, "caller"), from.address(), 3)
		if err != nil {
			return err
		}
		defer n.stop()
		_, err = met(n, from)
		return err
	})
	return out, err
}

// bare is a QUIC listener that copies, echoes or just accepts, as the first byte of a stream says.
type bare struct {
	socket    net.PacketConn
	transport *quic.Transport
	listener  *quic.Listener
	file      string // what it copies
}

// listenBare listens on the loopback interface until close.
func listenBare(ctx context.Context, file string) (*bare, error) {
	config, err := tlsBare()
	if err != nil {
		return nil, err
	}
	b := &bare{file: file}
	if b.socket, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	b.transport = &quic.Transport{Conn: b.socket}
	if b.listener, err = b.transport.Listen(config, nil); err != nil {
		b.socket.Close()
		return nil, err
	}
	go b.run(ctx)
	return b, nil
}

func (b *bare) address() string { return b.socket.LocalAddr().String() }

func (b *bare) close() {
	b.transport.Close()
	b.socket.Close()
}

func tlsBare() (*tls.Config, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13,
		NextProtos: []string{"bench"}, InsecureSkipVerify: true, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
	}, nil
}

func (b *bare) run(ctx context.Context) {
	for {
		conn, err := b.listener.Accept(ctx)
		if err != nil {
			return
		}
		go func() {
			for {
				s, err := conn.AcceptStream(ctx)
				if err != nil {
					return
				}
				go b.serve(s)
			}
		}()
	}
}

func (b *bare) serve(s *quic.Stream) {
	defer s.Close()
	defer io.Copy(io.Discard, s) // to its end, or the stream counts as open
	buf := make([]byte, 1+messageSize)
	if _, err := io.ReadFull(s, buf[:1]); err != nil {
		return
	}
	if buf[0] == 'c' {
		f, err := os.Open(b.file)
		if err != nil {
			return
		}
		defer f.Close()
		_, _ = io.CopyBuffer(s, struct{ io.Reader }{f}, make([]byte, 1<<20))
		return
	}
	for {
		if _, err := io.ReadFull(s, buf[1:]); err != nil {
			return
		}
		if _, err := s.Write(buf[1:]); err != nil {
			return
		}
	}
}

func theirNetwork(dir, file string) (out network, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	config, err := tlsBare()
	if err != nil {
		return out, err
	}
	b, err := listenBare(ctx, file)
	if err != nil {
		return out, err
	}
	defer b.close()
	conn, err := quic.DialAddr(ctx, b.address(), config, nil)
	if err != nil {
		return out, err
	}
	defer conn.CloseWithError(0, "")
	reply := make([]byte, messageSize)
	message := append([]byte("e"), make([]byte, messageSize)...)
	echo := func() error {
		s, err := conn.OpenStreamSync(ctx)
		if err != nil {
			return err
		}
		if _, err := s.Write(message); err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
		if _, err := io.ReadFull(s, reply); err != nil {
			return err
		}
		_, err = s.Read(reply[:1]) // the end has to be read, or the stream counts as open
		if err == io.EOF {
			return nil
		}
		return err
	}
	if out.p50, out.p99, err = times(roundTrips, echo); err != nil {
		return out, err
	}
	target := filepath.Join(dir, "copy")
	defer os.Remove(target)
	began := time.Now()
	if err := copyBare(ctx, conn, target); err != nil {
		return out, err
	}
	out.copied = blobSize / float64(1<<20) / time.Since(began).Seconds()
	copied := make(chan error, 1)
	go func() { copied <- copyBare(ctx, conn, target) }()
	out.busy50, out.busy99, err = times(underBulk, echo)
	if err := errors.Join(err, <-copied); err != nil {
		return out, err
	}
	out.calls, err = rate(func() error {
		c, err := quic.DialAddr(ctx, b.address(), config, nil)
		if err != nil {
			return err
		}
		return c.CloseWithError(0, "")
	})
	return out, err
}

// copyBare has the other end send the file, and writes it to target, down to the disk.
func copyBare(ctx context.Context, conn *quic.Conn, target string) error {
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	if _, err := s.Write([]byte("c")); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	f, err := os.Create(target)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, s, make([]byte, 1<<20))
	if err != nil {
		return err
	}
	if n != blobSize {
		return fmt.Errorf("%d bytes were copied, want %d", n, blobSize)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}
