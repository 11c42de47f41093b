package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// A reach is how much of a configuration a command needs.
type reach bool

const (
	// valuesOnly reads the file and the environment, and checks each value:
	// for commands that need limits or an address, and may run as somebody who
	// must not read secrets.
	valuesOnly reach = false
	// everything also reads secrets, and checks what the values say about each
	// other and about this machine.
	everything reach = true
)

// loadConfig reads the configuration: the named file, or else the first that
// is there, and the environment. All that is wrong comes back as one
// configError.
func (env *environ) loadConfig(path string, reach reach) (*config, error) {
	l := &loader{env: env, cfg: defaultConfig(env), reach: reach}
	l.readFile(path)
	l.readEnvironment()
	for _, m := range l.cfg.Mailboxes {
		if m.Name == "" && m.url != "" {
			m.Name = m.User + "@" + m.Host + "/" + m.Folder
		}
	}
	if reach == everything {
		l.check()
	}
	if len(l.mistakes) > 0 {
		slices.SortStableFunc(l.mistakes, func(a, b mistake) int {
			// The environment, without a file, comes last.
			if c := strings.Compare(b.file, a.file); c != 0 {
				return c
			}
			return cmp.Compare(a.line, b.line)
		})
		return nil, configError(l.mistakes)
	}
	return l.cfg, nil
}

// A loader reads one configuration and collects what is wrong with it.
type loader struct {
	env      *environ
	cfg      *config
	reach    reach
	lines    map[string]int // of the file, by key
	mistakes []mistake
}

// wrong notes a mistake of a setting that stands somewhere.
func (l *loader) wrong(s *setting, what string) {
	switch s.origin.level {
	case fromEnvironment:
		l.mistakes = append(l.mistakes, mistake{where: s.env, what: what})
	default:
		where := s.full
		if s.env != "" {
			where += " (" + s.env + ")"
		}
		l.mistakes = append(l.mistakes, mistake{file: l.cfg.File, line: s.origin.line, where: where, what: what})
	}
}

// readFile reads the file of a path, or else the one of DMARCD_CONFIG, or else
// the first usual one that is there.
func (l *loader) readFile(path string) {
	path = cmp.Or(path, l.env.getenv("DMARCD_CONFIG"))
	named := path != ""
	candidates := []string{path}
	if !named {
		candidates = l.env.configFiles
	}
	for _, path := range candidates {
		text, err := os.ReadFile(path)
		switch {
		case err == nil:
			l.cfg.File = path
			l.decode(string(text))
			return
		case !named && errors.Is(err, fs.ErrNotExist):
			continue
		case !named && l.reach == valuesOnly && errors.Is(err, fs.ErrPermission):
			l.env.say("dmarcd: not using the configuration: %v", err)
			return
		}
		l.mistakes = append(l.mistakes, mistake{what: fmt.Sprintf("cannot read the configuration: %v", err)})
		return
	}
}

func (l *loader) decode(text string) {
	l.lines = keyLines(text)
	var got map[string]any
	if _, err := toml.Decode(text, &got); err != nil {
		m := mistake{file: l.cfg.File, what: "is no TOML: " + err.Error()}
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			m.line, m.what = syntax.Position.Line, "is no TOML: "+syntax.Message
			// The message may hold the value, and that may be a secret.
			if s := findSetting(slices.Concat(newMailbox().settings, newTarget().settings, newStream().settings, l.cfg.settings), syntax.LastKey, lastKey(syntax.LastKey)); s == nil || s.secret {
				m.what = "is no TOML here or just before: texts stand in quotes, names of tables in brackets"
			}
		}
		l.mistakes = append(l.mistakes, m)
		return
	}
	l.readTable("", "", got, l.cfg.settings)
}

// readTable takes over what one table of the file says. The path leads to the
// table in the list of lines, the prefix in the names of settings.
func (l *loader) readTable(path, prefix string, got map[string]any, settings []*setting) {
	full := prefix // for people
	if name, _, isList := strings.Cut(path, "["); isList {
		full = name + "."
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		x, line := got[name], l.lines[path+name]
		note := func(where, what string) {
			l.mistakes = append(l.mistakes, mistake{file: l.cfg.File, line: cmp.Or(line, l.lines[strings.TrimSuffix(path, ".")]), where: where, what: what})
		}
		if path == "" && findList(name) != nil {
			l.readList(name, x, note)
			continue
		}
		if s := findSetting(settings, prefix+name); s != nil {
			s.origin = origin{fromFile, place(l.cfg.File, line), line}
			if err := s.fromTOML(x); err != nil {
				s.refused = true
				where := s.full
				if !s.secret {
					where += " = " + shown(x)
				}
				note(where, err.Error())
			} else if s.secret && x == "" {
				s.origin = origin{} // not given: it may come from a file
			}
			continue
		}
		if table, isTable := x.(map[string]any); isTable && path == "" && slices.Contains(tableNames(), name) {
			l.readTable(name+".", name+".", table, settings)
			continue
		}
		if path == "" && slices.Contains(tableNames(), name) {
			note(name, "must be a table: write ["+name+"] on a line of its own")
			continue
		}
		note(full+name, "is no setting"+l.meant(path, prefix+name, settings))
	}
}

