package wire

import (
	"bytes"
	"fmt"
	"net/netip"
	"unicode/utf8"

	"github.com/centram/centram"
)

// check collects the first thing that is wrong with a message.
type check struct{ err error }

// that wants ok.
func (c *check) that(ok bool, format string, args ...any) {
	if !ok && c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// most wants at most n of something.
func (c *check) most(what string, n, limit int) {
	c.that(n <= limit, "%s: %d, at most %d", what, n, limit)
}

// some wants at least one and at most limit of something.
func (c *check) some(what string, n, limit int) {
	c.that(n > 0, "%s: none", what)
	c.most(what, n, limit)
}

// text wants a short text that a terminal can print: no control characters, so that a peer cannot draw on a screen.
func (c *check) text(what, s string, limit int) {
	c.most(what, len(s), limit)
	c.that(utf8.ValidString(s), "%s: not UTF-8", what)
	for _, r := range s {
		c.that(r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) && r != 0x2028 && r != 0x2029 && (r < 0x202a || r > 0x202e) && (r < 0x2066 || r > 0x2069),
			"%s: control character %U", what, r)
	}
}

// word wants an identifier, such as the name of an ability: lower-case letters, digits and -./_:+
func (c *check) word(what, s string, limit int) {
	c.some(what, len(s), limit)
	for _, r := range s {
		ok := 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '/' || r == '_' || r == ':' || r == '+'
		c.that(ok, "%s: %q is not allowed in %q", what, r, s)
	}
}

// words wants a list of at most n identifiers.
func (c *check) words(what string, list []string, n int) {
	c.most(what, len(list), n)
	for _, s := range list {
		c.word(what, s, 64)
	}
}

// addresses wants addresses of the form IP:port.
func (c *check) addresses(what string, list []string, n int) {
	c.most(what, len(list), n)
	for _, s := range list {
		a, err := netip.ParseAddrPort(s)
		c.that(err == nil && a.Port() != 0 && a.Addr().Zone() == "" && a.String() == s, "%s: %.60q is not IP:port", what, s)
	}
}

// among wants one of a few numbers, named from zero on.
func among[T ~uint8](c *check, what string, v T, names []string) {
	c.that(int(v) < len(names), "%s: %d is unknown", what, v)
}

// records wants at most n records of some types.
func (c *check) records(what string, list []Record, n int, types ...Type) {
	c.most(what, len(list), n)
	for _, r := range list {
		c.that(r.valid(types...), "%s: not a record of the right type", what)
	}
}

func nameOf[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown (%d)", v)
}

// given wants a hash that is there.
func given(c *check, what string, h Hash) { c.that(!h.IsZero(), "%s: missing", what) }

// ascending wants at most n hashes, each once and in order, so that one set has one encoding.
func ascending(c *check, what string, list []Hash, n int) {
	c.most(what, len(list), n)
	for i, h := range list {
		given(c, what, h)
		c.that(i == 0 || bytes.Compare(list[i-1][:], h[:]) < 0, "%s: not in ascending order", what)
	}
}

// moment wants a Unix time in milliseconds from 1970 to 9999.
func moment(c *check, what string, ms int64) {
	c.that(ms > 0 && ms < 253_402_300_800_000, "%s: %d is no time", what, ms)
}

// amount wants micro-CEN that the ledger can book.
func amount(c *check, what string, v uint64) { c.that(v <= MaxAmount, "%s: %d micro-CEN", what, v) }

// account wants the id of an account or a node.
func account(c *check, what string, id centram.PeerID) {
	c.that(id != centram.PeerID{}, "%s: missing", what)
}
