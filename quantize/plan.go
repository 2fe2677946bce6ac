package quantize

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/gguf"
	"github.com/centram/centram/llama"
	"golang.org/x/sys/unix"
)

const (
	// buffer is how much of the weights is in memory at once. With less the threads would be started too often; the file is the
	// same.
	buffer = 64 << 20
	// overhead is what llama.cpp and this program take beside that, without the header of the file.
	overhead = 64 << 20
)

// Plan is what will be made of a model. Config.Plan makes it.
type Plan struct {
	Config
	From    string // what the model is now, such as "F16"
	Old     uint64 // bytes of the model's files
	Bytes   uint64 // that the new file will have, to a few hundred
	Bits    float64
	Tensors int
	// Misfits are matrices with rows of no multiple of 256, which a K type cannot keep, or of no multiple of 32. They get a type
	// that takes more room.
	Misfits []llama.Misfit

	first string // file to give to llama.cpp
	data  uint64 // bytes of all tensors
}

// Plan checks everything that can be checked beforehand, and says what the file will be. Every error is a *centram.Error that
// says what to do instead, but for those of a disk that cannot be read.
func (c Config) Plan() (Plan, error) {
	p := Plan{Config: c}
	if err := p.checkOut(); err != nil {
		return p, err
	}
	m, err := gguf.OpenModel(c.In)
	if err != nil {
		return p, err
	}
	defer m.Close()
	if err := m.Summary.Whole(); err != nil {
		return p, centram.Errorf(centram.Invalid, "%s cannot be quantised: %w", filepath.Base(c.In), err).
			WithHint("Quantise the file of the whole model. The parts of it that machines compute are made from that.")
	}
	for _, check := range []func(*gguf.Model) error{p.checkSource, p.checkPlace, p.checkMemory, p.measure} {
		if err := check(m); err != nil {
			return p, err
		}
	}
	return p, p.checkRoom()
}

var partName = regexp.MustCompile(`-\d{5}-of-\d{5}\.gguf$`)

func (p *Plan) checkOut() error {
	base := filepath.Base(p.Out)
	if !strings.EqualFold(filepath.Ext(base), ".gguf") {
		return centram.Errorf(centram.Invalid, "the new file %s does not end in .gguf", p.Out).
			WithHint("Name it so, as in --out model-q4_k_m.gguf.")
	}
	if partName.MatchString(base) {
		return centram.Errorf(centram.Invalid, "%s would be taken for a part of a split model", base).
			WithHint("The new file is one, whatever the model was. Choose another name with --out.")
	}
	return nil
}

// checkSource looks whether something sensible can be made of m.
func (p *Plan) checkSource(m *gguf.Model) error {
	p.first, p.From, p.Old, p.Tensors = m.Path(), m.Summary.Quantization, uint64(m.Summary.SizeBytes), len(m.Tensors)
	for _, f := range m.Parts {
		if f.Alignment != gguf.DefaultAlignment { // llama.cpp would write a file that says 64 and keeps to 32
			return centram.Errorf(centram.Unsupported, "%s has its tensors at multiples of %d bytes, which llama.cpp's quantiser does not keep to", f.Name, f.Alignment).
				WithHint("Get the model as it is commonly published, at multiples of %d bytes.", gguf.DefaultAlignment)
		}
	}
	if p.Requantize {
		return nil
	}
	for _, t := range m.Tensors {
		if values, _ := t.Type.Block(); values > 1 {
			return centram.Errorf(centram.Invalid, "%s is quantised already (%s), and what was lost then would be lost twice", filepath.Base(p.In), p.From).
				WithHint("Begin with the model in F16 or BF16. If there is none, and a worse model will do: --requantize")
		}
	}
	return nil
}

// checkPlace looks whether the new file may be written where it is wanted.
func (p *Plan) checkPlace(m *gguf.Model) error {
	there, err := os.Stat(p.Out)
	if err == nil {
		for _, f := range m.Parts {
			if info, err := os.Stat(f.Name); err == nil && os.SameFile(info, there) {
				return centram.Errorf(centram.Invalid, "%s is the model itself, which would be lost", p.Out).
					WithHint("Name another file with --out.")
			}
		}
		if there.IsDir() {
			return centram.Errorf(centram.Invalid, "%s is a folder", p.Out).WithHint("Name a file in it, as in --out %s.", filepath.Join(p.Out, "model.gguf"))
		}
		if !p.Replace {
			return exists(p.Out)
		}
	}
	dir := filepath.Dir(p.Out)
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return centram.Errorf(centram.NotFound, "there is no folder %s for the new file", dir).
			WithHint("Make it with: mkdir -p %s", dir)
	}
	if err == nil && !info.IsDir() {
		return centram.Errorf(centram.Invalid, "%s is not a folder", dir).WithHint("Name a file in a folder with --out.")
	}
	if err == nil {
		err = tryWriting(dir)
	}
	if err != nil {
		return centram.Errorf(centram.Forbidden, "nothing can be written into the folder %s: %w", dir, err).
			WithHint("Choose another one with --out.")
	}
	return nil
}

