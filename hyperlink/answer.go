package hyperlink

import (
	"time"

	"github.com/centram/centram/engine"
	"github.com/centram/centram/p2p/wire"
)

// ret begins the answer to a frame.
func (s *seat) ret(f *wire.ActFwd, took time.Duration) wire.ActRet {
	r := wire.ActRet{Step: f.Step, Stage: s.plan.Stage, ComputeUs: uint32(took.Microseconds())}
	r.Pos = f.Pos + uint32(f.Tokens)
	return r
}

// shares says whether the head has a part of the output matrix that the batch goes through.
func (s *seat) shares(b *batch) bool { return s.last && s.plan.TailTokens > 0 && !b.Embedded }

// finish has the head know what goes into the output matrix, and computes this machine's part of the logits meanwhile.
func (s *seat) finish(b *batch, normed []float32) (engine.StageOutput, error) {
	if s.active.Load() {
		s.sendAhead(normed)
		if err := s.returns.send(s.ctx, s.ms); err != nil {
			return engine.StageOutput{}, err
		}
	}
	rest := b.StageBatch
	rest.Hidden = normed
	return s.stage.Unembed(s.ctx, rest)
}

// sendAhead makes an answer of each frame's rows that want logits.
func (s *seat) sendAhead(normed []float32) {
	s.rets, s.ms = s.rets[:0], s.ms[:0]
	for i := range s.in.frames {
		f := &s.in.frames[i]
		if f.Want == wire.NoRows {
			continue
		}
		r := s.ret(f, 0)
		n := wantedOf(f)
		r.Kind, r.Tokens, r.Width, r.Pos = wire.HiddenRows, uint16(n), uint32(s.info.Width), f.Pos+uint32(f.Tokens)-uint32(n)
		r.Rows = rawBytes(normed[:n*s.info.Width])
		normed = normed[n*s.info.Width:]
		s.rets = append(s.rets, r)
	}
	for i := range s.rets {
		s.ms = append(s.ms, &s.rets[i])
	}
}

// wantedOf is of how many rows of a frame something is wanted.
func wantedOf(f *wire.ActFwd) int {
	switch {
	case f.Want == wire.NoRows:
		return 0
	case f.Flags&wire.FwdEvery != 0:
		return int(f.Tokens)
	}
	return 1
}

// results makes the last stage's answers: what the head wanted of each frame.
func (s *seat) results(out engine.StageOutput, took time.Duration) {
	s.rets, s.ms, s.raw = s.rets[:0], s.ms[:0], s.raw[:0]
	row, hidden := 0, 0
	for i := range s.in.frames {
		f := &s.in.frames[i]
		r := s.ret(f, took)
		from := len(s.raw)
		n := wantedOf(f)
		r.Kind = f.Want
		switch f.Want {
		case wire.LogitRows, wire.TopRows:
			r.Width = uint32(s.info.VocabSize)
			if f.Want == wire.TopRows {
				r.Width = min(f.Top, uint32(s.info.VocabSize))
			}
			for at := row; at < row+n; at++ {
				switch {
				case f.Want == wire.LogitRows:
					s.raw = append(s.raw, rawBytes(out.Logits[at])...)
				case out.Best != nil && out.Best[at] != nil:
					s.raw = appendTop(s.raw, out.Best[at])
				default:
					s.raw = appendTop(s.raw, top(out.Logits[at], 0, int(r.Width)))
				}
			}
			row += n
		case wire.HiddenRows:
			end := hidden + int(f.Tokens)*s.info.Width
			r.Width = uint32(s.info.Width)
			s.raw = append(s.raw, rawBytes(out.Hidden[end-n*s.info.Width:end])...)
		}
		hidden += int(f.Tokens) * s.info.Width
		if n > 0 {
			r.Tokens, r.Pos = uint16(n), f.Pos+uint32(f.Tokens)-uint32(n)
		}
		r.Rows = s.raw[from:len(s.raw):len(s.raw)]
		s.rets = append(s.rets, r)
	}
	at := 0
	for i := range s.rets { // raw has moved while it grew
		r := &s.rets[i]
		r.Rows = s.raw[at : at+len(r.Rows)]
		at += len(r.Rows)
		s.ms = append(s.ms, r)
	}
}
