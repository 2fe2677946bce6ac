package lora

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/centram/centram"
	"github.com/centram/centram/lora/dataset"
	"github.com/centram/centram/lora/dp"
)

// ledger is what private runs have revealed, by set of documents, and the documents of each set: a set that has grown by a
// document is another set, but what was revealed of its other documents still was. It is kept in one file for all runs of
// a person, which is read and written whole while its lock is held.
//
// The hashes of documents let whoever has a document find out whether it was trained on, so the file is its owner's alone.
type ledger struct {
	Version   int                 `json:"version"`
	Spent     *dp.Ledger          `json:"spent"`
	Documents map[string][]string `json:"documents"` // of each set: the first 16 digits of their hashes
	Runs      map[string]booked   `json:"runs"`      // by a random name
}

// booked is what was paid for in one run.
type booked struct {
	Set string `json:"set"`
	dp.Run
}

const ledgerVersion = 1

// readLedger reads a file; one that is not there is an empty ledger.
func readLedger(path string) (*ledger, error) {
	l := &ledger{Version: ledgerVersion, Spent: &dp.Ledger{}, Documents: map[string][]string{}, Runs: map[string]booked{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the privacy ledger: %w", err)
	}
	if err := json.Unmarshal(b, l); err != nil {
		if _, ok := errors.AsType[*centram.Error](err); ok {
			return nil, err
		}
		return nil, centram.Errorf(centram.Invalid, "the privacy ledger %s cannot be read: %w", path, err).
			WithHint("Put back a copy of it. Without the ledger it is unknown what was revealed.")
	}
	if l.Version != ledgerVersion || l.Spent == nil || l.Documents == nil || l.Runs == nil {
		return nil, centram.Errorf(centram.Unsupported, "the privacy ledger %s is of version %d; version %d is known", path, l.Version, ledgerVersion).
			WithHint("Use the version of the program that wrote it. Without the ledger it is unknown what was revealed.")
	}
	return l, nil
}

// write returns when the file is on the disk, and its name is.
func (l *ledger) write(path string) error {
	if err := replace(path, 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(l) }); err != nil {
		return fmt.Errorf("write the privacy ledger: %w", err)
	}
	folder, err := os.Open(filepath.Dir(path))
	if err == nil {
		err = errors.Join(folder.Sync(), folder.Close())
	}
	if err != nil {
		return fmt.Errorf("write the privacy ledger: %w", err)
	}
	return nil
}

// change reads the ledger, lets work change it, and writes it, while nobody else does.
func change(path string, work func(*ledger) error) (err error) {
	lock, err := acquire(path+".lock", 0)
	if unlockable(err) {
		return centram.Errorf(centram.Unsupported, "the privacy ledger %s is where files cannot be locked, so two trainings could spend the same budget", path).
			WithHint("Choose a data directory on a local disk with: centram config set data PATH")
	}
	if err != nil {
		return fmt.Errorf("lock the privacy ledger: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	l, err := readLedger(path)
	if err != nil {
		return err
	}
	if err := work(l); err != nil {
		return err
	}
	return l.write(path)
}

// spent bounds what was revealed of any one document of a set: of the documents that are in the same sets, the sum of
// those, and at each order the largest.
func (l *ledger) spent(set string, documents []string) dp.Curve {
	in := map[string][]string{} // of each document: the sets
	for name, list := range l.Documents {
		for _, d := range list {
			in[d] = append(in[d], name)
		}
	}
	sums := map[string]dp.Curve{}
	var worst dp.Curve
	for _, d := range documents {
		sets := slices.Sorted(slices.Values(append(in[d], set)))
		sets = slices.Compact(sets)
		key := strings.Join(sets, " ")
		if _, ok := sums[key]; ok {
			continue
		}
		var sum dp.Curve
		for _, s := range sets {
			sum = sum.Add(l.Spent.Spent(dp.Account{Dataset: s}))
		}
		sums[key] = sum
		for i := range worst {
			worst[i] = max(worst[i], sum[i])
		}
	}
	return worst
}

// distinct leaves out items that are there already. What is there twice would be protected half as well.
func distinct(items []dataset.Item) (out []dataset.Item) {
	seen := map[[32]byte]bool{}
	for _, it := range items {
		if sum := it.Sum(); !seen[sum] {
			seen[sum] = true
			out = append(out, it)
		}
	}
	return out
}

// identify is a name for a set of documents, whatever their order and files, and one for each of them.
func identify(items []dataset.Item) (set string, documents []string) {
	h := sha256.New()
	h.Write([]byte("centram documents 1\n"))
	var sums [][]byte
	for _, it := range items {
		sum := it.Sum()
		sums = append(sums, sum[:])
		documents = append(documents, hex.EncodeToString(sum[:8]))
	}
	slices.SortFunc(sums, slices.Compare)
	for _, s := range sums {
		h.Write(s)
	}
	return hex.EncodeToString(h.Sum(nil)), documents
}
