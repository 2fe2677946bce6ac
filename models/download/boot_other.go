//go:build !linux

package download

// bootID is empty: it cannot be known here, so after each interruption only what is on the disk for sure counts.
func bootID() string { return "" }
