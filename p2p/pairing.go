package p2p

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/wire"
	"golang.org/x/sync/errgroup"
)

const (
	pairingTime  = 2 * time.Minute
	codeDigits   = 8
	codeAttempts = 5
	maxPairings  = 16 // that wait for the owner
)

// Pairing is a pairing that waits for somebody.
type Pairing struct {
	Peer     centram.PeerID
	Name     string    // of the peer
	Secret   wire.Hash // the same on both sides; people compare words made of it
	Outgoing bool      // this side asked
	Mine     bool      // this owner has agreed
	Theirs   bool      // the peer has
	Expires  time.Time
	Failed   string // why it came to nothing; empty while it may still come to something
}

// Code is what one owner reads out and the other types.
type Code struct {
	Code    string // digits
	Expires time.Time
}

// pairing makes strangers friends. Both owners have to want it: either they compare the words that both screens show, or
// one types the code that the other screen shows, which proves the same without comparing.
type pairing struct {
	node *Node
	asks chan centram.PeerID // outgoing pairings to start

	mu       sync.Mutex // guards the following
	pending  map[centram.PeerID]*waiting
	code     string // empty: none is shown
	expires  time.Time
	attempts int
	answers  map[centram.PeerID]exchangeState
}

type waiting struct {
	Pairing
	decided chan struct{} // closed when Mine or Failed is set
}

// exchangeState is the answering side of an exchange between its two requests.
type exchangeState struct {
	session wire.Hash
	proof   []byte // that the asker has to show
}

func newPairing(n *Node) *pairing {
	p := &pairing{
		node: n, asks: make(chan centram.PeerID, maxPairings),
		pending: map[centram.PeerID]*waiting{}, answers: map[centram.PeerID]exchangeState{},
	}
	Answer(n.mux, p.requested)
	return p
}

// ShowCode makes a code that is good for one pairing within two minutes, or for five wrong attempts. It takes the place of
// the last one.
func (n *Node) ShowCode() Code {
	most := new(big.Int).Exp(big.NewInt(10), big.NewInt(codeDigits), nil)
	v, err := rand.Int(rand.Reader, most)
	if err != nil {
		panic(err) // never: without randomness the program ends
	}
	p := n.pairing
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code, p.expires, p.attempts = fmt.Sprintf("%0*d", codeDigits, v), time.Now().Add(pairingTime), 0
	clear(p.answers)
	return Code{p.code, p.expires}
}

// open says whether a code is shown: then a private node lets strangers in, to type it.
func (p *pairing) open() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.codeNow() != ""
}

func (p *pairing) codeNow() string {
	if time.Now().After(p.expires) || p.attempts >= codeAttempts {
		p.code = ""
	}
	return p.code
}

// PairWithCode pairs with a peer whose screen shows code. It fails with centram.Forbidden if the code is wrong.
func (n *Node) PairWithCode(ctx context.Context, id centram.PeerID, code string) error {
	peer := n.Peer(id)
	if peer == nil {
		return notConnected(id)
	}
	code = strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, code)
	if len(code) != codeDigits {
		return centram.Errorf(centram.Invalid, "a pairing code has %d digits", codeDigits).WithHint("It is on the other screen: centram peer code")
	}
	ctx, cancel := context.WithTimeout(ctx, bodyTimeout)
	defer cancel()
	side := newCPace(code, channelOf(n.id, id), peer.scope.Session[:])
	first, err := Ask[wire.PairConfirm](ctx, peer, &wire.PairRequest{Name: n.name, Share: side.share})
	if err != nil {
		return err
	}
	mine, theirs, err := side.proofs(first.Share, side.share, first.Share)
	if err != nil || !hmac.Equal(theirs, first.Proof) {
		return centram.Errorf(centram.Forbidden, "the code is wrong, or it has run out").WithHint("Have the other side show a new one: centram peer code")
	}
	second, err := Ask[wire.PairConfirm](ctx, peer, &wire.PairRequest{Name: n.name, Proof: mine})
	if err != nil {
		return err
	}
	if !second.Done {
		return centram.Errorf(centram.Unavailable, "the peer did not finish the pairing").WithHint("Try again.")
	}
	return n.befriend(ctx, peer)
}

// StartPairing asks a peer's owner to pair. Both screens then show the same words; Decide is what this owner says to them.
func (n *Node) StartPairing(id centram.PeerID) (Pairing, error) {
	peer := n.Peer(id)
	if peer == nil {
		return Pairing{}, notConnected(id)
	}
	w, err := n.pairing.wait(peer, true)
	if err != nil {
		return Pairing{}, err
	}
	select {
	case n.pairing.asks <- id:
	default:
		n.pairing.drop(id)
		return Pairing{}, centram.Errorf(centram.Unavailable, "%d pairings are under way", maxPairings).WithHint("Try again in two minutes.")
	}
	n.pairing.mu.Lock()
	defer n.pairing.mu.Unlock()
	return w.Pairing, nil
}

