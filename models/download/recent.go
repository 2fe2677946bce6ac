package download

import "sync"

const maxRecent = 32 << 20 / grain // pieces

// recent are the pieces of a file that were written last and are not hashed yet, so that they need not be read again.
type recent struct {
	mu     sync.Mutex
	pieces map[int64][]byte // by where they are in the file
	free   [][]byte
	hashed int64
}

// buffer is one for a piece.
func (r *recent) buffer() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.free); n > 0 {
		b := r.free[n-1]
		r.free = r.free[:n-1]
		return b
	}
	return make([]byte, grain)
}

// put takes over a piece. It is forgotten if it is not going to be hashed, or not soon.
func (r *recent) put(at int64, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pieces == nil || at < r.hashed || at >= r.hashed+maxRecent*grain {
		r.free = append(r.free, b[:grain])
		return
	}
	r.pieces[at] = b
}

// take returns the piece that begins there, which has to be given back, or nil and how far the file has to be read for the next
// one.
func (r *recent) take(at, ready int64) (b []byte, next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next = ready
	for from, b := range r.pieces {
		switch {
		case from == at && at+int64(len(b)) <= ready:
			delete(r.pieces, from)
			return b, 0
		case from < at: // a part of it was read from the file
			delete(r.pieces, from)
			r.free = append(r.free, b[:grain])
		case from > at:
			next = min(next, from)
		}
	}
	return nil, next
}

// done takes in that the file is hashed up to there, and takes a piece back.
func (r *recent) done(at int64, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hashed = at
	if b != nil {
		r.free = append(r.free, b[:grain])
	}
}