// meant guesses what an unknown key stands for.
func (l *loader) meant(path, key string, settings []*setting) string {
	names := append(keys(settings), tableNames()...)
	if path == "" {
		for _, list := range tableLists {
			names = append(names, list.name)
		}
	}
	if near := nearest(key, names); near != "" {
		return "; did you mean " + near + "?"
	}
	if findSetting(newMailbox().settings, lastKey(key)) != nil && !strings.Contains(path, "[") {
		return "; it belongs below [[mailbox]]"
	}
	// The right name in another table.
	for _, s := range l.cfg.settings {
		if lastKey(s.key) == lastKey(key) {
			return "; did you mean " + s.key + "?"
		}
	}
	for _, list := range tableLists {
		if findSetting(list.settings(), lastKey(key)) != nil {
			return "; it belongs below [[" + list.name + "]]"
		}
	}
	return "; remove it, or see dmarcd config --help"
}

// readList takes over the entries of a list, such as mailboxes.
func (l *loader) readList(name string, x any, note func(where, what string)) {
	tables, ok := x.([]map[string]any)
	if items, isList := x.([]any); isList {
		ok = true
		for _, item := range items {
			table, isTable := item.(map[string]any)
			tables, ok = append(tables, table), ok && isTable
		}
	}
	if !ok {
		note(name, "must be a table in two brackets, [["+name+"]], as there can be several")
		return
	}
	for i, table := range tables {
		path := fmt.Sprintf("%s[%d]", name, i)
		line := cmp.Or(l.lines[path], l.lines[name])
		l.readTable(path+".", "", table, findList(name).add(l.cfg, line))
	}
}

// readEnvironment takes over what the variables say.
func (l *loader) readEnvironment() {
	known := []string{"DMARCD_CONFIG"}
	for _, s := range l.cfg.settings {
		known = append(known, s.env)
		l.readVariable(s)
	}
	for _, s := range newMailbox().settings {
		known = append(known, s.env)
	}
	l.readMailbox()
	for _, name := range slices.Sorted(maps.Keys(l.env.vars)) {
		if strings.HasPrefix(name, "DMARCD_") && !slices.Contains(known, name) && !foreign(name, l.env.vars[name]) {
			what := didYouMean(name, known)
			if what == "" {
				what = "; unset it, or see dmarcd config --help"
			}
			l.mistakes = append(l.mistakes, mistake{where: name, what: "is no setting" + what})
		}
	}
	// What the environment says replaces the other way of saying it in the file.
	for _, pair := range l.secretPairs() {
		if pair.text.origin.level > pair.file.origin.level {
			pair.clearFile()
		} else if pair.file.origin.level > pair.text.origin.level {
			pair.clearText()
		}
	}
}

// readVariable takes over what the variable of a setting says. An empty one
// says nothing.
func (l *loader) readVariable(s *setting) {
	text := l.env.getenv(s.env)
	if text == "" {
		return
	}
	s.origin = origin{level: fromEnvironment, where: s.env}
	if err := s.set(text); err != nil {
		s.refused = true
		where := s.env
		if !s.secret {
			where += " = " + shown(text)
		}
		l.mistakes = append(l.mistakes, mistake{where: where, what: err.Error()})
	}
}

// readMailbox takes over the variables of a mailbox. They are about the one of
// the file that DMARCD_IMAP_NAME names, or about its only one, or else about a
// mailbox of their own.
func (l *loader) readMailbox() {
	fresh := newMailbox()
	used := slices.ContainsFunc(fresh.settings, func(s *setting) bool { return l.env.getenv(s.env) != "" })
	if !used {
		return
	}
	name := l.env.getenv("DMARCD_IMAP_NAME")
	target := slices.IndexFunc(l.cfg.Mailboxes, func(m *mailbox) bool { return name != "" && m.Name == name })
	switch {
	case target < 0 && name == "" && len(l.cfg.Mailboxes) == 1:
		target = 0
	case target < 0 && name == "" && len(l.cfg.Mailboxes) > 1:
		l.mistakes = append(l.mistakes, mistake{where: "DMARCD_IMAP_…", what: fmt.Sprintf("%s has several mailboxes; say with DMARCD_IMAP_NAME which one is meant, or give a new name", l.cfg.File)})
		return
	case target < 0:
		l.cfg.Mailboxes = append(l.cfg.Mailboxes, fresh)
		target = len(l.cfg.Mailboxes) - 1
	}
	for _, s := range l.cfg.Mailboxes[target].settings {
		l.readVariable(s)
	}
}

