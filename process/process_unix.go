//go:build unix

// Package process runs long work in processes of their own that let all others go first: a process that takes all memory, or
// breaks, takes nothing of the one that started it with it, and it can be ended at any moment.
package process

import (
	"os/exec"
	"syscall"
)

// niceness of such a process: it gets what others leave, and a tenth of a processor that another would like to have.
const niceness = 10

// Behind puts a process that is going to be started into a group of its own: Ctrl+C in a terminal is not for it, since who
// started it tells it what to do, and all its threads have one priority.
func Behind(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// Lower has a process that was started behind let others go first. On Linux each thread has a priority, which those that it
// starts later inherit; of the group all have it.
func Lower(cmd *exec.Cmd) error {
	return syscall.Setpriority(syscall.PRIO_PGRP, cmd.Process.Pid, niceness)
}
