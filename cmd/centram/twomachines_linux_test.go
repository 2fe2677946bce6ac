package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/centram/centram/gguf"
	"github.com/centram/centram/p2p/p2ptest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Two machines and a model that is too big for either: what Hyperlink is for, shown by the real program. A machine is a
// network namespace with a daemon in it; a cable joins the two. All that is set is how much memory each may use.

// bigModel is 53 MB of weights in 16 layers, and has 17 MB of cache for the four chats that a model has by default.
func bigModel() gguf.Shape {
	return gguf.Shape{
		Name: "Too big for one", Layers: 16, Embedding: 512, Heads: 8, KVHeads: 2, FeedForward: 640, Context: 512, Type: gguf.F16,
	}
}

const (
	littleMemory = "48MB" // less than the weights. A plan uses four fifths of it, which is 8 layers
	enoughMemory = "1GB"
	patience     = 30 * time.Second // for what takes a moment, on a machine that has much else to do
	heardWithin  = 20 * time.Second // until a client hears that a machine is gone
)

func TestTwoMachinesRunAModelTooBigForEither(t *testing.T) {
	if !withNamespaces(t) {
		return
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "big.gguf")
	size := writeModel(t, file)
	cores := halves(t)
	alone := newComputer(t, filepath.Join(dir, "alone"), enoughMemory, cores[0])
	owner := newComputer(t, filepath.Join(dir, "owner"), littleMemory, cores[0])
	helper := newComputer(t, filepath.Join(dir, "helper"), littleMemory, cores[1])
	join(t, owner, helper)
	alone.give(file)
	owner.give(file)

	first := query{text: "Why is the sky blue?", tokens: 48}
	second := query{text: "And why is it black at night?", tokens: 48}
	long := query{text: "Tell me all that you know of clouds.", tokens: 400}
	alone.serve("CENTRAM_P2P_LISTEN=off")
	want := map[query]string{}
	for _, q := range []query{first, second, long} {
		a := alone.ask(q, true)
		if a.err != "" || len(a.text) != q.tokens {
			t.Fatalf("one machine with enough memory answered %q with %d letters and %q, want %d letters", q.text, len(a.text), a.err, q.tokens)
		}
		want[q] = a.text
	}
	alone.stop()

	owner.serve()
	helper.serve()
	helper.says(patience, "This machine was measured")
	owner.says(patience, "This machine was measured")
	owner.meets(helper)

	// A stranger is given nothing.
	a := owner.ask(first, false)
	t.Logf("before the two are paired: %d %s", a.status, a.err)
	owner.lacks(a)
	if n := helper.keeps(); n != 0 {
		t.Errorf("a stranger has %d bytes of the model", n)
	}

	owner.pair(helper)
	began := time.Now()
	owner.answers("the first chat", owner.ask(first, false), want[first])
	t.Logf("an answer %v after the pairing, with the layers fetched and loaded", time.Since(began).Round(time.Millisecond))
	helper.says(0, "Layers of a model are served")
	a = owner.ask(second, true)
	owner.answers("the second chat", a, want[second])
	t.Logf("the second chat: first token after %v, all %d after %v", a.first, second.tokens, a.took)
	if n := strings.Count(helper.said(), "Layers of a model are served"); n != 1 {
		t.Errorf("the layers were loaded %d times for two chats, want once", n)
	}
	t.Logf("memory: owner %d MB, helper %d MB; on the helper's disk: %d of the model's %d MB", owner.memory(), helper.memory(), helper.keeps()/1e6, size/1e6)
	helper.holdsASlice(size)

	// The helper dies while it computes.
	var died time.Time
	a = owner.watch(long, func(pieces int) {
		if pieces == 10 {
			died = time.Now()
			helper.kill()
		}
	})
	took := time.Since(died).Round(time.Millisecond)
	t.Logf("%v after the helper died: %s", took, a.err)
	switch {
	case died.IsZero():
		t.Fatalf("no answer to end: %q %q", a.text, a.err)
	case a.done || a.err == "" || !strings.Contains(a.err, "lost") || !strings.Contains(a.err, "Ask again"):
		t.Errorf("the answer ended with %q (complete: %v), want an error that says that a machine is lost, and to ask again", a.err, a.done)
	case took > heardWithin:
		t.Errorf("the client heard of it after %v, want %v at most", took, heardWithin)
	case !strings.HasPrefix(want[long], a.text):
		t.Errorf("what came before is %q, want a beginning of %q", a.text, want[long])
	}
	a = owner.ask(first, false)
	t.Logf("with the helper gone: %d after %v: %s", a.status, a.took, a.err)
	owner.lacks(a)
	if a.took > heardWithin {
		t.Errorf("the client heard of it after %v, want %v at most", a.took, heardWithin)
	}

	// It comes back.
	helper.serve()
	owner.answersAgain(first, want[first])

	// It dies, and is back before anybody has noticed.
	helper.kill()
	helper.serve()
	owner.answersAgain(second, want[second])
	helper.stop()
	owner.stop()
}

