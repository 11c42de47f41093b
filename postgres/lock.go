package postgres

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// An InUseError is returned by Start when another dmarcd runs the private
// server of a data directory.
type InUseError struct {
	Dir string
	PID int    // of the other dmarcd; 0 if it has not said so yet
	URL string // of its server, which accepts connections of the same user; "" if it has not said so yet
}

// Error says which process has the folder.
func (e *InUseError) Error() string {
	who := "another dmarcd"
	if e.PID != 0 {
		who += " (process " + strconv.Itoa(e.PID) + ")"
	}
	return fmt.Sprintf("the data directory %s is in use by %s: stop that one, or choose another directory with DMARCD_DATA_DIR", e.Dir, who)
}

// lockDir makes a data directory ours until unlock is called or the process
// ends, and leaves a note there of who we are.
func lockDir(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "dmarcd.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// What root leaves in the directory of a service is the service's.
	if info, err := os.Stat(dir); err == nil && os.Geteuid() == 0 {
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 {
			file.Chown(int(owner.Uid), int(owner.Gid))
		}
	}
	switch err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
	case nil:
	case syscall.EWOULDBLOCK:
		defer file.Close()
		return nil, inUse(dir, file)
	default:
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", file.Name(), err)
	}
	if err := note(file, ""); err != nil {
		unlock(file)
		return nil, err
	}
	return file, nil
}

// unlock lets go of a lock and closes its file. To close it alone is not
// enough: a process that is being started holds a copy of the file until it has begun.
func unlock(file *os.File) {
	syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
	file.Close()
}

// note tells other processes who holds the lock, and where the server is.
func note(file *os.File, url string) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt(fmt.Appendf(nil, "%d\n%s\n", os.Getpid(), url), 0)
	return err
}

func inUse(dir string, file *os.File) error {
	text, err := io.ReadAll(io.LimitReader(file, 4096))
	if err != nil {
		return err
	}
	pid, url, _ := strings.Cut(string(text), "\n")
	e := &InUseError{Dir: dir, URL: strings.TrimSpace(url)}
	e.PID, _ = strconv.Atoi(pid) // empty for a moment
	return e
}
