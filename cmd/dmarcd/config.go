package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/parse"
	"github.com/dmarcd/dmarcd/sources"
	"github.com/dmarcd/dmarcd/store"
)

// A config is what dmarcd runs with: defaults, the configuration file and the
// environment, each winning over what stands before it.
type config struct {
	DatabaseURL secret        // empty: a private PostgreSQL in DataDir
	ReadURL     secret        // of a replica to read from; empty: none
	ReadLag     time.Duration // how far it may be behind
	DataDir     string
	Listen      string // host:port
	Insecure    bool   // others may reach Listen, and nobody is asked who they are
	Resolver    string // host:port; empty: the system's
	LogLevel    string
	LogFormat   string   // auto, text or json
	Domains     []string // lower-case A-labels; empty: all are accepted
	Mailboxes   []*mailbox
	Targets     []*target // that are told of what happens
	Groups      []*groupConfig
	ByDomain    []*domainConfig
	Networks    []*networkConfig
	Streams     []*streamTo

	ReportAddresses []string // that domains name in rua, to reach us

	ready int32 // connections to a database that are kept for whoever asks next; no setting

	Access struct {
		Tokens  bool   // whoever asks has to have a token
		Metrics string // who may read metrics without: local, token or open
		// Groups say what the members of groups may do, which a provider or a proxy tells.
		Groups       []string
		UserHeader   string // by which a proxy tells who asks; empty: none does
		GroupsHeader string // by which it tells their groups

		Issuer       string // of an OpenID provider; empty: none
		ClientID     string
		ClientSecret secret
		GroupsClaim  string
		NameClaim    string
		Scopes       []string
		Label        string // on the button of the login
	}
	HTTP struct {
		CertFile  string // for HTTPS; empty: plain HTTP
		KeyFile   string
		Prefix    string // path that everything is below; empty: none
		URL       string // scheme and host that clients use; empty: those of each request
		Proxies   []string
		PerMinute int // requests of one address or principal; 0: any number
	}

	ACME struct {
		Hosts     []string // that certificates are had for; empty: none
		Email     string
		Directory string // of the authority; empty: Let's Encrypt
		CAFile    string // that the authority itself is believed by
		Folder    string // empty: acme in DataDir
		HTTP      string // host:port of the challenge over HTTP; empty: over TLS alone
	}
	Outgoing struct {
		Allow []string // addresses and networks that may be fetched from although they are not public
	}

	Failure struct {
		Store    bool // failure reports are kept
		Subjects bool // with the subjects of the samples
	}
	Retention store.Retention
	Late      string // what happens to reports whose rows would not be kept: count or refuse
	Records   struct {
		Watch     bool     // look again and again at what the domains publish
		Selectors []string // of DKIM, looked at beside those that reports tell of
		MXHosts   []string // that may be in MX; empty: any
		Probe     bool     // mail hosts are connected to, to see their certificates
		ProbeAlso []string // networks that may be connected to although they are not public
	}
	Sources struct {
		Lookup    bool     // look up whose sending addresses are
		Networks  []string // MMDB files
		Catalogue []string // files of known senders
		PerSecond int      // questions to DNS
		Own       []string // addresses and networks of the owner
	}
	Transport struct {
		Trusted []string // lower-case names of servers
		Check   bool
		Require bool
	}
	Ingest struct {
		Workers   int // that parse; 0: one for each processor
		BatchRows int // that are stored in one transaction
	}
	SMTP struct {
		Listen      string // host:port or unix:path; empty: off
		Protocol    string // smtp or lmtp
		Hostname    string // to greet with; empty: that of the machine
		CertFile    string // for STARTTLS; empty: none
		KeyFile     string
		Recipients  []string // addresses, or "@" and a domain
		Size        int64    // bytes of a message
		Connections int      // at the same time
		PerMinute   int      // connections of one address; 0: any number
		Timeout     time.Duration
	}
	TLSRPT struct {
		Path      string // of TLS reports; empty: off
		Listen    string // host:port; empty: that of the API
		CertFile  string // for HTTPS on Listen; empty: plain HTTP, behind a proxy
		KeyFile   string
		Size      int64    // bytes of a report
		PerMinute int      // reports of one address; 0: any number
		Proxies   []string // whose X-Forwarded-For is believed
	}
	Directory struct {
		Path   string // that is watched; empty: none
		After  string // what happens to a file once it is stored: "", move or delete
		Done   string // folder, for After = move
		Failed string // folder for files in which something was wrong
		Settle time.Duration
		Poll   time.Duration
	}
	Limits parse.Limits
	Notify notifyConfig
	Mail   mailConfig
	Digest digestConfig

	MetricsDomains int // that metrics name

	File string // that was read, or ""

	databaseURLFile  string
	clientSecretFile string
	readURLFile      string
	settings         []*setting
}

