// Package rbsr finds out in which ids two sets differ, at a cost that goes with the differences and hardly with the sets:
// range-based set reconciliation (Aljoscha Meyer, SRDS 2023, arXiv 2212.13567), with ideas of Negentropy V1.
//
// The active side sends the fingerprints of 16 parts of its set. The passive side answers for every part that looks
// different to it with the fingerprints of parts of that part, and so on in turns, until a range holds 8 ids or less; the
// passive side then lists its ids, of its own accord or because the active side wants them. At the end the active side
// knows both differences. The passive side keeps nothing between messages.
//
// A message is a sequence of ranges. They ascend, they cover all ids, and each begins where the last one ended:
//
//	head   u8      kind << 6 | length of the bound, 0 to 32
//	bound  length  the range ends before this id; zeros follow that are not written, and a length of 0 means the end
//
//	kind 0, settled      nothing to say: the sides agree here. Two of them never meet
//	kind 1, fingerprint  16 bytes, see Set.Fingerprint
//	kind 2, want         nothing; the active side asks for a list
//	kind 3, list         u16 number of ids, big-endian, then the ids, ascending; from the passive side only
//
// There is one way to write a message, the last range is the one without a bound, and no message is the start of another.
// The byte 0 says that all is settled. What has no room in a message is put off: its last open range is one fingerprint of
// all that is left.
//
// The result is right unless two different sets in a range have the same fingerprint, which does not happen by chance.
// Somebody who chooses ids can make it happen, because adding hashes up is not collision-resistant: by Wagner's
// generalised birthday attack (CRYPTO 2002), 2^16 ids that lie close together and of which one half has the sum of the
// other take some 2^36 hashes. A half given to each of two peers goes unnoticed, and with a similar effort chosen ids make
// up for a record of somebody else that one of the two lacks. That hides a difference, and never makes one up. It is
// hidden from these two only, and until they differ in one more id of the range where the chosen ones lie: then parts of
// it are compared, whose sums do not agree. Where records are also gossiped, and reconciled with one peer after the other,
// it delays a record and cannot suppress it. Do not take equal fingerprints as proof that sets are equal where more
// depends on it.
//
// All functions are pure: no clock, no randomness, no goroutines.
package rbsr

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

const (
	maxParts = 16 // of a range that differs
	partSize = 4  // ids at least, on average: with less the fingerprints cost more than the ids
	fewIDs   = 8  // are not split but listed
)

// ErrNoEnd ends a Session that took MaxRounds. The peer need not be at fault.
var ErrNoEnd = errors.New("the reconciliation found no end")

// Config is how one side talks. The two sides need not agree on it, and the zero Config is good.
type Config struct {
	// MaxMessage bounds the messages that this side writes, in bytes, from 1 KiB to 64 KiB. Zero means 60 KiB.
	MaxMessage int

	// MaxRounds bounds the messages that a Session writes. A round settles some 1300 to 1900 differences; what is left for
	// want of rounds, the next session finds. Zero means 1024.
	MaxRounds int
}

func (c Config) draft(set Set) *draft {
	return &draft{set: set, limit: min(max(cmp.Or(c.MaxMessage, 60<<10), 1<<10), 64<<10)}
}

// Respond is the passive side: it answers one message of a session. The set may have changed since the last one. It fails
// if msg is no message of an active side; the work it does and the memory it takes go with the lengths of msg and reply.
func (c Config) Respond(set Set, msg []byte) (reply []byte, err error) {
	d := c.draft(set)
	err = d.answer(msg, list, func(sp span) {
		if sp.kind == want || d.set.count(sp.from, sp.to) <= fewIDs {
			d.list(sp.to)
		} else {
			d.split(sp.to)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("answer a reconciliation: %w", err)
	}
	return d.finish(), nil
}

// answer settles the ranges in which msg and the set agree and passes on the others for as long as there is room. It fails
// if there is one of the kind that the other side never sends.
func (d *draft) answer(msg []byte, never kind, differs func(span)) error {
	for sp, err := range spans(msg) {
		switch {
		case err != nil:
			return err
		case sp.kind == never:
			return fmt.Errorf("a range of kind %d is not for the other side to send", never)
		case sp.kind == settled, sp.kind == hash && !d.full && sp.fingerprint == d.set.Fingerprint(sp.from, sp.to):
			d.settle(sp.to)
		case d.full:
			d.leave(sp.to)
		default:
			differs(sp)
		}
	}
	return nil
}

// Session is the active side of one reconciliation.
type Session struct {
	config Config
	rounds int
	set    Set // as it was at the start
	view   Set // becomes what the peer has, so that nothing is found twice
}

// Start begins a reconciliation and returns the first message. The session goes on with set as it is now; what changes
// meanwhile on either side may or may not be found, and does not hide anything else.
func (c Config) Start(set Set) (s *Session, msg []byte) {
	d := c.draft(set)
	d.split(ID{})
	return &Session{config: c, rounds: 1, set: set, view: set}, d.finish()
}

// Next takes the peer's reply and returns what follows from it: the next message, or nil at the end; the ids that this side
// has and the peer lacks; and those it needs of the peer. What a reply cannot settle at once, because it would be more ids
// than fit into a message, later ones do: at the end all differences have been returned, each of them once. Next fails if
// reply is no message of a passive side, and with ErrNoEnd. The session is over then; ids returned before are good.
func (s *Session) Next(reply []byte) (msg []byte, have, need []ID, err error) {
	d := s.config.draft(s.view)
	err = d.answer(reply, want, func(sp span) {
		switch {
		case sp.kind == list:
			h, n := s.take(d, sp, len(sp.ids)+d.limit/idSize-len(have))
			have, need = append(have, h...), append(need, n...)
		case d.set.count(sp.from, sp.to) <= fewIDs:
			d.add(want, sp.to, nil)
		default:
			d.split(sp.to)
		}
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("go on with a reconciliation: %w", err)
	}
	if msg = d.finish(); !d.open {
		return nil, have, need, nil
	}
	if s.rounds++; s.rounds > cmp.Or(s.config.MaxRounds, 1024) {
		return nil, nil, nil, fmt.Errorf("%w in %d rounds", ErrNoEnd, s.rounds-1)
	}
	return msg, have, need, nil
}

// take compares a list with what this side has in its range, as far as that is no more than most ids.
func (s *Session) take(d *draft, sp span, most int) (have, need []ID) {
	if most < 1 {
		d.leave(sp.to)
		return nil, nil
	}
	cut, _ := d.set.clip(sp.from, sp.to, most)
	for id := range d.set.Range(sp.from, cut) {
		if _, listed := slices.BinarySearchFunc(sp.ids, id, compare); !listed && s.view.Remove(id) && s.set.Has(id) {
			have = append(have, id)
		}
	}
	for _, id := range sp.ids {
		if below(id, cut) && s.view.Insert(id) && !s.set.Has(id) {
			need = append(need, id)
		}
	}
	d.settle(cut)
	if cut != sp.to {
		d.leave(sp.to)
	}
	return have, need
}
