package server

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/download"
	"github.com/centram/centram/models/hub"
	"github.com/centram/centram/models/hub/hubtest"
)

// shop is a server that downloads, from a hub of its own that has two models.
func shop(t *testing.T) (*node, *hubtest.Hub) {
	t.Helper()
	s := hubtest.New(t, 1, hubtest.Faults{Slow: 10 * time.Millisecond})
	dir := t.TempDir()
	var list []string
	for name, license := range map[string]string{"tiny": "mit", "strict": "qwen-research"} {
		b := []byte(strings.Repeat(name, 1<<20))
		list = append(list, `{"name":"`+name+`","title":"A `+name+` one","kind":"chat","repo":"a/b","license":"`+license+`","files":[{"path":"`+name+`.gguf","size":`+
			strconv.Itoa(len(b))+`,"sha256":"`+s.Add("a/b", name+".gguf", b)+`"}]}`)
	}
	if err := os.WriteFile(filepath.Join(dir, "catalogue.json"), []byte(`{"models":[`+strings.Join(list, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	n := start(t, func(c *Config) {
		known, err := catalogue.Load(filepath.Join(dir, "catalogue.json"))
		if err != nil {
			t.Fatal(err)
		}
		h, err := hub.New(hub.Config{Endpoint: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		q, err := download.NewQueue(download.QueueConfig{
			Hub: h, Folder: filepath.Join(dir, "models"), Changed: c.Events.Download,
			Done: func(_ context.Context, m download.Model, _ string) (string, error) { return m.Name, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- q.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			<-ended
		})
		c.Shelf, c.Downloads = &download.Orders{Catalogue: known, Hub: h, Licenses: filepath.Join(dir, "licenses")}, q
	})
	return n, s
}

func TestAModelIsDownloadedWithNewsOfHowFarItIs(t *testing.T) {
	n, _ := shop(t)
	offers := as[struct{ Models []Offer }](t, n.send(200, "GET", "/api/v1/catalogue?q=tiny", ""))
	if len(offers.Models) != 1 || offers.Models[0].SizeBytes != 4<<20 || !offers.Models[0].License.Agreed || offers.Models[0].Here {
		t.Fatalf("got %+v", offers)
	}
	news := n.view("/api/v1/events")
	made := as[Download](t, n.send(201, "POST", "/api/v1/downloads", `{"model":"tiny"}`))
	if made.Name != "tiny" || made.State != download.Queued || made.TotalBytes != 4<<20 {
		t.Errorf("got %+v", made)
	}
	n.send(409, "POST", "/api/v1/downloads", `{"model":"tiny"}`)
	stages := ""
	for !strings.Contains(stages, `"state":"ready"`) {
		name, data := news.next()
		if name != "download" {
			t.Fatalf("got the news %s %s", name, data)
		}
		stages += data
	}
	for _, want := range []string{`"state":"queued"`, `"stage":"downloading"`, `"bytes_per_second"`, `"stage":"verifying"`, `"model":"tiny"`} {
		if !strings.Contains(stages, want) {
			t.Errorf("the news never said %s", want)
		}
	}
	n.send(204, "DELETE", "/api/v1/downloads/tiny", "")
	n.send(404, "GET", "/api/v1/downloads/tiny", "")
}

func TestALicenceIsAgreedToBeforeADownload(t *testing.T) {
	n, s := shop(t)
	refused := n.send(403, "POST", "/api/v1/downloads", `{"model":"strict"}`)
	if !strings.Contains(string(refused.body), `"id":"qwen-research"`) || !strings.Contains(string(refused.body), `"url":"https://`) {
		t.Errorf("got %s, want the licence described", refused.body)
	}
	if n := len(s.Asked()); n != 0 {
		t.Errorf("the hub was asked %d times before it was agreed", n)
	}
	n.send(201, "POST", "/api/v1/downloads", `{"model":"strict","accept_license":true}`)
	n.send(200, "POST", "/api/v1/downloads/strict/pause", "{}")
	if got := as[Download](t, n.send(200, "GET", "/api/v1/downloads/strict", "")); got.State != download.Paused {
		t.Errorf("got %+v, want it paused", got)
	}
	n.send(200, "POST", "/api/v1/downloads/strict/resume", "{}")
	n.send(204, "DELETE", "/api/v1/downloads/strict", "")
	if list := as[struct{ Downloads []Download }](t, n.send(200, "GET", "/api/v1/downloads", "")); len(list.Downloads) != 0 {
		t.Errorf("got %+v, want none", list)
	}
	for _, bad := range []struct {
		status     int
		path, body string
	}{
		{404, "/api/v1/downloads", `{"model":"none"}`},
		{404, "/api/v1/downloads", `{"model":"a/b/none.gguf"}`},
		{404, "/api/v1/downloads", `{"model":"../../etc/passwd"}`},
		{400, "/api/v1/downloads", `{"model":""}`},
		{404, "/api/v1/downloads/none/pause", "{}"},
		{404, "/api/v1/downloads/none/resume", "{}"},
	} {
		n.send(bad.status, "POST", bad.path, bad.body)
	}
}
