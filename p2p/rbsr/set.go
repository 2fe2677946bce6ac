package rbsr

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"
)

// ID is what sets are made of: the hash that names a record.
type ID = [32]byte

// Fingerprint stands for the ids of a range.
type Fingerprint [16]byte

// Set is a set of ids in ascending order, held as a trie over their half bytes in which every node knows the number and
// the sum of the ids below it. Ids are hashes, so the trie is balanced by itself. Looking up, changing and summing up a
// range cost O(log n), and a set of n ids takes about 50n bytes.
//
// Nodes never change: Insert and Remove make the few that are new. A copy of a Set is therefore a snapshot that costs
// nothing and sees no change of the original. Any number of goroutines may read a Set; who changes one needs that variable
// for himself, but not its copies. The zero Set is empty.
type Set struct{ root *node }

// node is a leaf with ids, or has children. There is none without ids below it.
type node struct {
	total sum
	ids   []ID       // ascending
	kids  *[16]*node // by the next half byte of their ids
}

// maxLeaf bounds the ids of a leaf. Two leaves are walked through to sum up a range.
const maxLeaf = 32

// NewSet returns the set of the given ids, which may come in any order and more than once.
func NewSet(ids []ID) Set {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, compare)
	return Set{newNode(slices.Compact(ids), 0)}
}

// newNode keeps ids, which ascend and agree in their first half bytes, as many as depth says.
func newNode(ids []ID, depth int) *node {
	if len(ids) == 0 {
		return nil
	}
	n := &node{total: sumOf(ids)}
	if len(ids) <= maxLeaf {
		n.ids = ids
		return n
	}
	n.kids = new([16]*node)
	for len(ids) > 0 {
		at := half(&ids[0], depth)
		end := slices.IndexFunc(ids, func(id ID) bool { return half(&id, depth) != at })
		if end < 0 {
			end = len(ids)
		}
		n.kids[at] = newNode(ids[:end], depth+1)
		ids = ids[end:]
	}
	return n
}

func half(id *ID, depth int) int { return int(id[depth/2]>>(4*(1-depth%2))) & 15 }

func compare(a, b ID) int { return bytes.Compare(a[:], b[:]) }

// Len is the number of ids.
func (s Set) Len() int { return s.root.sum().n }

// Has says whether id is in the set.
func (s Set) Has(id ID) bool {
	n, depth := s.root, 0
	for n != nil && n.kids != nil {
		n, depth = n.kids[half(&id, depth)], depth+1
	}
	if n == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(n.ids, id, compare)
	return found
}

// Insert adds id, and says whether it is new.
func (s *Set) Insert(id ID) bool {
	if s.Has(id) {
		return false
	}
	s.root = s.root.toggled(id, 0)
	return true
}

// Remove takes id out, and says whether it was there.
func (s *Set) Remove(id ID) bool {
	if !s.Has(id) {
		return false
	}
	s.root = s.root.toggled(id, 0)
	return true
}

// toggled is n with id, or without it if it is there.
func (n *node) toggled(id ID, depth int) *node {
	if n == nil {
		return newNode([]ID{id}, depth)
	}
	if n.kids == nil {
		at, found := slices.BinarySearchFunc(n.ids, id, compare)
		if found {
			return newNode(slices.Concat(n.ids[:at], n.ids[at+1:]), depth)
		}
		return newNode(slices.Concat(n.ids[:at], []ID{id}, n.ids[at:]), depth)
	}
	kids, at := *n.kids, half(&id, depth)
	kids[at] = kids[at].toggled(id, depth+1)
	changed := &node{total: n.total.minus(n.kids[at].sum()).plus(kids[at].sum()), kids: &kids}
	if changed.total.n > maxLeaf/2 { // well below maxLeaf, so that the same id to and fro does not split and join a leaf
		return changed
	}
	return newNode(slices.Collect(Set{changed}.ranks(0, maxLeaf)), depth)
}

// Range yields the ids from <= id < to in ascending order. A zero to means the end, so that the zero range is everything.
func (s Set) Range(from, to ID) iter.Seq[ID] {
	return s.ranks(s.rank(from), s.rank(from)+s.count(from, to))
}

