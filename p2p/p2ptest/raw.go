package p2ptest

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"time"

	"github.com/centram/centram/p2p/wire"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/testutils/simnet"
)

// Raw is a peer that speaks QUIC and writes what it likes: the bad actor of a test.
type Raw struct {
	Key     ed25519.PrivateKey
	Scope   wire.Scope
	Conn    *quic.Conn
	Control *quic.Stream
	net     *Net
	socket  *simnet.SimConn
	tr      *quic.Transport
}

// Raw dials node to from the address of the i-th node, and says nothing yet.
func (n *Net) Raw(i, to int) *Raw {
	n.t.Helper()
	r := &Raw{Key: Key(i), net: n, socket: simnet.NewBlockingSimConn(net.UDPAddrFromAddrPort(Addr(i)), n)}
	r.tr = &quic.Transport{Conn: r.socket}
	return r.Dial(to)
}

// Dial is another connection of the same peer.
func (r *Raw) Dial(to int) *Raw {
	r.net.t.Helper()
	r = &Raw{Key: r.Key, Scope: wire.Scope{Network: wire.NetworkOf("")}, net: r.net, socket: r.socket, tr: r.tr}
	r.net.t.Cleanup(r.Close)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, template, template, r.Key.Public(), r.Key)
	if err != nil {
		r.net.t.Fatal(err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: r.Key}}, MinVersion: tls.VersionTLS13,
		NextProtos: []string{wire.ALPN}, InsecureSkipVerify: true,
	}
	r.Conn, err = r.tr.Dial(context.Background(), net.UDPAddrFromAddrPort(Addr(to)), config, &quic.Config{KeepAlivePeriod: time.Second})
	if err != nil {
		r.net.t.Fatal(err)
	}
	state := r.Conn.ConnectionState().TLS
	secret, err := state.ExportKeyingMaterial("EXPORTER-centram/1", nil, len(wire.Hash{}))
	if err != nil {
		r.net.t.Fatal(err)
	}
	r.Scope.Session = wire.Hash(secret)
	if r.Control, err = r.Conn.OpenStream(); err != nil {
		r.net.t.Fatal(err)
	}
	return r
}

// Hello goes through the handshake as an honest peer does.
func (r *Raw) Hello() error {
	hello := &wire.Hello{
		ProtoMin: 1, ProtoMax: 1, Network: r.Scope.Network, Version: "raw", Boot: 1, Caps: []string{},
		Limits: wire.Limits{Requests: 64, Records: 600}, Port: 1,
	}
	if err := r.Say(hello); err != nil {
		return err
	}
	for range 2 { // HELLO and HELLO_ACK
		if _, err := wire.Read(r.Control); err != nil {
			return err
		}
	}
	return r.Say(&wire.HelloAck{Proto: 1, Caps: []string{}, Limits: hello.Limits, Observed: "192.0.2.1:1"})
}

// Frame is a message as an honest peer would send it.
func (r *Raw) Frame(m wire.Message, request uint64) *wire.Frame {
	f, err := wire.Seal(m, r.Key, r.Scope, 0, request)
	if err != nil {
		panic(err)
	}
	return f
}

// Say sends a message in the control stream.
func (r *Raw) Say(m wire.Message) error { return r.Write(r.Frame(m, 0).Append(nil)) }

// Write sends bytes in the control stream.
func (r *Raw) Write(b []byte) error {
	_, err := r.Control.Write(b)
	return err
}

// Datagram sends bytes outside of the connection.
func (r *Raw) Datagram(b []byte, to int) error {
	_, err := r.tr.WriteTo(b, net.UDPAddrFromAddrPort(Addr(to)))
	return err
}

// Close ends the peer's connections without a word.
func (r *Raw) Close() {
	if r.Conn != nil {
		_ = r.Conn.CloseWithError(0, "")
	}
	_ = r.tr.Close()
	_ = r.socket.Close()
}
