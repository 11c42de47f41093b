package main

import (
	"archive/zip"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// machine is one on which examples are run: their paths and addresses are
// replaced by some that are there.
type machine struct {
	t      *testing.T
	dir    string // instead of /
	binary string
	imap   *dovecottest.Server
	tokens *tokenServer
	smtp   string // where mail is received
	tls    string // where TLS reports are
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	p := &machine{t: t, dir: t.TempDir(), binary: build(t), smtp: porttest.FreeAddress(t), tls: porttest.FreeAddress(t)}
	p.tokens = startTokenServer(t)
	p.imap = dovecottest.StartOAuth(t, p.tokens.URL+"/introspect", "auth_username_format =\nauth_username_chars =")
	for name, text := range map[string]string{
		"etc/dmarcd/password": dovecottest.Password, "etc/dmarcd/password-org": dovecottest.Password,
		"etc/dmarcd/oauth_client_secret": "s3cret", "etc/dmarcd/oauth_refresh_token": "r3fresh",
	} {
		p.put(name, text)
	}
	key, err := os.ReadFile(keyFile(t, p.tokens.URL+"/token"))
	if err != nil {
		t.Fatal(err)
	}
	p.put("etc/dmarcd/service-account.json", string(key))
	certs := filepath.Join(p.dir, "etc/letsencrypt/live/reports.example.com")
	for _, dir := range []string{certs, filepath.Join(p.dir, "var/spool/dmarcd"), filepath.Join(p.dir, "run/dmarcd"), filepath.Join(p.dir, "Mail/dmarc")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeCertificate(t, filepath.Join(certs, "fullchain.pem"), filepath.Join(certs, "privkey.pem"))
	if err := os.Symlink(p.binary, filepath.Join(p.dir, "dmarcd")); err != nil {
		t.Fatal(err)
	}
	// The mailbox has a folder Reports, and a mail in each.
	c, err := imapclient.DialInsecure(p.imap.Address, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(dovecottest.User, dovecottest.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Create("Reports", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"INBOX", "Reports"} {
		message := aMail("of " + folder)
		w := c.Append(folder, int64(len(message)), nil)
		w.Write(message)
		w.Close()
		if _, err := w.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// failingCurl has curl on a machine fail where it is refused, which it would only print.
func failingCurl(t *testing.T, p *machine) {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "curl"), []byte("#!/bin/sh\nexec "+curl+" --fail-with-body \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// in is the same machine in another test.
func (p *machine) in(t *testing.T) *machine {
	copied := *p
	copied.t = t
	return &copied
}

func (p *machine) put(name, text string) {
	p.t.Helper()
	name = filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

var hostOfMailbox = regexp.MustCompile(`(imaps://[^@"]+@)[a-z0-9.]+/`)

// here replaces addresses and paths in an example.
func (p *machine) here(text string) string {
	text = hostOfMailbox.ReplaceAllString(text, "${1}"+p.imap.TLSAddress+"/")
	for from, to := range map[string]string{
		"/etc/": p.dir + "/etc/", "/var/spool/": p.dir + "/var/spool/", "/run/dmarcd/": p.dir + "/run/dmarcd/",
		"192.0.2.25:25": p.smtp, "192.0.2.80:443": p.tls, "https://reports.example.com/": "https://" + p.tls + "/",
		`# oauth_token_url = "https://login.example.com/token"`: `oauth_token_url = "` + p.tokens.URL + `/token"`,
		`oauth_tenant = "contoso.onmicrosoft.com"`:              `oauth_tenant = "contoso.onmicrosoft.com"` + "\noauth_token_url = \"" + p.tokens.URL + `/token"`, // its address, in another setting
	} {
		text = strings.ReplaceAll(text, from, to)
	}
	return text
}

// vars are the variables that every command of an example is given: where things are.
func (p *machine) vars(more ...string) []string {
	return append([]string{"SSL_CERT_FILE=" + p.imap.CAFile(), "CURL_CA_BUNDLE=" + filepath.Join(p.dir, "etc/letsencrypt/live/reports.example.com/fullchain.pem"),
		"HOME=" + p.dir, "PATH=" + p.dir + ":" + os.Getenv("PATH"), "DMARCD_RECORDS_WATCH=false"}, more...)
}

// shell runs an example to its end.
func (p *machine) shell(text string, vars ...string) (string, error) {
	cmd := exec.CommandContext(p.t.Context(), "sh", "-e", "-c", text)
	cmd.Dir, cmd.Env = p.dir, p.vars(vars...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// serving runs dmarcd serve as an example says, and returns once it answers.
func (p *machine) serving(text, address string, vars ...string) *running {
	p.t.Helper()
	r := &running{t: p.t, cmd: exec.Command("sh", "-e", "-c", text), base: "http://" + address, log: new(lockedBuffer)}
	r.cmd.Dir, r.cmd.Env = p.dir, p.vars(append(vars, "DMARCD_LOG_FORMAT=text")...)
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
		r.cmd.Wait()
	})
	r.await("it answers", func() bool { return r.status("/healthz") != 0 })
	return r
}

// A letIn is what settings let in: what is done once dmarcd serves with them, and what the ledger has then.
type letIn struct {
	bring func(p *machine, r *running)
	want  []string
}

// settingsOfIntake are the settings of docs/intake.md, by a line that only they hold.
var settingsOfIntake = map[string]letIn{
	`name = "archive"`:                 {nil, []string{"dmarc@127.0.0.1/INBOX ok", "archive ok"}},
	`oauth = "microsoft"`:              {nil, []string{"dmarc@contoso.com@127.0.0.1/INBOX ok"}},
	`oauth = "google"`:                 {nil, []string{"dmarc@example.com@127.0.0.1/INBOX ok"}},
	`oauth = "refresh_token"`:          {nil, []string{"dmarc.example@gmail.com@127.0.0.1/INBOX ok"}},
	`hostname = "reports.example.com"`: {(*machine).tlsMail, []string{"smtp ok"}},
	`protocol = "lmtp"`:                {(*machine).lmtpMail, []string{"smtp ok"}},
	`domains = ["example.com"]`:        {(*machine).curlTLS, []string{"tlsrpt ok"}},
	`proxies = ["127.0.0.1"]`: {func(p *machine, r *running) {
		p.post(r.base+"/tlsrpt", aTLSReport("2", "example.com"), http.StatusCreated)
	}, []string{"tlsrpt ok"}},
	`path = "/var/spool/dmarcd"`:   {func(p *machine, _ *running) { p.put("var/spool/dmarcd/a.xml", aReport("in a folder")) }, []string{"directory ok"}},
	`trusted = ["mx.example.com"]`: {func(p *machine, r *running) { p.post(r.base+"/api/v1/reports", aReport("t"), http.StatusCreated) }, []string{"upload ok"}},
	"[transport]\nrequire = true":  {func(p *machine, r *running) { p.post(r.base+"/api/v1/reports", aReport("r"), http.StatusCreated) }, []string{"upload ok"}},
}

// commandsOfIntake are the other examples of docs/intake.md and README.md, by how they begin.
var commandsOfIntake = map[string]func(p *machine, text string){
	"make ": func(p *machine, text string) { measured(p.t, text) },
	"./dmarcd parse ": func(p *machine, text string) {
		if out, err := p.shell(text); err != nil || !strings.Contains(out, "of Mail") {
			p.t.Errorf("%v\n%s", err, out)
		}
	},
	"./dmarcd check ": (*machine).check,
	"dmarcd import ":  (*machine).imports,
	"curl 'http://":   (*machine).asks,
	"curl -i ":        func(*machine, string) {}, // by curlTLS, beside the settings that let it in
	"_smtp._tls.":     func(p *machine, text string) { publish(p.t, text) },
	"export DMARCD_":  (*machine).servesFromEnvironment,
	"dmarcd token create --name grafana --role read --domain example.com\nDMARCD_LISTEN=": (*machine).servesOthers,
}

// exampleOfIntake is how an example of docs/intake.md or README.md is run; nil if nobody knows.
func exampleOfIntake(text string) func(p *machine) {
	for line, c := range settingsOfIntake {
		if strings.Contains(text, line) {
			return func(p *machine) { p.letsIn(text, c) }
		}
	}
	for begin, run := range commandsOfIntake {
		if strings.HasPrefix(text, begin) {
			return func(p *machine) { run(p, text) }
		}
	}
	return nil
}

// Every example of docs/intake.md and of README.md is run as it stands, but for
// addresses and paths: settings by dmarcd serve, until what they let in is in.
func TestExamplesOfTheDocumentationWork(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("DMARCD_TEST_REQUIRE") != "" {
			t.Fatal("curl is not installed: apt-get install curl")
		}
		t.Skip("SKIPPED: curl, which examples use, is not installed")
	}
	p := newMachine(t)
	failingCurl(t, p)
	p.put("report.json.gz", packed(t, aTLSReport("1", "example.com")))
	p.put("report.xml.gz", packed(t, aReport("by curl")))
	p.put("Mail/dmarc/1.eml", string(aMail("of Mail")))
	p.put("archive.mbox", "From a\n"+strings.ReplaceAll(string(aMail("of mbox")), "\r", "")+"\n")
	p.put("archive.mbox.gz", packed(t, "From a\n"+strings.ReplaceAll(string(aMail("of packed mbox")), "\r", "")+"\n"))
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	if w, err := z.Create("old.xml"); err != nil {
		t.Fatal(err)
	} else if _, err := io.WriteString(w, aReport("of zip")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	p.put("old-reports.zip", archive.String())
	for _, page := range []string{"docs/intake.md", "README.md"} {
		for _, x := range examples(t, page) {
			run := exampleOfIntake(x.text)
			if run == nil {
				x.forgotten(t)
				continue
			}
			t.Run(x.String()+" "+x.first(), func(t *testing.T) { run(p.in(t)) })
		}
	}
}

// letsIn serves with settings, until what they let in is in.
func (p *machine) letsIn(text string, c letIn) {
	address := porttest.FreeAddress(p.t)
	p.tokens.username(regexp.MustCompile(`imaps://([^@"]+)@`).FindStringSubmatch(text))
	p.put("settings.toml", p.here(text))
	r := p.serving("exec dmarcd serve", address, "DMARCD_CONFIG="+filepath.Join(p.dir, "settings.toml"), "DMARCD_LISTEN="+address, "DMARCD_DATABASE_URL="+pgtest.URL(p.t), "DMARCD_DIRECTORY_POLL=1s", "DMARCD_DIRECTORY_SETTLE=0s")
	if c.bring != nil {
		c.bring(p, r)
	}
	for _, want := range c.want {
		r.await(want+" is in the ledger", func() bool { return r.ledger()[want] > 0 })
	}
	r.stop(syscall.SIGTERM)
}

func (p *machine) tlsMail(*running) {
	c, err := gosmtp.DialStartTLS(p.smtp, &tls.Config{InsecureSkipVerify: true}) // whose certificate it is does not matter here
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SendMail("a@r.example", []string{"any@reports.example.com"}, bytes.NewReader(aMail("by SMTP"))); err != nil {
		p.t.Error(err)
	}
}

func (p *machine) lmtpMail(*running) {
	conn, err := net.Dial("unix", filepath.Join(p.dir, "run/dmarcd/lmtp.sock"))
	if err != nil {
		p.t.Fatal(err)
	}
	c := gosmtp.NewClientLMTP(conn)
	defer c.Close()
	if err := c.SendMail("a@r.example", []string{"dmarc@example.com"}, bytes.NewReader(aMail("by LMTP"))); err != nil {
		p.t.Error(err)
	}
}

// curlTLS posts a report as the documentation says.
func (p *machine) curlTLS(*running) {
	all := examples(p.t, "docs/intake.md")
	i := slices.IndexFunc(all, func(x example) bool { return strings.HasPrefix(x.text, "curl -i ") })
	if i < 0 {
		p.t.Fatal("there is no example that posts a report")
	}
	out, err := p.shell(p.here(all[i].text))
	if err != nil || !strings.Contains(out, " 201 ") {
		p.t.Errorf("%v %s", err, out)
	}
}

func (p *machine) post(url, body string, want int) {
	resp, err := http.Post(url, "application/octet-stream", strings.NewReader(body))
	if err != nil {
		p.t.Error(err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		p.t.Errorf("%s: status %d, want %d", url, resp.StatusCode, want)
	}
}

// check looks at domains with a mistake and without: the status is 1 if there is an error among what is found, and else 0.
func (p *machine) check(text string) {
	const zone = rootZone + `
example.com. SOA ns.example.com. hostmaster.example.com. 1 7200 3600 1209600 3600
example.com. MX 10 mx.example.com.
example.com. TXT "v=spf1 mx -all"
_dmarc.example.com. TXT "v=DMARC1; p=none"
`
	for records, want := range map[string]struct {
		status int
		found  string
	}{zone: {exitFailed, "error    mx."}, zone + "mx.example.com. A 9.9.9.9\n": {exitDone, "warning  dmarc.p_none"}} {
		out, err := p.shell(text, "DMARCD_RESOLVER="+resolving(p.t, records))
		status, exit := exitDone, new(exec.ExitError)
		if errors.As(err, &exit) {
			status = exit.ExitCode()
		}
		if status != want.status || !strings.Contains(out, want.found) || strings.Contains(out, "  error ") != (status == exitFailed) {
			p.t.Errorf("%v, want status %d and %q in\n%s", err, want.status, want.found, out)
		}
	}
}

// imports imports what the machine has.
func (p *machine) imports(text string) {
	database := "DMARCD_DATABASE_URL=" + pgtest.URL(p.t)
	if out, err := p.shell(text, database); err != nil {
		p.t.Errorf("%v\n%s", err, out)
	}
	out, err := p.shell("dmarcd export 2>/dev/null", database)
	for _, id := range []string{"of Mail", "of mbox", "of zip", "of packed mbox"} {
		if err != nil || !strings.Contains(out, `"`+id+`"`) {
			p.t.Errorf("%q is not in the database: %v %s", id, err, out)
		}
	}
}

// asks asks a dmarcd that serves.
func (p *machine) asks(text string) {
	address := porttest.FreeAddress(p.t)
	r := p.serving("exec dmarcd serve", address, "DMARCD_DATABASE_URL="+pgtest.URL(p.t), "DMARCD_LISTEN="+address)
	p.post(r.base+"/api/v1/reports", aReport("first"), http.StatusCreated)
	for line := range strings.SplitSeq(text, "\n") {
		want := `"items"`
		if strings.Contains(line, "--data-binary") {
			want = `"added":1`
		} else if strings.Contains(line, "/summary?") {
			want = `"interval":"week"`
		}
		out, err := p.shell(strings.ReplaceAll(line, "127.0.0.1:8080", address))
		if err != nil || !strings.Contains(out, want) {
			p.t.Errorf("%s: %v, no %s in\n%s", line, err, want, out)
		}
	}
}

func (p *machine) servesFromEnvironment(text string) {
	address := porttest.FreeAddress(p.t)
	r := p.serving(p.here(text), address, "DMARCD_LISTEN="+address, "DMARCD_DATABASE_URL="+pgtest.URL(p.t))
	r.await("the mail is in", func() bool { return r.messages() == 2 })
}

// servesOthers makes a token, serves on all addresses and asks with the token, line by line.
func (p *machine) servesOthers(text string) {
	address, database := porttest.FreeAddress(p.t), "DMARCD_DATABASE_URL="+pgtest.URL(p.t)
	_, port, _ := strings.Cut(address, ":")
	lines := strings.Split(text, "\n")
	if len(lines) != 3 {
		p.t.Fatalf("%d lines", len(lines))
	}
	token, err := p.shell(lines[0]+" 2>/dev/null", database)
	if err != nil {
		p.t.Fatalf("%v %s", err, token)
	}
	p.serving(strings.Replace(lines[1], "0.0.0.0:8080", "0.0.0.0:"+port, 1), address, database)
	ask := strings.NewReplacer("dmarc.example.com:8080", address, "dmarcd_…", strings.TrimSpace(token)).Replace(lines[2])
	if out, err := p.shell(ask); err != nil || !strings.Contains(out, `"items"`) {
		p.t.Errorf("%v %s", err, out)
	}
	if out, err := p.shell("curl http://" + address + "/api/v1/domains"); err == nil {
		p.t.Errorf("without a token: %s", out)
	}
}
