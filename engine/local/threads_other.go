//go:build !linux

package local

import "errors"

// used is not known. On other systems the number of threads could change the last bits of what a long text comes to, too.
func used() (usage, error) { return usage{}, errors.ErrUnsupported }
