package postgres

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// dieWithUs has a signal sent to a process when the thread that started it ends.
func dieWithUs(attr *syscall.SysProcAttr, signal syscall.Signal) {
	attr.Pdeathsig = signal
}

// throughDescriptor returns a path by which a child reaches a folder that it
// is given as its first extra file, even if it may not pass the folders above.
func throughDescriptor() (string, bool) {
	return "/proc/self/fd/3", true
}

// isPostmaster tells whether a process is a server that works in this cluster.
// A zombie is not: it has no folder any more.
func isPostmaster(pid int, cluster string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	there, err := os.Stat(filepath.Join(proc, "cwd"))
	if err != nil {
		return false
	}
	here, err := os.Stat(cluster)
	return err == nil && os.SameFile(there, here)
}
