package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/maxmind/mmdbwriter"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// doctored is what dmarcd doctor says.
type doctored struct {
	status int
	OK     bool
	Checks []diagnosis
}

// about returns the diagnoses of an area, as "state message".
func (d doctored) about(area string) string {
	var b strings.Builder
	for _, c := range d.Checks {
		if c.Area == area {
			fmt.Fprintf(&b, "%s %s\n", c.State, c.Message)
			if (c.State == stateOK) == (c.Fix != "") {
				fmt.Fprintf(&b, "BAD FIX %q\n", c.Fix)
			}
		}
	}
	return b.String()
}

const rootZone = ". SOA a. b. 1 7200 3600 1209600 3600\n"

func consult(t *testing.T, vars ...string) doctored {
	t.Helper()
	all := append([]string{"DMARCD_LISTEN=127.0.0.1:0", "DMARCD_RESOLVER=" + resolving(t, rootZone)}, vars...)
	got := world{vars: all}.run(t, "doctor", "--format", "json", "--timeout", patience.String())
	d := doctored{status: got.status}
	if err := json.Unmarshal([]byte(got.stdout), &d); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	if (d.status == exitDone) != d.OK {
		t.Errorf("status %d, ok %v", d.status, d.OK)
	}
	return d
}

func wants(t *testing.T, d doctored, area string, words ...string) {
	t.Helper()
	got := d.about(area)
	for _, w := range words {
		if !strings.Contains(got, w) {
			t.Errorf("%s lacks %q:\n%s", area, w, got)
		}
	}
	if strings.Contains(got, "BAD FIX") {
		t.Errorf("%s: what is wrong lacks a fix, or what is well has one:\n%s", area, got)
	}
}

func TestDoctorFindsNothingWrongWhereAllIsWell(t *testing.T) {
	imap := dovecottest.Start(t)
	imap.Deliver(t, "1.a.host", []byte("Subject: hello\r\n\r\nNo report.\r\n"))
	database := pgtest.URL(t)
	apply(t, database)
	resolver := resolving(t, rootZone+"example.com. SOA a. b. 1 7200 3600 1209600 3600\n"+
		"_dmarc.example.com. TXT \"v=DMARC1; p=none; rua=mailto:dmarc@example.com\"\nexample.com. MX 10 mx.example.com.\nmx.example.com. A 192.0.2.1\n")
	d := consult(t, "DMARCD_DATABASE_URL="+database, "DMARCD_IMAP_URL=imap://"+dovecottest.User+"@"+imap.Address, "DMARCD_IMAP_PASSWORD="+dovecottest.Password,
		"DMARCD_IMAP_AFTER=move", "DMARCD_IMAP_MOVE_TO=Archive", "DMARCD_DOMAINS=example.com", "DMARCD_REPORT_ADDRESSES=dmarc@example.com", "DMARCD_RESOLVER="+resolver)
	if d.status != exitDone {
		t.Errorf("status %d: %+v", d.status, d.Checks)
	}
	wants(t, d, "mailbox", "ok logged in as reports", `ok folder "INBOX" opens, 1 message waiting`, `ok messages may be treated as after = "move"`, `note folder "Archive" does not exist yet`)
	wants(t, d, "database", "ok PostgreSQL", "ok the user", "steps of the schema are applied", "ok its clock agrees")
	wants(t, d, "resolver", "ok "+resolver+" answers, and validates DNSSEC")
	wants(t, d, "reports", "ok reports are sent to you")
	wants(t, d, "listen", "ok it is free")
	wants(t, d, "disk", "are free in")
}