// halves deals out the processors to two machines. Threads of two daemons that wait for each other on the same ones would
// take a hundred times as long as they do on two machines.
func halves(t *testing.T) (out [2]unix.CPUSet) {
	t.Helper()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	var list []int
	for cpu := 0; len(list) < all.Count(); cpu++ {
		if all.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	half := max(1, len(list)/2)
	for i := range half {
		out[0].Set(list[i])
		out[1].Set(list[len(list)-1-i])
	}
	return out
}

func writeModel(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := gguf.Generate(f, bigModel(), 1); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// computer is a network namespace with a home for a daemon.
type computer struct {
	t      *testing.T
	home   string
	limit  string // of memory
	ns     *os.File
	http   http.Client
	daemon *exec.Cmd // nil while there is none
	starts int       // of the daemon
	cores  unix.CPUSet
}

func newComputer(t *testing.T, home, memory string, cores unix.CPUSet) *computer {
	t.Helper()
	ns, err := makeNamespace()
	if err != nil {
		t.Fatal(err)
	}
	m := &computer{t: t, home: home, limit: memory, ns: ns, cores: cores}
	m.http.Transport = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = inside(ns, func() (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}}
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			for ; m.starts > 0; m.starts-- {
				t.Logf("%s said, started for the %d. time:\n%s", m.name(), m.starts, m.said())
			}
		}
		ns.Close()
	})
	m.do("set up lo", func() error { return up("lo") })
	if err := os.MkdirAll(filepath.Join(home, "data", "models"), 0o700); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *computer) name() string { return filepath.Base(m.home) }

// join lays a cable between two machines.
func join(t *testing.T, a, b *computer) {
	t.Helper()
	a.do("lay a cable", func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(b.ns.Fd())})
	})
	for i, m := range []*computer{a, b} {
		m.do("set up eth0", func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr(fmt.Sprintf("10.9.0.%d/24", i+1))
			if err != nil {
				return err
			}
			return errors.Join(netlink.AddrAdd(link, addr), up("eth0"))
		})
	}
}

// up sets an interface up, of the namespace that the caller is in.
func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func (m *computer) do(what string, f func() error) {
	m.t.Helper()
	if err := inside(m.ns, f); err != nil {
		m.t.Fatalf("%s: %s: %v", m.name(), what, err)
	}
}

// give puts a file into the folder of models.
func (m *computer) give(file string) {
	m.t.Helper()
	if err := os.Link(file, filepath.Join(m.home, "data", "models", filepath.Base(file))); err != nil {
		m.t.Fatal(err)
	}
}

// command is the program as the machine's owner would start it, with no settings but the limit of memory.
func (m *computer) command(args ...string) *exec.Cmd {
	cmd := exec.Command("centram", args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CENTRAM_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "CENTRAM_HOME="+m.home, "CENTRAM_MEMORY_LIMIT="+m.limit, "NO_COLOR=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start starts a command on the machine: in its network, and on its processors.
func (m *computer) start(cmd *exec.Cmd) {
	m.t.Helper()
	m.do("start centram", func() error {
		var all unix.CPUSet
		if err := unix.SchedGetaffinity(0, &all); err != nil { // of this thread, which the process is started from
			return err
		}
		if err := unix.SchedSetaffinity(0, &m.cores); err != nil {
			return err
		}
		return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &all))
	})
}

