package local

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of /proc/stat, whatever the kernel's own is.
const tick = 10 * time.Millisecond

// used reads the processors' time.
func used() (u usage, err error) {
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		return u, fmt.Errorf("ask for this program's processors: %w", err)
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	if u.processors, u.busy, err = busy(stat, mine.IsSet); err != nil {
		return u, err
	}
	if u.processors != mine.Count() { // in some containers they are numbered from zero there, and not for the affinity
		return u, fmt.Errorf("/proc/stat has %d of the %d processors that this program may use", u.processors, mine.Count())
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return u, err
	}
	if u.waiting, err = waiting(load); err != nil {
		return u, err
	}
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return u, fmt.Errorf("ask for this program's time: %w", err)
	}
	u.own = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	return u, nil
}

// waiting is how many threads run or want to by /proc/loadavg (proc_loadavg(5)), but for the one that has read it.
func waiting(load []byte) (int, error) {
	var one, five, fifteen float64
	var running, all int
	if _, err := fmt.Sscanf(string(load), "%f %f %f %d/%d", &one, &five, &fifteen, &running, &all); err != nil {
		return 0, fmt.Errorf("/proc/loadavg has %q: %w", load, err)
	}
	return max(running-1, 0), nil
}

// busy sums up how long some processors were not idle, by /proc/stat (proc_stat(5)): cpuN and the times as user, nice, system,
// idle, waiting for disks, interrupts, soft interrupts, and taken by other guests of the same host. What follows is in user.
func busy(stat []byte, mine func(cpu int) bool) (processors int, sum time.Duration, err error) {
	for line := range bytes.Lines(stat) {
		fields := bytes.Fields(line)
		if len(fields) < 9 || !bytes.HasPrefix(fields[0], []byte("cpu")) || len(fields[0]) == len("cpu") {
			continue
		}
		cpu, err := strconv.Atoi(string(fields[0][len("cpu"):]))
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat has %q", fields[0])
		}
		if !mine(cpu) {
			continue
		}
		processors++
		for i, field := range fields[1:9] {
			n, err := strconv.ParseInt(string(field), 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("/proc/stat has %q for %q", field, fields[0])
			}
			if i != 3 && i != 4 {
				sum += time.Duration(n) * tick
			}
		}
	}
	return processors, sum, nil
}