func notConnected(id centram.PeerID) error {
	return centram.Errorf(centram.NotFound, "%s is not connected", id.Short()).
		WithHint("See who is with: centram peer list. Dial an address with: centram peer add HOST:PORT")
}

// Pairings are those that wait for somebody, or came to nothing a moment ago. The oldest comes first.
func (n *Node) Pairings() []Pairing {
	p := n.pairing
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []Pairing
	for id, w := range p.pending {
		if time.Now().After(w.Expires) {
			if w.Failed == "" && !(w.Mine && w.Theirs) {
				w.Failed = "nobody answered in time"
			}
			if time.Now().After(w.Expires.Add(pairingTime)) {
				delete(p.pending, id)
				continue
			}
		}
		list = append(list, w.Pairing)
	}
	slices.SortFunc(list, func(a, b Pairing) int {
		return cmp.Or(a.Expires.Compare(b.Expires), slices.Compare(a.Peer[:], b.Peer[:]))
	})
	return list
}

// Decide is the owner's word on a pairing that waits for it. It fails with centram.NotFound if there is none.
func (n *Node) Decide(ctx context.Context, id centram.PeerID, agree bool) error {
	p := n.pairing
	p.mu.Lock()
	w := p.pending[id]
	if w == nil || w.Mine || w.Failed != "" || time.Now().After(w.Expires) {
		p.mu.Unlock()
		return centram.Errorf(centram.NotFound, "no pairing with %s waits for you", id.Short()).WithHint("Start one with: centram peer pair %s", id.Short())
	}
	if agree {
		w.Mine = true
	} else {
		w.Failed = "refused here"
	}
	both := w.Mine && w.Theirs
	close(w.decided)
	p.mu.Unlock()
	n.cfg.Changed(Change{"pairing", id})
	if peer := n.Peer(id); both && w.Outgoing && peer != nil {
		return n.befriend(ctx, peer)
	}
	return nil
}

// incoming notes that a peer's owner wants to pair. If this owner has asked the same a moment ago, both have.
func (p *pairing) incoming(peer *Peer) (*waiting, error) {
	if !peer.asks.Allow() {
		return nil, &wire.Status{Code: wire.RateLimited, RetryMs: 20_000, Detail: "too many wishes to pair"}
	}
	p.mu.Lock()
	if w := p.pending[peer.id]; w != nil && w.Outgoing && w.Failed == "" && time.Now().Before(w.Expires) {
		w.Theirs = true
		p.mu.Unlock()
		return w, nil
	}
	p.mu.Unlock()
	return p.wait(peer, false)
}

// wait notes a pairing that waits for the owner.
func (p *pairing) wait(peer *Peer, outgoing bool) (*waiting, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for id, w := range p.pending {
		if now.After(w.Expires) || w.Failed != "" || w.Mine && w.Theirs {
			delete(p.pending, id)
		}
	}
	if w := p.pending[peer.id]; w != nil {
		return nil, centram.Errorf(centram.Conflict, "a pairing with %s is under way", peer.id.Short()).WithHint("Answer it with: centram peer pair %s", peer.id.Short())
	}
	if len(p.pending) >= maxPairings {
		return nil, centram.Errorf(centram.Unavailable, "%d pairings are under way", maxPairings).WithHint("Try again in two minutes.")
	}
	w := &waiting{decided: make(chan struct{}), Pairing: Pairing{
		Peer: peer.id, Name: peer.Name(), Secret: peer.Secret(), Outgoing: outgoing, Theirs: !outgoing, Expires: now.Add(pairingTime),
	}}
	p.pending[peer.id] = w
	return w, nil
}

func (p *pairing) drop(id centram.PeerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, id)
}

// run asks peers for the pairings that StartPairing has noted.
func (p *pairing) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for {
		select {
		case id := <-p.asks:
			g.Go(func() error {
				p.ask(ctx, id)
				return nil
			})
		case <-ctx.Done():
			return g.Wait()
		}
	}
}