// run runs a command to its end and returns what it wrote.
func (m *computer) run(args ...string) (string, error) {
	m.t.Helper()
	cmd := m.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	m.start(cmd)
	err := cmd.Wait()
	return out.String(), err
}

// serve starts the daemon and waits until it takes requests.
func (m *computer) serve(env ...string) {
	m.t.Helper()
	m.starts++
	log, err := os.Create(m.log())
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	m.daemon = m.command("serve")
	m.daemon.Env = append(m.daemon.Env, env...)
	m.daemon.Stdout, m.daemon.Stderr = log, log
	m.start(m.daemon)
	p2ptest.Eventually(m.t, patience, m.name()+" takes requests", func() bool {
		resp, err := m.http.Get("http://127.0.0.1:9740/health")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// stop ends the daemon as its owner would. It has to come to its end in good order.
func (m *computer) stop() {
	if m.daemon == nil {
		return
	}
	_ = m.daemon.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(patience, func() { _ = m.daemon.Process.Kill() })
	defer late.Stop()
	if err := m.daemon.Wait(); err != nil {
		m.t.Errorf("the daemon of %s: %v", m.name(), err)
	}
	m.daemon = nil
	m.http.CloseIdleConnections()
}

// kill ends the daemon without a word to anybody.
func (m *computer) kill() {
	_ = m.daemon.Process.Kill()
	_ = m.daemon.Wait()
	m.daemon = nil
	m.http.CloseIdleConnections()
}

func (m *computer) log() string { return filepath.Join(m.home, fmt.Sprint("log.", m.starts)) }

// said is what the daemon has written since it was started last.
func (m *computer) said() string {
	b, _ := os.ReadFile(m.log()) // it was never started
	return string(b)
}

func (m *computer) says(within time.Duration, text string) {
	m.t.Helper()
	p2ptest.Eventually(m.t, within, m.name()+" says: "+text, func() bool { return strings.Contains(m.said(), text) })
}

// memory is how many MB the daemon has in memory.
func (m *computer) memory() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.daemon.Process.Pid))
	if err != nil {
		m.t.Fatal(err)
	}
	rss := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	if rss == nil {
		m.t.Fatal("the kernel does not say")
	}
	kB, _ := strconv.Atoi(string(rss[1]))
	return kB / 1000
}

// keeps is how many bytes of models are on the machine's disk that others have sent.
func (m *computer) keeps() (n int64) {
	m.t.Helper()
	for _, dir := range []string{"blobs", "layers"} {
		err := filepath.WalkDir(filepath.Join(m.home, "data", dir), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				n += info.Size()
			}
			return err
		})
		if err != nil {
			m.t.Error(err)
		}
	}
	return n
}

// holdsASlice checks that the machine has one file of layers, which are not all, and little else.
func (m *computer) holdsASlice(whole int64) {
	m.t.Helper()
	if n := m.keeps(); n >= whole*3/4 {
		m.t.Errorf("%s has fetched %d bytes of a model of %d, want less than three quarters", m.name(), n, whole)
	}
	slices, err := filepath.Glob(filepath.Join(m.home, "data", "layers", "*.gguf"))
	if err != nil || len(slices) != 1 {
		m.t.Fatalf("%s has the layers %v %v, want one file", m.name(), slices, err)
	}
	g, err := gguf.OpenModel(slices[0])
	if err != nil {
		m.t.Fatal(err)
	}
	defer g.Close()
	if s := g.Summary; s.Slice.First < 1 || s.Slice.End != bigModel().Layers || s.WholeLayers != bigModel().Layers {
		m.t.Errorf("%s holds the layers %d to %d of %d, want the last ones and not the first", m.name(), s.Slice.First, s.Slice.End, s.WholeLayers)
	}
}

