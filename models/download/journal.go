package download

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// A journal says which bytes of a file that is being downloaded have been written. It is text, one fact a line:
//
//	centram-download 1 SIZE BOOT    the file's size, and which boot of the machine wrote what follows
//	w FROM TO                       these bytes were written
//	s FROM TO FROM TO ...           these are on the disk
//
// What was written survives the end of the process. After a crash of the machine, which shows in another BOOT, only what is
// known to be on the disk counts. A last line that was cut off is passed over.
const journalMagic = "centram-download 1"

// readJournal returns what has been written of a file of so many bytes. A journal that makes no sense knows of nothing.
func readJournal(path string, size int64, boot string) (spans, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseJournal(b, size, boot), nil
}

func parseJournal(b []byte, size int64, boot string) spans {
	end := bytes.LastIndexByte(b, '\n')
	if end < 0 {
		return nil
	}
	lines := strings.Split(string(b[:end]), "\n")
	head := fmt.Sprintf("%s %d ", journalMagic, size)
	if !strings.HasPrefix(lines[0], head) {
		return nil
	}
	same := strings.TrimPrefix(lines[0], head) == boot && boot != ""
	var written, synced spans
	for _, line := range lines[1:] {
		kind, rest, _ := strings.Cut(line, " ")
		list, ok := parseSpans(rest, size)
		if !ok {
			break // what comes behind it is not to be believed either
		}
		switch kind {
		case "s":
			synced = list
			fallthrough
		case "w":
			for _, s := range list {
				written = written.add(s)
			}
		}
	}
	if same {
		return written
	}
	return synced
}

func parseSpans(text string, size int64) (all spans, ok bool) {
	fields := strings.Fields(text)
	if len(fields)%2 != 0 {
		return nil, false
	}
	for i := 0; i < len(fields); i += 2 {
		from, err1 := strconv.ParseInt(fields[i], 10, 64)
		to, err2 := strconv.ParseInt(fields[i+1], 10, 64)
		if cmp.Or(err1, err2) != nil || from < 0 || from >= to || to > size {
			return nil, false
		}
		all = all.add(span{from, to})
	}
	return all, true
}

// newJournal writes a journal that begins with what is there already, in place of an older one, and opens it.
func newJournal(path string, size int64, boot string, have spans) (*os.File, error) {
	tmp, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriter(tmp)
	fmt.Fprintf(w, "%s %d %s\n", journalMagic, size, boot)
	w.WriteString(record('s', have...))
	if err := errors.Join(w.Flush(), tmp.Sync()); err != nil {
		return nil, errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return nil, errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
	}
	return tmp, nil
}

// record is a line of a journal.
func record(kind byte, list ...span) string {
	b := []byte{kind}
	for _, s := range list {
		b = append(b, ' ')
		b = strconv.AppendInt(b, s.from, 10)
		b = append(b, ' ')
		b = strconv.AppendInt(b, s.to, 10)
	}
	return string(append(b, '\n'))
}
