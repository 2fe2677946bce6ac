package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/download"
	"github.com/centram/centram/models/hub"
)

const downloadSize = 512 << 20

// downloads measures how fast a file comes over HTTP from this machine, hashed, beside curl, which does not hash. The server is
// this process, and each side one of its own.
func (c config) downloads() ([]*figure, error) {
	f := &figure{Name: "download, verified, MiB/s", Reference: "curl", Floor: 0.9}
	rss := &figure{Name: "memory of a download, MiB", Reference: "of a tenth"}
	figures := []*figure{f, rss}
	if !slices.ContainsFunc(figures, c.wants) {
		return nil, nil
	}
	if _, err := exec.LookPath("curl"); err != nil {
		return nil, fmt.Errorf("curl is what downloads are measured beside: %w", err)
	}
	base := "/dev/shm" // the disk is not what is measured
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "centram-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	go http.Serve(l, http.FileServer(http.Dir(dir)))
	var large, small fetching
	for job, size := range map[*fetching]int64{&large: downloadSize, &small: downloadSize / 10} {
		job.Endpoint, job.Path, job.Size = "http://"+l.Addr().String(), fmt.Sprint(size), size
		from := filepath.Join(dir, "a/b/resolve/main", job.Path)
		if err := os.MkdirAll(filepath.Dir(from), 0o700); err != nil {
			return nil, err
		}
		if err := randomFile(from, size); err != nil {
			return nil, err
		}
		if job.SHA256, err = download.Digest(context.Background(), from, func(int64) {}); err != nil {
			return nil, err
		}
		job.To = filepath.Join(dir, "got")
	}
	for round := range c.runs + 1 {
		var ours, theirs, most, least float64
		err := inTurn(round,
			func() (err error) { ours, most, err = large.fetch(); return err },
			func() (err error) { theirs, err = large.curl(); return err })
		if err == nil {
			_, least, err = small.fetch()
		}
		if err != nil {
			return nil, err
		}
		if round > 0 {
			f.pairs, rss.pairs = append(f.pairs, pair{ours, theirs}), append(rss.pairs, pair{most, least})
		}
	}
	for _, f := range figures {
		f.print()
	}
	return figures, nil
}

// fetching is a download that a worker does.
type fetching struct {
	Endpoint, Path, To, SHA256 string
	Size                       int64
}

// fetched is what the worker says of it.
type fetched struct{ Seconds, Memory float64 }

// fetch returns MiB a second, and the most memory that it took, in MiB.
func (f fetching) fetch() (speed, memory float64, err error) {
	var got fetched
	w, err := startWorker("fetch", anyCore, f, &got)
	if err != nil {
		return 0, 0, err
	}
	w.stop()
	return float64(f.Size) / (1 << 20) / got.Seconds, got.Memory, os.Remove(f.To)
}

func (f fetching) curl() (float64, error) {
	began := time.Now()
	out, err := exec.Command("curl", "-sSf", "-o", f.To, f.Endpoint+"/a/b/resolve/main/"+f.Path).CombinedOutput()
	took := time.Since(began).Seconds()
	if err != nil {
		return 0, fmt.Errorf("curl: %w: %s", err, out)
	}
	return float64(f.Size) / (1 << 20) / took, os.Remove(f.To)
}

// runFetch is the worker.
func runFetch(setup string) error {
	began := time.Now()
	var f fetching
	if err := json.Unmarshal([]byte(setup), &f); err != nil {
		return err
	}
	h, err := hub.New(hub.Config{Endpoint: f.Endpoint})
	if err != nil {
		return err
	}
	src := download.FromHub(h, hub.File{Repo: "a/b", Revision: "main", Path: f.Path}, f.Size)
	if err := download.Fetch(context.Background(), download.File{Path: f.To, Size: f.Size, SHA256: f.SHA256}, src, download.Config{}); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(fetched{time.Since(began).Seconds(), peakMemory()})
}

// peakMemory is the most memory that this process took, in MiB, where that can be known.
func peakMemory() float64 {
	b, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib float64
	_, _ = fmt.Sscan(rest, &kib)
	return kib / 1024
}

// layers measures how many bytes come for half of a model's layers, of a file that is elsewhere, over those that the layers have.
func (c config) layers(models []string) (figures []*figure, err error) {
	for _, path := range models {
		f := &figure{Name: "bytes of 12 layers of 24, " + modelName(path), Reference: "that came", Floor: 0.95}
		if !c.wants(f) {
			continue
		}
		own, came, err := layersOf(path)
		if err != nil {
			return nil, err
		}
		f.pairs = []pair{{float64(own) / 1e6, float64(came) / 1e6}}
		f.print()
		figures = append(figures, f)
	}
	return figures, nil
}

func layersOf(path string) (own, came int64, err error) {
	whole, err := gguf.OpenModel(path)
	if err != nil {
		return 0, 0, err
	}
	defer whole.Close()
	r := centram.LayerRange{First: 6, End: 18}
	needs, err := gguf.Needs(whole, gguf.Share{Layers: r})
	if err != nil {
		return 0, 0, err
	}
	for _, n := range needs {
		own += n.Tensor.Size
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	dir, err := os.MkdirTemp("", "centram-bench")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	var sent atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(counting{w, &sent}, r, path)
	}))
	h, err := hub.New(hub.Config{Endpoint: "http://" + l.Addr().String()})
	if err != nil {
		return 0, 0, err
	}
	m := download.Model{Repo: "a/b", Revision: "main", Files: []catalogue.File{{Path: "model.gguf", Size: info.Size(), SHA256: strings.Repeat("0", 64)}}}
	err = m.FetchLayers(context.Background(), h, r, filepath.Join(dir, "layers.gguf"), download.Config{})
	return own, sent.Load(), err
}

// counting counts what is written.
type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n.Add(int64(n))
	return n, err
}
