//go:build !linux

package llama

// On other systems a file that goes bad while it is mapped ends the process.

func (m *Model) watch([]string) {}

func (m *Model) lost() bool { return false }

func (m *Model) unwatch() {}
