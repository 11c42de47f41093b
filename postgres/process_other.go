//go:build !linux

package postgres

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithUs does nothing here: what is left behind is stopped at the next start.
func dieWithUs(*syscall.SysProcAttr, syscall.Signal) {}

func throughDescriptor() (string, bool) { return "", false }

// isPostmaster tells whether a process is a server. That its number stands in
// the cluster's postmaster.pid makes it, in all likelihood, the cluster's.
func isPostmaster(pid int, _ string) bool {
	out, err := exec.Command("ps", "-o", "state=,command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "postgres") && !strings.HasPrefix(string(out), "Z")
}
