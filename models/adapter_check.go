package models

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
)

// inspectAdapter returns the adapter in a file, without a name. If it does not fit base, it is returned as Failed with the
// reason.
func (l *Library) inspectAdapter(ctx context.Context, path string, base Model) (Adapter, error) {
	a := Adapter{Base: base.Name, Path: path, State: Ready, AddedAt: l.Now(), baseFiles: base.files}
	a.file = fingerprint([]string{path})[0]
	sum, err := l.checkAdapter(path, base)
	if err == nil {
		a.Digest, err = hash(ctx, []file{a.file}) // a small file next to a model's
	}
	if ctx.Err() != nil {
		return a, ctx.Err()
	}
	if err != nil {
		a.State, a.Err = Failed, misfit(err, path, base.Name)
		return a, a.Err
	}
	a.Title, a.SizeBytes, a.Rank, a.Alpha = sum.Name, sum.SizeBytes, sum.Rank, sum.Alpha
	a.Matrices, a.Parameters = sum.Matrices, sum.Parameters
	return a, nil
}

func (l *Library) checkAdapter(path string, base Model) (gguf.AdapterSummary, error) {
	model, err := l.Check(base.Path)
	if err != nil {
		return gguf.AdapterSummary{}, err
	}
	f, err := gguf.Open(path)
	if err != nil {
		return gguf.AdapterSummary{}, err
	}
	defer f.Close()
	return gguf.CheckAdapter(f, model.Summary)
}

// misfit is why a file is no adapter of a model, with what a person can do.
func misfit(err error, path, base string) error {
	if e, ok := errors.AsType[*centram.Error](readable(err, path)); ok && e.Hint == "" {
		return e.WithHint("It has to be a LoRA adapter in GGUF that was trained for this model. Look into it with: centram lora show FILE --model %s", base)
	}
	return err
}

// refreshOf is refreshAdapter with the model that the list has now.
func (l *Library) refreshOf(ctx context.Context, a *Adapter) error {
	m, err := l.get(ctx, a.Base)
	if centram.CodeOf(err) == centram.NotFound {
		return l.refreshAdapter(ctx, a, nil)
	}
	if err != nil {
		return err
	}
	return l.refreshAdapter(ctx, a, &m)
}

// refreshAdapter brings a up to date with its file and its model, which is nil if it is not in the list, and the list with a.
func (l *Library) refreshAdapter(ctx context.Context, a *Adapter, base *Model) error {
	now := fingerprint([]string{a.Path})[0]
	switch {
	case base == nil:
		a.State, a.Err = Missing, a.orphaned()
		return nil
	case base.Err != nil:
		a.State = base.State
		a.Err = centram.Errorf(centram.CodeOf(base.Err), "The model %s, which the adapter %s is for, cannot be used: %w", a.Base, a.Name, base.Err).
			WithHint("%s", centram.HintOf(base.Err))
		return nil
	case now.Size < 0:
		a.State = Missing
		a.Err = centram.Errorf(centram.NotFound, "The file of the adapter %s is gone: %s", a.Called(), a.Path).
			WithHint("Put it back, or remove the adapter from the list with: centram lora remove %s", a.Called())
		return nil
	case now == a.file && slices.Equal(base.files, a.baseFiles):
		return nil
	}
	fresh, err := l.inspectAdapter(ctx, a.Path, *base)
	if err != nil && fresh.Err == nil {
		return err
	}
	fresh.Name, fresh.About, fresh.AddedAt = a.Name, a.About, a.AddedAt
	*a = fresh
	if err := l.updateAdapter(ctx, fresh); err != nil {
		return l.goOn(ctx, fmt.Errorf("update the adapter %s: %w", a.Called(), err))
	}
	l.Changed(Change{a.Called(), Imported})
	return nil
}

// orphaned is why an adapter cannot be used whose model is not in the list.
func (a Adapter) orphaned() error {
	return atModel(centram.Errorf(centram.NotFound, "There is no model %s, which the adapter %s is for.", a.Base, a.Name).
		WithHint("Add that model again under its name: centram model import FILE.gguf --name %s", a.Base))
}
