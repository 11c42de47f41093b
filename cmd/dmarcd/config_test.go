package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/parse"
	"github.com/dmarcd/dmarcd/store"
)

// load reads a configuration as a service does.
func load(t *testing.T, text string, vars ...string) (*config, error) {
	t.Helper()
	path := os.DevNull
	if text != "" {
		path = writeFile(t, "dmarcd.toml", text)
	}
	return loadFile(t, path, vars...)
}

func loadFile(t *testing.T, path string, vars ...string) (*config, error) {
	t.Helper()
	vars = append([]string{"XDG_STATE_HOME=" + t.TempDir()}, vars...)
	env := newEnviron(strings.NewReader(""), os.Stdout, os.Stderr, vars)
	env.listens = true
	return env.loadConfig(path, everything)
}

// mistakes returns what is wrong with a configuration, without the folder that
// it lies in.
func mistakes(t *testing.T, text string, vars ...string) string {
	t.Helper()
	path := writeFile(t, "dmarcd.toml", text)
	_, err := loadFile(t, path, vars...)
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", "")
}

func TestNothingConfiguredGivesTheDefaults(t *testing.T) {
	state := t.TempDir()
	c, err := load(t, "", "XDG_STATE_HOME="+state)
	if err != nil {
		t.Fatal(err)
	}
	c.settings, c.File = nil, ""
	want := &config{DataDir: filepath.Join(state, "dmarcd"), Listen: "127.0.0.1:8080", LogLevel: "info", LogFormat: "auto", Domains: []string{}, ReportAddresses: []string{}, Limits: parse.DefaultLimits}
	want.Ingest.BatchRows, want.Transport.Trusted, want.Transport.Check = 5000, []string{}, true
	want.Retention, want.Late = store.Retention{Raw: 400 * hoursOfDay, Failures: 30 * hoursOfDay}, "count"
	want.Records.Watch, want.Records.Selectors, want.Records.MXHosts, want.Records.ProbeAlso = true, []string{}, []string{}, []string{}
	want.Sources.Lookup, want.Sources.PerSecond = true, 20
	want.Sources.Networks, want.Sources.Catalogue, want.Sources.Own = []string{}, []string{}, []string{}
	want.ReadLag = 10 * time.Second
	want.Access.Metrics, want.Access.Groups = "local", []string{}
	want.Access.GroupsClaim, want.Access.Scopes, want.Access.Label = "groups", []string{"profile", "email"}, "Log in with OpenID"
	want.HTTP.Proxies, want.HTTP.PerMinute = []string{}, 6000
	want.Outgoing.Allow, want.ACME.Hosts = []string{}, []string{}
	want.MetricsDomains = 20
	want.Notify, want.Digest = defaultNotify(), defaultDigest()
	want.SMTP.Protocol, want.SMTP.Recipients, want.SMTP.Size, want.SMTP.Connections, want.SMTP.PerMinute, want.SMTP.Timeout = "smtp", []string{}, 25<<20, 100, 60, 5*time.Minute
	want.Directory.Settle, want.Directory.Poll = 5*time.Second, 10*time.Second
	want.TLSRPT.Size, want.TLSRPT.PerMinute, want.TLSRPT.Proxies = 10<<20, 30, []string{}
	if !reflect.DeepEqual(c, want) {
		t.Errorf(" got %+v\nwant %+v", c, want)
	}
}

