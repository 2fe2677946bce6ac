package p2p

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
)

// certificate returns a self-signed certificate over the node's own key: that key is all that peers look at.
func certificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		// A peer may have a clock that is years off. The key does not expire; pairing and bans end a peer's rights.
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:  time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// tlsConfig is the same for both sides: TLS 1.3 with both certificates. accept decides about the key that the other side
// has proved to hold. There are no tickets and no early data, since both would let a peer in without the proof.
func tlsConfig(cert tls.Certificate, accept func(centram.PeerID) error) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{cert},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{wire.ALPN},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // there is no authority; VerifyConnection checks what there is to check
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			id, err := keyOf(state)
			if err != nil {
				return err
			}
			return accept(id)
		},
	}
}

// keyOf returns the key that the other side of a handshake has proved to hold.
func keyOf(state tls.ConnectionState) (centram.PeerID, error) {
	if state.NegotiatedProtocol != wire.ALPN {
		return centram.PeerID{}, fmt.Errorf("protocol %q, want %s", state.NegotiatedProtocol, wire.ALPN)
	}
	if n := len(state.PeerCertificates); n != 1 {
		return centram.PeerID{}, fmt.Errorf("%d certificates, want 1", n)
	}
	cert := state.PeerCertificates[0]
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return centram.PeerID{}, fmt.Errorf("a certificate over a key that is not Ed25519")
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return centram.PeerID{}, fmt.Errorf("certificate: %w", err)
	}
	return centram.PeerID(key), nil
}
