package postgres

import (
	"bufio"
	"os"
	"runtime"
	"slices"
	"strings"
)

// osRelease returns the names that this system goes by, the most specific
// first: ID and ID_LIKE of os-release(5), or "macos".
func osRelease() []string {
	if runtime.GOOS == "darwin" {
		return []string{"macos"}
	}
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		text, err := os.ReadFile(path)
		if err == nil {
			return parseOSRelease(string(text))
		}
	}
	return []string{runtime.GOOS}
}

func parseOSRelease(text string) []string {
	var id, like []string
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		words := strings.Fields(strings.Trim(value, `"'`))
		switch key {
		case "ID":
			id = words
		case "ID_LIKE":
			like = words
		}
	}
	return slices.Concat(id, like)
}

// installHint says how PostgreSQL is installed on a system of these names.
func installHint(names []string) string {
	for _, name := range names {
		switch name {
		case "debian", "ubuntu":
			return "Install it with: apt-get install postgresql"
		case "fedora", "rhel", "centos":
			return "Install it with: dnf install postgresql-server"
		case "alpine":
			return "Install it with: apk add postgresql"
		case "arch":
			return "Install it with: pacman -S postgresql"
		case "suse", "opensuse":
			return "Install it with: zypper install postgresql-server"
		case "freebsd":
			return "Install it with: pkg install postgresql17-server"
		case "macos":
			return "Install it with: brew install postgresql@17"
		}
	}
	return "Install the PostgreSQL server (the programs initdb and postgres)"
}
