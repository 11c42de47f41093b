package main

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/net/idna"

	"github.com/dmarcd/dmarcd/access"
)

// A setting is one thing that can be configured.
type setting struct {
	key     string // in its table of the file
	full    string // key with all tables, for people
	env     string // variable that wins over the file
	doc     string // one line for operators
	example string // TOML, for a setting whose default shows nothing
	secret  bool   // the value is not shown in errors
	value
	required bool // there is no default

	origin  origin
	refused bool // a value was given that cannot be
}

// An origin tells where a value comes from.
type origin struct {
	level originLevel
	where string // of a value that is no default: file and line, or variable
	line  int
}

type originLevel int

const (
	fromDefault originLevel = iota
	fromFile
	fromEnvironment
)

func (o origin) String() string {
	return [...]string{"default", "file ", "environment "}[o.level] + o.where
}

// table returns the settings of the configuration, bound to it. It is the one
// place that knows their names: the file, the environment, the documentation
// and the output of dmarcd config follow it. Those of mailboxes are in
// mailbox.table.
func (c *config) table() []*setting {
	table := []*setting{
		{key: "database_url", doc: "PostgreSQL 14 or newer; empty: dmarcd runs a private one in data_dir", example: `"postgres://dmarcd@db.example.com/dmarcd"`,
			secret: true, value: secretValue(&c.DatabaseURL, optional(databaseURL))},
		{key: "database_url_file", doc: "file that holds database_url, for one with a password", example: `"/etc/dmarcd/database_url"`, value: textValue(&c.databaseURLFile, nil)},
		{key: "database_read_url", doc: "streaming replica of the database, to read from for pages and API; empty: none", example: `"postgres://dmarcd@replica.example.com/dmarcd"`,
			secret: true, value: secretValue(&c.ReadURL, optional(databaseURL))},
		{key: "database_read_url_file", doc: "file that holds database_read_url", example: `"/etc/dmarcd/database_read_url"`, value: textValue(&c.readURLFile, nil)},
		{key: "database_read_lag", doc: "how far the replica may be behind; beyond that the database itself is read", value: durationValue(&c.ReadLag, time.Second)},
		{key: "data_dir", doc: "where dmarcd keeps its state; default: $XDG_STATE_HOME/dmarcd, else /var/lib/dmarcd for root and ~/.local/state/dmarcd for others", value: textValue(&c.DataDir, directory)},
		{key: "listen", doc: "address of dashboard and API", value: textValue(&c.Listen, hostPort)},
		{key: "insecure", doc: "allow listen to be an address that others can reach although nobody is asked who they are; they may read everything", value: boolValue(&c.Insecure)},
		{key: "resolver", doc: "DNS resolver, as host:port; empty: the system's", example: `"192.0.2.53:53"`, value: textValue(&c.Resolver, optional(hostPort))},
		{key: "log_level", doc: "how much is logged: debug, info, warn or error", value: choiceValue(&c.LogLevel, logLevels...)},
		{key: "log_format", doc: "how it is logged: text, json, or auto, which is text on a terminal and else JSON", value: choiceValue(&c.LogFormat, logFormats...)},
		{key: "domains", doc: "policy domains to accept reports for, the others are parked; empty: all", example: `["example.com", "example.org"]`, value: listValue(&c.Domains, readDomain)},
		{key: "report_addresses", doc: "mail addresses of yours that reports are sent to, as in rua; checks of records look for them", example: `["dmarc@example.com"]`, value: listValue(&c.ReportAddresses, readAddress)},

		{key: "access.tokens", doc: "ask everybody for a token, on loopback too; dmarcd token create makes them", value: boolValue(&c.Access.Tokens)},
		{key: "access.metrics", doc: "who may read /metrics: local is this machine, without a proxy, and who may read all domains; token is only the latter; open is everybody", value: choiceValue(&c.Access.Metrics, access.MetricsLocal, access.MetricsToken, access.MetricsOpen)},
		{key: "access.groups", doc: `what members of groups may do, which an OpenID provider or a proxy tells: "GROUP = ROLE+ROLE @ DOMAIN+DOMAIN"; roles are read, upload, admin and failures, and "*" is any group or all domains`, example: `["postmasters = admin+failures @ *", "acme-it = read @ acme.example+acme.org"]`, value: listValue(&c.Access.Groups, readGroup)},
		{key: "access.user_header", doc: "header by which a proxy of http.proxies tells who makes a request; empty: none does", example: `"X-Forwarded-User"`, value: textValue(&c.Access.UserHeader, optional(headerName))},
		{key: "access.groups_header", doc: "header by which it tells their groups, separated by commas", example: `"X-Forwarded-Groups"`, value: textValue(&c.Access.GroupsHeader, optional(headerName))},
		{key: "access.oidc_issuer", doc: "URL of an OpenID provider that people log in with; empty: none", example: `"https://login.example.com/realms/main"`, value: textValue(&c.Access.Issuer, optional(issuerURL))},
		{key: "access.oidc_client_id", doc: "name that dmarcd has there; its redirect URI is /login/callback below where dmarcd is reached", example: `"dmarcd"`, value: textValue(&c.Access.ClientID, nil)},
		{key: "access.oidc_client_secret", doc: "secret that dmarcd has there", secret: true, value: secretValue(&c.Access.ClientSecret, nil)},
		{key: "access.oidc_client_secret_file", doc: "file that holds oidc_client_secret", example: `"/etc/dmarcd/oidc_secret"`, value: textValue(&c.clientSecretFile, nil)},
		{key: "access.oidc_groups_claim", doc: "claim of the ID token that lists groups", value: textValue(&c.Access.GroupsClaim, nil)},
		{key: "access.oidc_name_claim", doc: "claim that names people; empty: email, else preferred_username, else sub", value: textValue(&c.Access.NameClaim, nil)},
		{key: "access.oidc_scopes", doc: "scopes to ask for beside openid", value: listValue(&c.Access.Scopes, readScope)},
		{key: "access.oidc_label", doc: "words on the button of that login", value: textValue(&c.Access.Label, nil)},

		{key: "http.cert_file", doc: "certificate (PEM, with its chain) for HTTPS at listen; read again when it changes; empty: plain HTTP", example: `"/etc/dmarcd/cert.pem"`, value: textValue(&c.HTTP.CertFile, nil)},
		{key: "http.key_file", doc: "its key (PEM)", example: `"/etc/dmarcd/key.pem"`, value: textValue(&c.HTTP.KeyFile, nil)},
		{key: "http.prefix", doc: "path below which a proxy serves dashboard and API; it may strip it or not", example: `"/dmarc"`, value: textValue(&c.HTTP.Prefix, optional(prefixPath))},
		{key: "http.url", doc: "scheme and host that people use; empty: those of each request", example: `"https://dmarc.example.com"`, value: textValue(&c.HTTP.URL, optional(originURL))},
		{key: "http.proxies", doc: "addresses or networks of proxies whose X-Forwarded-For, -Proto and -Host and access.user_header are believed", example: `["127.0.0.1"]`, value: listValue(&c.HTTP.Proxies, readNetwork)},
		{key: "http.per_minute", doc: "requests a minute of one address, this machine apart, and of one token or person; 0: any number", value: intValue(&c.HTTP.PerMinute, 0)},

		{key: "acme.hosts", doc: "names that dmarcd is reached by: certificates for HTTPS at listen are had for them by ACME; you agree to the terms of the authority; empty: none", example: `["dmarc.example.com"]`, value: listValue(&c.ACME.Hosts, readDomain)},
		{key: "acme.email", doc: "mail address that the authority may write to", example: `"admin@example.com"`, value: textValue(&c.ACME.Email, optional(oneAddress))},
		{key: "acme.directory", doc: "URL of the directory of the authority; empty: that of Let's Encrypt", example: `"https://acme-staging-v02.api.letsencrypt.org/directory"`, value: textValue(&c.ACME.Directory, optional(issuerURL))},
		{key: "acme.ca_file", doc: "certificates (PEM) that the authority itself is believed by; empty: those of the system", example: `"/etc/dmarcd/ca.pem"`, value: textValue(&c.ACME.CAFile, nil)},
		{key: "acme.folder", doc: "where keys and certificates are kept; several processes share it for the same names; empty: acme in data_dir", example: `"/var/lib/dmarcd/acme"`, value: textValue(&c.ACME.Folder, optional(directory))},
		{key: "acme.http_listen", doc: "address where the authority may ask over HTTP as well, at port 80 of the names; it sends people on to HTTPS; empty: the authority asks over TLS alone, at port 443", example: `":80"`, value: textValue(&c.ACME.HTTP, optional(hostPort))},

		{key: "outgoing.allow", doc: "addresses and networks that are not public and may be connected to nevertheless: for an OpenID provider, token servers, webhooks, chats and MTA-STS policies; one that a setting names by its address, or as localhost, may be without", example: `["10.0.0.0/8"]`, value: listValue(&c.Outgoing.Allow, readNetwork)},

		{key: "failure.store", doc: "keep failure reports (RFC 9991); they hold personal data", value: boolValue(&c.Failure.Store)},
		{key: "failure.subjects", doc: "keep the subjects of the messages that failed, too", value: boolValue(&c.Failure.Subjects)},

		{key: "records.watch", doc: "look at what the domains publish in DNS, at least once a day; asks the resolver, and fetches MTA-STS policies", value: boolValue(&c.Records.Watch)},
		{key: "records.selectors", doc: "DKIM selectors to look at, beside those that reports tell of: of every domain, or of one; a missing key is an error", example: `["s1", "mail._domainkey.example.com"]`, value: listValue(&c.Records.Selectors, readSelector)},
		{key: "records.mx_hosts", doc: "mail hosts that may stand in MX; others are warned of; \"*.example.com\" is any host one label below; empty: any", example: `["mx1.example.com"]`, value: listValue(&c.Records.MXHosts, readMXHost)},
		{key: "records.probe", doc: "connect to the mail hosts in MX on port 25 and see the certificates that they show after STARTTLS, and to the host of the MTA-STS policy; no mail is sent", value: boolValue(&c.Records.Probe)},
		{key: "records.probe_also", doc: "addresses or networks that may be connected to although they are not public; others are never", example: `["192.168.1.0/24"]`, value: listValue(&c.Records.ProbeAlso, readNetwork)},

		{key: "sources.lookup", doc: "look up whose the addresses are that send as the domains, after their reports are stored; asks the resolver", value: boolValue(&c.Sources.Lookup)},
		{key: "sources.per_second", doc: "questions to the resolver for that, a second", value: intValue(&c.Sources.PerSecond, 1)},
		{key: "sources.networks", doc: "MMDB files of MaxMind or IPinfo, for network and country of addresses; read again when they are replaced", example: `["/var/lib/dmarcd/GeoLite2-ASN.mmdb"]`, value: listValue(&c.Sources.Networks, readFile)},
		{key: "sources.catalogue", doc: "files of known senders that add to the built-in ones: TOML in their form, which wins, or CSV with base_reverse_dns,name,type", example: `["/etc/dmarcd/senders.toml"]`, value: listValue(&c.Sources.Catalogue, readFile)},
		{key: "sources.own", doc: "addresses and networks of your own: their mail is yours, whatever it looks like", example: `["192.0.2.0/24"]`, value: listValue(&c.Sources.Own, readNetwork)},

		{key: "transport.trusted", doc: "servers whose Authentication-Results in report mails are believed: the names that your own mail servers write there", example: `["mx.example.com"]`, value: listValue(&c.Transport.Trusted, readDomain)},
		{key: "transport.check", doc: "find out whether the mails that carry reports are authentic: by DKIM, and by what the trusted servers found", value: boolValue(&c.Transport.Check)},
		{key: "transport.require", doc: "park the reports in mails until these have been found authentic, and those over HTTPS; what you import or upload counts at once", value: boolValue(&c.Transport.Require)},
		{key: "retention.rows", doc: "how long the rows of aggregate reports are kept, by whole months; totals and the sources of each day stay; 0: for ever", value: keepValue(&c.Retention.Rows, 40*hoursOfDay)},
		{key: "retention.raw", doc: "how long messages are kept as they came, by whole months; dmarcd reparse needs them; 0: for ever", value: keepValue(&c.Retention.Raw, hoursOfDay)},
		{key: "retention.failures", doc: "how long failure reports are kept; 0: for ever", value: keepValue(&c.Retention.Failures, hoursOfDay)},
		{key: "retention.totals", doc: "how long totals are kept, with the reports they are of, by whole months and never shorter than rows; 0: for ever", value: keepValue(&c.Retention.Totals, 40*hoursOfDay)},
		{key: "retention.late", doc: "reports about a month whose rows are no longer kept: count them in totals, or refuse them", value: choiceValue(&c.Late, "count", "refuse")},

		{key: "ingest.workers", doc: "messages that are parsed side by side; 0: one for each processor", value: intValue(&c.Ingest.Workers, 0)},
		{key: "ingest.batch_rows", doc: "rows of reports that are stored in one transaction; up to four times as many while the one before is on its way", value: intValue(&c.Ingest.BatchRows, 1)},
	}
	table = append(table, &setting{key: "parsedmarc.zone", doc: "time zone that parsedmarc ran in, by its name: before version 9 it wrote dates of reports in the local time of its machine",
		example: `"Europe/Berlin"`, value: textValue(&c.Limits.Zone, zone)})
	m := &c.SMTP
	table = append(table, []*setting{
		{key: "smtp.listen", doc: "where to receive mail: host:port, or unix:PATH; empty: nowhere", example: `"192.0.2.25:25"`, value: textValue(&m.Listen, optional(listenAt))},
		{key: "smtp.protocol", doc: "what is spoken there: smtp, or lmtp for a mail server that delivers", value: choiceValue(&m.Protocol, "smtp", "lmtp")},
		{key: "smtp.hostname", doc: "name to greet with; empty: that of the machine", example: `"reports.example.com"`, value: textValue(&m.Hostname, optional(hostname))},
		{key: "smtp.cert_file", doc: "certificate (PEM, with its chain) for STARTTLS; read again when it changes", example: `"/etc/dmarcd/cert.pem"`, value: textValue(&m.CertFile, nil)},
		{key: "smtp.key_file", doc: "its key (PEM)", example: `"/etc/dmarcd/key.pem"`, value: textValue(&m.KeyFile, nil)},
		{key: "smtp.recipients", doc: `addresses that mail is taken for, or "@" and a domain for all of it; others are refused`, example: `["dmarc@example.com"]`, value: listValue(&m.Recipients, readRecipient)},
		{key: "smtp.size", doc: "size of a message; never more than limits.message", value: sizeValue(&m.Size)},
		{key: "smtp.connections", doc: "connections at the same time; a fifth of them for one address, this machine apart", value: intValue(&m.Connections, 1)},
		{key: "smtp.per_minute", doc: "connections a minute of one address, this machine apart; 0: any number", value: intValue(&m.PerMinute, 0)},
		{key: "smtp.timeout", doc: "how long a client may take for a command, or for a message", value: durationValue(&m.Timeout, time.Second)},
	}...)
	r := &c.TLSRPT
	table = append(table, []*setting{
		{key: "tlsrpt.path", doc: "path to take TLS reports at, by POST; empty: none", example: `"/tlsrpt"`, value: textValue(&r.Path, optional(tlsPath))},
		{key: "tlsrpt.listen", doc: "address of their own, which others may reach; empty: that of dashboard and API", example: `"192.0.2.80:443"`, value: textValue(&r.Listen, optional(hostPort))},
		{key: "tlsrpt.cert_file", doc: "certificate (PEM, with its chain) for HTTPS there; read again when it changes", example: `"/etc/dmarcd/cert.pem"`, value: textValue(&r.CertFile, nil)},
		{key: "tlsrpt.key_file", doc: "its key (PEM)", example: `"/etc/dmarcd/key.pem"`, value: textValue(&r.KeyFile, nil)},
		{key: "tlsrpt.size", doc: "size of a report as it is sent; never more than limits.message", value: sizeValue(&r.Size)},
		{key: "tlsrpt.per_minute", doc: "reports a minute of one address; 0: any number", value: intValue(&r.PerMinute, 0)},
		{key: "tlsrpt.proxies", doc: "addresses or networks of proxies whose X-Forwarded-For tells the address of the sender", example: `["127.0.0.1"]`, value: listValue(&r.Proxies, readNetwork)},
	}...)
	d := &c.Directory
	table = append(table, []*setting{
		{key: "directory.path", doc: "folder whose files are taken in as they appear, and those of the folders below; empty: none", example: `"/var/spool/dmarcd"`, value: textValue(&d.Path, optional(directory))},
		{key: "directory.after", doc: `what to do with a file once all in it is stored: "" (nothing), move or delete`, value: choiceValue(&d.After, "", "move", "delete")},
		{key: "directory.done", doc: `folder for after = "move"; empty: done, in path`, example: `"/var/spool/dmarcd/done"`, value: textValue(&d.Done, optional(directory))},
		{key: "directory.failed", doc: `folder to move files to in which something could not be read; empty: failed, in path, with after = "move", and else they stay`, example: `"/var/spool/dmarcd/failed"`, value: textValue(&d.Failed, optional(directory))},
		{key: "directory.settle", doc: "how long a file must have been left alone until it is taken to be complete", value: durationValue(&d.Settle, 0)},
		{key: "directory.poll", doc: "how often to look for new files", value: durationValue(&d.Poll, time.Second)},
	}...)
	table = append(table, &setting{key: "metrics.domains", doc: "how many domains, the busiest, /metrics names; the others are told as a sum; 0: that sum alone", value: intValue(&c.MetricsDomains, 0)})
	table = append(table, append(c.Notify.table(&c.Mail), c.Digest.table()...)...)
	l := &c.Limits
	table = append(table, []*setting{
		{key: "limits.message", doc: "size of a raw message or file", value: sizeValue(&l.Message)},
		{key: "limits.part", doc: "size of one decoded part of a message", value: sizeValue(&l.Part)},
		{key: "limits.unpacked", doc: "size that one compressed report may unpack to", value: sizeValue(&l.Unpacked)},
		{key: "limits.ratio", doc: "unpacked to packed bytes, once more than ratio_after are out", value: intValue(&l.Ratio, 1)},
		{key: "limits.ratio_after", doc: "size from which the ratio is looked at", value: sizeValue(&l.RatioAfter)},
		{key: "limits.total_unpacked", doc: "size that all reports of one message may unpack to", value: sizeValue(&l.TotalUnpacked)},
		{key: "limits.layers", doc: "layers of compression", value: intValue(&l.Layers, 1)},
		{key: "limits.members", doc: "members of an archive", value: intValue(&l.Members, 1)},
		{key: "limits.mime_depth", doc: "nested multiparts", value: intValue(&l.MIMEDepth, 1)},
		{key: "limits.mime_parts", doc: "parts of a message", value: intValue(&l.MIMEParts, 1)},
		{key: "limits.nested_mails", doc: "messages within messages", value: intValue(&l.NestedMails, 1)},
		{key: "limits.depth", doc: "nested XML elements or JSON values", value: intValue(&l.Depth, 1)},
		{key: "limits.text", doc: "size of the text of an XML element", value: sizeValue(&l.Text)},
		{key: "limits.rows", doc: "rows of an aggregate report", value: intValue(&l.Rows, 1)},
		{key: "limits.auth_dkim", doc: "DKIM results kept of a row", value: intValue(&l.AuthDKIM, 1)},
		{key: "limits.auth_spf", doc: "SPF results kept of a row", value: intValue(&l.AuthSPF, 1)},
		{key: "limits.reasons", doc: "override reasons kept of a row", value: intValue(&l.Reasons, 1)},
		{key: "limits.errors", doc: "errors kept of a report", value: intValue(&l.Errors, 1)},
		{key: "limits.tls_policies", doc: "policies of a TLS report", value: intValue(&l.TLSPolicies, 1)},
		{key: "limits.tls_details", doc: "failure details of a TLS report, over all policies", value: intValue(&l.TLSDetails, 1)},
		{key: "limits.count", doc: "messages of a row", value: intValue(&l.Count, 1)},
		{key: "limits.sample_headers", doc: "size of the headers kept of a message that failed", value: sizeValue(&l.SampleHeaders)},
		{key: "limits.time", doc: "time for one message", value: durationValue(&l.Time, time.Second)},
	}...)
	for _, s := range table {
		s.full, s.env = s.key, "DMARCD_"+strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
	}
	return table
}

