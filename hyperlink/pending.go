package hyperlink

import (
	"fmt"
	"slices"
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p/wire"
)

// pending is a batch that is under way. What was sent is kept: should a machine be lost, another gets it.
type pending struct {
	step   *step
	batch  []wire.ActFwd
	hidden []float32
	sent   time.Time

	left   int      // frames that are not answered
	wanted [][]*row // by frame of the batch
	ahead  ahead    // of the answer
	ended  bool
}

// step is what the scheduler has begun: a batch, or several, one after the other.
type step struct {
	rows   []*row // all that are wanted, in the order of the batches
	left   int    // batches that have not ended
	failed bool
	result chan engine.StepResult
}

func newStep(batches int) *step { return &step{left: batches, result: make(chan engine.StepResult, 1)} }

// ended takes in that a batch has. The first error ends the step.
func (s *step) ended(err error) {
	s.left--
	switch {
	case s.failed:
	case err != nil:
		s.failed = true
		s.result <- engine.StepResult{Err: err}
	case s.left == 0:
		s.result <- engine.StepResult{Output: s.output()}
	}
}

func (s *step) output() engine.Output {
	out := engine.Output{Logits: make([][]float32, len(s.rows))}
	for i, r := range s.rows {
		if r.kind != wire.TopRows {
			out.Logits[i] = r.numbers
			continue
		}
		if out.Best == nil {
			out.Best = make([][]engine.Candidate, len(s.rows))
		}
		out.Best[i] = r.best
	}
	return out
}

// row is what one row of a batch yields.
type row struct {
	kind    wire.Result
	numbers []float32 // logits, or what goes into the output matrix
	best    []engine.Candidate

	others, spare []engine.Candidate // the likeliest of this machine's part of the vocabulary, and memory to merge both into
}

// newPending begins with hidden states that are another's: keepHidden makes them its own.
func newPending(s *step, frames []wire.ActFwd, hidden []float32) *pending {
	p := &pending{step: s, batch: slices.Clone(frames), hidden: hidden, wanted: make([][]*row, len(frames)), left: len(frames)}
	for i := range p.batch {
		p.batch[i].Width = uint32(len(hidden) / tokensOf(frames))
	}
	return p
}

func (p *pending) keepHidden() { p.hidden = slices.Clone(p.hidden) }

func tokensOf(frames []wire.ActFwd) int {
	n := 0
	for i := range frames {
		n += int(frames[i].Tokens)
	}
	return n
}

// keep drops the frames that ok does not want, with their rows. What they would have given stays as it is: nobody looks at it.
func (p *pending) keep(ok func(*wire.ActFwd) bool, width int) {
	var batch []wire.ActFwd
	var hidden []float32
	var wanted [][]*row
	at := 0
	for i := range p.batch {
		f := p.batch[i]
		n := int(f.Tokens) * width
		if ok(&f) {
			f.Flags |= wire.FwdJoin
			batch, hidden, wanted = append(batch, f), append(hidden, p.hidden[at:at+n]...), append(wanted, p.wanted[i])
		}
		at += n
	}
	if n := len(batch); n > 0 {
		batch[n-1].Flags &^= wire.FwdJoin
	}
	p.batch, p.hidden, p.wanted = batch, hidden, wanted
}

// unanswered is a frame of a step that is under way.
type unanswered struct {
	step  *pending
	frame int
}

// end says how the batch went. Only the first time counts.
func (p *pending) end(err error) {
	if !p.ended {
		p.ended = true
		p.step.ended(err)
	}
}

// memory holds rows that are used again: those of a lane's step when so many further ones of it have begun that nobody
// looks at them any more. A chain's gate guards it.
type memory struct {
	vocab int
	keep  int // steps of a lane
	lanes map[uint16][][]*row
	spare map[wire.Result][]*row
}

// begin makes room for the logits that a batch asks for. With more, it is of the same step as the one before.
func (m *memory) begin(p *pending, more bool) {
	for i := range p.batch {
		f := &p.batch[i]
		var rows []*row
		n := wantedOf(f)
		if f.Want == wire.HiddenRows { // seldom: its memory is not used again
			for range n {
				p.wanted[i] = append(p.wanted[i], &row{kind: f.Want, numbers: make([]float32, f.Width)})
			}
			p.step.rows = append(p.step.rows, p.wanted[i]...)
			continue
		}
		for range n {
			rows = append(rows, m.row(f.Want))
		}
		p.wanted[i] = rows
		p.step.rows = append(p.step.rows, rows...)
		steps := m.lanes[f.Lane]
		if n := len(steps); more && n > 0 {
			steps[n-1] = append(steps[n-1], rows...)
			continue
		}
		steps = append(steps, rows)
		for len(steps) > m.keep {
			for _, r := range steps[0] {
				m.spare[r.kind] = append(m.spare[r.kind], r)
			}
			steps = steps[1:]
		}
		m.lanes[f.Lane] = steps
	}
}

func (m *memory) row(kind wire.Result) *row {
	if spare := m.spare[kind]; len(spare) > 0 {
		n := len(spare) - 1
		m.spare[kind] = spare[:n]
		return spare[n]
	}
	r := &row{kind: kind}
	if kind == wire.LogitRows {
		r.numbers = make([]float32, m.vocab)
	}
	return r
}

// take puts the rows of an answer where they are wanted. They are of so many of the vocabulary's tokens, the first ones; if
// these are not all, it has been told ahead of the answer what the others are to be computed from.
func (p *pending) take(frame int, m *wire.ActRet, vocab int, shared bool) error {
	want, top := p.wanted[frame], min(int(p.batch[frame].Top), vocab)
	wrong := func() error { return p.mismatch(frame, m) }
	if int(m.Tokens) != len(want) || shared && wantsLogits(&p.batch[frame]) && p.ahead.rows[frame] == nil {
		return wrong()
	}
	for i, w := range want {
		switch {
		case m.Kind != w.kind || m.DType != wire.F32:
			return wrong()
		case w.kind == wire.TopRows && int(m.Width) == top:
			n := 8 * top
			var ok bool
			if w.best, ok = parseTop(w.best, m.Rows[i*n:(i+1)*n], vocab); !ok {
				return wrong()
			}
		case w.kind == wire.LogitRows && int(m.Width) == vocab, w.kind == wire.HiddenRows && int(m.Width) == len(w.numbers):
			n := 4 * int(m.Width)
			copy(rawBytes(w.numbers), m.Rows[i*n:(i+1)*n])
			if !finite(w.numbers[:m.Width]) {
				return wrong()
			}
		default:
			return wrong()
		}
	}
	return nil
}

// mismatch is what is wrong with an answer that is not what the frame wants.
func (p *pending) mismatch(frame int, m *wire.ActRet) error {
	return &wire.Status{Code: wire.Malformed, Detail: fmt.Sprintf("an answer of %d rows of %d %s, want %d", m.Tokens, m.Width, m.Kind, len(p.wanted[frame]))}
}
