//go:build !linux

package blob

import (
	"errors"
	"os"
)

func flushAll(string) error { return errors.ErrUnsupported }

func preallocate(*os.File, int64) error { return errors.ErrUnsupported }