// tryWriting finds out what permissions do not tell: whether the file system takes files.
func tryWriting(dir string) error {
	f, err := os.CreateTemp(dir, ".*.gguf"+suffix)
	if err != nil {
		return err
	}
	err = os.Remove(f.Name())
	if errors.Is(err, fs.ErrNotExist) { // another has swept it away
		err = nil
	}
	return errors.Join(f.Close(), err)
}

func exists(path string) error {
	return centram.Errorf(centram.Conflict, "there is a file %s already", path).
		WithHint("Choose another name with --out, or replace it with --force.")
}

func (p *Plan) checkMemory(m *gguf.Model) error {
	need := uint64(buffer + overhead)
	for _, f := range m.Parts {
		need += 4 * header(f) // as read, as understood, as written, and some
	}
	if p.Memory == 0 || p.Memory >= need {
		return nil
	}
	return centram.Errorf(centram.Unavailable, "quantising needs %d MiB of memory, and %d MiB are free", need>>20, p.Memory>>20).
		WithHint("Close other programs. Models that Centram has in memory leave it when nobody uses them: centram ps")
}

// header is how many bytes of a file come before its tensors.
func header(f *gguf.File) uint64 {
	if len(f.Tensors) == 0 {
		return uint64(f.Size)
	}
	return uint64(f.Tensors[0].Offset)
}

// measure asks llama.cpp what it will do with each tensor.
func (p *Plan) measure(m *gguf.Model) error {
	plan, err := p.quantizer().Plan(p.first)
	if err != nil {
		return centram.Errorf(centram.Unsupported, "llama.cpp does not quantise %s: %w", filepath.Base(p.In), err).
			WithHint("The file may be damaged: get it again.")
	}
	p.Misfits = plan.Misfits
	var values uint64
	for _, t := range m.Tensors {
		typ, ok := typeNamed(plan.Types[t.Name])
		if !ok {
			return fmt.Errorf("plan %s: llama.cpp says %q of the tensor %s", p.In, plan.Types[t.Name], t.Name)
		}
		block, size := typ.Block()
		n := t.Elements() / block * size
		p.data += n
		p.Bytes += (n + gguf.DefaultAlignment - 1) / gguf.DefaultAlignment * gguf.DefaultAlignment
		values += t.Elements()
	}
	p.Bits = 8 * float64(p.data) / float64(max(values, 1))
	for _, f := range m.Parts {
		p.Bytes += header(f)
	}
	return nil
}

// typeNamed finds a type by ggml's name of it.
func typeNamed(name string) (gguf.Type, bool) {
	const numbers = 64 // ggml has fewer
	for t := range gguf.Type(numbers) {
		if t.Known() && strings.EqualFold(t.String(), name) {
			return t, true
		}
	}
	return 0, false
}

// checkRoom looks whether the new file fits beside all that is there, what it replaces included.
func (p *Plan) checkRoom() error {
	dir := filepath.Dir(p.Out)
	free, known := freeSpace(dir)
	if !known || free >= p.Bytes {
		return nil
	}
	return full(dir, p.Bytes, free)
}

func full(dir string, need, free uint64) error {
	return centram.Errorf(centram.Unavailable, "the new file takes %d MB, and the disk of %s has room for %d MB", need/1e6+1, dir, free/1e6).
		WithHint("Make room there, name a file on another disk with --out, or choose a smaller type.")
}

// freeSpace is how much can be written into a folder.
func freeSpace(dir string) (n uint64, known bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return uint64(s.Bavail) * uint64(s.Bsize), true
}

func (c Config) quantizer() llama.Quantizer {
	return llama.Quantizer{To: c.Type.to, Threads: c.Threads, Buffer: buffer, Requantize: c.Requantize}
}
