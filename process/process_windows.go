// Package process runs long work in processes of their own that let all others go first.
package process

import (
	"os/exec"
	"syscall"
)

const (
	belowNormalPriority = 0x4000 // BELOW_NORMAL_PRIORITY_CLASS
	newProcessGroup     = 0x0200 // CREATE_NEW_PROCESS_GROUP
)

// Behind has a process begin in a group of its own, and with a lower priority.
func Behind(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: belowNormalPriority | newProcessGroup}
}

// Lower has nothing to do: the process has begun with its priority.
func Lower(*exec.Cmd) error { return nil }
