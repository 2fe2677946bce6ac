package engine

import (
	"context"
	"errors"
	"time"
)

// What comes of a step: tokens for those who wait for them, and the end of answers.

// land hands out the results of a step.
func (s *scheduler) land(ctx context.Context, f flight, r StepResult) {
	for _, t := range f.takes {
		t.slot.flying--
	}
	s.ended = time.Now()
	s.pace.landed(f.guesses)
	if f.reads > 0 || s.anyReads() || s.widths.trying() {
		s.pace.disturbed = s.ended
	}
	if ctx.Err() != nil {
		return // run ends what is left
	}
	if r.Err != nil {
		s.fail(f, r.Err)
		return
	}
	row, answers := 0, s.answers()
	s.widths.landed(&f, answers)
	if f.reads > 0 {
		s.reading.add(&f)
	}
	if f.alone && len(s.flights) == 0 {
		s.pace.read(f.reads, time.Since(f.began))
	}
	for _, t := range f.takes {
		if t.slot.job == t.job {
			t.slot.landed(t.end, f.began)
		}
	}
	for i := range f.takes {
		t := &f.takes[i]
		n := t.end - t.from
		out := r.rows(row, n)
		row += n
		// The client may have left meanwhile, or a guess that these rows follow was wrong.
		if n == 0 || t.slot.job != t.job || t.slot.generation != t.generation {
			continue
		}
		if t.slot.embeds() {
			s.collect(t, out.Logits)
			continue
		}
		if tokens := s.sample(t, out); t.slot.job == t.job {
			s.pace.came(t.slot, tokens, answers, &f, t)
		}
	}
}

// fail ends the jobs of a step that went wrong. A sequence keeps what it held before an interrupted step; after any
// other error nothing of it is trusted.
func (s *scheduler) fail(f flight, err error) {
	for _, t := range f.takes {
		sl, reason, keep := t.slot, err, 0
		if interrupted := t.job.ctx.Err(); interrupted != nil {
			reason, keep = interrupted, min(t.start, len(sl.cache))
		}
		sl.cache = sl.cache[:keep]
		if sl.job == t.job {
			s.end(sl, "", reason)
		}
		_ = s.model.Trim(sl.id, keep) // if this fails too, the next job's Trim tells
	}
}

// sample picks a slot's next tokens, one for each row as long as what it picks is what was guessed, and ends the job if
// that was the last. It returns how many there are.
func (s *scheduler) sample(t *take, rows Output) int {
	sl, j := t.slot, t.job
	if j.generated == 0 {
		s.pace.disturbed = time.Now() // there is one more to decode
	}
	for i := range rows.Logits {
		ran := t.from + i + 1
		token, reason, err := s.pick(j, rows.rows(i, 1), ran)
		if reason != "" || err != nil {
			s.end(sl, reason, errors.Join(err, s.retract(sl, ran)))
			return i + 1
		}
		s.compare(sl, token, t.source, sl.cache[ran:])
		if ran == len(sl.cache) {
			sl.pending = append(sl.pending[:0], token)
			continue
		}
		if sl.cache[ran] == token {
			j.guesses.Accepted++
			continue
		}
		if err := s.retract(sl, ran); err != nil {
			s.end(sl, "", err)
			return i + 1
		}
		sl.pending = append(sl.pending[:0], token)
		return i + 1
	}
	return len(rows.Logits)
}

// pick picks an answer's next token from a row, after so many tokens of its cache, and says why the answer ends if it does.
func (s *scheduler) pick(j *job, row Output, ran int) (Token, FinishReason, error) {
	var t Token
	var err error
	if row.Best != nil && row.Best[0] != nil {
		t, err = j.sampler.Choose(row.Best[0])
	} else {
		t, err = j.sampler.Sample(row.Logits[0])
	}
	if err != nil {
		return 0, "", err
	}
	if s.model.EndOfGeneration(t) {
		return t, FinishStop, nil
	}
	j.generated++
	info := TokenInfo{Token: t, Text: s.model.Piece(t, j.preserve[t])}
	if j.topLogprobs >= 0 {
		info.Logprob, info.Top = logprobs(row.Logits[0], t, j.topLogprobs, s.model)
	}
	if stopped := j.text.add(info); stopped {
		return t, FinishStop, nil
	}
	j.flush() // token by token, since bytes that are no text become one sign however many they are
	if j.generated == j.maxTokens || ran+1 >= s.info.Context {
		return t, FinishLength, nil
	}
	return t, "", nil
}

// end frees a slot. Its cache stays for a request that begins alike.
func (s *scheduler) end(sl *slot, reason FinishReason, err error) {
	j := sl.job
	j.cached = sl.cached
	sl.job, sl.pending, sl.warm = nil, sl.pending[:0], nil
	sl.used = time.Now()
	s.pace.disturbed = sl.used // there is one less to decode
	if s.widths.trying() {
		s.widths.endTry()
	}
	s.mu.Lock()
	s.busy--
	s.guesses.Guessed += j.guesses.Guessed
	s.guesses.Accepted += j.guesses.Accepted
	s.mu.Unlock()
	j.finish(reason, err)
}
