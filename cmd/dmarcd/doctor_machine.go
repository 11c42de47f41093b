package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// disk looks at the data directory and at the room for temporary files.
func (d *doctor) disk(_ context.Context, x *findings) {
	if d.cfg.DataDir == "" {
		x.ok("none is needed with a database of one's own")
		return
	}
	dir := existing(d.cfg.DataDir)
	if dir != d.cfg.DataDir {
		if err := writable(dir); err != nil {
			x.wrong("make it, for the user that runs dmarcd, or name another in data_dir (DMARCD_DATA_DIR)", "it does not exist, and cannot be made: %v", err)
			return
		}
		x.ok("it does not exist yet; dmarcd serve makes it")
	} else if err := writable(dir); err != nil {
		x.wrong("let it belong to the user that runs dmarcd, or name another in data_dir (DMARCD_DATA_DIR)", "nothing can be written there: %v", err)
	}
	d.room(x, dir, "the data directory")
	if temp := os.TempDir(); !sameDisk(temp, dir) {
		if err := writable(temp); err != nil {
			x.wrong("name a folder that can be written to in the environment variable TMPDIR", "large messages are put into %s, and nothing can be written there: %v", temp, err)
			return
		}
		d.room(x, temp, temp+" for large messages")
	}
}

// room says how much is free.
func (d *doctor) room(x *findings, dir, what string) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		x.unknown("look at the disk", "the room in %s: %v", what, err)
		return
	}
	free, total := s.Bavail*uint64(s.Bsize), s.Blocks*uint64(s.Bsize)
	text := fmt.Sprintf("%s of %s are free in %s", bytesText(free), bytesText(total), what)
	switch {
	case free < d.minFree || s.Files > 0 && s.Ffree == 0:
		x.wrong("make room: retention.rows and retention.raw say what is kept for how long", "the disk is full: %s", text)
	case free < d.fewFree:
		x.note("make room, or add to the disk", "%s", text)
	default:
		x.ok("%s", text)
	}
}

// existing returns a path, or the closest folder above it that exists.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

func sameDisk(a, b string) bool {
	var s, t syscall.Stat_t
	return syscall.Stat(a, &s) == nil && syscall.Stat(b, &t) == nil && s.Dev == t.Dev
}

