package server

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/centram/centram"
	"github.com/centram/centram/p2p/blob"
	"github.com/centram/centram/p2p/wire"
	"github.com/danielgtaylor/huma/v2"
)

// Blobs are files that are named by what is in them, as *blob.Store has them.
type Blobs interface {
	List() []blob.Info
	Usage() blob.Usage
	Link(ctx context.Context, path string) (*wire.Manifest, error)
	Path(wire.Hash) (string, error)
	Remove(wire.Hash) error
}

// Blob is a file that is given to other nodes, or comes from them.
type Blob struct {
	Hash     string    `json:"hash" doc:"The SHA-256 of the whole, which is its name."`
	Size     int64     `json:"size_bytes"`
	Complete bool      `json:"complete"`
	Chunks   int       `json:"chunks" doc:"That are here."`
	Of       int       `json:"of" doc:"Chunks that it has."`
	Link     string    `json:"link,omitempty" doc:"The file elsewhere on this computer that it is. Absent if it lies among the blobs."`
	Offset   int64     `json:"offset,omitempty" doc:"Where in that file it begins, if it is but a range of it."`
	Pinned   bool      `json:"pinned" doc:"It stays, whatever the quota is."`
	UsedAt   time.Time `json:"used_at"`
}

type blobList struct {
	Body struct {
		Blobs  []Blob `json:"blobs"`
		Bytes  int64  `json:"bytes" doc:"That they take of the disk."`
		Pinned int64  `json:"pinned_bytes"`
		Quota  int64  `json:"quota_bytes" doc:"That they may take; 0 means that there is no limit."`
	}
}

type blobBody struct{ Body Blob }

// BlobName names a blob.
type BlobName struct {
	Hash string `path:"hash" maxLength:"64" doc:"64 hexadecimal digits; of a blob that is here, the first few if no other has the same."`
}

type blobAdd struct {
	Body struct {
		Path string `json:"path" minLength:"1" doc:"Absolute path of a file, which stays where it is."`
	}
}

type blobFetch struct {
	BlobName
	Body struct {
		Wait int `json:"wait_s,omitempty" minimum:"0" maximum:"86400" doc:"Seconds to wait for a peer that has it."`
	}
}

// fetchProgress is how far a blob has come.
type fetchProgress struct {
	Have int `json:"have" doc:"Chunks that are here."`
	Of   int `json:"of"`
}

// FetchedBlob is a blob that is here now.
type FetchedBlob struct {
	Blob
	Path string `json:"path" doc:"The file that it is in, at the offset if there is one. It may not be changed."`
}

// fetchEvents are the events of a fetch. The last one is done or failed.
var fetchEvents = map[string]any{"progress": fetchProgress{}, "done": FetchedBlob{}, "failed": Refusal{}}

func (s *Server) blobs() (Blobs, error) {
	if s.Network.Blobs == nil {
		return nil, centram.Errorf(centram.Unavailable, "There is no place for blobs.").WithHint("The log of the daemon says why.")
	}
	return s.Network.Blobs, nil
}

func (s *Server) listBlobs(context.Context, *struct{}) (*blobList, error) {
	blobs, err := s.blobs()
	if err != nil {
		return nil, err
	}
	out := &blobList{}
	out.Body.Blobs = []Blob{}
	for _, i := range blobs.List() {
		out.Body.Blobs = append(out.Body.Blobs, presentBlob(i))
	}
	u := blobs.Usage()
	out.Body.Bytes, out.Body.Pinned, out.Body.Quota = u.Bytes, u.Pinned, u.Quota
	return out, nil
}

// addBlob makes a file a blob where it lies.
func (s *Server) addBlob(ctx context.Context, in *blobAdd) (*blobBody, error) {
	blobs, err := s.blobs()
	if err != nil {
		return nil, err
	}
	m, err := blobs.Link(ctx, in.Body.Path)
	if err != nil {
		return nil, err
	}
	b, err := s.blobNamed(blobs, m.Blob.String())
	return &blobBody{b}, err
}

func (s *Server) deleteBlob(_ context.Context, in *BlobName) (*struct{}, error) {
	blobs, err := s.blobs()
	if err != nil {
		return nil, err
	}
	b, err := s.blobNamed(blobs, in.Hash)
	if err != nil {
		return nil, err
	}
	return nil, blobs.Remove(b.hash())
}