// tables are the tables of the configuration file, in the order of the
// documentation.
var tables = []struct{ name, doc string }{
	{"access", "Who may see and do what."},
	{"http", "How dashboard and API are reached."},
	{"acme", "Certificates by ACME (RFC 8555), in place of http.cert_file: had by dmarcd itself, and renewed in time."},
	{"outgoing", "What dmarcd itself connects to. Private, local and reserved addresses are refused, whatever name or redirect leads there."},
	{"failure", "Failure reports: single messages that failed. Reading them is always on, storing them is not."},
	{"records", "What the domains publish in DNS, and how it is looked at."},
	{"sources", "Whose the addresses are that send as the domains."},
	{"transport", "Whether the mails that carry reports are authentic. It is found out after they are stored."},
	{"retention", "How long things are kept."},
	{"ingest", "How reports are taken in."},
	{"parsedmarc", "What parsedmarc wrote, which import, uploads and watched folders take as well."},
	{"smtp", "Receiving mail by SMTP or LMTP. A message is accepted once it is stored."},
	{"tlsrpt", "Taking TLS reports over HTTPS (RFC 8460, section 5.4). Only those about domains are taken, if domains are configured."},
	{"directory", "Watching a folder."},
	{"metrics", "What /metrics tells."},
	{"notify", "What people are told of; [[target]] says who. Each thing is told once, and when it is over."},
	{"mail", "How mail is sent."},
	{"digest", "A mail now and then that says how things are, with pictures."},
	{"limits", "What a stranger's message may cost. A refusal names the limit that was met."},
}

