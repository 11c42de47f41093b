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
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// examples returns what stands in a document as code: fenced, or indented after an
// empty line.
func examples(t *testing.T, file string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var block []string
	fenced, before, indent := false, "", ""
	end := func() {
		if len(block) > 0 {
			all = append(all, strings.Join(block, "\n"))
		}
		block = nil
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(strings.TrimLeft(line, " "), "```"):
			end()
			fenced, indent = !fenced, line[:strings.Index(line, "`")]
		case fenced:
			block = append(block, strings.TrimPrefix(line, indent))
		case strings.HasPrefix(line, "    ") && (before == "" || len(block) > 0):
			if len(block) == 0 {
				indent = line[:len(line)-len(strings.TrimLeft(line, " "))]
			}
			block = append(block, strings.TrimPrefix(line, indent))
		default:
			end()
		}
		before = line
	}
	end()
	return all
}

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
	tlsMail := func(p *machine, _ *running) {
		c, err := gosmtp.DialStartTLS(p.smtp, &tls.Config{InsecureSkipVerify: true}) // whose certificate it is does not matter here
		if err != nil {
			p.t.Fatal(err)
		}
		defer c.Close()
		if err := c.SendMail("a@r.example", []string{"any@reports.example.com"}, bytes.NewReader(aMail("by SMTP"))); err != nil {
			p.t.Error(err)
		}
	}
	lmtpMail := func(p *machine, _ *running) {
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
	// Settings, by a line that only they hold: what is done once dmarcd serves, and
	// what the ledger has then.
	settings := map[string]struct {
		bring func(p *machine, r *running)
		want  []string
	}{
		`name = "archive"`:                 {nil, []string{"dmarc@127.0.0.1/INBOX ok", "archive ok"}},
		`oauth = "microsoft"`:              {nil, []string{"dmarc@contoso.com@127.0.0.1/INBOX ok"}},
		`oauth = "google"`:                 {nil, []string{"dmarc@example.com@127.0.0.1/INBOX ok"}},
		`oauth = "refresh_token"`:          {nil, []string{"dmarc.example@gmail.com@127.0.0.1/INBOX ok"}},
		`hostname = "reports.example.com"`: {tlsMail, []string{"smtp ok"}},
		`protocol = "lmtp"`:                {lmtpMail, []string{"smtp ok"}},
		`domains = ["example.com"]`:        {func(p *machine, _ *running) { p.curlTLS() }, []string{"tlsrpt ok"}},
		`proxies = ["127.0.0.1"]`: {func(p *machine, r *running) {
			p.post(r.base+"/tlsrpt", aTLSReport("2", "example.com"), http.StatusCreated)
		}, []string{"tlsrpt ok"}},
		`path = "/var/spool/dmarcd"`:   {func(p *machine, _ *running) { p.put("var/spool/dmarcd/a.xml", aReport("in a folder")) }, []string{"directory ok"}},
		`trusted = ["mx.example.com"]`: {func(p *machine, r *running) { p.post(r.base+"/api/v1/reports", aReport("t"), http.StatusCreated) }, []string{"upload ok"}},
		"[transport]\nrequire = true":  {func(p *machine, r *running) { p.post(r.base+"/api/v1/reports", aReport("r"), http.StatusCreated) }, []string{"upload ok"}},
	}
	var report bytes.Buffer
	report.WriteString(packed(t, aTLSReport("1", "example.com")))
	p.put("report.json.gz", report.String())
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
	// What is not run, and why.
	notRun := map[string]string{
		"apt-get update && apt-get install --no-install-recommends --yes ca-certificates git make\nexport PATH=$PATH:/usr/local/go/bin\ngit clone https://github.com/dmarcd/dmarcd && cd dmarcd": "deploy/new-machine.sh runs it on a machine with nothing installed",
		"make demo":             "TestTheDemoFillsTheDashboard runs dmarcd demo",
		"make test":             "this is part of it",
		"go build ./cmd/dmarcd": "build runs it, with -o",
		"dmarc@example.com    lmtp:unix:/run/dmarcd/lmtp.sock":                             "of Postfix",
		`_smtp._tls.example.com. TXT "v=TLSRPTv1; rua=https://reports.example.com/tlsrpt"`: "of a zone",
		"curl -i --data-binary @report.json.gz https://reports.example.com/tlsrpt":         "run with the settings before it",
		"dmarcd token create --name grafana --role read --domain example.com\nDMARCD_LISTEN=0.0.0.0:8080 DMARCD_ACCESS_TOKENS=true dmarcd serve\ncurl -H 'Authorization: Bearer dmarcd_…' http://dmarc.example.com:8080/api/v1/domains": "run below, line by line",
		"export DMARCD_IMAP_URL=imaps://dmarc@mail.example.com/INBOX\nexport DMARCD_IMAP_PASSWORD_FILE=/etc/dmarcd/password\n./dmarcd serve":                                                                                            "run below",
	}
	for _, file := range []string{"../../docs/intake.md", "../../README.md"} {
	example:
		for _, text := range examples(t, file) {
			if notRun[text] != "" {
				continue
			}
			for line, c := range settings {
				if !strings.Contains(text, line) {
					continue
				}
				name, _, _ := strings.Cut(line, "\n")
				t.Run(name, func(t *testing.T) {
					p := p.in(t)
					address := porttest.FreeAddress(t)
					p.tokens.username(regexp.MustCompile(`imaps://([^@"]+)@`).FindStringSubmatch(text))
					p.put("settings.toml", p.here(text))
					r := p.serving("exec dmarcd serve", address, "DMARCD_CONFIG="+filepath.Join(p.dir, "settings.toml"), "DMARCD_LISTEN="+address, "DMARCD_DATABASE_URL="+pgtest.URL(t), "DMARCD_DIRECTORY_POLL=1s", "DMARCD_DIRECTORY_SETTLE=0s")
					if c.bring != nil {
						c.bring(p, r)
					}
					for _, want := range c.want {
						r.await(want+" is in the ledger", func() bool { return r.ledger()[want] > 0 })
					}
					r.stop(syscall.SIGTERM)
				})
				continue example
			}
			t.Run(strings.SplitN(text, "\n", 2)[0], func(t *testing.T) { p.in(t).command(text) })
		}
	}
	t.Run("serve from the environment", func(t *testing.T) {
		p := p.in(t)
		address := porttest.FreeAddress(t)
		r := p.serving(p.here("export DMARCD_IMAP_URL=imaps://dmarc@mail.example.com/INBOX\nexport DMARCD_IMAP_PASSWORD_FILE=/etc/dmarcd/password\n./dmarcd serve"), address,
			"DMARCD_LISTEN="+address, "DMARCD_DATABASE_URL="+pgtest.URL(t))
		r.await("the mail is in", func() bool { return r.messages() == 2 })
	})
	t.Run("serve for others", func(t *testing.T) {
		p := p.in(t)
		address, database := porttest.FreeAddress(t), "DMARCD_DATABASE_URL="+pgtest.URL(t)
		_, port, _ := strings.Cut(address, ":")
		out, err := p.shell("dmarcd token create --name grafana --role read --domain example.com 2>/dev/null", database)
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		p.serving("DMARCD_LISTEN=0.0.0.0:"+port+" DMARCD_ACCESS_TOKENS=true dmarcd serve", address, database)
		if out, err := p.shell("curl -sSf -H 'Authorization: Bearer "+strings.TrimSpace(out)+"' http://"+address+"/api/v1/domains", database); err != nil || !strings.Contains(out, `"items"`) {
			t.Errorf("%v %s", err, out)
		}
		if out, err := p.shell("curl -sSf http://"+address+"/api/v1/domains", database); err == nil {
			t.Errorf("without a token: %s", out)
		}
	})
}

