//go:build unix

package job

import (
	"os/exec"
	"syscall"
)

// niceness of a training: it gets what chat leaves, and a tenth of a processor that chat would like to have.
const niceness = 10

// behind puts a process that is going to be started into a group of its own: Ctrl+C in the terminal of the daemon is not for
// it, since the daemon has it save, and all its threads have one priority.
func behind(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// lower lets others go first. On Linux each thread has a priority, which those that it starts later inherit; of the group
// all have it.
func lower(cmd *exec.Cmd) error {
	return syscall.Setpriority(syscall.PRIO_PGRP, cmd.Process.Pid, niceness)
}
