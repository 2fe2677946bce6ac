package dataset

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/centram/centram"
)

// The bounds that are kept unless Config says otherwise.
const (
	DefaultLineBytes  = 8 << 20
	DefaultTotalBytes = 1 << 30
	DefaultPassage    = 4096

	maxFiles = 100_000
)

// Config bounds what is read.
type Config struct {
	LineBytes  int   // the longest line of a JSONL file. Zero means DefaultLineBytes
	TotalBytes int64 // of all files together. Zero means DefaultTotalBytes
	Passage    int   // bytes; a longer text is cut into several Items. Zero means DefaultPassage, less than zero never
}

func (c Config) orDefaults() Config {
	c.LineBytes = cmp.Or(c.LineBytes, DefaultLineBytes)
	c.TotalBytes = cmp.Or(c.TotalBytes, DefaultTotalBytes)
	if c.Passage = cmp.Or(c.Passage, DefaultPassage); c.Passage > 0 {
		c.Passage = max(c.Passage, utf8.UTFMax) // a character stays whole
	}
	return c
}

// Read reads files, and all files in folders, in the order of their names. Of folders, what starts with a dot is left out, and
// so are links, and pictures, sound and films, which lie beside many a text.
//
// A file named .txt, .text or .md is one text; .jsonl and .ndjson have a JSON object on each line; what is named otherwise
// is JSONL if its first line is a JSON object, and a text if it is not. The objects are {"text": "..."},
// {"messages": [{"role": "user", "content": "..."}, ...]} or {"conversations": [{"from": "human", "value": "..."}, ...]},
// the latter two perhaps with a "system" text; other fields are ignored. Compressed files are refused.
//
// An error is a *centram.Error that names the file, the line, and what to do.
func Read(paths []string, cfg Config) ([]Item, error) {
	r := &reader{cfg: cfg.orDefaults()}
	for _, path := range paths {
		if err := r.path(path); err != nil {
			return nil, err
		}
	}
	if len(r.items) == 0 {
		return nil, centram.Errorf(centram.Invalid, "there is no training data in %s", strings.Join(paths, ", ")).
			WithHint("Give text files, or JSONL files with a text or a conversation on each line.")
	}
	return r.items, nil
}

// ReadFrom reads one file's contents. Its name says what it is, as for Read.
func ReadFrom(name string, data io.Reader, cfg Config) ([]Item, error) {
	r := &reader{cfg: cfg.orDefaults()}
	if err := r.contents(name, data); err != nil {
		return nil, err
	}
	return r.items, nil
}

type reader struct {
	cfg   Config
	files int
	bytes int64
	items []Item
}

func (r *reader) path(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return openError(path, err)
	}
	if !info.IsDir() {
		return r.file(path, info)
	}
	before := len(r.items)
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return openError(name, err)
		}
		hidden := name != path && strings.HasPrefix(d.Name(), ".")
		switch {
		case hidden && d.IsDir():
			return fs.SkipDir
		case hidden || !d.Type().IsRegular() || media[strings.ToLower(filepath.Ext(name))]:
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return openError(name, err)
		}
		return r.file(name, info)
	})
	if err == nil && len(r.items) == before {
		return centram.Errorf(centram.Invalid, "the folder %s has no files to train on", path).
			WithHint("Put .txt, .md or .jsonl files into it.")
	}
	return err
}

// media is what nobody means when they give a folder of texts. What may hold text, such as a PDF, is refused instead.
var media = map[string]bool{
	".png": true, ".jpg": true, ".jpeg": true, ".gif": true, ".webp": true, ".avif": true, ".heic": true, ".tiff": true, ".bmp": true, ".ico": true, ".svg": true,
	".mp3": true, ".m4a": true, ".ogg": true, ".opus": true, ".flac": true, ".wav": true, ".mp4": true, ".mkv": true, ".mov": true, ".avi": true, ".webm": true,
}

func openError(path string, err error) error {
	code := centram.Internal
	switch {
	case errors.Is(err, fs.ErrNotExist):
		code = centram.NotFound
	case errors.Is(err, fs.ErrPermission):
		code = centram.Forbidden
	}
	return centram.Errorf(code, "the training data %s cannot be read: %w", path, err).
		WithHint("Check the path and who may read it.")
}

