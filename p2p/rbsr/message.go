package rbsr

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// kind says what a message has on a range.
type kind byte

const (
	settled kind = iota // nothing, because the sides are known to agree
	hash                // the sender's fingerprint
	want                // the active side asks for the ids of the passive one
	list                // all ids that the passive side has
)

const (
	maxHead = 1 + len(ID{})
	idSize  = len(ID{})

	// reserve is kept free for what may be left to write after a range: another that is settled, the fingerprint of all
	// that had no room, and the end.
	reserve = 2*maxHead + len(Fingerprint{}) + 1
)

// span is one range of a message: what a side says about from <= id < to, where a zero to means the end.
type span struct {
	from, to    ID
	kind        kind
	fingerprint Fingerprint // of a hash
	ids         []ID        // of a list
}

// spans yields the ranges of a message, which cover everything. A message that no Config would have written ends in an
// error, and so does every one that is cut short.
func spans(msg []byte) iter.Seq2[span, error] {
	return func(yield func(span, error) bool) {
		var last span
		for first := true; first || last.to != (ID{}); first = false {
			sp, rest, err := parseSpan(last.to, msg)
			switch {
			case err != nil:
			case sp.kind == settled && last.kind == settled && !first:
				err = fmt.Errorf("two settled ranges meet at %x", last.to)
			case sp.to == (ID{}) && len(rest) > 0:
				err = fmt.Errorf("%d bytes follow the last range", len(rest))
			}
			if !yield(sp, err) || err != nil {
				return
			}
			last, msg = sp, rest
		}
	}
}

// parseSpan reads the range that begins at from, and returns what follows it.
func parseSpan(from ID, msg []byte) (span, []byte, error) {
	b := cursor{rest: msg}
	head := b.next(1)[0]
	sp := span{from: from, kind: kind(head >> 6)}
	length := int(head & 63)
	if length > idSize {
		return sp, nil, fmt.Errorf("a bound of %d bytes", length)
	}
	copy(sp.to[:], b.next(length))
	switch sp.kind {
	case hash:
		copy(sp.fingerprint[:], b.next(len(sp.fingerprint)))
	case list:
		sp.ids = b.ids()
	}
	switch {
	case b.short:
		return sp, nil, errors.New("the message is cut short")
	case length > 0 && sp.to[length-1] == 0:
		return sp, nil, fmt.Errorf("the bound %x can be written shorter", sp.to)
	case !below(from, sp.to):
		return sp, nil, fmt.Errorf("a range from %x to %x", from, sp.to)
	}
	for i, id := range sp.ids {
		if i > 0 && compare(sp.ids[i-1], id) >= 0 {
			return sp, nil, fmt.Errorf("the ids of a list do not ascend at %x", id)
		}
		if compare(id, from) < 0 || !below(id, sp.to) {
			return sp, nil, fmt.Errorf("the id %x is listed for the range from %x to %x", id, from, sp.to)
		}
	}
	return sp, b.rest, nil
}

// cursor reads from the front. Past the end it reads zeros and is short.
type cursor struct {
	rest  []byte
	short bool
}

// next returns n bytes, no more than a head or a fingerprint has.
func (c *cursor) next(n int) []byte {
	if n > len(c.rest) {
		c.rest, c.short = nil, true
		return make([]byte, n)
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) ids() []ID {
	count := int(binary.BigEndian.Uint16(c.next(2)))
	if count*idSize > len(c.rest) { // before memory is taken for them
		c.short = true
		return nil
	}
	ids := make([]ID, count)
	for i := range ids {
		copy(ids[i][:], c.next(idSize))
	}
	return ids
}

// draft is a message in the making, from left to right.
type draft struct {
	set   Set
	limit int
	msg   []byte
	at    ID   // what the next range begins with
	gap   bool // what is before at is settled, and that is not written yet
	open  bool // there is something that is not settled
	full  bool // there was no room for what is between at and rest
	rest  ID
}

// room is for the range that comes next, in bytes.
func (d *draft) room() int { return d.limit - len(d.msg) - maxHead - reserve }

func (d *draft) settle(to ID) {
	if !d.full {
		d.at, d.gap = to, true
	}
}

// leave puts off everything up to to.
func (d *draft) leave(to ID) { d.rest, d.full = to, true }

// add writes a range that ends at to, or leaves it.
func (d *draft) add(k kind, to ID, payload []byte) {
	if d.full || maxHead+len(payload) > d.room() {
		d.leave(to)
		return
	}
	d.write(k, to, payload)
}

func (d *draft) write(k kind, to ID, payload []byte) {
	if d.gap {
		d.head(settled, d.at)
	}
	d.head(k, to)
	d.msg = append(d.msg, payload...)
	d.at, d.gap, d.open = to, false, true
}

func (d *draft) head(k kind, to ID) {
	bound := bytes.TrimRight(to[:], "\x00")
	d.msg = append(d.msg, byte(k)<<6|byte(len(bound)))
	d.msg = append(d.msg, bound...)
}

// list writes the ids of the range up to to, or as many of them as there is room for.
func (d *draft) list(to ID) {
	most := (d.room() - maxHead - 2) / idSize
	if most < 1 {
		d.leave(to)
		return
	}
	cut, n := d.set.clip(d.at, to, most)
	payload := binary.BigEndian.AppendUint16(make([]byte, 0, 2+n*idSize), uint16(n))
	for id := range d.set.Range(d.at, cut) {
		payload = append(payload, id[:]...)
	}
	d.write(list, cut, payload)
	if cut != to {
		d.leave(to)
	}
}

// split writes the fingerprints of equal parts of the range up to to.
func (d *draft) split(to ID) {
	first, n := d.set.rank(d.at), d.set.count(d.at, to)
	parts := min(max((n+partSize-1)/partSize, 1), maxParts)
	for i, from := 1, d.at; i <= parts; i++ {
		end := to
		if i < parts {
			end = d.set.boundary(first + n*i/parts)
		}
		f := d.set.Fingerprint(from, end)
		d.add(hash, end, f[:])
		from = end
	}
}

// finish writes what is still to say and returns the message.
func (d *draft) finish() []byte {
	if d.full {
		f := d.set.Fingerprint(d.at, d.rest)
		d.write(hash, d.rest, f[:])
	}
	if d.gap || d.at != (ID{}) {
		d.head(settled, ID{})
	}
	return d.msg
}
