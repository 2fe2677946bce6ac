package p2p

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	gometrics "runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
	"github.com/quic-go/quic-go"
)

// FuzzStateMachine lets a peer say anything, in any order, to a node's session. The bytes are a program:
//
//	setting  1  who the peer is, and how all ends: the bits of setting
//	step     6  where and what: lane, type, flags, body, signature, request number; see script.step
//	...
//
// The session is the node's own. What carries it is in memory, and time is a bubble's. Whatever the program is, no handler
// sees a message that is not whole, rightly signed, of the right rank, and said in a session; a fault in the control stream
// ends the session and costs points; each request gets one answer; what the node says is right; and all ends in a bounded
// time and takes a bounded amount of memory.
func FuzzStateMachine(f *testing.F) {
	goldenBodies(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		before := allocated()
		synctest.Test(t, func(t *testing.T) { newScript(t, program).run() })
		if got := allocated() - before; got > mostMemory {
			t.Errorf("%d bytes were allocated, want at most %d", got, mostMemory)
		}
	})
}

const (
	mostSteps  = 48
	mostMemory = 8 << 20
)

func allocated() uint64 {
	s := []gometrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	gometrics.Read(s)
	return s[0].Value.Uint64()
}

// The bits of a program's first byte.
const (
	setDialled = 1 << iota // the node has dialled
	setHello               // the peer begins with an honest hello
	setFriend              // the peer is paired, or
	setOwn                 // of the same owner
	setOpen                // the node's policy is open, or
	setPrivate             // private
	setGoodbye             // at the end, the peer says goodbye; else it is just gone, or
	setStop                // it is the node that stops
)

// stage is how far a session has come, as far as its script can tell.
type stage string

const (
	wantHello stage = "before HELLO"
	wantAck   stage = "before HELLO_ACK"
	running   stage = "running"
	ended     stage = "ended"
	unsure    stage = "unsure"
)

// script plays a program to a node.
type script struct {
	t       *testing.T
	setting byte
	program []byte

	node    *Node
	builtin [256]bool // types that the node handles itself
	carrier *memCarrier
	control *memStream
	last    *asked // stream of a request that was opened last
	asks    uint64 // requests of the node
	scope   wire.Scope
	stage   stage
	deaf    atomic.Bool   // the peer does not read
	hears   chan struct{} // closed when it reads again
	stop    context.CancelFunc
	done    chan struct{} // closed when the node is through with the connection

	mu      sync.Mutex     // guards the following
	may     map[string]int // what handlers may see, and how often
	replies map[string]int // what the node may take for answers
	handled int
	said    []wire.Type // by the node, in the control stream
}

// asked is a stream at the peer's end: of a request, or the control stream.
type asked struct {
	stream  *memStream
	request uint64
	node    bool // it is the node that asks
	heard   atomic.Int32
}

var (
	fuzzKeys   [3]ed25519.PrivateKey // of the node, of the peer, and of somebody else
	fuzzIDs    [3]centram.PeerID
	fuzzBodies [256][][]byte
	fuzzTypes  []wire.Type
)

// goldenBodies reads what every type looks like.
func goldenBodies(f *testing.F) {
	for i := range fuzzKeys {
		fuzzKeys[i] = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize))
		fuzzIDs[i] = centram.PeerID(fuzzKeys[i].Public().(ed25519.PublicKey))
	}
	fuzzTypes = []wire.Type{0x0f, 0xff} // unknown ones
	for _, row := range wire.Table {
		fuzzTypes = append(fuzzTypes, row.Type)
		golden, err := os.ReadFile(filepath.Join("wire", "testdata", "golden", strings.ToLower(row.Name)+".hex"))
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(golden)) {
			b, err := hex.DecodeString(strings.TrimSpace(line))
			if err != nil {
				f.Fatal(err)
			}
			frame, err := wire.Parse(b)
			if err != nil {
				f.Fatal(err)
			}
			fuzzBodies[row.Type] = append(fuzzBodies[row.Type], frame.Body)
		}
	}
	honest := []wire.Message{
		&wire.Hello{
			ProtoMin: 1, ProtoMax: 1, Network: wire.NetworkOf(""), Boot: 1, Caps: []string{}, Port: 1,
			Limits: wire.Limits{Requests: 4, Records: 600},
		},
		&wire.HelloAck{Proto: 1, Caps: []string{}, Observed: "192.0.2.1:1", Limits: wire.Limits{Requests: 4, Records: 600}},
	}
	for _, m := range honest { // those of the golden files are of another network
		body, err := wire.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		t := wire.RowFor(m).Type
		fuzzBodies[t] = append([][]byte{body}, fuzzBodies[t]...)
	}
}

