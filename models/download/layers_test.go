package download

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/models/hub"
	"github.com/centram/centram/models/hub/hubtest"
)

// A range of layers is the same as if it were cut from the whole file here, and little more comes than its own bytes, although the
// vocabulary and the names of all tensors are read as well.
func TestALayerRangeCostsLittleMoreThanItsOwnBytes(t *testing.T) {
	s, shape := newShop(t, hubtest.Faults{Reset: 0.2}), gguf.Toy()
	shape.Layers, shape.Embedding, shape.FeedForward, shape.Heads, shape.KVHeads = 24, 256, 1024, 4, 2
	path := filepath.Join(t.TempDir(), "whole.gguf")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := gguf.Generate(f, shape, 1); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := gguf.OpenModel(path)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	h, err := hub.New(hub.Config{Endpoint: s.hub.URL})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range []centram.LayerRange{{First: 0, End: 8}, {First: 8, End: 16}, {First: 20, End: 24}} {
		m := s.model(fmt.Sprint("m", i), 1)
		m.Files[0].Size, m.Files[0].SHA256 = int64(len(b)), s.hub.Add(m.Repo, m.Files[0].Path, b)
		to := filepath.Join(s.folder, fmt.Sprint("layers", i, ".gguf"))
		if err := m.FetchLayers(t.Context(), h, r, to, Config{Wait: 1}); err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := gguf.Slice(&want, whole, gguf.Share{Layers: r}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(to)
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("layers %d to %d: got other bytes than were cut from the whole (%v)", r.First, r.End, err)
		}
		needs, err := gguf.Needs(whole, gguf.Share{Layers: r})
		if err != nil {
			t.Fatal(err)
		}
		own := int64(0)
		for _, n := range needs {
			own += n.Tensor.Size
		}
		sent := s.hub.Sent(m.Repo, m.Files[0].Path)
		t.Logf("layers %d to %d of %.1f MB: %.2f MB of their own, %.2f MB sent, %.3f times", r.First, r.End, float64(len(b))/1e6, float64(own)/1e6, float64(sent)/1e6, float64(sent)/float64(own))
		if sent > own+own/10+2<<20 { // connections that break cost something too; what is promised is measured without
			t.Errorf("%d bytes were sent for %d", sent, own)
		}
	}
	if left := s.left(t); len(left) > 0 {
		t.Errorf("%v were left", left)
	}
	if err := s.model("x", 10).FetchLayers(t.Context(), h, centram.LayerRange{First: 0, End: 1}, filepath.Join(s.folder, "x.gguf"), Config{Wait: 1}); err == nil {
		t.Error("layers were cut from what is no model")
	}
}
