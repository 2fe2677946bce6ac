//go:build !linux

package convert

import (
	"errors"
	"os"
)

func nameless(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func proc(f *os.File) string { return f.Name() }

func link(*os.File, string) error { return errors.ErrUnsupported }