func (r *reader) file(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return centram.Errorf(centram.Invalid, "the training data %s is not a regular file", path).
			WithHint("Give a file or a folder.")
	}
	if r.files++; r.files > maxFiles {
		return centram.Errorf(centram.TooLarge, "the training data is more than %d files", maxFiles).
			WithHint("Put the texts into one JSONL file, one on each line.")
	}
	f, err := os.Open(path)
	if err != nil {
		return openError(path, err)
	}
	defer f.Close()
	return r.contents(path, f)
}

// foreign are the beginnings of files that people try, and what to do about them.
var foreign = []struct{ magic, what, hint string }{
	{"\x1f\x8b", "is compressed with gzip", "Unpack it first: gunzip -k FILE."},
	{"\x28\xb5\x2f\xfd", "is compressed with zstd", "Unpack it first: zstd -d FILE."},
	{"BZh", "is compressed with bzip2", "Unpack it first: bunzip2 -k FILE."},
	{"\xfd7zXZ", "is compressed with xz", "Unpack it first: xz -dk FILE."},
	{"PK\x03\x04", "is a zip archive or an office document", "Unpack it, or save it as plain text."},
	{"PAR1", "is a Parquet file", "Convert it to JSONL first."},
	{"%PDF", "is a PDF", "Convert it to plain text first: pdftotext FILE."},
	{"GGUF", "is a model, not a text", "Give the texts to train on here, and the model by --model."},
	{"\xff\xfe", "is in UTF-16", "Convert it first: iconv -f UTF-16 -t UTF-8 FILE."},
	{"\xfe\xff", "is in UTF-16", "Convert it first: iconv -f UTF-16 -t UTF-8 FILE."},
}

const byteOrderMark = "\xef\xbb\xbf"

func (r *reader) contents(name string, data io.Reader) error {
	lines := newLines(name, io.TeeReader(data, counter{r}), r.cfg.LineBytes, r)
	start, err := lines.peek(len(byteOrderMark))
	if err == nil && string(start) == byteOrderMark {
		lines.skip(len(byteOrderMark))
	}
	start, err = lines.peek(sniffBytes)
	if err != nil {
		return err
	}
	for _, f := range foreign {
		if strings.HasPrefix(string(start), f.magic) {
			return centram.Errorf(centram.Unsupported, "%s %s", name, f.what).WithHint("%s", f.hint)
		}
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".txt", ".text", ".md":
		return r.text(name, lines)
	case ".jsonl", ".ndjson":
		return r.jsonl(name, lines)
	case ".json":
		if trimmed := bytes.TrimLeft(start, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
			return centram.Errorf(centram.Unsupported, "%s is one JSON array, not JSONL", name).
				WithHint("Write an object on each line: jq -c '.[]' FILE > data.jsonl")
		}
		return r.jsonl(name, lines)
	}
	if looksLikeJSONL(start) {
		return r.jsonl(name, lines)
	}
	return r.text(name, lines)
}

const sniffBytes = 512

// looksLikeJSONL reports whether start is the beginning of an object with a field. A text may begin with a brace too, but
// hardly with a brace and a quotation mark.
func looksLikeJSONL(start []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimLeft(start, " \t\r\n"), []byte("{"))
	return ok && bytes.HasPrefix(bytes.TrimLeft(rest, " \t"), []byte(`"`))
}

// counter counts what all files have together. The limit is looked at where the bytes are read.
type counter struct{ r *reader }

func (c counter) Write(p []byte) (int, error) {
	c.r.bytes += int64(len(p))
	return len(p), nil
}

func (r *reader) tooMuch(name string) error {
	if r.bytes <= r.cfg.TotalBytes {
		return nil
	}
	return centram.Errorf(centram.TooLarge, "with %s, the training data is more than %d bytes", name, r.cfg.TotalBytes).
		WithHint("Train on a part of it, and on the next part after that.")
}