// defaultConfig returns the configuration of a dmarcd that was told nothing.
func defaultConfig(env *environ) *config {
	c := &config{
		DataDir:   defaultDataDir(env.getenv, env.root),
		Listen:    "127.0.0.1:8080",
		LogLevel:  "info",
		LogFormat: "auto",
		Domains:   []string{},

		ReportAddresses: []string{},

		Limits: parse.DefaultLimits,
	}
	c.Ingest.BatchRows = 5_000
	c.Outgoing.Allow, c.ACME.Hosts = []string{}, []string{}
	c.Access.Metrics, c.Access.Groups = access.MetricsLocal, []string{}
	c.Access.GroupsClaim, c.Access.Scopes, c.Access.Label = "groups", []string{"profile", "email"}, "Log in with OpenID"
	c.HTTP.Proxies, c.HTTP.PerMinute = []string{}, 6_000
	c.Records.Watch, c.Records.Selectors, c.Records.MXHosts, c.Records.ProbeAlso = true, []string{}, []string{}, []string{}
	c.Sources.Lookup, c.Sources.PerSecond = true, sources.DefaultRate
	c.Sources.Networks, c.Sources.Catalogue, c.Sources.Own = []string{}, []string{}, []string{}
	c.Transport.Trusted, c.Transport.Check = []string{}, true
	// Rows stay unless that is asked for: who imports the reports of years
	// wants to see them. Failure reports are about people.
	c.Retention = store.Retention{Raw: 400 * hoursOfDay, Failures: 30 * hoursOfDay}
	c.Late = "count"
	c.ReadLag = 10 * time.Second
	c.MetricsDomains = 20
	c.SMTP.Protocol, c.SMTP.Recipients, c.SMTP.Size = "smtp", []string{}, 25<<20
	c.SMTP.Connections, c.SMTP.PerMinute, c.SMTP.Timeout = 100, 60, 5*time.Minute
	c.TLSRPT.Size, c.TLSRPT.PerMinute, c.TLSRPT.Proxies = 10<<20, 30, []string{}
	c.Directory.Settle, c.Directory.Poll = 5*time.Second, 10*time.Second
	c.Notify, c.Digest = defaultNotify(), defaultDigest()
	c.settings = c.table()
	return c
}

// authenticates tells whether people have to say who they are.
func (c *config) authenticates() bool {
	return c.Access.Tokens || c.Access.Issuer != "" || c.Access.UserHeader != ""
}

// defaultDataDir returns where state is kept: as the XDG Base Directory
// Specification says, and in /var/lib for root. It is "" where nothing tells.
func defaultDataDir(getenv func(string) string, root bool) string {
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "dmarcd")
	}
	if root {
		return "/var/lib/dmarcd"
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "dmarcd")
	}
	return ""
}

// setUp reads the arguments of a command that runs with the whole
// configuration, the configuration itself, and begins to log.
func (env *environ) setUp(fs *flagSet, args []string) (*config, *slog.Logger, error) {
	fs.configFlag()
	if err := fs.Parse(args); err != nil {
		return nil, nil, err
	}
	if f := fs.Lookup("insecure"); f != nil && f.Value.String() == "true" {
		env.vars["DMARCD_INSECURE"] = "true"
	}
	cfg, err := env.loadConfig(*fs.config, everything)
	if err != nil {
		return nil, nil, err
	}
	cfg.useResolver()
	return cfg, newLogger(env.stderr, cfg), nil
}

// A mistake is something wrong in the configuration, with where it stands and
// a fix.
type mistake struct {
	file  string // "" for the environment
	line  int    // 0 when unknown
	where string // key or variable, with the value unless it is secret
	what  string
}

func (m mistake) String() string {
	place := ""
	switch {
	case m.file != "" && m.line > 0:
		place = fmt.Sprintf("%s:%d: ", m.file, m.line)
	case m.file != "":
		place = m.file + ": "
	}
	if m.where != "" {
		place += m.where + ": "
	}
	return place + m.what
}

// A configError is all mistakes of a configuration.
type configError []mistake

func (e configError) Error() string {
	var b strings.Builder
	if len(e) == 1 {
		b.WriteString("a mistake in the configuration:")
	} else {
		fmt.Fprintf(&b, "%d mistakes in the configuration:", len(e))
	}
	for _, m := range e {
		b.WriteString("\n  " + m.String())
	}
	return b.String()
}
