package hyperlink

import (
	"slices"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p/wire"
)

// The output matrix may be cut in two by the tokens of the vocabulary: the last stage has the rows of the first tokens, and
// the head those of the others. The last stage sends what goes into the matrix ahead, so both multiply at the same time, and
// the head puts the two ends of the logits, or the likeliest tokens of both, together. In a small model the matrix is a third
// of all there is to read for a token; and it is the one part of a model that two machines can compute side by side without
// waiting for each other.
//
// The answer is complete when both parts are there. Which comes first does not matter, and batches end in their order.

// ahead notes for a batch what goes into the output matrix. It is guarded by the chain's mu, as all that is under way.
type ahead struct {
	rows    [][]float32 // by frame: of its rows that want logits. Nil while it has not come, and for a frame that wants none
	missing int         // frames whose rows have not come
	here    bool        // this machine's part is done
	attempt int         // a batch that was sent again is computed again
}

// job is the head's part of a batch.
type job struct {
	p       *pending
	attempt int
	batch   engine.StageBatch
}

// anew begins an attempt at the batch: nothing of it has come. c.mu is held.
func (p *pending) anew(shared bool) {
	p.left = len(p.batch)
	p.ahead = ahead{rows: make([][]float32, len(p.batch)), attempt: p.ahead.attempt + 1}
	for i := range p.batch {
		if shared && wantsLogits(&p.batch[i]) {
			p.ahead.missing++
		}
	}
	p.ahead.here = p.ahead.missing == 0
}

// complete says whether all of the batch is there. c.mu is held.
func (p *pending) complete() bool { return p.left == 0 && p.ahead.here }

func wantsLogits(f *wire.ActFwd) bool { return f.Want == wire.LogitRows || f.Want == wire.TopRows }

// isAhead says whether an answer is what goes into the output matrix, for the head to multiply.
func (c *Chain) isAhead(u unanswered, m *wire.ActRet) bool {
	return c.cfg.Output != nil && m.Kind == wire.HiddenRows && wantsLogits(&u.step.batch[u.frame]) && u.step.ahead.rows[u.frame] == nil
}

// takeAhead takes what goes into the output matrix of a frame, and has the head's part computed when all of its batch is
// there. c.mu is held.
func (c *Chain) takeAhead(u unanswered, m *wire.ActRet) error {
	p := u.step
	rows := make([]float32, len(p.wanted[u.frame])*c.cfg.Info.Embedding)
	if int(m.Tokens) != len(p.wanted[u.frame]) || m.DType != wire.F32 || len(m.Rows) != 4*len(rows) {
		return p.mismatch(u.frame, m)
	}
	copy(rawBytes(rows), m.Rows)
	if !finite(rows) {
		return p.mismatch(u.frame, m)
	}
	p.ahead.rows[u.frame] = rows
	if p.ahead.missing--; p.ahead.missing > 0 {
		return nil
	}
	j := job{p: p, attempt: p.ahead.attempt}
	for i := range p.batch {
		j.batch.Rows = appendRows(j.batch.Rows, &p.batch[i])
	}
	j.batch.Hidden = slices.Concat(p.ahead.rows...)
	j.batch.Adapters = c.sets.output[p.batch[0].Adapters]
	c.jobs = append(c.jobs, j)
	select {
	case c.toDo <- struct{}{}:
	default: // it is awake
	}
	return nil
}

// unembed computes the head's part of batches, in their order, until the chain ends.
func (c *Chain) unembed() {
	for {
		select {
		case <-c.toDo:
		case <-c.ctx.Done():
			return
		}
		for {
			j, ok := c.nextJob()
			if !ok {
				break
			}
			c.computing.Lock()
			out, err := c.cfg.Output.Unembed(c.ctx, j.batch)
			c.computing.Unlock()
			c.unembedded(j, out, err)
		}
	}
}

// nextJob is the oldest whose outcome somebody waits for.
func (c *Chain) nextJob() (j job, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.jobs) > 0 {
		j, c.jobs = c.jobs[0], c.jobs[1:]
		if j.wanted() {
			return j, true
		}
	}
	return job{}, false
}

// wanted is false for a batch that was given up, or sent again. c.mu is held.
func (j job) wanted() bool { return !j.p.ended && j.attempt == j.p.ahead.attempt }

// unembedded takes the head's part of a batch.
func (c *Chain) unembedded(j job, out engine.StageOutput, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !j.wanted() {
		return
	}
	p := j.p
	if err != nil {
		c.abandon(p, err)
		return
	}
	p.takeOwn(out, c.cfg.Output.Info().FirstToken)
	p.ahead.here = true
	c.land()
}

// takeOwn puts the head's part of the logits where they are wanted: those of first and all tokens after it.
func (p *pending) takeOwn(out engine.StageOutput, first int) {
	at := 0
	for frame, rows := range p.wanted {
		for _, r := range rows {
			switch {
			case r.kind == wire.LogitRows:
				copy(r.numbers[first:], out.Logits[at])
			case out.Best != nil:
				r.others = append(r.others[:0], out.Best[at]...)
			default:
				r.others = top(out.Logits[at], first, int(p.batch[frame].Top))
			}
			at++
		}
	}
}

// join puts the likeliest tokens of both parts together. All logits lie where they belong already.
func (p *pending) join() {
	for frame, rows := range p.wanted {
		for _, r := range rows {
			if r.kind == wire.TopRows {
				r.best, r.spare = mergeTop(r.spare[:0], r.best, r.others, int(p.batch[frame].Top)), r.best
			}
		}
	}
}

// mergeTop appends the n likeliest of two lists that are in order.
func mergeTop(out, a, b []engine.Candidate, n int) []engine.Candidate {
	for len(out) < n && len(a)+len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].Compare(b[0]) < 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return out
}

// abandon gives a batch up whose answers are of no use to anybody. c.mu is held.
func (c *Chain) abandon(p *pending, err error) {
	for seq, u := range c.frames {
		if u.step == p {
			delete(c.frames, seq)
		}
	}
	if i := slices.Index(c.flight, p); i >= 0 {
		c.flight = slices.Delete(c.flight, i, i+1)
	}
	p.end(err)
	c.land()
}

// land ends the batches that are complete, in their order. c.mu is held.
func (c *Chain) land() {
	for len(c.flight) > 0 && c.flight[0].complete() {
		p := c.flight[0]
		if c.cfg.Output != nil {
			p.join()
		}
		c.landed(p)
	}
}

// tailTokens is how many tokens the last stage gives logits of; 0 means all.
func (c *Chain) tailTokens() int {
	if c.cfg.Output == nil {
		return 0
	}
	return c.cfg.Output.Info().FirstToken
}
