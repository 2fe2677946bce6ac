package wire

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/centram/centram"
)

// Status ends a request that has no other reply. It is an error, except for OK.
type Status struct {
	Code    StatusCode `cbor:"1,keyasint"`
	RetryMs uint32     `cbor:"2,keyasint,omitempty"` // when to try again; 0 means no hint
	Detail  string     `cbor:"3,keyasint,omitempty"` // one sentence for a person
	Hint    string     `cbor:"4,keyasint,omitempty"` // the next step
}

func (m *Status) Validate() error {
	var c check
	among(&c, "code", m.Code, statusNames)
	c.text("detail", m.Detail, 512)
	c.text("hint", m.Hint, 512)
	return c.err
}

// StatusCode says how a request ended.
type StatusCode uint8

const (
	OK StatusCode = iota
	Unsupported
	Malformed
	TooLarge
	BadSignature
	NotFound
	Denied
	Busy
	RateLimited
	Stale
	Expired
	PaymentRequired
	NoCredit
	ForkedAccount
	DependencyMissing
	Cancelled
	Failed
)

var statusNames = []string{
	"ok", "unsupported", "malformed", "too large", "bad signature", "not found", "denied", "busy", "rate limited", "stale",
	"expired", "payment required", "no credit", "forked account", "dependency missing", "cancelled", "failed",
}

func (s StatusCode) String() string { return nameOf(statusNames, s) }

// Costs says that only a broken or hostile peer causes this, so that it counts against the peer.
func (s StatusCode) Costs() bool {
	return s == Malformed || s == TooLarge || s == BadSignature
}

func (m *Status) Error() string {
	if m.Detail == "" {
		return m.Code.String()
	}
	return m.Code.String() + ": " + m.Detail
}

// codes pairs the errors of this program with those of the wire. The first that fits counts, in both directions.
var codes = []struct {
	code   centram.Code
	status StatusCode
}{
	{centram.Invalid, Malformed},
	{centram.TooLarge, TooLarge},
	{centram.TooLong, TooLarge},
	{centram.Forbidden, Denied},
	{centram.Unauthorized, Denied},
	{centram.NotFound, NotFound},
	{centram.Conflict, Stale},
	{centram.Unsupported, Unsupported},
	{centram.Unavailable, Busy},
	{centram.Unavailable, RateLimited},
	{centram.Unavailable, Cancelled},
	{centram.Forbidden, PaymentRequired},
	{centram.Forbidden, NoCredit},
	{centram.Forbidden, ForkedAccount},
	{centram.Invalid, BadSignature},
	{centram.Conflict, Expired},
	{centram.NotFound, DependencyMissing},
}

// StatusOf is err as a peer may see it. What is wrong inside of this node stays inside.
func StatusOf(err error) *Status {
	if err == nil {
		return &Status{}
	}
	if s, ok := asStatus(err); ok {
		return s
	}
	for _, row := range codes {
		if row.code == centram.CodeOf(err) {
			return &Status{Code: row.status, Detail: clean(err.Error(), 512), Hint: clean(centram.HintOf(err), 512)}
		}
	}
	return &Status{Code: Failed, Detail: "the peer has a problem of its own"}
}

// Centram is the status as an error of this program, so that what a peer refuses reads like what we refuse.
// The status itself is not in the chain: what a peer says of us is nothing to blame it for.
func (m *Status) Centram() error {
	if m.Code == OK {
		return nil
	}
	for _, row := range codes {
		if row.status == m.Code {
			e := centram.Errorf(row.code, "the peer says: %v", m)
			if m.Hint != "" {
				e = e.WithHint("%s", m.Hint)
			}
			return e
		}
	}
	return centram.Errorf(centram.Unavailable, "the peer says: %v", m)
}

// asStatus finds a *Status in err's chain.
func asStatus(err error) (*Status, bool) { return errors.AsType[*Status](err) }

func malformed(format string, args ...any) *Status {
	return &Status{Code: Malformed, Detail: clean(fmt.Sprintf(format, args...), 512)}
}

// clean makes s fit to be sent: no control characters, at most limit bytes.
func clean(s string, limit int) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "?") {
		var c check
		if c.text("", string(r), utf8.UTFMax); c.err != nil {
			r = ' '
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
