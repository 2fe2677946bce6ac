package gossip

import "slices"

// Entries returns all records, the oldest first.
func (c *Catalogue) Entries() []Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Entry, 0, len(c.entries))
	for _, e := range c.entries {
		list = append(list, e.Entry)
	}
	slices.SortFunc(list, func(a, b Entry) int {
		if d := a.Received.Compare(b.Received); d != 0 {
			return d
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
	return list
}