// ask waits for the peer's owner, and makes the peer a friend if this owner has agreed by then.
func (p *pairing) ask(ctx context.Context, id centram.PeerID) {
	n := p.node
	ctx, cancel := context.WithTimeout(ctx, pairingTime)
	defer cancel()
	peer := n.Peer(id)
	err := notConnected(id)
	if peer != nil {
		_, err = Ask[wire.PairConfirm](ctx, peer, &wire.PairRequest{Name: n.name})
	}
	p.mu.Lock()
	w := p.pending[id]
	both := false
	switch {
	case w == nil:
	case err != nil:
		w.Failed = err.Error()
	default:
		w.Theirs = true
		both = w.Mine
	}
	p.mu.Unlock()
	if both {
		err = n.befriend(ctx, peer)
	}
	if err != nil {
		n.log.InfoContext(ctx, "No pairing", "peer", id.Short(), "err", err)
	}
	n.cfg.Changed(Change{"pairing", id})
}

// requested answers a peer that wants to pair.
func (p *pairing) requested(ctx context.Context, peer *Peer, q *wire.PairRequest) (*wire.PairConfirm, error) {
	switch {
	case len(q.Share) > 0:
		return p.challenge(peer, q)
	case len(q.Proof) > 0:
		return p.prove(ctx, peer, q)
	}
	w, err := p.incoming(peer)
	if err != nil {
		return nil, err
	}
	p.node.cfg.Changed(Change{"pairing", peer.id})
	ctx, cancel := context.WithDeadline(ctx, w.Expires)
	defer cancel()
	select {
	case <-w.decided:
	case <-ctx.Done():
		p.drop(peer.id)
		p.node.cfg.Changed(Change{"pairing", peer.id})
		return nil, &wire.Status{Code: wire.Expired, Detail: "nobody answered in time"}
	}
	p.mu.Lock()
	agreed := w.Mine
	p.mu.Unlock()
	if !agreed {
		return nil, &wire.Status{Code: wire.Denied, Detail: "the owner refused"}
	}
	if err := p.node.befriend(ctx, peer); err != nil {
		return nil, err
	}
	return &wire.PairConfirm{Name: p.node.name, Done: true}, nil
}

var errNoCode = &wire.Status{Code: wire.Denied, Detail: "no code is shown here, or it has run out", Hint: "Have the other side show one: centram peer code"}

// challenge answers the first half of an exchange over the code. It counts as an attempt: the asker can tell from the
// answer whether its guess was right.
func (p *pairing) challenge(peer *Peer, q *wire.PairRequest) (*wire.PairConfirm, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := p.codeNow()
	if code == "" {
		return nil, errNoCode
	}
	p.attempts++
	side := newCPace(code, channelOf(peer.id, p.node.id), peer.scope.Session[:])
	asker, answerer, err := side.proofs(q.Share, q.Share, side.share)
	if err != nil {
		return nil, &wire.Status{Code: wire.Malformed, Detail: "the share is not a point"}
	}
	p.answers[peer.id] = exchangeState{peer.scope.Session, asker}
	return &wire.PairConfirm{Name: p.node.name, Share: side.share, Proof: answerer}, nil
}

// prove answers the second half. The code is used up.
func (p *pairing) prove(ctx context.Context, peer *Peer, q *wire.PairRequest) (*wire.PairConfirm, error) {
	p.mu.Lock()
	state, ok := p.answers[peer.id]
	delete(p.answers, peer.id)
	right := ok && state.session == peer.scope.Session && hmac.Equal(state.proof, q.Proof) && !time.Now().After(p.expires)
	if right {
		p.code = ""
	}
	p.mu.Unlock()
	if !right {
		return nil, errNoCode
	}
	if err := p.node.befriend(ctx, peer); err != nil {
		return nil, err
	}
	return &wire.PairConfirm{Name: p.node.name, Done: true}, nil
}

// channelOf names both parties of an exchange.
func channelOf(asker, answerer centram.PeerID) []byte {
	return slices.Concat(asker[:], answerer[:])
}

// befriend writes down that the owner trusts a peer.
func (n *Node) befriend(ctx context.Context, peer *Peer) error {
	if err := n.book.Trust(ctx, peer.id, wire.Friend); err != nil {
		return err
	}
	peer.trust.Store(uint32(wire.Friend))
	n.log.InfoContext(ctx, "Paired", "peer", peer.id.Short(), "name", peer.Name())
	n.cfg.Changed(Change{"paired", peer.id})
	return nil
}

// Forget ends the session with a peer, and all that was agreed with it. It fails with centram.NotFound.
func (n *Node) Forget(ctx context.Context, id centram.PeerID) error {
	if err := n.book.Forget(ctx, id); err != nil {
		return err
	}
	n.pairing.drop(id)
	if p := n.Peer(id); p != nil {
		p.trust.Store(uint32(wire.Stranger))
		p.end(wire.Forgotten, nil)
	}
	n.cfg.Changed(Change{"forgotten", id})
	return nil
}