// peers is what the program says of the machines that it knows.
func (m *computer) peers() (list peerList) {
	m.t.Helper()
	cmd := m.command("peer", "list", "--json")
	var out bytes.Buffer
	cmd.Stdout = &out
	m.start(cmd)
	if err := errors.Join(cmd.Wait(), json.Unmarshal(out.Bytes(), &list)); err != nil {
		m.t.Fatalf("%s: peer list: %v", m.name(), err)
	}
	return list
}

// meets waits until two machines have found each other.
func (m *computer) meets(o *computer) {
	m.t.Helper()
	for _, m := range []*computer{m, o} {
		p2ptest.Eventually(m.t, patience, m.name()+" finds the other machine", func() bool {
			list := m.peers().Peers
			return len(list) == 1 && list[0].State == "connected"
		})
	}
}

// pair has both owners say that they trust each other.
func (m *computer) pair(o *computer) {
	m.t.Helper()
	ended := make(chan error, 1)
	cmd := m.command("peer", "pair", m.peers().Peers[0].Short, "--yes")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	m.start(cmd)
	go func() { ended <- cmd.Wait() }()
	o.says(patience, "A node wants to pair")
	if out, err := o.run("peer", "pair", o.peers().Peers[0].Short, "--yes"); err != nil {
		m.t.Fatalf("%s does not pair: %v\n%s", o.name(), err, out)
	}
	select {
	case err := <-ended:
		if err != nil {
			m.t.Fatalf("%s does not pair: %v\n%s", m.name(), err, out.String())
		}
	case <-time.After(patience):
		m.t.Fatalf("%s waits for the pairing that the other has agreed to", m.name())
	}
}

// query is a chat, and how long the answer is: the model has no end of its own.
type query struct {
	text   string
	tokens int
}

// reply is what the client of a chat has got.
type reply struct {
	status int
	text   string
	err    string
	done   bool          // the answer says that it is complete
	first  time.Duration // until the first token
	took   time.Duration
}

