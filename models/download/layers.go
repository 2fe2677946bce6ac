package download

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/models/hub"
)

// FetchLayers writes the layers r of a model into a file of their own, as gguf.Slice does, and gets no more of the hub than
// the beginnings of its files and the tensors that are needed. What was begun goes on. The catalogue has hashes of whole files
// only, so what came is as good as the connection: who runs it has to know the tensors' hashes from elsewhere, or trust the hub.
// It fails as Fetch does, with centram.Conflict if there is a file already, and with centram.Unsupported if the server does not
// give parts of files.
func (m Model) FetchLayers(ctx context.Context, h *hub.Hub, r centram.LayerRange, to string, cfg Config) (err error) {
	if _, err := os.Stat(to); err == nil {
		return centram.Errorf(centram.Conflict, "There is a file of that name: %s", to).WithHint("Move it away, or name another.")
	}
	l := &layers{}
	defer func() { err = errors.Join(err, l.close(err == nil)) }()
	for _, f := range m.Files {
		file := File{filepath.Join(filepath.Dir(to), f.Name()), f.Size, f.SHA256}
		cfg := cfg.withDefaults(file)
		p, err := openPartial(filepath.Join(cfg.Dir, f.SHA256), f.Size, 0)
		if err != nil {
			return err
		}
		l.files = append(l.files, &fetch{file: file, src: FromHub(h, hub.File{Repo: m.Repo, Revision: m.Revision, Path: f.Path}, f.Size), cfg: cfg, partial: p})
	}
	model, err := l.open(ctx)
	if err != nil {
		return err
	}
	if err := l.get(ctx, model, r); err != nil {
		return err
	}
	return replace(to, func(w io.Writer) error { return gguf.Slice(w, model, gguf.Share{Layers: r}) })
}

// layers are the files of a model, of which parts are here.
type layers struct{ files []*fetch }

// close keeps what is here, unless it is not needed any more.
func (l *layers) close(done bool) (err error) {
	for _, t := range l.files {
		if done || t.partial.done() == 0 {
			err = errors.Join(err, t.partial.remove())
		} else {
			err = errors.Join(err, t.partial.close())
		}
	}
	return err
}

// open gets so much of the files' beginnings as it takes to know what is in them.
func (l *layers) open(ctx context.Context) (*gguf.Model, error) {
	var parts []*gguf.File
	for _, t := range l.files {
		f, err := t.header(ctx)
		if err != nil {
			return nil, err
		}
		parts = append(parts, f)
	}
	return gguf.Join(parts...)
}

// header reads the beginning of a file, which comes as far as it is read. How long it is shows only on the way.
func (t *fetch) header(ctx context.Context) (*gguf.File, error) {
	b := &beginning{ctx: ctx, fetch: t}
	f, err := gguf.Read(b, t.file.Size)
	if b.err != nil {
		return nil, b.err
	}
	if err != nil {
		return nil, err
	}
	f.Name = t.file.Path
	return f, nil
}

// beginning is a file that comes as far as it is read, and no matter how far that is, not much further.
type beginning struct {
	ctx   context.Context
	fetch *fetch
	end   int64 // of what was asked for
	err   error // why something did not come
}

func (b *beginning) ReadAt(p []byte, at int64) (int, error) {
	t := b.fetch
	if to := min(at+int64(len(p)), t.file.Size); to > b.end && b.err == nil && at <= b.end { // tensors, which lie behind, are got by themselves
		b.end = min(max(to, b.end+grain), t.file.Size)
		b.err = t.ranges(b.ctx, spans{{0, b.end}})
	}
	if b.err != nil {
		return 0, b.err
	}
	return t.partial.data.ReadAt(p, at)
}

// get gets the tensors of a range of layers.
func (l *layers) get(ctx context.Context, m *gguf.Model, r centram.LayerRange) error {
	needs, err := gguf.Needs(m, gguf.Share{Layers: r})
	if err != nil {
		return err
	}
	want := make([]spans, len(l.files))
	for _, n := range needs {
		want[n.Part] = want[n.Part].add(span{n.Tensor.Offset, n.Tensor.Offset + n.Tensor.Size})
	}
	for i, t := range l.files {
		if err := room(t.cfg.Dir, 2*want[i].total()); err != nil { // once as it came, and once in the file that is made
			return err
		}
		if err := t.ranges(ctx, want[i]); err != nil {
			return err
		}
	}
	return nil
}

// ranges gets parts of a file.
func (t *fetch) ranges(ctx context.Context, want spans) error {
	t.taken = append(spans(nil), t.partial.have...)
	at := int64(0)
	for _, s := range want {
		t.taken = t.taken.add(span{at, s.from})
		at = s.to
	}
	t.taken = t.taken.add(span{at, t.file.Size})
	err := t.connect(ctx)
	if errors.Is(err, hub.ErrWhole) {
		return centram.Errorf(centram.Unsupported, "The server does not give parts of %s.", filepath.Base(t.file.Path)).WithHint("Download all of it.")
	}
	return err
}

// replace writes a file whole or not at all.
func replace(path string, content func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return explain(err)
	}
	return explain(atomicfile.WriteFunc(path, 0o644, func(f *os.File) error { return content(f) }))
}
