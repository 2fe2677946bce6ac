package engine

import (
	"slices"
	"time"
)

// How prompts are read. In a pipeline they are read in pieces, so that the machines work on one prompt side by side. Until the
// first piece has come through, the machines behind have nothing to do, and at the end those before: so pieces are small. But
// they should not be smaller than what the machines compute well.
const (
	piecesOfMachine = 2                      // of a prompt, at least, if they do not become smaller than the least
	leastPiece      = 64                     // rows, from which on llama.cpp's attention on a processor is made for prompts
	firstPiece      = 128                    // while it is not known how fast the machines read
	pieceTakes      = 100 * time.Millisecond // on the slowest machine. Graphics cards compute as many rows in that as they do well
)

// reading is how fast a pipeline reads: what comes of it one after the other tells what its slowest machine takes.
type reading struct {
	landed time.Time // when the last step with prompts did
	row    middle    // seconds
}

// add takes in that a step with prompts has landed.
func (r *reading) add(f *flight) {
	now := time.Now()
	if f.reads >= leastPiece && f.began.Before(r.landed) { // so there was something to do all the time since
		r.row.add(now.Sub(r.landed).Seconds() / float64(f.reads))
	}
	r.landed = now
}

// piece is how many rows the machines read best at once.
func (r *reading) piece() int {
	if r.row.value <= 0 {
		return firstPiece
	}
	return max(int(min(pieceTakes.Seconds()/r.row.value, stepRows)), leastPiece)
}

// piece is how many rows of prompts a step has at most.
func (s *scheduler) piece() int {
	if s.pipeline == nil {
		return stepRows
	}
	waiting := 0
	for _, sl := range s.slots {
		if sl.ready() && !sl.decoding() {
			waiting += len(sl.pending)
		}
	}
	n := min(max(waiting/(piecesOfMachine*s.groups), leastPiece), s.reading.piece())
	if waiting-n < leastPiece {
		return waiting
	}
	return n
}

// readers are the slots that read their prompts, those that waited longest first. Prompts that came together are read in the
// order of their sequences, so that those read in one step, which will decode in one, follow on each other.
func (s *scheduler) readers(chosen *slot) []*slot {
	s.reads = s.reads[:0]
	for _, sl := range s.slots {
		if sl.ready() && !sl.decoding() && !sl.embeds() && sl.sharesAdapters(chosen) {
			s.reads = append(s.reads, sl)
		}
	}
	slices.SortStableFunc(s.reads, func(a, b *slot) int { return a.served - b.served })
	return s.reads
}