func newScript(t *testing.T, program []byte) *script {
	s := &script{
		t: t, program: program, stage: wantHello, hears: make(chan struct{}), done: make(chan struct{}),
		may: map[string]int{}, replies: map[string]int{},
		scope: wire.Scope{Network: wire.NetworkOf(""), Session: wire.Hash{1, 2, 3}},
	}
	s.setting = s.take()
	cfg := Config{Key: fuzzKeys[0], Log: slog.New(slog.DiscardHandler), Policy: PolicyPaired}
	switch {
	case s.setting&setOpen != 0:
		cfg.Policy = PolicyOpen
	case s.setting&setPrivate != 0:
		cfg.Policy = PolicyPrivate
	}
	var err error
	if s.node, err = newNode(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	s.node.transport = &quic.Transport{Conn: nowhere{}}
	if trust := s.trust(); trust != wire.Stranger {
		if err := s.node.book.Trust(t.Context(), fuzzIDs[1], trust); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range wire.Table {
		s.builtin[row.Type] = s.node.mux.handlers[row.Type] != nil
		if !s.builtin[row.Type] && !inSession[row.Type] {
			s.node.mux.handlers[row.Type] = s.handle
		}
	}
	return s
}

func (s *script) trust() wire.Trust {
	switch {
	case s.setting&setOwn != 0:
		return wire.Own
	case s.setting&setFriend != 0:
		return wire.Friend
	}
	return wire.Stranger
}

func (s *script) take() byte {
	if len(s.program) == 0 {
		return 0
	}
	b := s.program[0]
	s.program = s.program[1:]
	return b
}

func (s *script) run() {
	s.carrier = newMemCarrier(fuzzIDs[1], s.scope.Session, s.setting&setDialled != 0)
	ctx, stop := context.WithCancel(s.t.Context())
	s.stop = stop
	go func() {
		defer close(s.done)
		_ = s.node.meet(ctx, s.carrier, "")
	}()
	if s.carrier.dialled {
		s.control = <-s.carrier.opened
	} else {
		s.control = s.carrier.open()
	}
	go s.listen(&asked{stream: s.control})
	if s.setting&setHello != 0 {
		for _, t := range []wire.Type{wire.RowAs[wire.Hello]().Type, wire.RowAs[wire.HelloAck]().Type} {
			s.step([]byte{0, byte(slices.Index(fuzzTypes, t)), 0, 0, 0, 0})
		}
	}
	for range mostSteps {
		if len(s.program) == 0 {
			break
		}
		var step [6]byte
		for i := range step {
			step[i] = s.take()
		}
		s.step(step[:])
	}
	s.finish()
}

// step does one thing:
//
//	b[0]%8  0-2 says a frame in the control stream, 3-4 in a stream of its own, 5 in the last such stream
//	        6   ends that stream one way or another, or something else that is no frame; see interrupt
//	        7   lets time pass
//	b[1]    type, as an index into fuzzTypes
//	b[2]    flags, and what is wrong with the header
//	b[3]    body: one of the golden ones, as it is, changed, cut or made up
//	b[4]    who signs
//	b[5]    request number, and what is changed in the body
func (s *script) step(b []byte) {
	if s.stage == ended {
		return
	}
	if s.deaf.Load() {
		s.stage = unsure // it is let go when the node has waited for it long enough, whatever it says meanwhile
	}
	switch b[0] % 8 {
	case 0, 1, 2:
		s.say(s.frame(b))
	case 3, 4:
		s.ask(s.frame(b))
	case 5:
		s.goOn(s.frame(b))
	case 6:
		s.interrupt(b[1] % 8)
	case 7:
		s.pass(time.Duration(b[1]%4) * 5 * time.Second)
	}
}

// say says a frame in the control stream.
func (s *script) say(f *spoken) {
	before := s.count()
	next, passes := s.judge(f)
	if s.write(s.control, f.raw) != nil && next != ended && next != unsure {
		s.t.Errorf("%v: the node does not read the control stream, %s", f, s.stage)
	}
	synctest.Wait()
	if got := s.count() - before; passes && got != 1 {
		s.t.Errorf("%v: handled %d times, want once", f, got)
	}
	s.turn(f, next)
}

// judge says where a frame in the control stream takes the session, and whether a handler has to see it.
func (s *script) judge(f *spoken) (next stage, passes bool) {
	switch {
	case s.stage == unsure:
		return unsure, false
	case !f.whole:
		return ended, false
	case f.cut:
		return unsure, false // the next frames are taken for its rest
	case f.row == nil && s.stage == running:
		return running, false // skipped
	case f.row == nil, f.row.Lane != wire.Control && f.Type != typeStatus, s.stage != running && f.row.Rank != wire.Anyone:
		return ended, false
	case !s.ranked(f.row):
		return running, false // refused, but no fault
	case !f.signed, f.message == nil:
		return ended, false
	}
	switch m := f.message.(type) {
	case *wire.Hello:
		private := s.setting&(setPrivate|setOpen) == setPrivate && s.trust() == wire.Stranger
		if s.stage == wantHello && m.Network == s.scope.Network && m.ProtoMin <= wire.Version && !private {
			return wantAck, false
		}
		return ended, false
	case *wire.HelloAck:
		if s.stage == wantAck && m.Proto == wire.Version {
			return running, false
		}
		return ended, false
	case *wire.Goodbye:
		return ended, false
	}
	switch {
	case s.stage != running:
		return ended, false
	case s.builtin[f.Type]:
		return unsure, false // the node has its own opinion
	}
	return running, !inSession[f.Type]
}

// ask says a frame in a stream of its own.
func (s *script) ask(f *spoken) {
	stream := s.carrier.open()
	if stream == nil {
		return
	}
	s.last = &asked{stream: stream, request: f.Request}
	go s.listen(s.last)
	if s.stage != running {
		s.stage = unsure // what the frame is taken for depends on when it is read
	}
	_ = s.write(stream, f.raw) // what is refused by its header is not read to the end
	synctest.Wait()
	next, answered := s.stage, false
	switch {
	case s.stage != running:
	case !f.whole:
		next = ended
	case f.row != nil && !s.ranked(f.row):
		answered = true
	case f.cut && f.row != nil && f.row.Way != wire.Ask:
		next = unsure // what is no request is not waited for, if its header has come
	case f.cut: // it is waited for
	case f.row == nil:
		answered = true
	case !f.signed, f.message == nil, f.row.Way != wire.Ask, f.Request == 0:
		next = ended
	case s.builtin[f.Type], f.Request > 1:
		next = unsure // it may wait for the owner, or be the second of its number
	default:
		answered = true
	}
	if got := s.last.heard.Load(); answered && !s.deaf.Load() && got != 1 {
		s.t.Errorf("%v: %d answers, want one", f, got)
	}
	s.turn(f, next)
	s.settle()
}

// goOn says one more frame in the stream that was opened last.
func (s *script) goOn(f *spoken) {
	if s.last == nil {
		return
	}
	answers := f.Type == typeStatus || f.Type == wire.RowAs[wire.LedgerRecon]().Type
	if s.last.node && answers && f.signed && f.message != nil && f.Flags&wire.Reply != 0 && f.Request == s.last.request {
		s.mu.Lock()
		s.replies[f.key()]++
		s.mu.Unlock()
	}
	_ = s.write(s.last.stream, f.raw)
	synctest.Wait()
	s.settle()
}

// interrupt does something to the last stream or to the peer's ears, opens a stream for nothing, or has the node ask.
func (s *script) interrupt(how byte) {
	switch {
	case how == 3:
		s.deaf.Store(true)
	case how < 6 && how > 3:
		s.nodeAsks()
	case how >= 6:
		s.openInVain()
	case s.last == nil:
	case how == 0:
		_ = s.last.stream.CloseWrite()
	case how == 1:
		s.last.stream.Reset()
	case how == 2:
		s.last.stream.CloseRead()
	}
	synctest.Wait()
	s.settle()
}

// openInVain opens a stream and ends it at once, which nobody does by chance.
func (s *script) openInVain() {
	stream := s.carrier.open()
	if stream == nil {
		return
	}
	_ = stream.CloseWrite()
	time.Sleep(2 * time.Second)
	if s.stage == running && !s.through() {
		s.t.Error("an empty stream: the session goes on")
	}
	s.stage = unsure
}

// nodeAsks has the node ask the peer something. What the peer says next in the last stream are its answers.
func (s *script) nodeAsks() {
	p := s.node.Peer(fuzzIDs[1])
	if p == nil {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
		defer cancel()
		x, err := p.Open(ctx, &wire.LedgerRecon{Session: 1})
		if err != nil {
			return
		}
		defer x.Close()
		for {
			m, err := x.Receive(ctx)
			if err != nil {
				return
			}
			s.answered(m)
		}
	}()
	synctest.Wait()
	select {
	case stream := <-s.carrier.opened:
		s.asks++
		s.last = &asked{stream: stream, request: s.asks, node: true}
		go s.listen(s.last)
	default: // as many as the peer takes are under way
	}
}

// answered takes what the node takes for an answer.
func (s *script) answered(m wire.Message) {
	row := wire.RowFor(m)
	body, err := wire.Encode(m)
	if err != nil {
		s.t.Errorf("an answer %s: %v", row.Name, err)
	}
	key := string(row.Type) + string(fuzzIDs[1][:]) + string(body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replies[key]--; s.replies[key] < 0 {
		s.t.Errorf("the node took %s for an answer, which nobody gave", row.Name)
	}
}

// pass lets time pass.
func (s *script) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	if s.stage != running || s.deaf.Load() {
		s.stage = unsure // there are deadlines for hellos, and for a peer that does not listen
	}
	s.settle()
}

// turn goes on to the next stage, and wants the node to be there.
func (s *script) turn(f *spoken, next stage) {
	before := s.stage
	s.stage = next
	switch {
	case next == ended:
		time.Sleep(20 * time.Second)
		if !s.through() {
			s.t.Errorf("%v: the session goes on, %s", f, before)
		}
		if _, bye := f.message.(*wire.Goodbye); before == running && !bye {
			s.wantPunished(f)
		}
	case next == running && before != running && s.node.Peer(fuzzIDs[1]) == nil:
		s.t.Errorf("%v: no session", f)
	}
	s.settle()
}

// wantPunished wants the node to have counted a fault, and to have said so if the peer has listened.
func (s *script) wantPunished(f *spoken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.node.book.peers[fuzzIDs[1]]; c.penalty == 0 && c.bans == 0 {
		s.t.Errorf("%v: the fault cost nothing", f)
	}
	if n := len(s.said); !s.deaf.Load() && (n == 0 || s.said[n-1] != wire.RowAs[wire.Goodbye]().Type) {
		s.t.Errorf("%v: the node left without a goodbye", f)
	}
}

// settle finds out where the session is, after something that cannot be judged from outside.
func (s *script) settle() {
	if s.stage != unsure && s.stage != running {
		return
	}
	time.Sleep(2 * time.Second)
	synctest.Wait()
	if s.through() {
		s.stage = ended
	}
}

func (s *script) through() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handled
}

// write writes what the node is to read. It does not wait for ever.
func (s *script) write(to *memStream, b []byte) error {
	_ = to.SetWriteDeadline(time.Now().Add(time.Second))
	_, err := to.Write(b)
	return err
}

// listen checks what the node says in a stream.
func (s *script) listen(a *asked) {
	for {
		if s.deaf.Load() {
			<-s.hears
		}
		f, err := wire.Read(a.stream)
		if err != nil {
			if _, bad := errors.AsType[*wire.Status](err); bad {
				s.t.Errorf("the node said what is no frame: %v", err)
			}
			return
		}
		a.heard.Add(1)
		_, err = f.Decode()
		signature := ed25519.Sign(fuzzKeys[0], signedBytes(f, wire.RowOf(f.Type), s.scope))
		if err != nil || f.Author != fuzzIDs[0] || !bytes.Equal(f.Signature[:], signature) {
			s.t.Errorf("the node said %s by %v: %v", f.Type, f.Author, err)
		}
		switch {
		case a.stream == s.control:
			s.mu.Lock()
			s.said = append(s.said, f.Type)
			s.mu.Unlock()
		case f.Request != a.request, (f.Flags&wire.Reply != 0) == a.node:
			s.t.Errorf("the node said %s, flags %b, in the stream of request %d for %d", f.Type, f.Flags, a.request, f.Request)
		}
	}
}

// handle handles all types that the node does not handle itself.
func (s *script) handle(ctx context.Context, p *Peer, m wire.Message, x *Exchange) error {
	f := ctx.Value(frameKey{}).(*wire.Frame)
	row := wire.RowFor(m)
	s.mu.Lock()
	k := (&spoken{Frame: *f}).key()
	s.may[k]--
	s.handled++
	left := s.may[k]
	s.mu.Unlock()
	switch {
	case left < 0:
		s.t.Errorf("a handler got %s, which nobody could say, or had said once less", row.Name)
	case p.hello == nil || p.slots == nil:
		s.t.Errorf("a handler got %s without a session", row.Name)
	case (x == nil) != (row.Lane == wire.Control) || (x == nil) != (row.Way != wire.Ask):
		s.t.Errorf("a handler got %s, which is no such thing", row.Name)
	case m.Validate() != nil:
		s.t.Errorf("a handler got %s: %v", row.Name, m.Validate())
	}
	if x == nil {
		return nil
	}
	switch f.Request {
	case 2: // goes on until the peer has said all it wants to
		for {
			if _, err := x.Receive(ctx); err != nil {
				return nil
			}
		}
	case 3: // goes on until somebody stops it
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if slices.Contains(row.Replies, row.Type) {
		return x.Send(ctx, m)
	}
	return nil
}

// finish ends the session, if it has not ended, and wants nothing to be left of it.
func (s *script) finish() {
	switch {
	case s.setting&setStop != 0:
		s.stop()
	case s.setting&setGoodbye != 0 && s.stage == running:
		f, err := wire.Seal(&wire.Goodbye{}, fuzzKeys[1], s.scope, 0, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		_ = s.write(s.control, f.Append(nil))
	default:
		s.carrier.Close(wire.ShuttingDown)
	}
	patience := 3 * time.Second
	if s.deaf.Load() {
		patience = 15 * time.Second // what is being written has a deadline, and so has the goodbye
	}
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Errorf("%v after its end the session is still there", patience)
	}
	s.stop()
	s.carrier.Close(wire.ShuttingDown)
	close(s.hears)
	synctest.Wait()
	if n := len(s.node.Peers()); n != 0 {
		s.t.Errorf("%d sessions are left", n)
	}
}
