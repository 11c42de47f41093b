package postgres

import (
	"context"
	"path/filepath"
	"syscall"
)

// Programs returns the folder of the programs of the newest PostgreSQL that
// can be used, and who has to run them to work below a directory: nil for whoever
// runs dmarcd. The error wraps ErrNotInstalled if there is none.
func Programs(ctx context.Context, dir string) (bin string, as *syscall.Credential, err error) {
	a, err := accountFor(filepath.Join(dir, clusterName), "")
	if err != nil {
		return "", nil, err
	}
	inst, err := a.find(ctx, "", 0)
	return inst.bin, a.cred, err
}
