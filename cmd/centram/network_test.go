package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram/config"
	"github.com/centram/centram/server"
)

func TestTheDaemonCountsWhatPeersDo(t *testing.T) {
	url, token, _ := startDaemon(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(text), "\ncentram_peers 0\n") {
		t.Errorf("got %d bytes without centram_peers (%v)", len(text), err)
	}
}

func TestStrangersDoNotDrawOnTheTerminal(t *testing.T) {
	var out strings.Builder
	list := peerList{Peers: []server.Peer{{Name: "\x1b[2J\u202eevil\nALICE", Short: "ABCDEFG", State: "away", Version: "\x07"}}}
	if err := table(&out, peerRows(list, time.Now())); err != nil {
		t.Fatal(err)
	}
	if err := table(&out, peerDetails(list.Peers[0], time.Now())); err != nil {
		t.Fatal(err)
	}
	got := out.String() + peerLabel(list.Peers[0].Name, "ABCDEFG")
	if strings.ContainsAny(got, "\x1b\x07\u202e") || !strings.Contains(got, "[2JevilALICE (ABCDEFG)") {
		t.Errorf("got %q", got)
	}
}

func TestANodeIsCalledAfterItsOwnerOrTheMachine(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	if got := nodeName(&config.Config{}); !strings.HasPrefix(host, got) || len(got) > 64 {
		t.Errorf("got %q on %q", got, host)
	}
	if got := nodeName(&config.Config{P2PName: "mine"}); got != "mine" {
		t.Errorf("got %q, want mine", got)
	}
}
