package main

import (
	"context"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"github.com/centram/centram"
	"github.com/centram/centram/atomicfile"
	"github.com/centram/centram/models"
	"github.com/centram/centram/models/download"
	"github.com/centram/centram/p2p/transfer"
	"github.com/centram/centram/p2p/wire"
)

// noticed has the models looked at again that others can have.
func (n *network) noticed() {
	select {
	case n.shared <- struct{}{}:
	default:
	}
}

// shareModels makes files of the catalogue blobs where they lie, so that other machines that download the same one get it from
// here. Who may is what the node's policy says. Other models are nobody's business: who knows a file's hash has it already.
func (n *network) shareModels(ctx context.Context) error {
	known := n.models.Known
	n.noticed()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.shared:
		}
		list, err := n.models.List(ctx)
		if err != nil {
			n.log.WarnContext(ctx, "Models are not shared", "err", err)
			continue
		}
		for _, m := range list {
			if m.State != models.Ready || known[filepath.Base(m.Path)] == "" {
				continue
			}
			for _, path := range models.Parts(m.Path) {
				if _, err := n.blobs.Link(ctx, path); err != nil && ctx.Err() == nil {
					n.log.WarnContext(ctx, "A model is not shared", "file", path, "err", err)
				}
			}
		}
	}
}

// near gets a file from the machines that are connected, if one of them has it.
func (n *network) near(ctx context.Context, f download.File, tell func(download.Progress)) bool {
	b, err := hex.DecodeString(f.SHA256)
	if n.files == nil || err != nil || len(b) != len(wire.Hash{}) {
		return false
	}
	hash := wire.Hash(b)
	had := n.blobs.Have(hash).Complete
	err = n.files.Fetch(ctx, hash, transfer.Options{Progress: func(have, of int) {
		tell(download.Progress{Stage: download.Downloading, Done: min(int64(have)*wire.ChunkSize, f.Size), Total: f.Size})
	}})
	if err == nil {
		err = n.place(hash, f.Path, had)
	}
	if err == nil {
		n.log.InfoContext(ctx, "A file of a model came from another machine", "file", filepath.Base(f.Path))
	} else if centram.CodeOf(err) != centram.NotFound && ctx.Err() == nil {
		n.log.WarnContext(ctx, "A file of a model did not come from other machines, so the hub is asked", "file", filepath.Base(f.Path), "err", err)
	}
	if ctx.Err() == nil && !had { // what came is in the models folder now; what did not comes from the hub
		if err := n.blobs.Remove(hash); err != nil && centram.CodeOf(err) != centram.NotFound {
			n.log.WarnContext(ctx, "A blob was not removed", "err", err)
		}
	}
	return err == nil
}

// place gives a blob a name in the folder of models. On one disk that costs nothing, but where the blob is somebody's file.
func (n *network) place(hash wire.Hash, path string, others bool) error {
	from, err := n.blobs.Path(hash)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if !others && os.Link(from, path) == nil {
		return os.Chmod(path, 0o644)
	}
	return copyFile(from, path)
}

// copyFile copies a file whole or not at all.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return atomicfile.WriteFunc(to, 0o644, func(out *os.File) error {
		_, err := io.Copy(out, in)
		return err
	})
}