// curlTLS posts a report as the documentation says.
func (p *machine) curlTLS() {
	out, err := p.shell(p.here("curl -i --data-binary @report.json.gz https://reports.example.com/tlsrpt"))
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

// command runs an example of commands, against a dmarcd that serves.
func (p *machine) command(text string) {
	t := p.t
	address, database := porttest.FreeAddress(t), "DMARCD_DATABASE_URL="+pgtest.URL(t)
	want := map[string]string{"./dmarcd parse": "of Mail", "./dmarcd check": "dmarc.p_none", "dmarcd import": "", "curl": `"items"`}
	known := false
	for begin, part := range want {
		if !strings.HasPrefix(text, begin) {
			continue
		}
		known = true
		if begin == "curl" {
			r := p.serving("exec dmarcd serve", address, database, "DMARCD_LISTEN="+address)
			p.post(r.base+"/api/v1/reports", aReport("first"), http.StatusCreated)
		}
		resolver := "DMARCD_RESOLVER=" + resolving(t, rootZone+`
example.com. SOA ns.example.com. hostmaster.example.com. 1 7200 3600 1209600 3600
example.com. MX 10 mx.example.com.
_dmarc.example.com. TXT "v=DMARC1; p=none"
`)
		out, err := p.shell(strings.ReplaceAll(text, "127.0.0.1:8080", address), database, resolver)
		var exit *exec.ExitError
		if begin == "./dmarcd check" && errors.As(err, &exit) && exit.ExitCode() == exitFailed { // it finds mistakes, and says so
			err = nil
		}
		if err != nil || !strings.Contains(out, part) {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if !known {
		t.Errorf("nobody runs this example: add it, or name it with the reason:\n%s", text)
	}
	if strings.Contains(text, "dmarcd import") {
		out, err := p.shell("dmarcd import --format json Mail archive.mbox", database)
		if err != nil || !strings.Contains(out, `"added":0`) {
			t.Errorf("what was imported is not there: %v %s", err, out)
		}
	}
}
