package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"github.com/centram/centram"
)

// Block is what is computed at once: rows of one or more pieces of documents. A row attends to the rows before it that have
// the same Doc, and to itself.
type Block struct {
	Tokens    []int32
	Positions []int32 // from 0 in each piece
	Docs      []int32 // which piece of the block the row is of, from 0; -1 for rows that only fill the block
	Labels    []int32 // the token to be predicted, which is the next one of the document; -1 for none
}

// Supervised is the number of labels.
func (b Block) Supervised() int {
	n := 0
	for _, l := range b.Labels {
		if l >= 0 {
			n++
		}
	}
	return n
}

// piece is a part of a document that stands in one block.
type piece struct {
	tokens, labels []int32
}

// pieces cuts d into parts of at most rows rows. Each supervised token but the first of d is a label of exactly one row. The
// last token of d needs no row, as nothing follows it; nor do rows behind a piece's last label, or pieces without one.
func (d Document) pieces(rows int) []piece {
	var out []piece
	for start := 0; start+1 < len(d.Tokens); start += rows {
		var p piece
		for i := start; i < min(start+rows, len(d.Tokens)-1); i++ {
			label := int32(-1)
			if d.Supervised[i+1] {
				label = d.Tokens[i+1]
			}
			p.labels = append(p.labels, label)
		}
		for len(p.labels) > 0 && p.labels[len(p.labels)-1] < 0 {
			p.labels = p.labels[:len(p.labels)-1]
		}
		if p.tokens = d.Tokens[start : start+len(p.labels)]; len(p.tokens) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// openBlocks is how many blocks are kept open for a piece that fits.
const openBlocks = 64

// Pack puts documents into blocks of rows rows. A document that is longer goes into several, each of which begins anew
// without what came before. A piece goes into the fullest of the blocks begun lately that has room.
func Pack(docs []Document, rows int) ([]Block, error) {
	if err := checkRows(rows); err != nil {
		return nil, err
	}
	var blocks []Block
	var open []int // indices of blocks
	for _, d := range docs {
		for _, p := range d.pieces(rows) {
			best := -1
			for at, i := range open {
				if used := len(blocks[i].Tokens); used+len(p.tokens) <= rows && (best < 0 || used > len(blocks[open[best]].Tokens)) {
					best = at
				}
			}
			if best < 0 {
				blocks = append(blocks, Block{})
				open = append(open, len(blocks)-1)
				best = len(open) - 1
			}
			block := &blocks[open[best]]
			block.add(p)
			switch {
			case len(block.Tokens) == rows:
				open = append(open[:best], open[best+1:]...)
			case len(open) > openBlocks:
				open = open[1:]
			}
		}
	}
	for i := range blocks {
		blocks[i].fill(rows)
	}
	return blocks, nil
}

// Alone puts each document into a block of its own, the i-th into the i-th, and leaves out what does not fit; cut is how
// many documents that were. It is for private training, where a gradient has to be one document's alone, and no document
// may have more than one. dp.Sample picks from them.
func Alone(docs []Document, rows int) (blocks []Block, cut int, err error) {
	if err := checkRows(rows); err != nil {
		return nil, 0, err
	}
	blocks = make([]Block, len(docs))
	for i, d := range docs {
		if len(d.Tokens) > rows+1 {
			cut++
			d.Tokens, d.Supervised = d.Tokens[:rows+1], d.Supervised[:rows+1]
		}
		for _, p := range d.pieces(rows) {
			blocks[i].add(p)
		}
		blocks[i].fill(rows)
	}
	return blocks, cut, nil
}

func checkRows(rows int) error {
	if rows < 1 {
		return centram.Errorf(centram.Invalid, "training data cannot be put into blocks of %d tokens", rows)
	}
	return nil
}

func (b *Block) add(p piece) {
	doc := int32(0)
	if n := len(b.Docs); n > 0 {
		doc = b.Docs[n-1] + 1
	}
	for i := range p.tokens {
		b.Tokens = append(b.Tokens, p.tokens[i])
		b.Positions = append(b.Positions, int32(i))
		b.Docs = append(b.Docs, doc)
		b.Labels = append(b.Labels, p.labels[i])
	}
}

func (b *Block) fill(rows int) {
	for len(b.Tokens) < rows {
		b.Tokens = append(b.Tokens, 0)
		b.Positions = append(b.Positions, 0)
		b.Docs = append(b.Docs, -1)
		b.Labels = append(b.Labels, -1)
	}
}

// Order is the order of n things in an epoch: a function of its arguments alone, so that training goes on after a stop as
// if there had been none.
func Order(n int, seed, epoch uint64) []int {
	b := []byte("centram order 1")
	b = binary.LittleEndian.AppendUint64(b, seed)
	b = binary.LittleEndian.AppendUint64(b, epoch)
	random := rand.NewChaCha8(sha256.Sum256(b))
	out := make([]int, n)
	for i := range out { // Fisher and Yates, written out: what Perm does may change
		j := below(random, uint64(i+1))
		out[i] = out[j]
		out[j] = i
	}
	return out
}

// below is a uniform number less than n.
func below(random *rand.ChaCha8, n uint64) uint64 {
	for {
		if x := random.Uint64(); n&(n-1) == 0 || x < -(-n%n) {
			return x % n
		}
	}
}