// serviceLink are the variables that Kubernetes sets for a service that is
// named dmarcd, or dmarcd-something.
var serviceLink = regexp.MustCompile(`^DMARCD_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// foreign tells whether a variable is no try to configure dmarcd: those of an
// orchestrator, and those of dmarcd's own tests.
func foreign(name, text string) bool {
	return text == "" || serviceLink.MatchString(name) || strings.HasPrefix(name, "DMARCD_TEST_") ||
		strings.HasSuffix(name, "_PORT") && strings.Contains(text, "://")
}

// A secretPair is the two ways to say a secret.
type secretPair struct {
	text, file *setting
	secret     *secret
	path       *string
}

func (p secretPair) clearText() { *p.secret, p.text.origin = secret{}, origin{} }
func (p secretPair) clearFile() { *p.path, p.file.origin = "", origin{} }

func (l *loader) secretPairs() []secretPair {
	c := l.cfg
	pairs := []secretPair{{findSetting(c.settings, "database_url"), findSetting(c.settings, "database_url_file"), &c.DatabaseURL, &c.databaseURLFile},
		{findSetting(c.settings, "database_read_url"), findSetting(c.settings, "database_read_url_file"), &c.ReadURL, &c.readURLFile},
		{findSetting(c.settings, "access.oidc_client_secret"), findSetting(c.settings, "access.oidc_client_secret_file"), &c.Access.ClientSecret, &c.clientSecretFile}}
	pairs = append(pairs, secretPair{findSetting(c.settings, "mail.password"), findSetting(c.settings, "mail.password_file"), &c.Mail.Password, &c.Mail.passwordFile})
	for _, t := range c.Targets {
		pairs = append(pairs, secretPair{t.setting("url"), t.setting("url_file"), &t.URL, &t.urlFile},
			secretPair{t.setting("secret"), t.setting("secret_file"), &t.Secret, &t.secretFile})
	}
	for _, s := range c.Streams {
		pairs = append(pairs, secretPair{s.setting("password"), s.setting("password_file"), &s.Password, &s.passwordFile})
	}
	for _, m := range c.Mailboxes {
		pairs = append(pairs, secretPair{m.setting("password"), m.setting("password_file"), &m.Password, &m.passwordFile},
			secretPair{m.setting("oauth_client_secret"), m.setting("oauth_client_secret_file"), &m.OAuth.ClientSecret, &m.OAuth.clientSecretFile},
			secretPair{m.setting("oauth_refresh_token"), m.setting("oauth_refresh_token_file"), &m.OAuth.RefreshToken, &m.OAuth.refreshTokenFile})
	}
	return pairs
}

// keyLines finds the lines on which the keys of a TOML file stand: those of
// tables as "limits.rows", those of arrays of tables as "mailbox[0].url". It
// knows the usual ways to write them; a key that is written otherwise has no
// line.
func keyLines(text string) map[string]int {
	lines, counts, table := map[string]int{}, map[string]int{}, ""
	note := func(key string, n int) {
		if _, ok := lines[key]; !ok {
			lines[key] = n
		}
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if m := tableLine.FindStringSubmatch(line); m != nil {
			name := m[2]
			note(name, n)
			if m[1] == "[[" {
				i := counts[name]
				counts[name]++
				name = fmt.Sprintf("%s[%d]", name, i)
				note(name, n)
			}
			table = name + "."
		} else if m := keyLine.FindStringSubmatch(line); m != nil {
			note(table+strings.ReplaceAll(m[1], " ", ""), n)
		}
	}
	return lines
}

var (
	tableLine = regexp.MustCompile(`^(\[\[?)\s*([\w.-]+)\s*\]`)
	keyLine   = regexp.MustCompile(`^([\w-]+(?:\s*\.\s*[\w-]+)*)\s*=`)
)

func place(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// shown writes a value for an error, cut if it is long.
func shown(x any) string {
	text, ok := x.(string)
	if !ok {
		text = fmt.Sprint(x)
	}
	if r := []rune(text); len(r) > 60 {
		text = string(r[:60]) + "…"
	}
	if !ok {
		return printable(text)
	}
	return quote(text)
}

func findSetting(settings []*setting, keys ...string) *setting {
	for _, s := range settings {
		if slices.Contains(keys, s.key) {
			return s
		}
	}
	return nil
}

func keys(settings []*setting) []string {
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = s.key
	}
	return names
}

func tableNames() []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name
	}
	return names
}

// lastKey returns a key without the tables it stands in.
func lastKey(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }
