package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func init() {
	for name, run := range map[string]func(*testscript.TestScript, bool, []string){
		"disk": mountDisk, "fill": fillDisk, "readonly": setReadOnly,
	} {
		scriptCommands[name] = run
	}
}

// mountable reports whether this process may mount a disk.
func mountable() bool {
	dir, err := os.MkdirTemp("", "centram-mount")
	if err != nil {
		return false
	}
	defer os.Remove(dir)
	if unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m") != nil {
		return false
	}
	return unix.Unmount(dir, unix.MNT_DETACH) == nil
}

// mountDisk mounts a disk of a few megabytes: disk FOLDER SIZE.
func mountDisk(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// fillDisk fills the disk that a folder is on, to the last byte; with a ! it makes room again: fill FOLDER.
func fillDisk(ts *testscript.TestScript, empty bool, args []string) {
	path := filepath.Join(ts.MkAbs(args[0]), "filling")
	if empty {
		ts.Check(os.Remove(path))
		return
	}
	f, err := os.Create(path)
	ts.Check(err)
	defer f.Close()
	for block := []byte(strings.Repeat("x", 4096)); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		ts.Fatalf("the disk is not full: %v", err)
	}
}

// setReadOnly makes a disk read-only; with a ! it can be written to again: readonly FOLDER.
func setReadOnly(ts *testscript.TestScript, not bool, args []string) {
	flags := uintptr(unix.MS_REMOUNT)
	if !not {
		flags |= unix.MS_RDONLY
	}
	ts.Check(unix.Mount("", ts.MkAbs(args[0]), "", flags, ""))
}