// fetchBlob brings a blob here while somebody listens. What has come stays, and another fetch goes on from there.
func (s *Server) fetchBlob(_ context.Context, in *blobFetch) (*huma.StreamResponse, error) {
	blobs, err := s.blobs()
	if err != nil {
		return nil, err
	}
	b, err := s.blobNamed(blobs, in.Hash)
	hash := b.hash()
	if centram.CodeOf(err) == centram.NotFound {
		err = hash.UnmarshalText([]byte(strings.ToLower(in.Hash))) // then it has to be the whole name
	}
	if err != nil {
		return nil, err
	}
	if !b.Complete {
		if _, err := s.node(); err != nil {
			return nil, err
		}
	}
	return streaming(func(ctx context.Context, out *stream) {
		err := s.followFetch(ctx, out, hash, time.Duration(in.Body.Wait)*time.Second)
		if err == nil {
			err = s.fetched(out, blobs, hash)
		}
		if err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "Blob not fetched", "blob", hash, "err", err)
			_ = out.send("failed", problemOf(err)) // an error means that nobody is there to hear it
		}
	}), nil
}

// followFetch fetches a blob and tells how far it is, until that is done or nobody listens any more.
func (s *Server) followFetch(ctx context.Context, out *stream, hash wire.Hash, wait time.Duration) error {
	if s.Network.Fetch == nil {
		return nil // it is here already
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.loads.base, cancel)() // which ends with the server
	latest := make(chan fetchProgress, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Network.Fetch(ctx, hash, wait, func(have, of int) {
			select {
			case <-latest: // nobody needs to know how far it was before
			default:
			}
			select {
			case latest <- fetchProgress{have, of}:
			default:
			}
		})
	}()
	ping := time.NewTicker(s.PingEvery)
	defer ping.Stop()
	for {
		var unheard error
		select {
		case p := <-latest:
			unheard = out.send("progress", p)
		case <-ping.C:
			unheard = out.ping()
		case err := <-ended:
			if s.loads.base.Err() != nil && errors.Is(err, context.Canceled) {
				return centram.Errorf(centram.Unavailable, "Centram is ending.").WithHint("What has come is kept: fetch the blob again later.")
			}
			return err
		}
		if unheard != nil {
			cancel()
			return errors.Join(<-ended, unheard)
		}
	}
}

func (s *Server) fetched(out *stream, blobs Blobs, hash wire.Hash) error {
	b, err := s.blobNamed(blobs, hash.String())
	if err != nil {
		return err
	}
	path, err := blobs.Path(hash)
	if centram.CodeOf(err) == centram.Unsupported && b.Link != "" { // it is a range of a file
		path, err = b.Link, nil
	}
	if err != nil {
		return err
	}
	return out.send("done", FetchedBlob{b, path})
}

// blobNamed finds a blob that is here, complete or not, by its hash or the beginning of that.
func (s *Server) blobNamed(blobs Blobs, text string) (Blob, error) {
	var found []Blob
	for _, i := range blobs.List() {
		if text != "" && strings.HasPrefix(i.Blob.String(), strings.ToLower(text)) {
			found = append(found, presentBlob(i))
		}
	}
	switch len(found) {
	case 0:
		return Blob{}, centram.Errorf(centram.NotFound, "There is no blob %s.", plain(text)).WithHint("See which there are with: centram blob list")
	case 1:
		return found[0], nil
	}
	return Blob{}, centram.Errorf(centram.Conflict, "The names of %d blobs begin with %s.", len(found), plain(text)).WithHint("Give more of the hash.")
}

func presentBlob(i blob.Info) Blob {
	return Blob{
		Hash: i.Blob.String(), Size: i.Size, Complete: i.Whole, Chunks: i.Chunks, Of: int((i.Size + wire.ChunkSize - 1) / wire.ChunkSize),
		Link: i.Link, Offset: i.Offset, Pinned: i.Pinned, UsedAt: i.Used,
	}
}

func (b Blob) hash() (h wire.Hash) {
	_ = h.UnmarshalText([]byte(b.Hash)) // it was written from one
	return h
}

// Record is a signed record that nodes pass on to each other.
type Record struct {
	ID       string    `json:"id"`
	Type     string    `json:"type"`
	Author   string    `json:"author" doc:"The id of the node that signed it."`
	Received time.Time `json:"received"`
	Size     int       `json:"size_bytes"`
}

type recordList struct {
	Body struct {
		Records []Record `json:"records" doc:"The oldest first."`
	}
}

func (s *Server) listRecords(context.Context, *struct{}) (*recordList, error) {
	if _, err := s.node(); err != nil {
		return nil, err
	}
	out := &recordList{}
	out.Body.Records = []Record{}
	if s.Network.Records != nil {
		out.Body.Records = append(out.Body.Records, s.Network.Records()...)
	}
	return out, nil
}