// databaseURL checks a connection string without connecting. Its errors never
// repeat it, as it may hold a password.
func databaseURL(text string) error {
	if _, err := pgxpool.ParseConfig(text); err != nil {
		return errors.New(`is no connection string of PostgreSQL; write "postgres://user:password@host:5432/database", with special characters percent-encoded`)
	}
	return nil
}

// zone checks the name of a time zone.
func zone(text string) error {
	if _, err := time.LoadLocation(text); err != nil || text == "Local" {
		return errors.New(`is no time zone; write a name of the IANA database, such as "Europe/Berlin" or "UTC"`)
	}
	return nil
}

func directory(text string) error {
	switch {
	case text == "":
		return errors.New("must name a directory")
	case strings.HasPrefix(text, "~"):
		return errors.New("must be written in full: only shells know ~")
	case !filepath.IsAbs(text):
		return errors.New("must be an absolute path, beginning with /")
	}
	return nil
}

func hostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return errors.New(`must be a host and a port, such as "127.0.0.1:8080" or "[::1]:8080"`)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return errors.New("must end in a port from 0 to 65535")
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' || r == '@' }) {
		return errors.New("must begin with the name or address of a host, without http://")
	}
	return nil
}

func hostname(text string) error {
	if _, err := idna.Lookup.ToASCII(text); err != nil {
		return errors.New("is no name of a host")
	}
	return nil
}

// readFile returns the path of a file.
func readFile(text string) (string, error) {
	if err := directory(text); err != nil {
		return "", errors.New(`must be absolute paths of files, such as "/etc/dmarcd/senders.toml"; ` + quote(text) + " is none")
	}
	return text, nil
}

// optional is a check that lets an empty text pass.
func optional(check func(string) error) func(string) error {
	return func(text string) error {
		if text == "" {
			return nil
		}
		return check(text)
	}
}

// loopback tells whether nobody but this machine reaches a host.
func loopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// readDomain returns a domain as it stands in reports: lower-case A-labels
// without a trailing dot.
func readDomain(text string) (string, error) {
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(strings.TrimSpace(text), "."))
	if err != nil || !strings.Contains(name, ".") || len(name) > 253 || net.ParseIP(name) != nil {
		return "", errors.New(`must be domains, such as "example.com"; ` + strconv.Quote(text) + " is none")
	}
	return strings.ToLower(name), nil
}

// readMXHost returns a mail host, or all of a domain.
func readMXHost(text string) (string, error) {
	rest, all := strings.CutPrefix(strings.TrimSpace(text), "*.")
	name, err := readDomain(rest)
	if err != nil {
		return "", errors.New(`must be mail hosts, such as "mx1.example.com" or "*.example.com"; ` + strconv.Quote(text) + " is none")
	}
	if all {
		name = "*." + name
	}
	return name, nil
}

// readSelector returns a selector of DKIM keys, or the name of one.
func readSelector(text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" || len(text) > 200 || strings.ContainsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	}) {
		return "", errors.New(`must be selectors, such as "s1" or "s1._domainkey.example.com"; ` + strconv.Quote(text) + " is none")
	}
	return text, nil
}

// readAddress returns a mail address.
func readAddress(text string) (string, error) {
	text = strings.TrimSpace(text)
	at := strings.LastIndexByte(text, '@')
	if at > 0 && !strings.ContainsFunc(text[:at], func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("<>,;:@", r) }) {
		if host, err := readDomain(text[at+1:]); err == nil {
			return text[:at] + "@" + host, nil
		}
	}
	return "", errors.New(`must be mail addresses, such as "dmarc@example.com"; ` + strconv.Quote(text) + " is none")
}
