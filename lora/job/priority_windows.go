package job

import (
	"os/exec"
	"syscall"
)

const (
	belowNormalPriority = 0x4000 // BELOW_NORMAL_PRIORITY_CLASS
	newProcessGroup     = 0x0200 // CREATE_NEW_PROCESS_GROUP
)

// behind has a process begin in a group of its own, and with a lower priority.
func behind(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: belowNormalPriority | newProcessGroup}
}

// lower has nothing to do: the process has begun with its priority.
func lower(*exec.Cmd) error { return nil }