// ask puts a question to the daemon, and reads the answer piece by piece or at once.
func (m *computer) ask(q query, stream bool) reply {
	m.t.Helper()
	if stream {
		return m.watch(q, func(int) {})
	}
	began := time.Now()
	resp := m.post(q, false)
	defer resp.Body.Close()
	a := reply{status: resp.StatusCode}
	var body struct {
		Choices []struct {
			Message struct{ Content string }
		}
		Error struct{ Message string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		m.t.Fatal(err)
	}
	if a.err = body.Error.Message; len(body.Choices) == 1 {
		a.text, a.done = body.Choices[0].Message.Content, true
	}
	a.took = time.Since(began).Round(time.Millisecond)
	return a
}

// watch calls heard after each piece of a streamed answer.
func (m *computer) watch(q query, heard func(pieces int)) reply {
	m.t.Helper()
	began := time.Now()
	resp := m.post(q, true)
	defer resp.Body.Close()
	a, pieces := reply{status: resp.StatusCode}, 0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		if resp.StatusCode != http.StatusOK {
			line = "data: " + line
		}
		data, ok := strings.CutPrefix(line, "data: ")
		switch {
		case !ok:
			continue
		case data == "[DONE]":
			a.done = true
			continue
		}
		var chunk struct {
			Choices []struct {
				Delta struct{ Content string }
			}
			Error struct{ Message string }
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			m.t.Fatalf("%v in %q", err, data)
		}
		if chunk.Error.Message != "" {
			a.err = chunk.Error.Message
		}
		for _, c := range chunk.Choices {
			if c.Delta.Content == "" {
				continue
			}
			if pieces++; pieces == 1 {
				a.first = time.Since(began).Round(time.Millisecond)
			}
			a.text += c.Delta.Content
			heard(pieces)
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		m.t.Errorf("the stream broke off: %v", err)
	}
	a.took = time.Since(began).Round(time.Millisecond)
	return a
}

// post sends a chat to be answered with the likeliest letters. The model's other tokens are bytes that are none, or end the
// answer: they are ruled out.
func (m *computer) post(q query, stream bool) *http.Response {
	m.t.Helper()
	bias := map[string]int{}
	for token := range gguf.ByteVocab().Size() {
		if token < ' ' || token > '~' {
			bias[strconv.Itoa(token)] = -100
		}
	}
	body, err := json.Marshal(map[string]any{
		"model": "big", "stream": stream, "temperature": 0, "max_tokens": q.tokens, "logit_bias": bias,
		"messages": []map[string]string{{"role": "user", "content": q.text}},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*patience)
	m.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:9740/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := m.http.Do(r)
	if err != nil {
		m.t.Fatalf("%s: %v", m.name(), err)
	}
	return resp
}

// answers checks an answer against that of one machine.
func (m *computer) answers(what string, a reply, want string) {
	m.t.Helper()
	if a.status != http.StatusOK || a.err != "" || !a.done || a.text != want {
		m.t.Fatalf("%s: got %d %q (complete: %v) %s\nwant what one machine says: %q", what, a.status, a.text, a.done, a.err, want)
	}
}

// answersAgain has a client ask again and again after a machine has come back. It may be refused, and is told why.
func (m *computer) answersAgain(q query, want string) {
	m.t.Helper()
	began, asked, a := time.Now(), 0, reply{}
	p2ptest.Eventually(m.t, patience, m.name()+" answers again", func() bool {
		last := a.err
		asked++
		if a = m.ask(q, true); a.err != "" && a.err != last {
			m.t.Logf("not yet, %v after the start of the helper: %d %s", time.Since(began).Round(time.Millisecond), a.status, a.err)
		}
		return a.err == ""
	})
	m.answers("after the helper is back", a, want)
	m.t.Logf("an answer %v after the start of the helper, when asked for the %d. time", time.Since(began).Round(time.Millisecond), asked)
}

// lacks checks that a chat was refused with how much memory is missing, and what to do.
func (m *computer) lacks(a reply) {
	m.t.Helper()
	missing := regexp.MustCompile(`needs \d+ MiB, which is \d+ MiB more`)
	if a.status != http.StatusServiceUnavailable || !missing.MatchString(a.err) || !strings.Contains(a.err, "centram peer pair") {
		m.t.Errorf("got %d %q %s\nwant an error that says how much memory is missing, and to pair", a.status, a.text, a.err)
	}
}

// inside calls f in a namespace. A process that f starts stays in it, and so does a socket.
func inside(ns *os.File, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // the thread would go on in the wrong network, and it must not end: its children would, too
		}
	}()
	return f()
}

func makeNamespace() (ns *os.File, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	ns, err = os.Open("/proc/thread-self/ns/net")
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(back)
	}
	return ns, err
}

// withNamespaces says whether t can go on here. Where only root may make network namespaces, it runs the test once more as
// the root of a user namespace, and reports what came of that. It skips the test where neither works, unless
// CENTRAM_REQUIRE_NETNS is set: then it fails it.
func withNamespaces(t *testing.T) bool {
	t.Helper()
	if testing.Short() {
		t.Skip("takes its time")
	}
	ns, err := makeNamespace()
	if err == nil {
		ns.Close()
		return true
	}
	const again = "CENTRAM_NETNS_AGAIN"
	if os.Getenv(again) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
		cmd.Env = append(os.Environ(), again+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
			Pdeathsig:   syscall.SIGKILL,
		}
		out, failed := cmd.CombinedOutput()
		if cmd.ProcessState != nil { // else there are no user namespaces either
			t.Logf("as the root of a user namespace:\n%s", out)
			switch {
			case failed != nil:
				t.Error(failed)
			case strings.Contains(string(out), "--- SKIP: "+t.Name()+" "):
				t.Skip("skipped there")
			}
			return false
		}
		err = errors.Join(err, failed)
	}
	if os.Getenv("CENTRAM_REQUIRE_NETNS") != "" {
		t.Fatalf("no network namespaces: %v", err)
	}
	t.Skipf("no network namespaces here: %v", err)
	return false
}