// bytesText writes a number of bytes for people.
func bytesText(n uint64) string {
	for _, u := range []struct {
		size uint64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return counted(int64(n), "byte", "bytes")
}

// doors are the examinations of what others come in by.
func (d *doctor) doors() []examination {
	c := d.cfg
	all := []examination{{"listen", c.Listen, func(ctx context.Context, x *findings) {
		d.listener(ctx, x, "listen (DMARCD_LISTEN)", c.Listen, isDmarcdHTTP)
	}}}
	if c.SMTP.Listen != "" {
		all = append(all, examination{"smtp.listen", c.SMTP.Listen, func(ctx context.Context, x *findings) {
			d.listener(ctx, x, "smtp.listen (DMARCD_SMTP_LISTEN)", c.SMTP.Listen, nil)
			d.certificate(x, c.SMTP.CertFile, c.SMTP.KeyFile)
		}})
	}
	if c.TLSRPT.Path != "" && c.TLSRPT.Listen != "" {
		all = append(all, examination{"tlsrpt.listen", c.TLSRPT.Listen, func(ctx context.Context, x *findings) {
			d.listener(ctx, x, "tlsrpt.listen (DMARCD_TLSRPT_LISTEN)", c.TLSRPT.Listen, nil)
			d.certificate(x, c.TLSRPT.CertFile, c.TLSRPT.KeyFile)
		}})
	}
	if c.Directory.Path != "" {
		all = append(all, examination{"folder", c.Directory.Path, d.folder})
	}
	return all
}

// listener looks whether an address is free, or is a dmarcd's already.
func (d *doctor) listener(ctx context.Context, x *findings, setting, address string, ours func(context.Context, string) bool) {
	network := "tcp"
	if path, isUnix := strings.CutPrefix(address, unixPrefix); isUnix {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			d.taken(ctx, x, setting, address)
			return
		}
		if err := writable(filepath.Dir(path)); err != nil {
			x.wrong("make the folder, for the user that runs dmarcd", "a socket cannot be made there: %v", err)
			return
		}
		x.ok("it is free")
		return
	}
	l, err := net.Listen(network, address)
	switch {
	case err == nil:
		l.Close()
		x.ok("it is free")
	case errors.Is(err, syscall.EADDRINUSE) && ours != nil && ours(ctx, address):
		x.ok("a dmarcd listens there already")
	case errors.Is(err, syscall.EADDRINUSE):
		d.taken(ctx, x, setting, address)
	case errors.Is(err, syscall.EACCES):
		x.wrong("choose a port from 1024 on, or let the service have AmbientCapabilities=CAP_NET_BIND_SERVICE", "this user may not listen there: %v", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		x.wrong("set "+setting+" to an address of this machine", "this machine does not have the address: %v", err)
	default:
		x.wrong("set "+setting+" to another address", "%v", err)
	}
}

// taken tells of an address that somebody has. It may be a dmarcd with this
// configuration: then it is ready at the address of the API.
func (d *doctor) taken(ctx context.Context, x *findings, setting, address string) {
	if isDmarcdHTTP(ctx, d.cfg.Listen) {
		x.ok("somebody listens there, and a dmarcd runs")
		return
	}
	x.wrong("stop the other program (ss -ltnp shows it), or set "+setting+" to another address", "another program listens there")
}

// isDmarcdHTTP tells whether a dmarcd answers at an address.
func isDmarcdHTTP(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(readyURL(address), "readyz")+"healthz", nil)
	if err != nil {
		return false
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return resp.StatusCode == http.StatusOK && string(said) == "alive\n"
}

// oldNetworks is when a database of networks should have been replaced.
const oldNetworks = 60 * 24 * time.Hour

// networks looks at a database of networks (MMDB).
func (d *doctor) networks(x *findings, path string) {
	db, err := maxminddb.Open(path)
	if err != nil {
		x.wrong("download it anew from MaxMind or IPinfo, or take it out of sources.networks", "it cannot be read: %v", err)
		return
	}
	defer db.Close()
	built := db.Metadata.BuildTime()
	if d.now().Sub(built) > oldNetworks {
		x.note("replace it; a new file is used without a restart", "%s, built on %s: networks change hands", db.Metadata.DatabaseType, built.UTC().Format(time.DateOnly))
		return
	}
	x.ok("%s, built on %s", db.Metadata.DatabaseType, built.UTC().Format(time.DateOnly))
}

// renewal is how long before its end a certificate should have been renewed.
const renewal = 14 * 24 * time.Hour

// certificate looks how long a certificate is good for.
func (d *doctor) certificate(x *findings, certFile, keyFile string) {
	if certFile == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		x.wrong("name a certificate and its key in PEM format that are readable", "the certificate cannot be used: %v", err)
		return
	}
	const fix = "renew it; a new file is used without a restart"
	switch end, now := pair.Leaf.NotAfter, d.now(); {
	case now.After(end):
		x.wrong(fix, "the certificate %s ended on %s", certFile, end.UTC().Format(time.DateOnly))
	case now.Before(pair.Leaf.NotBefore):
		x.wrong("look at the clock of this machine", "the certificate %s begins only on %s", certFile, pair.Leaf.NotBefore.UTC().Format(time.DateOnly))
	case end.Sub(now) < renewal:
		x.note(fix, "the certificate %s ends on %s", certFile, end.UTC().Format(time.DateOnly))
	default:
		x.ok("the certificate is good until %s", end.UTC().Format(time.DateOnly))
	}
}

// folder looks at the folder that is watched, and at those that files are
// moved to.
func (d *doctor) folder(_ context.Context, x *findings) {
	o := &d.cfg.Directory
	if _, err := os.ReadDir(o.Path); err != nil {
		x.wrong("make it, and let the user that runs dmarcd read it", "it cannot be read: %v", err)
		return
	}
	x.ok("it can be read")
	if o.After == "" && o.Failed == "" {
		return
	}
	for _, dir := range []string{o.Path, existing(cmp.Or(o.Done, o.Path)), existing(cmp.Or(o.Failed, o.Path))} {
		if err := writable(dir); err != nil {
			x.wrong("let the user that runs dmarcd write there", "files cannot be moved or deleted: %v", err)
			return
		}
	}
	x.ok("files can be moved and deleted")
}