func TestDataDirIsThatOfTheUser(t *testing.T) {
	for _, c := range []struct {
		xdg, home string
		root      bool
		want      string
	}{
		{"/state", "/home/a", false, "/state/dmarcd"},
		{"", "/home/a", false, "/home/a/.local/state/dmarcd"},
		{"relative", "/home/a", false, "/home/a/.local/state/dmarcd"},
		{"", "/root", true, "/var/lib/dmarcd"},
		{"/state", "/root", true, "/state/dmarcd"},
		{"", "", false, ""},
	} {
		vars := map[string]string{"XDG_STATE_HOME": c.xdg, "HOME": c.home}
		if got := defaultDataDir(func(name string) string { return vars[name] }, c.root); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestTheEnvironmentWinsOverTheFile(t *testing.T) {
	password := writeFile(t, "password", "from a file\r\n")
	c, err := load(t, `
		listen = "127.0.0.1:1"
		log_level = "debug"
		domains = ["Example.COM.", "bücher.example"]
		database_url = "postgres://file/x"
		[limits]
		rows = 7
		message = "1.5MiB"
		time = "2m"
		[[mailbox]]
		url = "imaps://a@mail.example.com"
		password = "from the file"
		poll = "1h"
		idle = false
	`, "DMARCD_LISTEN=127.0.0.1:2", "DMARCD_LIMITS_ROWS=8", "DMARCD_IMAP_PASSWORD_FILE="+password, "DMARCD_IMAP_POLL=", "DMARCD_FAILURE_STORE=1",
		"DMARCD_DATABASE_URL_FILE="+writeFile(t, "url", "postgres://user:p%40ss@db/x\n"), "DMARCD_INGEST_WORKERS=3")
	if err != nil {
		t.Fatal(err)
	}
	limits := parse.DefaultLimits
	limits.Rows, limits.Message, limits.Time = 8, 3<<19, 2*time.Minute
	if c.Listen != "127.0.0.1:2" || c.LogLevel != "debug" || c.Limits != limits || !c.Failure.Store || c.Ingest.Workers != 3 || c.DatabaseURL.reveal() != "postgres://user:p%40ss@db/x" ||
		strings.Join(c.Domains, " ") != "example.com xn--bcher-kva.example" {
		t.Errorf("%+v", c)
	}
	if len(c.Mailboxes) != 1 {
		t.Fatalf("%d mailboxes", len(c.Mailboxes))
	}
	got := *c.Mailboxes[0]
	got.settings, got.url, got.passwordFile, got.line = nil, "", "", 0
	want := mailbox{
		Name: "a@mail.example.com/INBOX", Security: "tls", Host: "mail.example.com", Port: "993", User: "a", Folder: "INBOX",
		Password: newSecret("from a file"), Auth: "auto", Poll: time.Hour, Timeout: 5 * time.Minute,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("mailbox\n got %+v, %q\nwant %+v", got, got.Password.reveal(), want)
	}
}

func TestTheEnvironmentAloneMakesAMailbox(t *testing.T) {
	for _, file := range []string{"", "[[mailbox]]\nname = \"a\"\nurl = \"imaps://a@b\"\npassword = \"x\"\n"} {
		c, err := load(t, file, "DMARCD_IMAP_NAME=second", "DMARCD_IMAP_URL=imap+starttls://me%40example.com@mx.example.com:1143/Reports/DMARC%20%C3%BC", "DMARCD_IMAP_PASSWORD=secret", "DMARCD_IMAP_AFTER=seen")
		if err != nil {
			t.Fatal(err)
		}
		m := *c.Mailboxes[len(c.Mailboxes)-1]
		m.settings, m.url = nil, ""
		want := mailbox{Name: "second", Security: "starttls", Host: "mx.example.com", Port: "1143", User: "me@example.com", Folder: "Reports/DMARC ü",
			Password: newSecret("secret"), Auth: "auto", After: "seen", Poll: 5 * time.Minute, Idle: true, Timeout: 5 * time.Minute}
		if !reflect.DeepEqual(m, want) || len(c.Mailboxes) != 1+strings.Count(file, "[[mailbox]]") {
			t.Errorf("file %q: %d mailboxes, the last\n got %+v\nwant %+v", file, len(c.Mailboxes), m, want)
		}
	}
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	got := mistakes(t, `listen = 8080
lsten = "127.0.0.1:1"
data_dir = "~/dmarcd"
store = true
[limits]
rows = "many"
messages = 5
[[mailbox]]
name = "a"
url = "imap://me@mail.example.com/INBOX"
after = "move"
[[mailbox]]
name = "a"
url = "https://example.com"
password = "x"
password_file = "/nonexistent/password"
poll = "5"
[mailboxes]
url = "imaps://x@y"
`, "DMARCD_LOG_LEVEL=verbose", "DMARCD_DOMIANS=example.com", "DMARCD_INSECURE=perhaps", "DMARCD_DATABASE_URL=localhost:5432")
	want := `18 mistakes in the configuration:
  dmarcd.toml:1: listen = 8080: must be a text in quotes
  dmarcd.toml:2: lsten: is no setting; did you mean listen?
  dmarcd.toml:3: data_dir = "~/dmarcd": must be written in full: only shells know ~
  dmarcd.toml:4: store: is no setting; did you mean failure.store?
  dmarcd.toml:6: limits.rows = "many": must be a whole number without quotes
  dmarcd.toml:7: limits.messages: is no setting; did you mean limits.message?
  dmarcd.toml:8: mailbox.password (DMARCD_IMAP_PASSWORD): is missing; give password_file, password or DMARCD_IMAP_PASSWORD_FILE, or set oauth
  dmarcd.toml:8: mailbox.move_to (DMARCD_IMAP_MOVE_TO): is missing; after = "move" needs a folder to move to
  dmarcd.toml:10: mailbox.url (DMARCD_IMAP_URL): imap:// sends the password in plain text over the network; write imaps:// or imap+starttls://, or set allow_plain = true
  dmarcd.toml:13: mailbox.name (DMARCD_IMAP_NAME): another mailbox has the name "a" already; give each its own
  dmarcd.toml:14: mailbox.url: must begin with imaps://, imap+starttls:// or imap://
  dmarcd.toml:16: mailbox.password_file (DMARCD_IMAP_PASSWORD_FILE): password is given as well; remove one of them
  dmarcd.toml:17: mailbox.poll = "5": must be a number with a unit, such as "30s", "5m", "12h" or "30d"
  dmarcd.toml:18: mailboxes: is no setting; did you mean mailbox?
  DMARCD_DATABASE_URL: is no connection string of PostgreSQL; write "postgres://user:password@host:5432/database", with special characters percent-encoded
  DMARCD_INSECURE = "perhaps": must be true or false
  DMARCD_LOG_LEVEL = "verbose": must be one of "debug", "info", "warn", "error"
  DMARCD_DOMIANS: is no setting; did you mean DMARCD_DOMAINS?`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEachMistakeNamesItsFix(t *testing.T) {
	box := "[[mailbox]]\nurl = \"imaps://a@b/INBOX\"\npassword = \"x\"\n"
	bare := "[[mailbox]]\nurl = \"imaps://a@b/INBOX\"\n"
	two := box + strings.ReplaceAll(box, "a@b", "c@d")
	blocked, there := writeFile(t, "blocked", ""), t.TempDir()
	for _, c := range []struct {
		file string
		vars []string
		want string // without the heading and the file
	}{
		{"listen = \"0.0.0.0:8080\"", nil, `1: listen (DMARCD_LISTEN): "0.0.0.0:8080" can be reached by others, and nobody is asked who they are: whoever reaches it may read everything; make a token with "dmarcd token create" and set access.tokens = true (DMARCD_ACCESS_TOKENS=true), or listen on 127.0.0.1, or say --insecure (insecure = true, DMARCD_INSECURE=true)`},
		{"listen = \":8080\"\n[access]\ntokens = true", nil, ""},
		{"listen = \":8080\"\ninsecure = true", nil, ""},
		{"[retention]\nrows = \"30d\"", nil, `2: retention.rows = "30d": must be 0, or at least 40d`},
		{"[retention]\nrows = \"0\"\nraw = \"1d\"", nil, ""},
		{"listen = \"[::1]:0\"", nil, ""},
		{"listen = \"localhost:8080\"", nil, ""},
		{"listen = \"http://localhost:8080\"", nil, `1: listen = "http://localhost:8080": must be a host and a port, such as "127.0.0.1:8080" or "[::1]:8080"`},
		{"listen = \"localhost:http\"", nil, `1: listen = "localhost:http": must end in a port from 0 to 65535`},
		{"domains = \"example.com\"", nil, `1: domains = "example.com": must be a list of texts in quotes, within [ and ]`},
		{"domains = [1]", nil, `1: domains = [1]: must be a list of texts in quotes`},
		{"domains = [\n\"example.com\", \"192.0.2.1\"]", nil, `1: domains = [example.com 192.0.2.1]: must be domains, such as "example.com"; "192.0.2.1" is none`},
		{"", []string{"DMARCD_DOMAINS=example.com, not a domain"}, `DMARCD_DOMAINS = "example.com, not a domain": must be domains, such as "example.com"; "not a domain" is none`},
		{"limits.rows = 0", nil, `1: limits.rows = 0: must be at least 1`},
		{"[limits]\nlayers = 99999999999999999999", nil, `2: is no TOML: 99999999999999999999 is out of range for int64`},
		{"[limits]\nmessage = \"64 apples\"", nil, `2: limits.message = "64 apples": must be a size in bytes, or with a unit such as "64MiB"`},
		{"[limits]\nmessage = \"9000000TiB\"", nil, `2: limits.message = "9000000TiB": is no size that can be met`},
		{"limits = 5", nil, `1: limits: must be a table: write [limits] on a line of its own`},
		{"log_format = \"jsno\"", nil, `1: log_format = "jsno": must be one of "auto", "text", "json"; did you mean json?`},
		{"insecure = \"yes\"", nil, `1: insecure = "yes": must be true or false, without quotes`},
		{"[limits]\nqwertyuiop = 5", nil, `2: limits.qwertyuiop: is no setting; remove it, or see dmarcd config --help`},
		{"password = \"x\"", nil, `1: password: is no setting; it belongs below [[mailbox]]`},
		{"[mailbox]\nurl = \"imaps://a@b\"", nil, `1: mailbox: must be a table in two brackets, [[mailbox]], as there can be several`},
		{"listen = 127.0.0.1", nil, `1: is no TOML: Invalid float value: "127.0.0.1"`},
		{"data_dir = \"" + blocked + "/x\"", nil, `1: data_dir (DMARCD_DATA_DIR): cannot write to "` + blocked + `/x": stat ` + blocked + `/x: not a directory; name another directory, or let the user that dmarcd runs as write there`},
		{"data_dir = \"" + blocked + "/x\"\ndatabase_url = \"postgres://db/x\"", nil, ""}, // nothing is kept there
		{"database_url_file = \"" + blocked + "\"", nil, `1: database_url_file (DMARCD_DATABASE_URL_FILE): cannot read the secret: ` + blocked + `: the file is empty; name a file that holds nothing else`},
		{"database_url_file = \"/nonexistent/url\"", nil, `1: database_url_file (DMARCD_DATABASE_URL_FILE): cannot read the secret: open /nonexistent/url: no such file or directory; name a file that is there`},
		{"database_url_file = \"" + writeFile(t, "url", "nonsense") + "\"", nil, "nonsense"},

		{box, nil, ""},
		{box, []string{"DMARCD_IMAP_URL=imaps://c@d"}, ""},
		{two, nil, ""},
		{two, []string{"DMARCD_IMAP_AFTER=seen"}, `DMARCD_IMAP_…: dmarcd.toml has several mailboxes; say with DMARCD_IMAP_NAME which one is meant, or give a new name`},
		{box + box, nil, `4: mailbox.name (DMARCD_IMAP_NAME): another mailbox has the name "a@b/INBOX" already; give each its own`},
		{box + "name = \"a\\u0007\"", nil, `4: mailbox.name = "a\U00000007": holds control characters`},
		{box + "name = \"import\"", nil, `4: mailbox.name = "import": is the name of what comes another way; choose another`},
		{box + "auth = \"oauth\"", nil, `4: mailbox.auth = "oauth": must be one of "auto", "plain", "login", "xoauth2", "oauthbearer"`},
		{bare + "oauth = \"microsoft\"\noauth_tenant = \"contoso.example\"\noauth_client_id = \"a\"\noauth_client_secret = \"x\"", nil, ""},
		{bare + "oauth = \"refresh_token\"\noauth_client_id = \"a\"\noauth_refresh_token_file = \"" + writeFile(t, "token", "x") + "\"\nauth = \"xoauth2\"", nil, ""},
		{bare, []string{"DMARCD_IMAP_OAUTH=refresh_token", "DMARCD_IMAP_OAUTH_CLIENT_ID=a", "DMARCD_IMAP_OAUTH_REFRESH_TOKEN=x"}, ""},
		{bare + "oauth = \"gogle\"", nil, `3: mailbox.oauth = "gogle": must be one of "", "microsoft", "google", "refresh_token"; did you mean google?`},
		{bare + "oauth = \"google\"", nil, `1: mailbox.oauth_key_file (DMARCD_IMAP_OAUTH_KEY_FILE): is missing; name the JSON key of a service account with domain-wide delegation`},
		{bare + "oauth = \"google\"\noauth_key_file = \"" + writeFile(t, "key", "s3cret") + "\"", nil, "s3cret"},
		{bare + "oauth = \"google\"\noauth_key_file = \"/nonexistent\"\noauth_tenant = \"a\"", nil, `2 mistakes in the configuration:
  dmarcd.toml:4: mailbox.oauth_key_file (DMARCD_IMAP_OAUTH_KEY_FILE): cannot read the key: open /nonexistent: no such file or directory; name a file that is there
  dmarcd.toml:5: mailbox.oauth_tenant (DMARCD_IMAP_OAUTH_TENANT): has no use with oauth = "google"; remove it`},
		{bare + "oauth = \"microsoft\"\nauth = \"plain\"", nil, `4 mistakes in the configuration:
  dmarcd.toml:1: mailbox.oauth_tenant (DMARCD_IMAP_OAUTH_TENANT): is missing; give the id of the tenant, as Entra shows it under App registrations
  dmarcd.toml:1: mailbox.oauth_client_id (DMARCD_IMAP_OAUTH_CLIENT_ID): is missing; give the id of the application, as Entra shows it under App registrations
  dmarcd.toml:1: mailbox.oauth_client_secret (DMARCD_IMAP_OAUTH_CLIENT_SECRET): is missing; give oauth_client_secret_file or oauth_client_secret
  dmarcd.toml:4: mailbox.auth (DMARCD_IMAP_AUTH): has no use with oauth; remove it, or write xoauth2 or oauthbearer`},
		{box + "auth = \"xoauth2\"", nil, `4: mailbox.auth (DMARCD_IMAP_AUTH): needs access tokens; set oauth to microsoft, google or refresh_token`},
		{box + "oauth_scope = \"x\"", nil, `4: mailbox.oauth_scope (DMARCD_IMAP_OAUTH_SCOPE): has no use without oauth; set that to microsoft, google or refresh_token, or remove oauth_scope`},
		{box + "oauth = \"refresh_token\"\noauth_client_id = \"a\"\noauth_refresh_token = \"x\"", nil, `3: mailbox.password (DMARCD_IMAP_PASSWORD): has no use with oauth; remove one of them`},
		{bare + "oauth = \"refresh_token\"\noauth_client_id = \"a\"\noauth_refresh_token = \"x\"\noauth_token_url = \"http://example.com/\"", nil, `6: mailbox.oauth_token_url = "http://example.com/": must begin with https://, as secrets are sent there`},
		{box + "after = \"Seen\"", nil, `4: mailbox.after = "Seen": must be one of "", "seen", "move", "delete"; did you mean seen?`},
		{box + "move_to = \"Done\"", nil, `4: mailbox.move_to (DMARCD_IMAP_MOVE_TO): has no use without after = "move"; set that, or remove move_to`},
		{box + "after = \"move\"\nmove_to = \"inbox\"", nil, `5: mailbox.move_to (DMARCD_IMAP_MOVE_TO): is the folder that is polled; name another`},
		{box + "move_others_to = \"INBOX\"", nil, `4: mailbox.move_others_to (DMARCD_IMAP_MOVE_OTHERS_TO): is the folder that is polled; name another`},
		{box + "ca_file = \"" + blocked + "\"", nil, `4: mailbox.ca_file (DMARCD_IMAP_CA_FILE): cannot read certificates: ` + blocked + ` holds none; name a file in PEM format that is readable`},
		{"[[mailbox]]\nurl = \"imap://a@127.0.0.1\"\npassword = \"x\"\nca_file = \"x\"", nil, `4: mailbox.ca_file (DMARCD_IMAP_CA_FILE): has no use with imap://, which has no certificates; remove it, or write imaps:// or imap+starttls://`},
		{"[[mailbox]]\nurl = \"imap://a@mail.example.com\"\npassword = \"x\"\nallow_plain = true", nil, ""},
		{"[[mailbox]]\npassword = \"x\"", nil, `1: mailbox.url (DMARCD_IMAP_URL): is missing; write it as "imaps://user@host/INBOX"`},
		{"[[mailbox]]\nurl = \"imaps://a@b\"\npassword = \"(hidden)\"", nil, `3: mailbox.password: that is how dmarcd config prints a secret; put the secret itself here`},
		{"mailbox = [{url = \"imaps://a@b\"}]", nil, `1: mailbox.password (DMARCD_IMAP_PASSWORD): is missing; give password_file, password or DMARCD_IMAP_PASSWORD_FILE, or set oauth`},
		{"", []string{"DMARCD_IMAP_URL=imaps://a@b"}, `DMARCD_IMAP_PASSWORD: is missing; give password_file, password or DMARCD_IMAP_PASSWORD_FILE, or set oauth`},
		{"", []string{"DMARCD_IMAP_PASSWORD=x"}, `DMARCD_IMAP_URL: is missing; write it as "imaps://user@host/INBOX"`},
		{"", []string{"DMARCD_IMAP_URL=imaps://a@b", "DMARCD_IMAP_PASSWORD=x", "DMARCD_IMAP_PASSWORD_FILE=" + blocked}, `DMARCD_IMAP_PASSWORD_FILE: password is given as well; remove one of them`},

		{"[smtp]\nlisten = \"127.0.0.1:25\"\nrecipients = [\"DMARC@Bücher.example\", \"@example.org\"]", nil, ""},
		{"[smtp]\nlisten = \"unix:/run/dmarcd/lmtp.sock\"\nprotocol = \"lmtp\"\nrecipients = [\"a@example.com\"]", nil, ""},
		{"[smtp]\nlisten = \"unix:lmtp.sock\"\nrecipients = [\"a@example.com\"]", nil, `2: smtp.listen = "unix:lmtp.sock": must be an absolute path after unix:, such as "unix:/run/dmarcd/lmtp.sock"`},
		{"[smtp]\nlisten = \"127.0.0.1:25\"", nil, ` smtp.recipients (DMARCD_SMTP_RECIPIENTS): is missing; name the addresses that reports are sent to, such as ["dmarc@example.com"]`},
		{"[smtp]\nrecipients = [\"a@example.com\"]", nil, `2: smtp.recipients (DMARCD_SMTP_RECIPIENTS): has no use without smtp.listen; set that, or remove recipients`},
		{"", []string{"DMARCD_SMTP_LISTEN=127.0.0.1:25", "DMARCD_SMTP_RECIPIENTS=a@example.com,example.org"}, `DMARCD_SMTP_RECIPIENTS = "a@example.com,example.org": must be addresses, such as "dmarc@example.com", or "@example.com" for a whole domain; "example.org" is none`},
		{"[smtp]\ncert_file = \"" + blocked + "\"", nil, `2: smtp.cert_file (DMARCD_SMTP_CERT_FILE): has no use without smtp.key_file; name the key as well`},
		{"[smtp]\ncert_file = \"" + blocked + "\"\nkey_file = \"" + blocked + "\"", nil, `2: smtp.cert_file (DMARCD_SMTP_CERT_FILE): cannot use the certificate: tls: failed to find any PEM data in certificate input; name a certificate and its key in PEM format that are readable`},

		{"[tlsrpt]\npath = \"/tlsrpt\"\nproxies = [\"127.0.0.1\", \"2001:db8::/32\"]", nil, ""},
		{"[tlsrpt]\npath = \"/v1/tls-rpt\"\nlisten = \"0.0.0.0:8443\"", nil, ""},
		{"[tlsrpt]\npath = \"tlsrpt\"", nil, `2: tlsrpt.path = "tlsrpt": must be a path of letters, digits, -, _ and ., such as "/tlsrpt"`},
		{"[tlsrpt]\npath = \"/api/tlsrpt\"", nil, `2: tlsrpt.path = "/api/tlsrpt": is a path of the API; choose another`},
		{"[tlsrpt]\nlisten = \"127.0.0.1:1\"", nil, ` tlsrpt.path (DMARCD_TLSRPT_PATH): is missing; write it as "/tlsrpt", or remove tlsrpt.listen`},
		{"[tlsrpt]\npath = \"/x\"\nlisten = \"127.0.0.1:8080\"", nil, `3: tlsrpt.listen (DMARCD_TLSRPT_LISTEN): is the address of dashboard and API; remove it to take reports there, or choose another`},
		{"[tlsrpt]\npath = \"/x\"\nproxies = [\"proxy\"]", nil, `3: tlsrpt.proxies = [proxy]: must be addresses or networks, such as "127.0.0.1" or "10.0.0.0/8"; "proxy" is none`},

		{"[directory]\npath = \"" + there + "\"\nafter = \"move\"", nil, ""},
		{"[directory]\npath = \"" + there + "\"\nafter = \"delete\"\nfailed = \"/var/failed\"", nil, ""},
		{"[directory]\npath = \"reports\"", nil, `2: directory.path = "reports": must be an absolute path, beginning with /`},
		{"[directory]\npath = \"/nonexistent\"", nil, `2: directory.path (DMARCD_DIRECTORY_PATH): "/nonexistent" is not there; make it, or name another`},
		{"[directory]\npath = \"" + blocked + "\"", nil, `2: directory.path (DMARCD_DIRECTORY_PATH): "` + blocked + `" cannot be watched: it is no folder; name another folder, or let the user that dmarcd runs as read it, and write to it for after`},
		{"[directory]\nafter = \"move\"", nil, `2: directory.after (DMARCD_DIRECTORY_AFTER): has no use without directory.path; set that, or remove after`},
		{"[directory]\npath = \"" + there + "\"\ndone = \"/var/done\"", nil, `3: directory.done (DMARCD_DIRECTORY_DONE): has no use without after = "move"; set that, or remove done`},
		{"[directory]\npath = \"" + there + "/\"\nafter = \"move\"\ndone = \"" + there + "\"", nil, `4: directory.done (DMARCD_DIRECTORY_DONE): is the folder that is watched, or holds it; name another`},
		{"[directory]\npath = \"" + there + "\"\nafter = \"move\"\nfailed = \"/\"", nil, `4: directory.failed (DMARCD_DIRECTORY_FAILED): is the folder that is watched, or holds it; name another`},

		// What an orchestrator sets for a service of that name is no mistake.
		{"", []string{"DMARCD_PORT=tcp://10.0.0.1:8080", "DMARCD_SERVICE_HOST=10.0.0.1", "DMARCD_SERVICE_PORT=8080", "DMARCD_SERVICE_PORT_HTTP=8080", "DMARCD_PORT_8080_TCP=tcp://10.0.0.1:8080",
			"DMARCD_PORT_8080_TCP_PROTO=tcp", "DMARCD_PORT_8080_TCP_ADDR=10.0.0.1", "DMARCD_DB_SERVICE_HOST=10.0.0.2", "DMARCD_DB_PORT=tcp://10.0.0.2:5432"}, ""},
		{"", []string{"DMARCD_PORT=8080"}, `DMARCD_PORT: is no setting; unset it, or see dmarcd config --help`},
	} {
		got := mistakes(t, c.file, c.vars...)
		if c.want == "nonsense" || c.want == "s3cret" { // the content of a secret file
			if !strings.Contains(got, "_file") || strings.Contains(got, c.want) {
				t.Errorf("%s", got)
			}
			continue
		}
		got = strings.TrimPrefix(strings.TrimPrefix(got, "a mistake in the configuration:\n  "), "dmarcd.toml:")
		if got != c.want {
			t.Errorf("%s %q\n got %s\nwant %s", c.file, c.vars, got, c.want)
		}
	}
}

func TestTheFirstConfigurationFileIsRead(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	etc, named, byVariable := filepath.Join(dir, "etc.toml"), writeFile(t, "a.toml", "log_level = \"debug\""), writeFile(t, "b.toml", "log_level = \"error\"")
	read := func(path string, vars ...string) string {
		t.Helper()
		env := newEnviron(nil, nil, os.Stderr, append([]string{"XDG_STATE_HOME=" + dir}, vars...))
		env.configFiles = []string{"dmarcd.toml", etc}
		c, err := env.loadConfig(path, everything)
		if err != nil {
			return err.Error()
		}
		return c.LogLevel + " " + c.File
	}
	check := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	check(read(""), "info ")
	if err := os.WriteFile(etc, []byte("log_level = \"warn\""), 0o600); err != nil {
		t.Fatal(err)
	}
	check(read(""), "warn "+etc)
	if err := os.WriteFile("dmarcd.toml", []byte("log_format = \"json\""), 0o600); err != nil {
		t.Fatal(err)
	}
	check(read(""), "info dmarcd.toml")
	check(read("", "DMARCD_CONFIG="+byVariable), "error "+byVariable)
	check(read(named, "DMARCD_CONFIG="+byVariable), "debug "+named)
	check(read("/nonexistent"), "a mistake in the configuration:\n  cannot read the configuration: open /nonexistent: no such file or directory")
	check(read("", "DMARCD_CONFIG=/nonexistent"), "a mistake in the configuration:\n  cannot read the configuration: open /nonexistent: no such file or directory")
}

func TestEveryLimitHasASetting(t *testing.T) {
	c := defaultConfig(&environ{root: true})
	limits := reflect.ValueOf(&c.Limits).Elem()
	for _, s := range c.settings {
		if !strings.HasPrefix(s.key, "limits.") {
			continue
		}
		text := "77"
		if s.types == "s" {
			text = "77s"
		}
		before := c.Limits
		if err := s.set(text); err != nil {
			t.Errorf("%s: %v", s.key, err)
		}
		if before == c.Limits {
			t.Errorf("%s sets nothing", s.key)
		}
	}
	for i := range limits.NumField() {
		if limits.Type().Field(i).Name == "Zone" {
			continue // no limit, and set by parsedmarc.zone
		}
		if got := limits.Field(i).Int(); got != 77 && got != int64(77*time.Second) {
			t.Errorf("no setting for %s", limits.Type().Field(i).Name)
		}
	}
}

func TestValuesOnlyNeedsNoSecrets(t *testing.T) {
	text := "listen = \"0.0.0.0:80\"\n[limits]\nrows = 5\n[[mailbox]]\nurl = \"imaps://a@b\"\npassword_file = \"/nonexistent\"\n"
	c, err := newEnviron(nil, nil, os.Stderr, nil).loadConfig(writeFile(t, "dmarcd.toml", text), valuesOnly)
	if err != nil || c.Limits.Rows != 5 {
		t.Errorf("%+v: %v", c, err)
	}
}

func TestReportAddressesMustBeMailAddresses(t *testing.T) {
	for _, text := range []string{"dmarc", "@example.com", "a b@example.com", "a@b@example.com", "a@example"} {
		if got := mistakes(t, "report_addresses = [\""+text+"\"]"); !strings.Contains(got, "must be mail addresses") {
			t.Errorf("%q: %s", text, got)
		}
	}
	c, err := load(t, `report_addresses = ["Dmarc@Example.COM"]`)
	if err != nil || !reflect.DeepEqual(c.ReportAddresses, []string{"Dmarc@example.com"}) {
		t.Errorf("%v, %v", c, err)
	}
}

func TestResolverMustBeAHostAndAPort(t *testing.T) {
	if got := mistakes(t, "resolver = \"192.0.2.53\""); !strings.Contains(got, `resolver = "192.0.2.53": must be a host and a port`) {
		t.Error(got)
	}
}

func TestSetUpReadsArgumentsAndConfiguration(t *testing.T) {
	var stderr bytes.Buffer
	env := newEnviron(nil, nil, &stderr, []string{"XDG_STATE_HOME=" + t.TempDir(), "DMARCD_LISTEN=127.0.0.1:9"})
	path := writeFile(t, "dmarcd.toml", "listen = \"127.0.0.1:1\"\nlog_level = \"warn\"\n")
	fs := env.flags("test", "[NAME]", "")
	fs.Bool("x", false, "")
	c, log, err := env.setUp(fs, []string{"name", "--config", path, "-x"})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("not this")
	log.Warn("this")
	if c.Listen != "127.0.0.1:9" || fs.Arg(0) != "name" || strings.Contains(stderr.String(), "not this") || !strings.Contains(stderr.String(), `"msg":"this"`) {
		t.Errorf("%+v, operands %q, log %q", c, fs.Args(), stderr.String())
	}
	var usage usageError
	if _, _, err := env.setUp(env.flags("test", "", ""), []string{"--confg", path}); !errors.As(err, &usage) {
		t.Errorf("a wrong flag: %v", err)
	}
	var wrong configError
	if _, _, err := env.setUp(env.flags("test", "", ""), []string{"--config", "/nonexistent"}); !errors.As(err, &wrong) {
		t.Errorf("a wrong file: %v", err)
	}
}

func TestTheConfiguredResolverIsAsked(t *testing.T) {
	usual := net.DefaultResolver
	defer func() { net.DefaultResolver = usual }()
	dns, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	(&config{Resolver: dns.LocalAddr().String()}).useResolver()
	asked := make(chan string, 1)
	go func() {
		question := make([]byte, 512)
		n, from, err := dns.ReadFrom(question)
		if err != nil {
			asked <- err.Error()
			return
		}
		asked <- string(question[:n])
		question[2], question[3] = question[2]|0x80, 3 // a response: no such name
		dns.WriteTo(question[:n], from)
	}()
	_, err = net.DefaultResolver.LookupTXT(t.Context(), "_dmarc.example.com.")
	var missing *net.DNSError
	if !errors.As(err, &missing) || !missing.IsNotFound {
		t.Errorf("the answer is %v", err)
	}
	if question := <-asked; !strings.Contains(question, "\x06_dmarc\x07example\x03com") {
		t.Errorf("question %q", question)
	}
}
