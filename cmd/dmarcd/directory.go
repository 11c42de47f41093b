package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/dmarcd/dmarcd/ingest"
)

// checkDirectory looks at what the settings of the watched folder say about each
// other and about this machine.
func (l *loader) checkDirectory() {
	c := &l.cfg.Directory
	s := func(key string) *setting { return findSetting(l.cfg.settings, "directory."+key) }
	if s("path").refused {
		return
	}
	if c.Path == "" {
		for _, key := range []string{"after", "done", "failed"} {
			if s(key).toml() != `""` {
				l.wrong(s(key), "has no use without directory.path; set that, or remove "+key)
			}
		}
		return
	}
	info, err := os.Stat(c.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.wrong(s("path"), shown(c.Path)+" is not there; make it, or name another")
		return
	case err == nil && !info.IsDir():
		err = errors.New("it is no folder")
	case err == nil && c.After != "":
		err = writable(c.Path) // to take files out of it
	}
	if err != nil {
		l.wrong(s("path"), fmt.Sprintf("%s cannot be watched: %v; name another folder, or let the user that dmarcd runs as read it, and write to it for after", shown(c.Path), err))
		return
	}
	if c.After != "move" && c.Done != "" {
		l.wrong(s("done"), `has no use without after = "move"; set that, or remove done`)
	}
	if c.After == "" && c.Failed != "" {
		l.wrong(s("failed"), `has no use without after; set that, or remove failed`)
	}
	for key, folder := range map[string]string{"done": c.Done, "failed": c.Failed} {
		if folder != "" && strings.HasPrefix(filepath.Clean(c.Path)+"/", strings.TrimSuffix(filepath.Clean(folder), "/")+"/") {
			l.wrong(s(key), "is the folder that is watched, or holds it; name another")
		}
	}
}

// openDirectory returns the folder that is watched, nil if there is none.
func (c *config) openDirectory(log *slog.Logger) ingest.Mailbox {
	o := &c.Directory
	if o.Path == "" {
		return nil
	}
	done, failed := o.Done, o.Failed
	if o.After == "move" {
		if done == "" {
			done = filepath.Join(o.Path, "done")
		}
		if failed == "" {
			failed = filepath.Join(o.Path, "failed")
		}
	}
	return ingest.NewDirectory(ingest.DirectoryOptions{
		Path: o.Path, After: o.After, Done: done, Failed: failed, Settle: o.Settle, Poll: o.Poll, Limit: c.Limits.Message, Log: log,
	})
}
