package download

import (
	"os"
	"strings"
)

// bootID is another one after each start of the machine. It is empty if it cannot be known.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