// text reads a file that is one text.
func (r *reader) text(name string, lines *lines) error {
	var b strings.Builder
	for {
		line, err := lines.part()
		if err != nil && err != io.EOF {
			return err
		}
		b.Write(line)
		if err == io.EOF {
			break
		}
	}
	all := Item{Text: b.String(), File: name, Line: 1}
	at := strings.IndexByte(all.Text, 0) // of a picture the first byte may be no UTF-8, but that is not what is wrong with it
	if at < 0 {
		at = badText(all.Text)
	}
	if at >= 0 {
		all.Line += strings.Count(all.Text[:at], "\n")
		if all.Text[at] == 0 {
			return all.bad(centram.Invalid, "there is a zero byte, so this is no text").
				WithHint("Take the file out of the folder, or convert it to plain text in UTF-8.")
		}
		return all.bad(centram.Invalid, "the byte 0x%02x is not UTF-8", all.Text[at]).
			WithHint("Convert the file first, for example: iconv -f ISO-8859-1 -t UTF-8 FILE.")
	}
	all.Text = strings.ReplaceAll(all.Text, "\r\n", "\n")
	if strings.TrimSpace(all.Text) == "" {
		return all.bad(centram.Invalid, "the file is empty").WithHint("Take it out, or write something into it.")
	}
	r.items = append(r.items, passages(all, r.cfg.Passage, true)...)
	return nil
}

// badText is where s is not UTF-8, or -1.
func badText(s string) int {
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		if c == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

func (r *reader) jsonl(name string, lines *lines) error {
	before := len(r.items)
	for {
		line, err := lines.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		it := Item{File: name, Line: lines.number}
		if err := it.parse(line); err != nil {
			return err
		}
		if it.Messages != nil {
			r.items = append(r.items, it)
		} else {
			r.items = append(r.items, passages(it, r.cfg.Passage, false)...)
		}
	}
	if len(r.items) == before {
		return Item{File: name, Line: 1}.bad(centram.Invalid, "the file is empty").
			WithHint("Take it out, or write something into it.")
	}
	return nil
}

// lines reads a file line by line, of which it never keeps more than one.
type lines struct {
	name   string
	number int // of the line that was read last
	max    int
	owner  *reader
	in     io.Reader
	buf    []byte // of what was read: buf[at:] is not used yet
	at     int
	err    error // that ends it, when buf is used up
}

func newLines(name string, in io.Reader, longest int, owner *reader) *lines {
	return &lines{name: name, in: in, max: longest, owner: owner}
}

// fill reads more behind buf[at:].
func (l *lines) fill() {
	if l.at > 0 {
		l.buf = l.buf[:copy(l.buf, l.buf[l.at:])]
		l.at = 0
	}
	const step = 64 << 10
	if cap(l.buf)-len(l.buf) < step {
		l.buf = append(make([]byte, 0, 2*cap(l.buf)+step), l.buf...)
	}
	n, err := l.in.Read(l.buf[len(l.buf):cap(l.buf)])
	l.buf = l.buf[:len(l.buf)+n]
	switch {
	case err == io.EOF:
		l.err = err
	case err != nil:
		l.err = openError(l.name, err)
	default:
		l.err = l.owner.tooMuch(l.name)
	}
}

// peek returns the next n bytes, or as many as there are.
func (l *lines) peek(n int) ([]byte, error) {
	for len(l.buf)-l.at < n && l.err == nil {
		l.fill()
	}
	if l.err != nil && l.err != io.EOF {
		return nil, l.err
	}
	return l.buf[l.at:][:min(n, len(l.buf)-l.at)], nil
}

func (l *lines) skip(n int) { l.at += n }

// part returns what there is next, of any length, valid until the next call.
func (l *lines) part() ([]byte, error) {
	if l.at == len(l.buf) && l.err == nil {
		l.fill()
	}
	rest := l.buf[l.at:]
	l.at = len(l.buf)
	return rest, l.err
}

// next returns the next line without its end, valid until the next call.
func (l *lines) next() ([]byte, error) {
	l.number++
	for searched := 0; ; {
		rest := l.buf[l.at:]
		end := bytes.IndexByte(rest[searched:], '\n')
		if end >= 0 {
			end += searched
		}
		if end > l.max || end < 0 && len(rest) > l.max {
			return nil, Item{File: l.name, Line: l.number}.bad(centram.TooLarge, "the line is longer than %d bytes", l.max).
				WithHint("Cut it into several, or write a line break after each object.")
		}
		if end >= 0 {
			l.at += end + 1
			return bytes.TrimSuffix(rest[:end], []byte("\r")), nil
		}
		if l.err == io.EOF && len(rest) > 0 {
			l.at = len(l.buf)
			return rest, nil
		}
		if l.err != nil {
			return nil, l.err
		}
		searched = len(rest)
		l.fill()
	}
}
