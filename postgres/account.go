package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An account is who runs PostgreSQL, which refuses to be run by root.
type account struct {
	name string
	cred *syscall.Credential // nil: whoever runs dmarcd
}

// usualUsers may run the server when dmarcd is root, in this order.
var usualUsers = []string{"postgres", "dmarcd", "nobody"}

// accountFor decides who runs the server. As root: the owner of the data when
// there are some, else the user that is named, else the owner of the data
// directory if that is not root, since a service of that user will want the data,
// else the first of usualUsers that exists. Otherwise the user that dmarcd runs as.
func accountFor(cluster, name string) (*account, error) {
	owner := -1
	switch info, err := os.Stat(cluster); {
	case err == nil:
		owner = int(info.Sys().(*syscall.Stat_t).Uid)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if me := os.Geteuid(); me != 0 {
		if owner >= 0 && owner != me {
			return nil, fmt.Errorf("%s belongs to %s, not to %s who runs dmarcd: run it as that user, or give the data to this one with chown -R",
				cluster, userName(owner), userName(me))
		}
		if name != "" && name != userName(me) {
			return nil, fmt.Errorf("only root can run PostgreSQL as another user (%s)", name)
		}
		return &account{name: userName(me)}, nil
	}

	if owner == 0 {
		return nil, fmt.Errorf("%s belongs to root, but PostgreSQL cannot be run by root: give the data to another user, for example with chown -R postgres", cluster)
	}
	wanted := owner
	if info, err := os.Stat(filepath.Dir(cluster)); err == nil && owner < 0 {
		if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != 0 {
			wanted = uid
		}
	}
	u, err := lookup(name, wanted)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	if uid == 0 {
		return nil, errors.New("PostgreSQL cannot be run by root: name another user")
	}
	if owner >= 0 && uint64(owner) != uid {
		return nil, fmt.Errorf("%s belongs to %s, not to %s: give the data to the user who shall run PostgreSQL with chown -R", cluster, userName(owner), u.Username)
	}
	return &account{name: u.Username, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

func lookup(name string, owner int) (*user.User, error) {
	if name != "" {
		return user.Lookup(name)
	}
	if owner >= 0 {
		return user.LookupId(strconv.Itoa(owner))
	}
	for _, name := range usualUsers {
		if u, err := user.Lookup(name); err == nil {
			return u, nil
		}
	}
	return nil, fmt.Errorf("PostgreSQL cannot be run by root, and none of the users %v exists: create one, or run dmarcd as an ordinary user", usualUsers)
}

// userName names a user for messages; some are in no file that we can read.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "user " + strconv.Itoa(uid)
}

// command returns a command that is run by the account, in a session of its
// own, so that a terminal's signals do not reach it before they reach us. It
// gets no environment of ours: many variables change what PostgreSQL does.
// The thread that starts it must live as long as the command shall: where the
// system can, the command is interrupted when that thread ends, and so with
// dmarcd, however dmarcd ends.
func (a *account) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.cred, Setsid: true}
	dieWithUs(cmd.SysProcAttr, syscall.SIGINT)
	return cmd
}
