package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// minMajor is the oldest major version that dmarcd works with.
const minMajor = 14

// ErrNotInstalled is returned by Start when no usable PostgreSQL is installed
// on this machine. The error that wraps it says what to do about that.
var ErrNotInstalled = errors.New("PostgreSQL is not installed")

// An installation is a folder that holds both initdb and postgres.
type installation struct {
	bin     string
	major   int
	minor   int
	version string // as printed, to be shown
}

// places are where the packages of various systems put the programs of a
// server: most of them outside of PATH.
var places = []string{
	"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
	"/usr/pgsql-*/bin",                  // Red Hat, packages of postgresql.org
	"/usr/libexec/postgresql*",          // Alpine
	"/usr/lib/postgresql[0-9]*/bin",     // openSUSE
	"/usr/lib64/postgresql-*/bin",       // Gentoo
	"/usr/bin",                          // Fedora, Arch
	"/usr/local/bin",                    // FreeBSD
	"/usr/local/pgsql/bin",              // built from source
	"/opt/homebrew/opt/postgresql*/bin", // Homebrew
	"/usr/local/opt/postgresql*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// candidates returns every folder that may hold a server, links resolved,
// each once.
func candidates(ctx context.Context) []string {
	var dirs []string
	add := func(dir string) {
		initdb, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb"))
		if err != nil {
			return
		}
		if dir := filepath.Dir(initdb); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(dir) {
			add(dir)
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		add(strings.TrimSpace(string(out)))
	}
	for _, place := range places {
		found, _ := filepath.Glob(place) // the patterns are sound
		for _, dir := range found {
			add(dir)
		}
	}
	return dirs
}

var versionLine = regexp.MustCompile(`^postgres \(.*?\) ((\d+)(?:\.(\d+))?\S*)`)

// parseVersion reads what postgres --version prints, such as
// "postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)" or "… 18beta1".
func parseVersion(line string) (installation, error) {
	m := versionLine.FindStringSubmatch(line)
	if m == nil {
		return installation{}, fmt.Errorf("cannot tell the version from %.100q", line)
	}
	major, err := strconv.Atoi(m[2])
	if err != nil {
		return installation{}, err
	}
	minor, _ := strconv.Atoi(m[3]) // none in a beta
	return installation{major: major, minor: minor, version: m[1]}, nil
}

// inspect asks the programs in a folder for their version, as the user who is
// going to run them.
func (a *account) inspect(ctx context.Context, bin string) (installation, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
		return installation{}, err
	}
	out, err := a.command(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return installation{}, fmt.Errorf("running %s/postgres as %s: %w", bin, a.name, err)
	}
	inst, err := parseVersion(string(out))
	if err != nil {
		return installation{}, fmt.Errorf("%s/postgres: %w", bin, err)
	}
	inst.bin = bin
	return inst, nil
}

// find returns the newest installation that can be used, or, for a cluster
// that exists, the newest of its own major version: another cannot read it.
// With binDir, no other folder is looked at. A major of 0 means any.
func (a *account) find(ctx context.Context, binDir string, major int) (installation, error) {
	dirs := []string{binDir}
	if binDir == "" {
		dirs = candidates(ctx)
	}
	var found []installation
	var failed []error
	for _, dir := range dirs {
		inst, err := a.inspect(ctx, dir)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		found = append(found, inst)
	}
	if err := ctx.Err(); err != nil {
		return installation{}, err
	}
	return choose(found, failed, major)
}

// choose picks from what is installed, or says why nothing fits.
func choose(found []installation, failed []error, major int) (installation, error) {
	slices.SortStableFunc(found, func(a, b installation) int {
		if a.major != b.major {
			return b.major - a.major
		}
		return b.minor - a.minor
	})
	for _, inst := range found {
		if inst.major == major || major == 0 && inst.major >= minMajor {
			return inst, nil
		}
	}
	if major == 0 || len(found) == 0 {
		return installation{}, notInstalled(found, failed, major)
	}
	return installation{}, fmt.Errorf("%w in version %d, which its data need; here is %s, and no version can read the data of another.\n"+
		"Either install PostgreSQL %d again, or move the data: with both versions installed, see pg_upgrade; or start the old one once more, "+
		"save everything with pg_dump, set the old folder aside and restore into the new one", ErrNotInstalled, major, versions(found), major)
}

// notInstalled says what is missing, what was found instead, and the way out.
func notInstalled(found []installation, failed []error, major int) error {
	want := fmt.Sprintf("%d or newer", minMajor)
	if major != 0 {
		want = strconv.Itoa(major)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "version %s is needed", want)
	if len(found) > 0 {
		fmt.Fprintf(&s, ", here is only %s", versions(found))
	}
	for _, err := range failed {
		fmt.Fprintf(&s, "; %v", err)
	}
	fmt.Fprintf(&s, ".\n%s,\nor set DMARCD_DATABASE_URL to a PostgreSQL that runs elsewhere", installHint(osRelease()))
	return fmt.Errorf("%w: %s", ErrNotInstalled, s.String())
}

func versions(found []installation) string {
	var list []string
	for _, inst := range found {
		list = append(list, fmt.Sprintf("%s (%s)", inst.version, inst.bin))
	}
	return strings.Join(list, ", ")
}
