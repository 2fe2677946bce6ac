package main

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/centram/centram/config"
	"github.com/centram/centram/p2p"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/gossip"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/centram/centram/p2p/wire"
)

var update = flag.Bool("update", false, "rewrite docs/PROTOCOL.md")

// TestTheProtocolsDocumentIsTrue prints it from the table, and from what a node of the daemon answers.
func TestTheProtocolsDocumentIsTrue(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	node, err := p2p.New(t.Context(), p2p.Config{Key: p2ptest.Key(1), Listen: "127.0.0.1:0", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	blobs, err := blob.New(blob.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(func(key string) (string, bool) { return t.TempDir(), key == "CENTRAM_HOME" })
	if err != nil {
		t.Fatal(err)
	}
	n := &network{app: &app{cfg: cfg}, log: log, blobs: blobs}
	n.offer(node, gossip.Config{Key: p2ptest.Key(1)})
	var got bytes.Buffer
	if err := wire.WriteProtocol(&got, node.Mux().Missing()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("..", "..", "docs", "PROTOCOL.md")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("docs/PROTOCOL.md is not what this program speaks; rewrite it with: go test ./cmd/centram -run Protocol -update")
	}
}
