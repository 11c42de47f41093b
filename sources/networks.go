package sources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Networks looks addresses up in MMDB files: the country and ASN databases of
// MaxMind, and those of IPinfo. A file that is not there is no mistake; one
// that is replaced is read again at the next pass. It may be used by several
// goroutines.
type Networks struct {
	mu    sync.RWMutex
	files []*networkFile
}

type networkFile struct {
	path   string
	info   fs.FileInfo // of what was read last; nil for nothing
	db     *maxminddb.Reader
	reason string // why there is none, as last told
}

// maxDatabase is the largest file that is read: it is held in memory, so that
// one that is overwritten in place does no harm.
const maxDatabase = 1 << 30

// OpenNetworks returns the databases at the paths.
func OpenNetworks(log *slog.Logger, paths ...string) *Networks {
	n := &Networks{}
	for _, path := range paths {
		n.files = append(n.files, &networkFile{path: path})
	}
	n.refresh(log)
	return n
}

// refresh reads the files that changed. The last one that could be read stays
// in use; each reason why one cannot be is told once.
func (n *Networks) refresh(log *slog.Logger) {
	for _, f := range n.files {
		info, err := os.Stat(f.path)
		if err == nil && f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() {
			continue
		}
		var db *maxminddb.Reader
		if err == nil {
			db, err = readDatabase(f.path, info)
		}
		switch {
		case err == nil:
			n.mu.Lock()
			f.db = db
			n.mu.Unlock()
			f.info, f.reason = info, ""
			log.Info("read a database of networks", "file", f.path, "type", db.Metadata.DatabaseType, "built", db.Metadata.BuildTime().UTC().Format(time.DateOnly))
		case errors.Is(err, fs.ErrNotExist):
			f.tell(log, slog.LevelInfo, "a database of networks is not there")
		default:
			f.tell(log, slog.LevelWarn, "a database of networks cannot be read: "+err.Error())
		}
	}
}

func (f *networkFile) tell(log *slog.Logger, level slog.Level, reason string) {
	if f.reason != reason {
		log.Log(context.Background(), level, reason, "file", f.path, "in_use", f.db != nil)
		f.reason = reason
	}
}

func readDatabase(path string, info fs.FileInfo) (*maxminddb.Reader, error) {
	if info.Size() > maxDatabase {
		return nil, fmt.Errorf("%d bytes, more than %d", info.Size(), maxDatabase)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return maxminddb.OpenBytes(b)
}

// A networkRecord is what the known layouts have in common. Country is a map
// with iso_code (MaxMind), or the code or name of the country (IPinfo).
type networkRecord struct {
	ASN        uint   `maxminddb:"autonomous_system_number"`
	Org        string `maxminddb:"autonomous_system_organization"`
	ASText     string `maxminddb:"asn"`
	ASName     string `maxminddb:"as_name"`
	Country    any    `maxminddb:"country"`
	Registered any    `maxminddb:"registered_country"`
	Code       string `maxminddb:"country_code"`
}

// Lookup returns the network that an address belongs to, as far as the
// databases tell: 0 and "" for what they do not.
func (n *Networks) Lookup(addr netip.Addr) (asn uint32, org, country string) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, f := range n.files {
		if f.db == nil {
			continue
		}
		var r networkRecord
		if err := f.db.Lookup(addr).Decode(&r); err != nil {
			continue // another layout, or a broken file: it tells nothing
		}
		if asn == 0 {
			asn, org = r.as()
		}
		if country == "" {
			country = r.country()
		}
	}
	return asn, org, country
}

func (r *networkRecord) as() (uint32, string) {
	if r.ASN != 0 {
		return uint32(r.ASN), r.Org
	}
	if text, ok := strings.CutPrefix(r.ASText, "AS"); ok {
		if v, err := strconv.ParseUint(text, 10, 32); err == nil {
			return uint32(v), r.ASName
		}
	}
	return 0, ""
}

func (r *networkRecord) country() string {
	for _, v := range []any{r.Code, r.Country, r.Registered} {
		if m, ok := v.(map[string]any); ok {
			v = m["iso_code"]
		}
		if code, ok := v.(string); ok && len(code) == 2 {
			return strings.ToUpper(code)
		}
	}
	return ""
}
