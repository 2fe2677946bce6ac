package lora

import (
	"github.com/centram/centram"
	"github.com/centram/centram/lora/dataset"
)

// sets reads the data, and puts some of it aside. Where there is so little that nothing would come aside, texts are cut into
// shorter passages, and if that does not do, more is put aside than was asked for: a page of text, or a conversation of a
// few questions, can be learnt from too. What is enough data is not touched by that.
func (r *run) sets() (sets dataset.Sets, err error) {
	var first error
	var items []dataset.Item
	if r.cfg.Private.Epsilon > 0 { // a document is protected as a whole, however long it is
		if items, err = dataset.Read(r.cfg.Data, dataset.Config{Passage: -1}); err != nil {
			return sets, err
		}
		return dataset.Split(items, dataset.Fractions{Held: r.cfg.Held})
	}
	for _, passage := range []int{0, 1024, 256} {
		if items, err = dataset.Read(r.cfg.Data, dataset.Config{Passage: passage}); err != nil {
			return sets, err
		}
		sets, err = dataset.Split(items, dataset.Fractions{Held: r.cfg.Held})
		if err == nil || centram.CodeOf(err) != centram.Invalid || len(items) > enoughItems {
			return sets, err
		}
		if first == nil {
			first = err
		}
	}
	for held := r.cfg.Held + 0.02; held > 0 && held < 1; held += 0.02 {
		if sets, err = dataset.Split(items, dataset.Fractions{Held: held}); err == nil {
			r.cfg.Held = held
			return sets, nil
		}
	}
	return sets, first
}

// enoughItems is how many documents are not few, whatever part of them is to be put aside.
const enoughItems = 1000
