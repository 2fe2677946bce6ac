package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/centram/centram"
)

// resident is one model that is in memory or on its way there. Its fields are guarded by Engine.mu, save that model,
// sched and err are fixed once ready is closed.
type resident struct {
	name     string
	ready    chan struct{}
	model    Model
	sched    *scheduler
	err      error
	memory   uint64
	progress float64
	stop     context.CancelFunc
	gone     chan struct{} // closed when its memory is free again

	leaving bool // told to stop; nobody may take hold of it any more
	users   int  // requests that hold it
	used    time.Time
	keep    time.Duration // of the last request
	expires time.Time     // zero while in use or if kept for ever
	timer   *time.Timer

	draft    string // the model that guesses for this one
	draftErr error  // why it does not
}

// errUnloaded is the error of a load that was stopped.
var errUnloaded = errors.New("unloaded before it was loaded")

// Load brings a model into memory and returns when it can answer. It stays for keepAlive, as after a Request with that.
func (e *Engine) Load(ctx context.Context, name string, keepAlive time.Duration) error {
	res, _, err := e.acquire(ctx, name)
	if err != nil {
		return err
	}
	if draft, _ := e.acquireDraft(ctx, res, false); draft != nil {
		e.release(draft, keepAlive)
	}
	e.release(res, keepAlive)
	return nil
}