// Fingerprint stands for the ids from <= id < to, where a zero to means the end: the first 16 bytes of
//
//	SHA-256(sum of the ids mod 2^256, 32 bytes ‖ number of the ids, 8 bytes)
//
// with the ids, their sum and their number little-endian.
func (s Set) Fingerprint(from, to ID) Fingerprint {
	sum := s.sum(from, to)
	var b [40]byte
	for i, word := range sum.words {
		binary.LittleEndian.PutUint64(b[8*i:], word)
	}
	binary.LittleEndian.PutUint64(b[32:], uint64(sum.n))
	hash := sha256.Sum256(b[:])
	return Fingerprint(hash[:])
}

func (s Set) count(from, to ID) int { return s.sum(from, to).n }

// rank is the number of ids before id.
func (s Set) rank(id ID) int { return s.root.before(&id).n }

func (s Set) sum(from, to ID) sum {
	upTo := s.root.sum()
	if to != (ID{}) {
		upTo = s.root.before(&to)
	}
	if !below(from, to) {
		return sum{}
	}
	return upTo.minus(s.root.before(&from))
}

// below says whether id is before the bound to, where a zero to means the end.
func below(id, to ID) bool { return to == (ID{}) || compare(id, to) < 0 }

// before sums up the ids that are less than id.
func (n *node) before(id *ID) sum {
	var s sum
	for depth := 0; n != nil; depth++ {
		if n.kids == nil {
			at, _ := slices.BinarySearchFunc(n.ids, *id, compare)
			return s.plus(sumOf(n.ids[:at]))
		}
		at := half(id, depth)
		for _, kid := range n.kids[:at] {
			s = s.plus(kid.sum())
		}
		n = n.kids[at]
	}
	return s
}

// ranks yields the ids of rank first up to but not last.
func (s Set) ranks(first, last int) iter.Seq[ID] {
	return func(yield func(ID) bool) { s.root.ranks(first, last, yield) }
}

func (n *node) ranks(first, last int, yield func(ID) bool) bool {
	if n == nil || first >= n.total.n || last <= 0 || first >= last {
		return true
	}
	if n.kids == nil {
		for _, id := range n.ids[max(first, 0):min(last, len(n.ids))] {
			if !yield(id) {
				return false
			}
		}
		return true
	}
	for _, kid := range n.kids {
		if !kid.ranks(first, last, yield) {
			return false
		}
		first, last = first-kid.sum().n, last-kid.sum().n
	}
	return true
}

// boundary is the shortest bound, as messages go, between the ids of rank r-1 and r.
func (s Set) boundary(r int) ID {
	var pair []ID
	for id := range s.ranks(r-1, r+1) {
		pair = append(pair, id)
	}
	last, next := pair[0], pair[1]
	same := 0
	for last[same] == next[same] {
		same++
	}
	var bound ID
	copy(bound[:], next[:same+1])
	return bound
}

// clip returns the end of the longest start of a range that has no more than most ids, at least 1, and their number.
func (s Set) clip(from, to ID, most int) (ID, int) {
	if n := s.count(from, to); n <= most {
		return to, n
	}
	return s.boundary(s.rank(from) + most), most
}

func (n *node) sum() sum {
	if n == nil {
		return sum{}
	}
	return n.total
}

// sum is that of n ids, read as little-endian numbers, mod 2^256.
type sum struct {
	n     int
	words [4]uint64 // the least first
}

func sumOf(ids []ID) sum {
	var s sum
	for i := range ids {
		s = s.plus(numberOf(&ids[i]))
	}
	return s
}

func numberOf(id *ID) sum {
	s := sum{n: 1}
	for i := range s.words {
		s.words[i] = binary.LittleEndian.Uint64(id[8*i:])
	}
	return s
}

func (s sum) plus(t sum) sum {
	var carry uint64
	for i := range s.words {
		s.words[i], carry = bits.Add64(s.words[i], t.words[i], carry)
	}
	s.n += t.n
	return s
}

func (s sum) minus(t sum) sum {
	var borrow uint64
	for i := range s.words {
		s.words[i], borrow = bits.Sub64(s.words[i], t.words[i], borrow)
	}
	s.n -= t.n
	return s
}
