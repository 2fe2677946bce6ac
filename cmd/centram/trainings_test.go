package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/server"
)

// school is a home with a daemon of the real program, which can be killed, and a folder of texts to learn from.
type school struct {
	*testing.T
	home, texts string
	env         []string
	daemon      *exec.Cmd
	url, token  string
}

func newSchool(t *testing.T, settings ...string) *school {
	t.Helper()
	home := t.TempDir()
	s := &school{T: t, home: home, texts: filepath.Join(home, "texts")}
	model := filepath.Join(home, "toy.gguf")
	f, err := os.Create(model)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(gguf.Generate(f, gguf.Toy(), 1), f.Close(), os.Mkdir(s.texts, 0o700)); err != nil {
		t.Fatal(err)
	}
	words := []string{"ala ", "belo ", "cira ", "dumo ", "efta "}
	for i := range 40 {
		var text strings.Builder
		for j := range 30 {
			text.WriteString(words[(i+j*(1+i%2))%len(words)])
		}
		if err := os.WriteFile(filepath.Join(s.texts, fmt.Sprintf("%02d.txt", i)), []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.env = append(os.Environ(), "CENTRAM_HOME="+filepath.Join(home, "centram"), "CENTRAM_LISTEN="+freeAddress(), "CENTRAM_MODEL="+model,
		"CENTRAM_P2P_LISTEN=off", "CENTRAM_CONTEXT=1024", "CENTRAM_THREADS=1")
	s.env = append(s.env, settings...)
	s.begin()
	t.Cleanup(func() { s.end(os.Interrupt) })
	return s
}

// begin starts the daemon, on what the last one left behind.
func (s *school) begin() {
	s.Helper()
	s.daemon = exec.Command("centram", "serve")
	s.daemon.Env = s.env
	var said bytes.Buffer
	s.daemon.Stderr = &said
	if err := s.daemon.Start(); err != nil {
		s.Fatal(err)
	}
	for _, e := range s.env {
		if addr, ok := strings.CutPrefix(e, "CENTRAM_LISTEN="); ok {
			s.url = "http://" + addr
		}
	}
	s.eventually("the daemon is ready", func() bool {
		resp, err := http.Get(s.url + "/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	token, err := exec.Command("sh", "-c", "cat $(find "+filepath.Join(s.home, "centram")+" -name token)").Output()
	if err != nil {
		s.Fatalf("no token: %v; %s", err, &said)
	}
	s.token = strings.TrimSpace(string(token))
}

func (s *school) end(how os.Signal) {
	if s.daemon == nil {
		return
	}
	_ = s.daemon.Process.Signal(how) // it may have ended
	if err := s.daemon.Wait(); err != nil && how == os.Interrupt {
		s.Errorf("the daemon ended with %v", err)
	}
	s.daemon = nil
}

func (s *school) eventually(what string, is func() bool) {
	s.Helper()
	for range 3000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Fatalf("it was not in time that %s", what)
}

// call sends a request, of which the answer has to have a status, and decodes it into into if that is not nil.
func (s *school) call(status int, method, path, body string, into any) []byte {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, s.url+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(path, "/training-files") {
		r.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		s.Fatalf("%s %s: got %s %.500s (%v), want %d", method, path, resp.Status, b, err, status)
	}
	if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			s.Fatal(err)
		}
	}
	return b
}

// teach starts a training; more are further fields of it.
func (s *school) teach(name, data, more string) (t server.Training) {
	s.Helper()
	s.call(201, "POST", "/trainings", fmt.Sprintf(`{"model":"toy","name":%q,"data":{%s},"rank":4,"context":64,"learning_rate":0.01%s}`, name, data, more), &t)
	return t
}

// goesOn is how a model goes on with a text.
func (s *school) goesOn(model, text string) string {
	s.Helper()
	resp, err := http.Post(s.url+"/v1/completions", "application/json", strings.NewReader(fmt.Sprintf(`{"model":%q,"prompt":%q,"temperature":0,"max_tokens":20}`, model, text)))
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct{ Choices []struct{ Text string } }
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || len(got.Choices) != 1 {
		s.Fatalf("%s: got %s, %+v (%v)", model, resp.Status, got, err)
	}
	return got.Choices[0].Text
}

func (s *school) training(id string) (t server.Training) {
	s.Helper()
	s.call(200, "GET", "/trainings/"+id, "", &t)
	return t
}

func (s *school) until(id, state string) (t server.Training) {
	s.Helper()
	s.eventually("the training is "+state, func() bool {
		t = s.training(id)
		if t.State == "failed" && state != "failed" {
			s.Fatalf("the training failed: %+v", t.Error)
		}
		return string(t.State) == state
	})
	return t
}

func (s *school) reaches(id string, step int) {
	s.Helper()
	s.eventually(fmt.Sprintf("the training reaches step %d", step), func() bool { return s.training(id).Step >= step })
}

func (s *school) paths() string { return fmt.Sprintf(`"paths":[%q]`, s.texts) }

// left are the files of trainings that are there.
func (s *school) left() []string {
	files, err := filepath.Glob(filepath.Join(s.home, "centram", "data", "trainings", "*"))
	if err != nil || len(files) == 0 {
		files, err = filepath.Glob(filepath.Join(s.home, "centram", "trainings", "*"))
	}
	if err != nil {
		s.Fatal(err)
	}
	return files
}

// children are the processes that train.
func (s *school) children() (pids []int) {
	out, _ := exec.Command("pgrep", "-f", "train --json --until-eof.*"+s.home).Output() // none is no success
	for _, f := range strings.Fields(string(out)) {
		var pid int
		if _, err := fmt.Sscan(f, &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestTrainingsAreSeenFromBeginToEnd(t *testing.T) {
	s := newSchool(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	var text strings.Builder
	for i := range 60 {
		fmt.Fprintf(&text, "Boat %d has a mast, and a mast has a sail, and a sail has the wind.\\n\\n", i)
	}
	var file struct{ ID string }
	s.call(201, "POST", "/training-files?name=..%2Fmore.jsonl", `{"text":"And the wind has a cloud."}`, &file)
	first := s.teach("boats", fmt.Sprintf(`"text":"%s","uploads":[%q]`, &text, file.ID), `,"steps":40`)
	second := s.teach("texts", s.paths(), `,"steps":5`)
	if first.Adapted != "toy:boats" || !strings.HasPrefix(first.About, "Boat 0 has a mast") {
		t.Errorf("got %+v", first)
	}
	s.call(409, "POST", "/trainings", `{"model":"toy","name":"Boats","data":{"text":"x"}}`, nil)
	s.call(400, "POST", "/trainings", `{"model":"toy","name":"../boats","data":{"text":"x"}}`, nil)
	s.call(400, "POST", "/trainings", `{"model":"toy","name":"x","data":{}}`, nil)
	s.call(404, "POST", "/trainings", `{"model":"toy","name":"x","data":{"paths":["/nowhere/at-all"]}}`, nil)
	s.call(404, "POST", "/trainings", fmt.Sprintf(`{"model":"toy","name":"x","data":{"uploads":[%q]}}`, file.ID), nil)
	s.call(404, "POST", "/trainings", `{"model":"toy","name":"x","data":{"chat":"none"}}`, nil)

	states := map[string][]string{}
	progress := 0
	lines := bufio.NewScanner(resp.Body)
	for len(states[second.ID]) == 0 || states[second.ID][len(states[second.ID])-1] != "done" {
		if !lines.Scan() {
			t.Fatal("the events ended")
		}
		var e server.Training
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || json.Unmarshal([]byte(data), &e) != nil || e.Adapted == "" {
			continue
		}
		if e.State == "failed" {
			t.Fatalf("got %+v", e.Error)
		}
		if n := len(states[e.ID]); n == 0 || states[e.ID][n-1] != string(e.State) {
			states[e.ID] = append(states[e.ID], string(e.State))
		} else {
			progress++
		}
		if e.ID == second.ID && e.State == "running" && s.training(first.ID).State != "done" {
			t.Error("the second runs while the first does")
		}
	}
	for _, id := range []string{first.ID, second.ID} {
		if got := fmt.Sprint(states[id]); got != "[queued running done]" {
			t.Errorf("got the states %s", got)
		}
	}
	if progress == 0 {
		t.Error("no progress was told of")
	}
	done := s.training(first.ID)
	if len(done.Curve) != 40 || done.Curve[39].Step != 40 || done.Ended == nil || done.TokensPerSecond <= 0 || done.PeakMemory == 0 {
		t.Errorf("got %+v", done)
	}
	if done.HeldBefore-done.HeldAfter < 0.3 {
		t.Errorf("the loss on what was held out went from %.3f to %.3f, want it to fall by 0.3", done.HeldBefore, done.HeldAfter)
	}
	adapter := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := os.WriteFile(adapter, s.call(200, "GET", "/trainings/"+first.ID+"/adapter", "", nil), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := gguf.Open(adapter)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	s.call(409, "POST", "/trainings/"+first.ID+"/pause", "{}", nil)
	s.call(204, "DELETE", "/trainings/"+first.ID, "", nil)
	s.call(204, "DELETE", "/trainings/"+second.ID, "", nil)
	s.call(404, "GET", "/trainings/"+second.ID, "", nil)
	for _, path := range s.left() {
		if files, err := os.ReadDir(path); err != nil || len(files) > 0 {
			t.Errorf("%s is left with %v (%v)", path, files, err)
		}
	}
	// What was learnt is there without the training, and is chatted with by its name.
	var list struct{ Adapters []server.Adapter }
	s.call(200, "GET", "/adapters", "", &list)
	if len(list.Adapters) != 2 || list.Adapters[0].Name != "boats" || !strings.Contains(fmt.Sprint(list.Adapters[0].About), "Boat 0 has a mast") {
		t.Errorf("got the adapters %+v", list.Adapters)
	}
	said := map[string]string{}
	for _, model := range []string{"toy", "toy:boats"} {
		said[model] = s.goesOn(model, "Boat 7 has")
	}
	if said["toy:boats"] == said["toy"] || !strings.Contains(said["toy:boats"], "a") {
		t.Errorf("the model goes on with %q and taught with %q", said["toy"], said["toy:boats"])
	}
	s.call(409, "POST", "/trainings", `{"model":"toy","name":"BOATS","data":{"text":"x"}}`, nil)
	s.call(400, "POST", "/trainings", `{"model":"toy:boats","name":"more","data":{"text":"x"}}`, nil)
}

func TestADisturbedTrainingEndsAsAnUndisturbedOne(t *testing.T) {
	s := newSchool(t)
	const steps = `,"steps":400,"seed":3`
	undisturbed := s.until(s.teach("same", s.paths(), steps).ID, "done")
	want := s.call(200, "GET", "/trainings/"+undisturbed.ID+"/adapter", "", nil)
	s.call(204, "DELETE", "/trainings/"+undisturbed.ID, "", nil)
	s.call(204, "DELETE", "/adapters/toy/same?file=true", "", nil)

	id := s.teach("same", s.paths(), steps).ID
	s.reaches(id, 20)
	var paused server.Training
	s.call(200, "POST", "/trainings/"+id+"/pause", "{}", &paused)
	if paused.State != "paused" || len(s.children()) > 0 {
		t.Errorf("got %s and the processes %v, want it paused and none", paused.State, s.children())
	}
	s.end(os.Interrupt)
	s.begin()
	if got := s.training(id); got.State != "paused" || got.Step < 20 {
		t.Errorf("after the daemon began anew, got %s at step %d, want it paused at 20 or later", got.State, got.Step)
	}
	s.call(200, "POST", "/trainings/"+id+"/resume", "{}", nil)
	s.reaches(id, paused.Step+20)

	s.end(syscall.SIGKILL)
	s.begin()
	var resumed server.Training
	s.eventually("it goes on by itself", func() bool {
		resumed = s.training(id)
		return resumed.State == "running" && resumed.Resumed
	})
	if resumed.Step < paused.Step+20 {
		t.Errorf("it went on at step %d, want %d or later: its process saved when the daemon was killed", resumed.Step, paused.Step+20)
	}
	s.reaches(id, paused.Step+40)

	if pids := s.children(); len(pids) != 1 {
		t.Errorf("got the processes %v, want one", pids)
	} else if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	done := s.until(id, "done")
	if got := s.call(200, "GET", "/trainings/"+id+"/adapter", "", nil); !bytes.Equal(got, want) {
		t.Error("the adapter is another one than that of the undisturbed training")
	}
	last := done.Curve[len(done.Curve)-1]
	if first := undisturbed.Curve[0]; done.Curve[0] != first || last != undisturbed.Curve[len(undisturbed.Curve)-1] {
		t.Errorf("got a curve from %v to %v, want it as undisturbed", done.Curve[0], last)
	}
}

func TestWhatIsWrongWithATrainingIsSaidInItsOwnWords(t *testing.T) {
	s := newSchool(t, "CENTRAM_MEMORY_LIMIT=64MB")
	broken := s.until(s.teach("broken", `"text":"{\"text\": \"fine\"}\n{\"text\": }"`, "").ID, "failed")
	if e := broken.Error; e == nil || e.Code != "invalid" || !strings.Contains(e.Message, "line 2") || e.Hint == "" {
		t.Errorf("got %+v, want it to name line 2", broken.Error)
	}
	large := s.until(s.teach("large", s.paths(), `,"rank":128,"targets":"all","context":2048`).ID, "failed")
	if e := large.Error; e == nil || e.Code != "too_large" || !strings.Contains(e.Message, "MiB of memory, and there are 61") || !strings.Contains(e.Hint, "smaller rank") {
		t.Errorf("got %+v, want it to say how much memory is missing", large.Error)
	}
	odd := s.until(s.teach("odd", s.paths(), `,"targets":"q,x"`).ID, "failed")
	if e := odd.Error; e == nil || !strings.Contains(e.Message, `no matrix "x"`) || e.Hint == "" {
		t.Errorf("got %+v, want it to name the matrix", odd.Error)
	}
	s.until(s.teach("fine", s.paths(), `,"steps":2`).ID, "done")
}

func TestARunningTrainingIsRemovedWithAllItsFiles(t *testing.T) {
	s := newSchool(t)
	id := s.teach("long", s.paths(), `,"steps":100000`).ID
	waits := s.teach("next", s.paths(), `,"steps":100000`).ID
	s.reaches(id, 3)
	if pids, files := s.children(), s.left(); len(pids) != 1 || len(files) != 2 {
		t.Errorf("got the processes %v and the folders %v, want one and two", pids, files)
	}
	s.call(204, "DELETE", "/trainings/"+waits, "", nil)
	s.call(204, "DELETE", "/trainings/"+id, "", nil)
	if pids, files := s.children(), s.left(); len(pids) > 0 || len(files) > 0 {
		t.Errorf("left are the processes %v and the files %v", pids, files)
	}
}

func TestChatGoesOnBesideATraining(t *testing.T) {
	s := newSchool(t)
	id := s.teach("long", s.paths(), `,"steps":100000`).ID
	s.reaches(id, 3)
	var chat struct{ ID string }
	s.call(201, "POST", "/chats", `{"model":"toy","sampling":{"max_tokens":200,"temperature":0}}`, &chat)
	var said struct{ Assistant struct{ ID string } }
	s.call(201, "POST", "/chats/"+chat.ID+"/messages", `{"content":"Is anybody there?"}`, &said)
	s.eventually("the answer ends", func() bool {
		var now struct{ Messages []struct{ ID, State string } }
		s.call(200, "GET", "/chats/"+chat.ID, "", &now)
		return now.Messages[1].State == "done"
	})
	during := s.training(id)
	if during.State != "running" {
		t.Errorf("the training is %s, want it running", during.State)
	}
	s.reaches(id, during.Step+3)
	s.call(201, "POST", "/trainings", fmt.Sprintf(`{"model":"toy","name":"talk","data":{"chat":%q}}`, chat.ID), nil)
}
