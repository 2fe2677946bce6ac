package lora

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/centram/centram"
	"github.com/centram/centram/llama"
)

// head is what is saved of a run for people and the next run; the rest is for the trainer.
type head struct {
	Event  Event     `json:"event"`
	Losses []float64 `json:"losses"`
	Name   string    `json:"name,omitempty"` // of a private run in the ledger
}

// What is saved of a run, little-endian: the magic, the run's id, the length of the head in JSON and the head, how many
// parameters there are, which moments there are (0 none, 1 numbers, 2 bytes), the parameters, both moments of AdamW (of bytes,
// the scales of 256 each after them), and the SHA-256 of all that.
const stateMagic = "centram training state 1\n"

// state is the file of what is saved.
func (r *run) state() string { return r.cfg.Out + ".training" }

// digest is of all that the outcome depends on, but for the processor: what is learnt, how, and by what model.
func (r *run) digest() [32]byte {
	h := sha256.New()
	c := r.cfg
	c.Model, c.Data, c.Out, c.Name, c.SaveEvery, c.Memory, c.Wait = "", nil, "", "", 0, 0, false
	c.Private.Ledger, c.Private.Budget = "", 0 // a run that the budget has stopped may go on with a larger one
	b, err := json.Marshal(struct {
		Config Config
		Size   int64
		Model  [32]byte
	}{c, r.base.summary.SizeBytes, r.base.norm})
	if err != nil {
		panic(err) // it is numbers and words
	}
	h.Write(b)
	for _, b := range r.train {
		for _, list := range [][]int32{b.Tokens, b.Positions, b.Docs, b.Labels} {
			_ = binary.Write(h, binary.LittleEndian, list)
		}
	}
	return [32]byte(h.Sum(nil))
}

// save writes the state beside the adapter.
func (r *run) save() error {
	defer debug.FreeOSMemory() // two copies of the state, which the next step has no use for
	s := r.trainer.State()
	now := head{Event: r.now.Event, Losses: r.now.Losses}
	if r.private != nil {
		now.Name = r.private.name
	}
	about, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	moments := uint64(min(len(s.M), 1) + 2*min(len(s.Codes), 1))
	parts := []any{[]byte(stateMagic), r.id, uint64(len(about)), about, uint64(len(s.Values)), moments}
	add := func(numbers []float32) { // a part at a time, since each is copied to be written
		for part := range slices.Chunk(numbers, 1<<16) {
			parts = append(parts, part)
		}
	}
	add(s.Values)
	add(s.M)
	add(s.V)
	parts = append(parts, s.Codes)
	add(s.Scales)
	err = replace(r.state(), 0o644, func(w io.Writer) error {
		h := sha256.New()
		for _, p := range parts {
			if err := binary.Write(io.MultiWriter(w, h), binary.LittleEndian, p); err != nil {
				return err
			}
		}
		_, err := w.Write(h.Sum(nil))
		return err
	})
	if err != nil {
		return r.unsaved("training", err)
	}
	r.kept = r.now.Step
	return nil
}

// unsaved says what becomes of a run of which something could not be written. What was saved before is still there, unless
// its folder is not.
func (r *run) unsaved(what string, err error) error {
	e := centram.Errorf(centram.Unavailable, "the %s could not be saved at step %d: %w", what, r.now.Step, err)
	_, gone := os.Stat(filepath.Dir(r.cfg.Out))
	switch {
	case errors.Is(gone, fs.ErrNotExist):
		return e.WithHint("The folder %s is gone, and what was saved with it. Make it again and give the same command again to begin anew.", filepath.Dir(r.cfg.Out))
	case r.kept == 0:
		return e.WithHint("Make room in %s and give the same command again to begin anew.", filepath.Dir(r.cfg.Out))
	}
	return e.WithHint("Make room in %s and give the same command again to go on at step %d.", filepath.Dir(r.cfg.Out), r.kept)
}

// resume goes on from what was saved, if there is anything.
func (r *run) resume() error {
	b, err := os.ReadFile(r.state())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was saved: %w", err)
	}
	id, about, s, err := parseState(b)
	if err != nil {
		return centram.Errorf(centram.Invalid, "%s cannot be read: %w", r.state(), err).WithHint("Remove it to begin anew.")
	}
	if id != r.id {
		return centram.Errorf(centram.Conflict, "%s is of a training with another model, other data or settings", r.state()).
			WithHint("Finish that with what it was begun with, remove the file to begin anew, or write to another file.")
	}
	if err := r.trainer.SetState(s); err != nil {
		return err
	}
	about.Event.MemoryBytes, about.Event.Parameters, about.Event.Resumed = r.now.MemoryBytes, r.now.Parameters, true
	if r.private != nil {
		r.private.name = about.Name
	}
	r.now, r.kept = Outcome{about.Event, about.Losses}, about.Event.Step
	return nil
}

// parseState reads what save writes.
func parseState(b []byte) (id [32]byte, about head, s llama.TrainerState, err error) {
	bad := func(why string) ([32]byte, head, llama.TrainerState, error) {
		return id, head{}, llama.TrainerState{}, errors.New(why)
	}
	body, ok := bytes.CutPrefix(b, []byte(stateMagic))
	if !ok || len(body) < 2*sha256.Size+8 {
		return bad("it is no saved training, or of another version")
	}
	end := len(b) - sha256.Size
	if sum := sha256.Sum256(b[:end]); !bytes.Equal(sum[:], b[end:]) {
		return bad("it is damaged")
	}
	body = body[:len(body)-sha256.Size]
	copy(id[:], body)
	body = body[sha256.Size:]
	n := binary.LittleEndian.Uint64(body)
	if body = body[8:]; n > uint64(len(body)) || uint64(len(body))-n < 16 {
		return bad("it is too short")
	}
	if err := json.Unmarshal(body[:n], &about); err != nil {
		return bad("its head is damaged: " + err.Error())
	}
	body = body[n:]
	values, moments := binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(body[8:])
	if body = body[16:]; moments > 2 || values > math.MaxInt32 {
		return bad("it has more than there can be")
	}
	numbers, codes, scales := uint64(0), uint64(0), uint64(0)
	switch moments {
	case 1:
		numbers = values
	case 2:
		codes, scales = 2*values, 2*((values+255)/256)
	}
	if uint64(len(body)) != 4*values+8*numbers+codes+4*scales {
		return bad("it has the wrong length")
	}
	floats := func(n uint64) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(body[4*i:]))
		}
		body = body[4*n:]
		return out
	}
	s = llama.TrainerState{Step: about.Event.Step, Values: floats(values), M: floats(numbers), V: floats(numbers)}
	s.Codes, body = bytes.Clone(body[:codes]), body[codes:]
	s.Scales = floats(scales)
	return id, about, s, nil
}

// forget removes what was saved, now that the adapter is there.
func (r *run) forget() error {
	if err := os.Remove(r.state()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what was saved: %w", err)
	}
	return nil
}

// replace writes a file at once: whoever looks sees the old one or the new one, whatever happens.
func replace(path string, mode fs.FileMode, write func(io.Writer) error) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(f, 1<<20)
	if err = write(b); err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		if left := os.Remove(f.Name()); !errors.Is(left, fs.ErrNotExist) {
			err = errors.Join(err, left)
		}
	}
	return err
}