func apply(t *testing.T, database string) {
	t.Helper()
	db, err := pgxpool.New(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := migrations.Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
}

func TestDoctorSaysWhatIsWrongWithAMailbox(t *testing.T) {
	t.Parallel()
	racetest.Calm(t)
	imap := dovecottest.Start(t)
	database := "DMARCD_DATABASE_URL=" + pgtest.URL(t)
	_, port, _ := net.SplitHostPort(imap.TLSAddress)
	closed := porttest.FreeAddress(t)
	silent := silentServer(t)
	for _, c := range []struct {
		name, url, password string
		more                []string
		limit               string
		want                []string
	}{
		{"wrong password", "imap://reports@" + imap.Address, "wrong", nil, "10m", []string{"in plain text", "wrong logging in to"}},
		{"wrong folder", "imap://reports@" + imap.Address + "/Reports", dovecottest.Password, nil, "10m", []string{"ok logged in", `wrong opening folder "Reports"`}},
		{"a certificate that nobody vouches for", "imaps://reports@" + imap.TLSAddress, dovecottest.Password, nil, "10m", []string{"wrong nobody who is trusted vouches for the certificate"}},
		{"a certificate for another name", "imaps://reports@localhost:" + port, dovecottest.Password, []string{"DMARCD_IMAP_CA_FILE=" + imap.CAFile()}, "10m", []string{"wrong the certificate of localhost:" + port + " is for other names"}},
		{"STARTTLS with a certificate for another name", "imap+starttls://reports@localhost" + strings.TrimPrefix(imap.Address, "127.0.0.1"), dovecottest.Password, []string{"DMARCD_IMAP_CA_FILE=" + imap.CAFile()}, "10m", []string{"is for other names"}},
		{"TLS where there is none", "imaps://reports@" + imap.Address, dovecottest.Password, nil, "10m", []string{"does not speak TLS there"}},
		{"nobody listens", "imap://reports@" + closed, dovecottest.Password, nil, "10m", []string{"wrong " + closed + ": nobody listens there"}},
		{"no such host", "imaps://reports@mail.invalid", dovecottest.Password, nil, "10m", []string{"wrong the name mail.invalid does not exist in DNS"}},
		{"a server that says nothing", "imap://reports@" + silent, dovecottest.Password, nil, "1s", []string{"wrong greeting of " + silent}},
	} {
		t.Run(c.name, func(t *testing.T) {
			vars := append([]string{"DMARCD_LISTEN=127.0.0.1:0", "DMARCD_RESOLVER=" + resolving(t, rootZone), database, "DMARCD_IMAP_URL=" + c.url, "DMARCD_IMAP_PASSWORD=" + c.password}, c.more...)
			got := world{vars: vars}.run(t, "doctor", "--format", "json", "--timeout", c.limit)
			d := doctored{status: got.status}
			if err := json.Unmarshal([]byte(got.stdout), &d); err != nil {
				t.Fatalf("%v: %+v", err, got)
			}
			if d.status != exitFailed {
				t.Errorf("status %d", d.status)
			}
			wants(t, d, "mailbox", c.want...)
			if strings.Contains(got.stdout+got.stderr, dovecottest.Password+`"`) {
				t.Error("the password is told")
			}
		})
	}
}

// A mailbox that may be read and nothing else, by its access control list.
func TestDoctorMissesRightsThatAfterNeeds(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "acl") // the user of the mail has to get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	acls := filepath.Join(dir, "acls")
	if err := os.WriteFile(acls, []byte("INBOX user="+dovecottest.User+" lrs\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	imap := dovecottest.Start(t, "mail_plugins = acl\nprotocol imap {\n  mail_plugins = acl imap_acl\n}\nplugin {\n  acl = vfile:"+acls+"\n}")
	vars := []string{"DMARCD_DATABASE_URL=" + pgtest.URL(t), "DMARCD_IMAP_URL=imap://" + dovecottest.User + "@" + imap.Address, "DMARCD_IMAP_PASSWORD=" + dovecottest.Password}
	for after, want := range map[string]string{
		"":       `ok folder "INBOX" opens`,
		"seen":   `ok messages may be treated as after = "seen" says`,
		"delete": `wrong messages cannot be treated as after = "delete" says: the rights in the folder are`,
	} {
		wants(t, consult(t, append(vars, "DMARCD_IMAP_AFTER="+after)...), "mailbox", want)
	}
}

func TestDoctorAsksForAToken(t *testing.T) {
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"error":"invalid_client","error_description":"AADSTS7000222: the secret has ended"}`)
	}))
	defer tokens.Close()
	d := consult(t, "DMARCD_DATABASE_URL="+pgtest.URL(t), "DMARCD_IMAP_URL=imap://dmarc%40example.com@127.0.0.1:143", "DMARCD_IMAP_OAUTH=microsoft", "DMARCD_IMAP_OAUTH_CLIENT_ID=1",
		"DMARCD_IMAP_OAUTH_CLIENT_SECRET=hush-hush", "DMARCD_IMAP_OAUTH_TOKEN_URL="+tokens.URL)
	wants(t, d, "mailbox", "refuses a token (HTTP status 401): invalid_client: AADSTS7000222")
}

func TestDoctorSaysWhatIsWrongWithTheDatabase(t *testing.T) {
	whole := pgtest.URL(t)
	apply(t, whole)
	admin, err := pgxpool.New(t.Context(), whole)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	do := func(sql ...string) {
		t.Helper()
		for _, s := range sql {
			if _, err := admin.Exec(t.Context(), s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	change := func(f func(u *url.URL)) string {
		u, err := url.Parse(whole)
		if err != nil {
			t.Fatal(err)
		}
		f(u)
		return u.String()
	}
	t.Run("well", func(t *testing.T) { wants(t, consult(t, "DMARCD_DATABASE_URL="+whole), "database", "ok PostgreSQL") })
	t.Run("down", func(t *testing.T) {
		d := consult(t, "DMARCD_DATABASE_URL=postgres://dmarcd:hush@"+porttest.FreeAddress(t)+"/dmarcd")
		wants(t, d, "database", "wrong ", "nobody listens there")
		if strings.Contains(fmt.Sprint(d), "hush") {
			t.Errorf("the password is told: %+v", d)
		}
	})
	t.Run("no such database", func(t *testing.T) {
		wants(t, consult(t, "DMARCD_DATABASE_URL="+change(func(u *url.URL) { u.Path = "/nobody_made_it" })), "database", "wrong PostgreSQL refuses", "3D000")
	})
	t.Run("read only", func(t *testing.T) {
		only := change(func(u *url.URL) {
			q := u.Query()
			q.Set("default_transaction_read_only", "on")
			u.RawQuery = q.Encode()
		})
		wants(t, consult(t, "DMARCD_DATABASE_URL="+only), "database", "wrong PostgreSQL", "takes no writes")
	})
	t.Run("not the owner", func(t *testing.T) {
		var name string
		if err := admin.QueryRow(t.Context(), "SELECT current_schema()").Scan(&name); err != nil {
			t.Fatal(err)
		}
		only := change(func(u *url.URL) {
			q := u.Query()
			q.Set("search_path", "pg_catalog")
			u.RawQuery = q.Encode()
		})
		wants(t, consult(t, "DMARCD_DATABASE_URL="+only), "database", "wrong the user", "may not make tables in schema pg_catalog")
	})
	t.Run("an old schema", func(t *testing.T) {
		do("DELETE FROM schema_steps WHERE number = (SELECT max(number) FROM schema_steps)")
		wants(t, consult(t, "DMARCD_DATABASE_URL="+whole), "database", "wrong the schema is old: 1 of")
	})
	t.Run("a schema from the future", func(t *testing.T) {
		do("INSERT INTO schema_steps (number, name) VALUES (9999, 'future')")
		wants(t, consult(t, "DMARCD_DATABASE_URL="+whole), "database", "wrong reading migrations", "newer version")
	})
}

func TestDoctorComparesClocks(t *testing.T) {
	for apart, want := range map[time.Duration]string{0: "ok its clock agrees", -10 * time.Second: "note the clock", 2 * time.Hour: "wrong the clock"} {
		env := newEnviron(nil, io.Discard, io.Discard, []string{"DMARCD_DATABASE_URL=" + pgtest.URL(t), "DMARCD_CONFIG=" + os.DevNull})
		cfg, err := env.loadConfig("", everything)
		if err != nil {
			t.Fatal(err)
		}
		d := newDoctor(cfg, time.Minute)
		d.now = func() time.Time { return time.Now().Add(apart) }
		x := &findings{area: "database"}
		d.database(t.Context(), x)
		d.close()
		wants(t, doctored{Checks: x.list}, "database", want)
	}
}

func TestDoctorSeesAFullDisk(t *testing.T) {
	cfg := &config{DataDir: t.TempDir()}
	d := newDoctor(cfg, time.Minute)
	for _, c := range []struct {
		min, few uint64
		want     string
	}{{0, 0, "ok "}, {0, math.MaxUint64, "note "}, {math.MaxUint64, math.MaxUint64, "wrong the disk is full"}} {
		d.minFree, d.fewFree = c.min, c.few
		x := &findings{area: "disk"}
		d.disk(t.Context(), x)
		wants(t, doctored{Checks: x.list}, "disk", c.want)
	}
	cfg.DataDir = filepath.Join(writeFile(t, "file", ""), "below")
	x := &findings{area: "disk"}
	d.disk(t.Context(), x)
	wants(t, doctored{Checks: x.list}, "disk", "wrong ")
}

func TestDoctorLooksWhetherReportsReachUs(t *testing.T) {
	zone := rootZone
	for name, record := range map[string]string{"other": "rua=mailto:dmarc@reports.test", "astray": "rua=mailto:dmarc@elsewhere.test", "fine": "rua=mailto:us@fine.test"} {
		zone += fmt.Sprintf("%[1]s.test. SOA a. b. 1 7200 3600 1209600 3600\n%[1]s.test. MX 10 mx.%[1]s.test.\nmx.%[1]s.test. A 192.0.2.1\n_dmarc.%[1]s.test. TXT \"v=DMARC1; p=none; %[2]s\"\n", name, record)
	}
	for _, host := range []string{"reports", "elsewhere"} {
		zone += fmt.Sprintf("%[1]s.test. SOA a. b. 1 7200 3600 1209600 3600\n%[1]s.test. MX 10 mx.%[1]s.test.\n", host)
	}
	zone += "astray.test._report._dmarc.elsewhere.test. TXT \"v=DMARC1\"\n"
	d := consult(t, "DMARCD_DATABASE_URL="+pgtest.URL(t), "DMARCD_RESOLVER="+resolving(t, zone, "_dmarc.shaky.test.", "shaky.test."), "DMARCD_DOMAINS=other.test,astray.test,fine.test,none.test,shaky.test",
		"DMARCD_REPORT_ADDRESSES=dmarc@reports.test,us@fine.test")
	by := map[string]string{}
	for _, c := range d.Checks {
		if c.Area == "reports" {
			by[c.Subject] += string(c.State) + " " + c.Message + " " + c.Fix + "\n"
		}
	}
	for domain, want := range map[string]string{"other.test": "other.test._report._dmarc.reports.test", "astray.test": "wrong ", "fine.test": "ok reports are sent to you", "none.test": "wrong ", "shaky.test": "unknown "} {
		if !strings.Contains(by[domain], want) {
			t.Errorf("%s: %q, want %q", domain, by[domain], want)
		}
	}
	if strings.Contains(by["fine.test"], "wrong") || strings.Contains(by["shaky.test"], "wrong") {
		t.Errorf("%q", by)
	}
}

func TestDoctorKnowsAResolverThatDoesNotWork(t *testing.T) {
	wants(t, consult(t, "DMARCD_DATABASE_URL="+pgtest.URL(t), "DMARCD_RESOLVER="+porttest.FreeAddress(t)), "resolver", "wrong ")
}

func TestDoctorTellsAForeignListenerFromItsOwn(t *testing.T) {
	database := "DMARCD_DATABASE_URL=" + pgtest.URL(t)
	foreign := httptest.NewServer(http.NotFoundHandler())
	defer foreign.Close()
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "alive\n") }))
	defer own.Close()
	wants(t, consult(t, database, "DMARCD_LISTEN="+foreign.Listener.Addr().String()), "listen", "wrong another program listens there")
	wants(t, consult(t, database, "DMARCD_LISTEN="+own.Listener.Addr().String()), "listen", "ok a dmarcd listens there already")
	wants(t, consult(t, database, "DMARCD_SMTP_LISTEN="+foreign.Listener.Addr().String(), "DMARCD_SMTP_RECIPIENTS=a@example.com"), "smtp.listen", "wrong another program")
	wants(t, consult(t, database, "DMARCD_LISTEN=192.0.2.1:80", "DMARCD_INSECURE=true"), "listen", "wrong this machine does not have the address")
	cert, key := certificateFiles(t, time.Now().Add(-time.Hour))
	d := consult(t, database, "DMARCD_SMTP_LISTEN=127.0.0.1:0", "DMARCD_SMTP_RECIPIENTS=a@example.com", "DMARCD_SMTP_CERT_FILE="+cert, "DMARCD_SMTP_KEY_FILE="+key)
	wants(t, d, "smtp.listen", "ok it is free", "wrong the certificate", "ended on")
}

func TestDoctorReadsDatabasesOfNetworks(t *testing.T) {
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "GeoLite2-ASN", RecordSize: 24, BuildEpoch: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	var file strings.Builder
	if _, err := tree.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	good, broken := writeFile(t, "good.mmdb", file.String()), writeFile(t, "broken.mmdb", "no database")
	for _, c := range []struct {
		path string
		now  time.Time
		want string
	}{
		{good, time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC), "ok GeoLite2-ASN, built on 2026-01-01"},
		{good, time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC), "note GeoLite2-ASN, built on 2026-01-01: networks change hands"},
		{broken, time.Now(), "wrong it cannot be read"},
		{good + ".gone", time.Now(), "wrong it cannot be read"},
	} {
		d := newDoctor(&config{}, time.Minute)
		d.now = func() time.Time { return c.now }
		x := &findings{area: "networks", subject: c.path}
		d.networks(x, c.path)
		wants(t, doctored{Checks: x.list}, "networks", c.want)
	}
}

func TestDoctorSpeaksToPeople(t *testing.T) {
	vars := []string{"DMARCD_LISTEN=127.0.0.1:0", "DMARCD_RESOLVER=" + resolving(t, rootZone), "DMARCD_DATABASE_URL=postgres://dmarcd@" + porttest.FreeAddress(t) + "/dmarcd", "COLUMNS=80"}
	got := world{vars: vars}.run(t, "doctor")
	if got.status != exitFailed || !strings.Contains(got.stdout, "\n✗ wrong   database dmarcd on 127.0.0.1:") || !strings.Contains(got.stdout, "\n          → look at host and port") || strings.Contains(got.stdout, "\x1b") {
		t.Errorf("%+v", got)
	}
	for line := range strings.Lines(got.stdout) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	quiet := world{vars: vars}.run(t, "doctor", "--quiet")
	if strings.Contains(quiet.stdout, "✓") || !strings.Contains(quiet.stdout, "✗ wrong") {
		t.Errorf("%+v", quiet)
	}
}

// Whatever hangs is given up, and the rest is told.
func TestDoctorGivesUpWhatHangs(t *testing.T) {
	d := newDoctor(&config{}, 10*time.Millisecond)
	release := make(chan struct{})
	defer close(release)
	got := d.one(context.Background(), examination{"x", "y", func(context.Context, *findings) { <-release }})
	if !slices.Equal(got, []diagnosis{{"x", "y", stateUnknown, "no answer within 10ms", "try again, with a longer --timeout"}}) {
		t.Errorf("%+v", got)
	}
}

// silentServer takes connections and says nothing.
func silentServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func certificateFiles(t *testing.T, end time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.example.com"}, NotBefore: end.AddDate(-1, 0, 0), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})))
}

// What dmarcd itself connects to is tried, and nothing is sent there.
func TestDoctorTriesWhatIsConnectedTo(t *testing.T) {
	var requests atomic.Int64
	answer := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		io.WriteString(w, answer)
	}))
	defer server.Close()
	answer = fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%[1]q,"token_endpoint":%[1]q,"jwks_uri":%[1]q,"newNonce":%[1]q,"newAccount":%[1]q,"newOrder":%[1]q}`, server.URL)
	gone := porttest.FreeAddress(t)
	dir := t.TempDir()
	file := writeFile(t, "dmarcd.toml", fmt.Sprintf(`
[access]
oidc_issuer = %q
oidc_client_id = "dmarcd"
groups = ["* = read @ *"]
[acme]
hosts = ["localhost.localdomain"]
directory = %[1]q
folder = %[3]q
[mail]
server = "smtp://%[2]s"
from = "dmarcd@example.com"
[[target]]
name = "open"
url = %[1]q
private = true
[[target]]
name = "mail"
url = "mailto:ops@example.com"
[[target]]
name = "closed"
url = "https://127.0.0.1/s3cret"
[[target]]
name = "chat"
url = "discord://s3cret@1234"
[[stream]]
name = "there"
to = "%[3]s/out.ndjson"
[[stream]]
name = "away"
to = "kafka://%[2]s/dmarc"
`, server.URL, gone, dir))
	url := pgtest.URL(t)
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}}
	for _, args := range [][]string{{"import", "testdata/aggregate.xml"}, {"export", "--name", "old", "--to", dir + "/old.ndjson"}, {"import", "../../parse/testdata/deviations/093-two-files-large.xml"}} {
		if got := w.run(t, args...); got.status != exitDone {
			t.Fatalf("%q: %+v", args, got)
		}
	}
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(t.Context(), "UPDATE report_changes SET at = at - interval '1 hour'"); err != nil {
		t.Fatal(err)
	}
	got := consult(t, "DMARCD_CONFIG="+file, "DMARCD_DATABASE_URL="+url)
	for area, want := range map[string][]string{
		"login":   {"ok the OpenID provider answers; whether it knows dmarcd was not tried: log in once"},
		"target":  {"ok its server can be reached; nothing was sent", "wrong it cannot be reached", "wrong it is not connected to: dial tcp 127.0.0.1:443: 127.0.0.1 is not a public address", "ok the URL is one of discord; nothing was sent"},
		"acme":    {"ok the authority answers; no certificate was asked for", "note dmarcd listens where the authority does not reach it"},
		"stream":  {"ok it can go there; nothing was sent", "wrong it cannot go there"},
		"streams": {`note what is kept for the stream "old" grows`},
	} {
		for _, line := range want {
			if all := got.about(area); !strings.Contains(all, line) || strings.Contains(all, "s3cret") || strings.Contains(all, "BAD FIX") {
				t.Errorf("%s:\n%swant %s", area, all, line)
			}
		}
	}
	if requests.Load() != 2 {
		t.Errorf("%d requests, want that for the provider and that for the authority", requests.Load())
	}
	if files, _ := filepath.Glob(dir + "/out*"); len(files) > 0 {
		t.Errorf("it wrote %q", files)
	}
}
