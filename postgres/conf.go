package postgres

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// usual are the settings of a server on a small machine. What durability
// depends on is said, although it is the default.
var usual = map[string]string{
	"fsync":              "on",
	"synchronous_commit": "on",
	"full_page_writes":   "on",

	"max_connections":           "40",
	"shared_buffers":            "64MB",
	"max_locks_per_transaction": "256", // queries span partitions of years
	"jit":                       "off", // costs more than it gives for short queries
	"wal_level":                 "minimal",
	"max_wal_senders":           "0",
	"timezone":                  "UTC",

	// What log.go reads.
	"log_destination":         "stderr",
	"logging_collector":       "off",
	"log_line_prefix":         "%b|",
	"log_error_verbosity":     "terse",
	"log_min_error_statement": "panic", // statements hold what strangers wrote
	"log_checkpoints":         "off",
	"log_timezone":            "UTC",
	"lc_messages":             "C",
}

// ephemeral are the settings of a server whose data may be lost.
var ephemeral = map[string]string{
	"fsync":              "off",
	"synchronous_commit": "off",
	"full_page_writes":   "off",
}

// binding keeps the server to its socket, in its own folder. These are given
// on the command line, so that nothing in the cluster changes them.
var binding = []string{
	"-c", "listen_addresses=",
	"-c", "port=5432", // the name of the socket ends in it
	"-c", "unix_socket_directories=.",
	"-c", "unix_socket_permissions=0700",
}

// confName is the file of our settings, which postgresql.conf includes.
const confName = "dmarcd.conf"

// configure writes our configuration anew, as it is done at each start. What
// an operator wants otherwise, ALTER SYSTEM keeps.
func (s *Server) configure() error {
	settings := maps.Clone(usual)
	if s.opts.Ephemeral {
		maps.Copy(settings, ephemeral)
	}
	maps.Copy(settings, s.opts.Settings)
	conf, err := settingsText(settings)
	if err != nil {
		return err
	}

	// The folder of the socket lets in its owner and root only. If dmarcd is
	// that owner, nobody else is left. Otherwise the owner is another user,
	// who may run other things as well: only root may connect.
	hba, ident := "local all all trust\n", ""
	if s.account.cred != nil {
		hba = "local all all peer map=dmarcd\n"
		for _, role := range []string{superuser, role} {
			ident += fmt.Sprintf("dmarcd %q %s\n", userName(os.Geteuid()), role)
		}
	}
	const head = "# Written by dmarcd at each start. To change a setting, use ALTER SYSTEM.\n"
	for name, text := range map[string]string{confName: conf, "pg_hba.conf": hba, "pg_ident.conf": ident} {
		if err := s.writeFile(name, head+text); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file of the cluster. Its owner could put a link there
// that leads root elsewhere: links out of the folder are not followed.
func (s *Server) writeFile(name, text string) error {
	root, err := os.OpenRoot(s.cluster)
	if err != nil {
		return err
	}
	defer root.Close()
	fresh := name + ".new"
	root.Remove(fresh) // a killed run may have left it
	file, err := root.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if cred := s.account.cred; cred != nil {
		if err := file.Chown(int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	if _, err := file.WriteString(text); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return root.Rename(fresh, name)
}

var settingEscaper = strings.NewReplacer(`'`, `''`, `\`, `\\`)

// settingsText renders settings as PostgreSQL reads them, sorted by name.
func settingsText(settings map[string]string) (string, error) {
	var s strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := settings[name]
		if strings.ContainsAny(name, " \t\r\n='#") || strings.ContainsAny(value, "\r\n\x00") {
			return "", fmt.Errorf("not a setting: %q = %q", name, value)
		}
		fmt.Fprintf(&s, "%s = '%s'\n", name, settingEscaper.Replace(value))
	}
	return s.String(), nil
}
