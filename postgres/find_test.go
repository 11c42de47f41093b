package postgres

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestVersionsOfPostgreSQLAreReadFromWhatItPrints(t *testing.T) {
	for line, want := range map[string]installation{
		"postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2)\n": {major: 15, minor: 12, version: "15.12"},
		"postgres (PostgreSQL) 18beta1\n":                        {major: 18, version: "18beta1"},
		"postgres (PostgreSQL) 9.6.24\n":                         {major: 9, minor: 6, version: "9.6.24"},
		"postgres (EnterpriseDB Advanced Server) 16.1":           {major: 16, minor: 1, version: "16.1"},
	} {
		got, err := parseVersion(line)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", line, got, err, want)
		}
	}
	for _, line := range []string{"", "psql (PostgreSQL) 15.1", "postgres (PostgreSQL) devel"} {
		if got, err := parseVersion(line); err == nil {
			t.Errorf("%q: %+v, want an error", line, got)
		}
	}
}

func TestTheNewestPostgreSQLThatFitsIsChosen(t *testing.T) {
	v13 := installation{bin: "/13", major: 13, minor: 4, version: "13.4"}
	v15 := installation{bin: "/15", major: 15, minor: 9, version: "15.9"}
	v15new := installation{bin: "/15new", major: 15, minor: 10, version: "15.10"}
	v16 := installation{bin: "/16", major: 16, minor: 0, version: "16.0"}
	for _, c := range []struct {
		name  string
		found []installation
		major int
		want  installation
		says  []string
	}{
		{"the newest for new data", []installation{v13, v15, v16, v15new}, 0, v16, nil},
		{"the newest of its own version for old data", []installation{v16, v15, v15new}, 15, v15new, nil},
		{"never a newer one for old data", []installation{v16, v15}, 14, installation{},
			[]string{"version 14", "16.0 (/16), 15.9 (/15)", "pg_upgrade", "pg_dump", "install PostgreSQL 14"}},
		{"none that is new enough", []installation{v13}, 0, installation{},
			[]string{"version 14 or newer is needed", "here is only 13.4 (/13)", "DMARCD_DATABASE_URL"}},
		{"none at all", nil, 0, installation{}, []string{"version 14 or newer is needed", "nstall", "DMARCD_DATABASE_URL"}},
		{"none at all for old data", nil, 15, installation{}, []string{"version 15 is needed", "DMARCD_DATABASE_URL"}},
	} {
		got, err := choose(slices.Clone(c.found), nil, c.major)
		if got != c.want || errors.Is(err, ErrNotInstalled) != (c.says != nil) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		for _, text := range c.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: no %q in %q", c.name, text, err)
			}
		}
	}
}

func TestInstallHintFitsTheSystem(t *testing.T) {
	for text, want := range map[string]string{
		"PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n":               "apt-get install postgresql",
		"NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n": "apt-get install postgresql",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n":                 "dnf install postgresql-server",
		"ID=fedora\n":                              "dnf install postgresql-server",
		"ID=alpine\nVERSION_ID=3.20\n":             "apk add postgresql",
		"ID=endeavouros\nID_LIKE='arch'\n":         "pacman -S postgresql",
		"ID=\"opensuse-leap\"\nID_LIKE=\"suse\"\n": "zypper install postgresql-server",
		"ID=nixos\n":                               "the PostgreSQL server",
		"":                                         "the PostgreSQL server",
	} {
		if got := installHint(parseOSRelease(text)); !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := installHint([]string{"macos"}); !strings.Contains(got, "brew install") {
		t.Errorf("macos: %q", got)
	}
}

func TestSettingsAreQuoted(t *testing.T) {
	got, err := settingsText(map[string]string{"search_path": `it's a \ path`, "fsync": "on"})
	want := "fsync = 'on'\nsearch_path = 'it''s a \\\\ path'\n"
	if got != want || err != nil {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	for name, value := range map[string]string{"fsync": "on\nlisten_addresses = '*'", "a = b\nc": "d"} {
		if got, err := settingsText(map[string]string{name: value}); err == nil {
			t.Errorf("%q = %q gave %q, want an error", name, value, got)
		}
	}
}