// Unload frees a model and returns when it is gone. Answers under way end with centram.Unavailable.
func (e *Engine) Unload(ctx context.Context, name string) error {
	name, _, err := e.cfg.Resolve(ctx, name)
	if err != nil {
		return err
	}
	e.mu.Lock()
	res, ok := e.residents[name]
	if !ok {
		e.mu.Unlock()
		return centram.Errorf(centram.NotFound, "the model %s is not loaded", name)
	}
	res.leave()
	e.mu.Unlock()
	select {
	case <-res.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resident lists the models in memory and on their way, by name.
func (e *Engine) Resident() []Resident {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]Resident, 0, len(e.residents))
	for _, res := range e.residents {
		r := Resident{Name: res.name, Loading: res.progress, MemoryBytes: res.memory, ExpiresAt: res.expires, Draft: res.draft, DraftError: res.draftErr}
		if res.loaded() {
			r.Info, r.Loading = res.model.Info(), 1
			r.Busy, r.Queued = res.sched.load()
			r.Guesses = res.sched.guessed()
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Resident) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func (r *resident) loaded() bool {
	select {
	case <-r.ready:
		return r.err == nil
	default:
		return false
	}
}

// acquire returns a model that can answer, loading it if need be, and holds it in memory until release. With it come the
// adapters that the name asks for.
func (e *Engine) acquire(ctx context.Context, name string) (*resident, []AdapterScale, error) {
	name, adapters, err := e.cfg.Resolve(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	res, err := e.take(ctx, name, (*Engine).makeRoom)
	return res, adapters, err
}

// take is acquire by the model's true name. room says whether so many bytes are free, makes some free if it can, and
// returns errNoRoom if it is no use to wait. It is called with mu held.
func (e *Engine) take(ctx context.Context, name string, room func(e *Engine, need uint64) (bool, error)) (*resident, error) {
	for {
		res, err := e.hold(ctx, name, room)
		if err != nil {
			return nil, err
		}
		select {
		case <-res.ready:
		case <-ctx.Done():
			e.release(res, 0)
			return nil, ctx.Err()
		}
		if res.err == nil {
			return res, nil
		}
		e.release(res, 0)
		// A load that somebody else's Unload stopped is no reason for this request to fail.
		if !errors.Is(res.err, errUnloaded) || e.ctx.Err() != nil {
			return nil, res.err
		}
	}
}

// hold finds or starts the resident of that name and counts one more user.
func (e *Engine) hold(ctx context.Context, name string, room func(e *Engine, need uint64) (bool, error)) (*resident, error) {
	if res, err := e.find(name); res != nil || err != nil {
		return res, err
	}
	need, err := e.need(name) // reads the file, so it is asked only for a model that is not there
	if err != nil {
		return nil, err
	}
	for {
		if res, err := e.find(name); res != nil || err != nil {
			return res, err
		}
		e.mu.Lock()
		there, ok := e.residents[name]
		if ok && !there.leaving { // somebody was faster
			e.mu.Unlock()
			continue
		}
		if !ok && !e.closed {
			fits, err := room(e, need)
			if err != nil {
				e.mu.Unlock()
				return nil, err
			}
			if fits {
				res := e.start(name, need)
				e.mu.Unlock()
				return res, nil
			}
		}
		freed := e.freed
		e.mu.Unlock()
		select {
		case <-freed: // somebody became idle or left: look again
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.ctx.Done():
			return nil, errClosed()
		}
	}
}

// find returns the resident of that name with one more user, or nil if there is none that stays.
func (e *Engine) find(name string) (*resident, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed()
	}
	res, ok := e.residents[name]
	if ok && res.ended() {
		res.fade() // whoever has just learned of it may be back before bury is
	}
	if !ok || res.leaving {
		return nil, nil
	}
	res.users++
	res.stopExpiry()
	return res, nil
}

// need is the memory that a model will take, or an error if it can never have so much.
func (e *Engine) need(name string) (uint64, error) {
	if e.cfg.Estimate == nil || e.cfg.MemoryBudget == 0 {
		return 0, nil
	}
	need, err := e.cfg.Estimate(name)
	if err != nil {
		return 0, err
	}
	if need > e.cfg.MemoryBudget {
		return 0, centram.Errorf(centram.Invalid, "the model %s needs %d MiB, which is more than the %d MiB that models may take", name, need>>20, e.cfg.MemoryBudget>>20).
			WithHint("Choose a smaller model or a smaller context, or raise the memory budget in the settings.")
	}
	return need, nil
}

// makeRoom tells the least recently used idle models to leave until need bytes fit, and reports whether they fit
// already. Called with mu held.
func (e *Engine) makeRoom(need uint64) (bool, error) {
	if e.cfg.MemoryBudget == 0 {
		return true, nil
	}
	var taken, leaving uint64
	var idle []*resident
	for _, res := range e.residents {
		taken += res.memory
		if res.leaving {
			leaving += res.memory
		} else if res.users == 0 && res.loaded() {
			idle = append(idle, res)
		}
	}
	slices.SortFunc(idle, func(a, b *resident) int { return a.used.Compare(b.used) })
	for _, res := range idle {
		if taken-leaving+need <= e.cfg.MemoryBudget {
			break
		}
		res.leave()
		leaving += res.memory
	}
	return taken+need <= e.cfg.MemoryBudget, nil
}

// leave tells the resident to end. Called with Engine.mu held.
func (r *resident) leave() {
	r.leaving = true
	r.stop()
}

// start begins to load a model, held by one user. Called with mu held.
func (e *Engine) start(name string, memory uint64) *resident {
	ctx, stop := context.WithCancel(e.ctx)
	res := &resident{name: name, ready: make(chan struct{}), gone: make(chan struct{}), memory: memory, stop: stop, users: 1, keep: e.cfg.KeepAlive}
	e.residents[name] = res
	e.wg.Go(func() { e.live(ctx, res) })
	return res
}

// live is the life of a resident: load, serve until told to stop, free.
func (e *Engine) live(ctx context.Context, res *resident) {
	defer res.stop()
	e.cfg.Changed(Change{Name: res.name, Kind: Loading})
	model, err := e.cfg.Open(ctx, res.name, func(p float64) {
		e.mu.Lock()
		stepped := int(p*50) > int(res.progress*50)
		res.progress = p
		e.mu.Unlock()
		if stepped {
			e.cfg.Changed(Change{Name: res.name, Kind: Loading, Progress: p})
		}
	})
	if err != nil {
		if ctx.Err() != nil {
			err = errUnloaded
		}
		res.err = err // read only after ready is closed
		e.forget(res)
		close(res.ready)
		e.cfg.Changed(Change{Name: res.name, Kind: Failed, Err: err})
		return
	}
	e.mu.Lock()
	res.model = model
	res.sched = newScheduler(res.name, model, e.cfg.QueueLimit)
	res.memory = max(res.memory, model.Info().MemoryBytes)
	e.mu.Unlock()
	close(res.ready)
	e.cfg.Changed(Change{Name: res.name, Kind: Loaded, Progress: 1})
	if m, ok := model.(Mortal); ok {
		e.wg.Go(func() { e.bury(res, m) })
	}

	res.sched.run(ctx)
	e.forget(res, model.Close)
	e.cfg.Changed(Change{Name: res.name, Kind: Unloaded})
}

// bury has a model that ends by itself leave. Requests that hold it learn from the model why, so it goes when they have.
func (e *Engine) bury(res *resident, m Mortal) {
	select {
	case <-m.Ended():
	case <-res.gone:
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	res.fade()
}

// fade has the resident leave as soon as nobody holds it. Called with Engine.mu held.
func (r *resident) fade() {
	r.leaving = true
	if r.users == 0 {
		r.stop()
	}
}

// ended says whether the model has come to its end by itself.
func (r *resident) ended() bool {
	m, ok := r.model.(Mortal)
	if !ok || !r.loaded() {
		return false
	}
	select {
	case <-m.Ended():
		return true
	default:
		return false
	}
}

// forget takes a resident off the list once its memory is free. While that lasts no request may take hold of it.
func (e *Engine) forget(res *resident, free ...func() error) {
	for _, f := range free {
		_ = f() // there is nothing left to do for a model that does not close well
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	res.stopExpiry()
	delete(e.residents, res.name)
	close(res.gone)
	e.announceFreed()
}

// release ends one use. keep of zero leaves the time that the model is kept as it was.
func (e *Engine) release(res *resident, keep time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if keep != 0 {
		res.keep = keep
	}
	res.users--
	res.used = time.Now()
	if res.users > 0 || !res.loaded() {
		return
	}
	if res.leaving {
		res.stop()
		return
	}
	e.announceFreed()
	if res.keep < 0 || e.residents[res.name] != res {
		return
	}
	res.expires = time.Now().Add(res.keep)
	res.timer = time.AfterFunc(res.keep, func() { e.expire(res) })
}

// expire unloads a model whose time is over, unless somebody came.
func (e *Engine) expire(res *resident) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if res.users == 0 && !res.expires.IsZero() {
		res.leave()
	}
}

func (e *Engine) announceFreed() {
	close(e.freed)
	e.freed = make(chan struct{})
}

func (r *resident) stopExpiry() {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	r.expires = time.Time{}
}
