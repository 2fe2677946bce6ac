package download

import (
	"context"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/centram/centram/models/catalogue"
	"github.com/centram/centram/models/hub"
)

// News is what the hub says of an entry of the catalogue.
type News struct {
	Entry catalogue.Entry // as the hub has it now
	Newer bool            // than in the catalogue
	Err   error           // why that is not known
}

// Refresh asks the hub what it has of each model in the catalogue, in the order of that, and remembers what is newer: the next
// Catalogue has it. An entry that the hub does not have any more stays as it is. It fails if nothing could be found out.
func (o Orders) Refresh(ctx context.Context) ([]News, error) {
	entries := o.Catalogue.All()
	news := make([]News, len(entries))
	var g errgroup.Group
	g.SetLimit(4)
	for i, e := range entries {
		g.Go(func() error {
			news[i] = o.ask(ctx, e)
			return nil
		})
	}
	_ = g.Wait() // each says by itself what went wrong
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(news, func(n News) bool { return n.Err == nil }) && len(news) > 0 {
		return nil, news[0].Err
	}
	return news, o.remember(news)
}

// ask compares an entry with the hub's main branch.
func (o Orders) ask(ctx context.Context, e catalogue.Entry) News {
	now := e
	now.Files = slices.Clone(e.Files)
	for i, f := range e.Files {
		found, err := o.Hub.Head(ctx, hub.File{Repo: e.Repo, Revision: "main", Path: f.Path})
		if err != nil {
			return News{Entry: e, Err: err}
		}
		now.Files[i].Size, now.Files[i].SHA256 = found.Size, found.SHA256
		if err := now.Files[i].Check(); err != nil {
			return News{Entry: e, Err: err}
		}
		now.Revision = found.Commit
	}
	if slices.Equal(now.Files, e.Files) { // another commit, in which something else was changed
		return News{Entry: e}
	}
	return News{Entry: now, Newer: true}
}

// remember adds what is newer to what was remembered before.
func (o Orders) remember(news []News) error {
	old, err := catalogue.Load()
	if err != nil {
		return err
	}
	var differ []catalogue.Entry
	for _, n := range news {
		own, err := old.Find(n.Entry.Name)
		if err == nil && own.Repo == n.Entry.Repo && !slices.Equal(own.Files, n.Entry.Files) {
			differ = append(differ, n.Entry)
		}
	}
	return replace(o.Refreshed, func(w io.Writer) error { return catalogue.Write(w, differ) })
}
