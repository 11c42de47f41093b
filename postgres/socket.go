package postgres

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxSocketPath is how long the path of a Unix socket may be: 107 bytes on
// Linux, 103 on others.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// A socketDir is the path by which clients get to the folder of the socket:
// that folder itself or, if its path is too long for a socket, a link to it
// in a private folder with a short one.
type socketDir struct {
	path  string
	short string   // the private folder, "" if none was needed
	lock  *os.File // keeps systemd-tmpfiles from clearing it away
}

func fits(dir string) bool {
	return len(filepath.Join(dir, ".s.PGSQL.5432")) <= maxSocketPath
}

func openSocketDir(cluster string) (socketDir, error) {
	if fits(cluster) {
		return socketDir{path: cluster}, nil
	}
	bases := []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"}
	if os.Geteuid() == 0 {
		bases[0] = "/run"
	}
	name := fmt.Sprintf("dmarcd-%d-%x", os.Geteuid(), sha256.Sum256([]byte(cluster)))[:32] // the same at each start
	var failed error
	for _, base := range bases {
		short := filepath.Join(base, name)
		if base == "" || !fits(filepath.Join(short, "pg")) {
			continue
		}
		dir, err := linkTo(cluster, short)
		if err == nil {
			return dir, nil
		}
		failed = errors.Join(failed, err)
	}
	return socketDir{}, fmt.Errorf("the path %s is too long for a Unix socket, and there is no other place for one: %w", cluster, failed)
}

// linkTo makes a private folder, or takes the one that an earlier run left,
// and a link in it.
func linkTo(cluster, short string) (socketDir, error) {
	if err := os.Mkdir(short, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return socketDir{}, err
	}
	info, err := os.Lstat(short)
	if err != nil {
		return socketDir{}, err
	}
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() || info.Mode() != fs.ModeDir|0o700 {
		return socketDir{}, fmt.Errorf("%s is there already, and is not ours alone", short)
	}
	dir := socketDir{path: filepath.Join(short, "pg"), short: short}
	if dir.lock, err = os.Open(short); err != nil {
		return socketDir{}, err
	}
	if err := syscall.Flock(int(dir.lock.Fd()), syscall.LOCK_SH); err != nil {
		unlock(dir.lock)
		return socketDir{}, err
	}
	os.Remove(dir.path)
	if err := os.Symlink(cluster, dir.path); err != nil {
		unlock(dir.lock)
		return socketDir{}, err
	}
	return dir, nil
}

func (d *socketDir) close() {
	if d.short != "" {
		os.RemoveAll(d.short)
		unlock(d.lock)
	}
}
