package engine

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/centram/centram"
)

// draft guesses what a smaller model of the same vocabulary says. It asks that model's scheduler as any request does, so
// several answers' guesses are run side by side, what the model has read of a text stays in its cache, what was guessed
// wrong is cut off, and the model can answer others meanwhile.
type draft struct {
	sched *scheduler
}

// sameVocabulary says why a model cannot guess for another, if it cannot.
func sameVocabulary(name string, target Model, draftName string, draft Model) error {
	n := target.Info().VocabSize
	if m := draft.Info().VocabSize; m != n {
		return centram.Errorf(centram.Invalid, "%s cannot guess for %s: its vocabulary has %d tokens, not %d", draftName, name, m, n)
	}
	for i := range min(n, piecesCompared) {
		t := Token(i * (n / min(n, piecesCompared)))
		if got, want := draft.Piece(t, true), target.Piece(t, true); !bytes.Equal(got, want) || draft.EndOfGeneration(t) != target.EndOfGeneration(t) {
			return centram.Errorf(centram.Invalid, "%s cannot guess for %s: token %d is %q in its vocabulary, not %q", draftName, name, t, got, want)
		}
	}
	return nil
}

const piecesCompared = 256

// propose implements proposer.
func (d *draft) propose(ctx context.Context, wishes []wish) {
	if busy, queued := d.sched.load(); busy+queued >= len(d.sched.slots) {
		return // others talk with the draft, for as long as they like
	}
	ctx, cancel := context.WithTimeout(ctx, longestGuess)
	defer cancel()
	jobs := make([]*job, len(wishes))
	for i, a := range wishes {
		jobs[i] = d.begin(ctx, a.text, a.most)
	}
	defer context.AfterFunc(ctx, d.sched.poke)()
	for i, j := range jobs {
		if j == nil {
			continue
		}
		<-j.done // the text is ours again only then
		wishes[i].guesses = append(wishes[i].guesses[:0], j.sampler.(*likeliest).picked...)
	}
}

// longestGuess is how long all answers wait for guesses at most, should somebody have taken the draft's slots just before.
const longestGuess = time.Second

// begin has the model go on with a text. It returns nil if the model cannot.
func (d *draft) begin(ctx context.Context, text []Token, n int) *job {
	if n = min(n, d.sched.info.Context-len(text)); n <= 0 {
		return nil
	}
	j := newJob()
	j.ctx, j.prompt, j.maxTokens, j.top, j.topLogprobs = ctx, text, n, 1, -1
	j.sampler = &likeliest{vocabulary: d.sched.model}
	j.quiet, j.plain, j.hurried = true, true, true
	if d.sched.submit(j) != nil {
		return nil
	}
	return j
}

// warm has the draft read a prompt while the target reads it too. The second token that it is asked for shows how long one
// takes.
func (s *scheduler) warm(sl *slot) {
	s.mu.Lock()
	src := s.draft
	s.mu.Unlock()
	if src == nil || sl.job.plain {
		return
	}
	s.warmed++
	_, gain := s.pace.best(src, src.hit, 1, 1, mostGuesses)
	if src.token.count == 0 || gain >= needed(s.pace.credit) || s.always > 0 || s.warmed%warmEvery == 1 {
		if d, ok := src.proposer.(*draft); ok {
			sl.warm = d.begin(sl.job.ctx, sl.job.prompt, 2)
		}
	}
}

// warmEvery is in how many answers the draft is given a chance once it does not pay.
const warmEvery = 8

// serves says whether the source can guess for a slot: a draft has to have read its prompt.
func (src *source) serves(sl *slot) bool {
	if _, ok := src.proposer.(*draft); !ok {
		return true
	}
	if sl.warm == nil {
		return sl.warmed
	}
	select {
	case <-sl.warm.done:
		j := sl.warm
		sl.warm, sl.warmed = nil, j.err == nil
		if sl.warmed && j.generated == 2 {
			src.token.add(j.ended.Sub(j.firstToken).Seconds())
		}
	default:
	}
	return sl.warmed
}

// likeliest is a Sampler that always picks the likeliest token, and remembers those that do not end an answer.
type likeliest struct {
	vocabulary Vocabulary
	picked     []Token
}

func (l *likeliest) Sample(logits []float32) (Token, error) {
	best := 0
	for i, x := range logits {
		if x > logits[best] {
			best = i
		}
	}
	l.note(Token(best))
	return Token(best), nil
}

func (l *likeliest) Choose(best []Candidate) (Token, error) {
	l.note(best[0].Token)
	return best[0].Token, nil
}

// note remembers a token unless it ends the answer.
func (l *likeliest) note(t Token) {
	if !l.vocabulary.EndOfGeneration(t) {
		l.picked = append(l.picked, t)
	}
}

func (l *likeliest) Accept(Token) {}
func (l *likeliest) Close()       {}

// acquireDraft returns the model that guesses for another one, held until release, or nil. Answers do without it if they
// have to, so what is wrong with it is noted in the target's Resident. guesses says whether any are to be made.
func (e *Engine) acquireDraft(ctx context.Context, target *resident, plain bool) (found *resident, guesses bool) {
	if plain || e.cfg.Speculate == nil {
		return nil, !plain
	}
	name, on := e.cfg.Speculate(target.name)
	if name == "" || !on {
		return nil, on
	}
	e.mu.Lock()
	wrong := target.draft == name && target.draftErr != nil && !errors.Is(target.draftErr, errNoRoom)
	e.mu.Unlock()
	if wrong {
		return nil, true // it will not be better until the target is loaded again
	}
	found, err := e.findDraft(ctx, target, name)
	if ctx.Err() != nil {
		return found, true
	}
	e.mu.Lock()
	target.draft, target.draftErr = name, err
	e.mu.Unlock()
	if found == nil {
		target.sched.guessWith(nil)
		return nil, true
	}
	target.sched.guessWith(found.sched)
	return found, true
}

// errNoRoom is why a draft is not loaded that would need the memory of models in use.
var errNoRoom = errors.New("there is no memory left for it")

func (e *Engine) findDraft(ctx context.Context, target *resident, name string) (*resident, error) {
	name, _, err := e.cfg.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	// Two schedulers that wait for each other's guesses would wait for ever.
	if other, on := e.cfg.Speculate(name); name == target.name || on && other != "" {
		return nil, centram.Errorf(centram.Invalid, "%s cannot guess for %s: another model guesses for it", name, target.name)
	}
	found, err := e.take(ctx, name, (*Engine).makeRoomAside)
	if err != nil {
		return nil, err
	}
	if err := sameVocabulary(target.name, target.model, name, found.model); err != nil {
		e.release(found, 0)
		return nil, err
	}
	return found, nil
}

// makeRoomAside is makeRoom for a model that is not worth waiting for those in use.
func (e *Engine) makeRoomAside(need uint64) (bool, error) {
	used := need
	for _, res := range e.residents {
		if !res.leaving && (res.users > 0 || !res.loaded()) {
			used += res.memory
		}
	}
	if e.cfg.MemoryBudget > 0 && used > e.cfg.MemoryBudget {
		return false, errNoRoom
	}
	return e.makeRoom(need)
}
