package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/jackc/pgx/v5"
	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/notify"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/records"
)

var (
	isRequest  = regexp.MustCompile(`\A(GET|PUT|POST|DELETE) +/api/`)
	asRequest  = regexp.MustCompile(`^(GET|PUT|POST|DELETE) +(/api/\S+) *(.*)$`)
	isRecord   = regexp.MustCompile(`\A\S+\s+(IN )?(TXT|MX|NS) `)
	isVariable = regexp.MustCompile(`\A([A-Z][A-Z_]+=\S+\n?)+\z`)
	isMeasure  = regexp.MustCompile(`\A([A-Z_]+=\S+ )*(make |go test )`)
	isSetting  = regexp.MustCompile(`(?m)^\[\[?[a-z]+\]\]?$|^[a-z_]+ = `)
	isCommand  = regexp.MustCompile(`\A(dmarcd|bin/dmarcd|curl|install|kubectl exec|DMARCD_\w+=\S+ dmarcd) `)
	isSQL      = regexp.MustCompile(`\A(CREATE|SELECT) `)
	isPython   = regexp.MustCompile(`\A(import|def) `)
	isBody     = regexp.MustCompile(`\A\{`)
)

// kinds are those of examples, by what tells them. Each has all of an example run, or fails.
var kinds = []struct {
	is  *regexp.Regexp
	run func(s *desk, t *testing.T, text string)
}{
	{isRequest, (*desk).request},
	{isRecord, func(_ *desk, t *testing.T, text string) { publish(t, text) }},
	{isMeasure, func(_ *desk, t *testing.T, text string) { measured(t, text) }},
	{isVariable, (*desk).variables},
	{isSQL, (*desk).sql},
	{isPython, (*desk).python},
	{isBody, (*desk).webhook},
	{isSetting, (*desk).settings},
	{isCommand, (*desk).command},
}

// kindOf is how an example is run; nil if nobody knows.
func kindOf(x example) func(s *desk, t *testing.T, text string) {
	for _, kind := range kinds {
		if kind.is.MatchString(x.text) {
			return kind.run
		}
	}
	return nil
}

// Every example of the pages that have no test of their own is run as it stands, but for addresses and paths: settings are
// read, records published and looked up, questions asked, commands run.
func TestEveryExampleOfTheDocumentationIsRun(t *testing.T) {
	t.Parallel()
	s := newDesk(t)
	ran := 0
	for _, page := range slices.Sorted(maps.Keys(documents(t))) {
		if testOfPage(page).pages != nil {
			continue
		}
		for _, x := range examples(t, page) {
			run := kindOf(x)
			if run == nil {
				x.forgotten(t)
				continue
			}
			ran++
			t.Run(x.String()+" "+x.first(), func(t *testing.T) { run(s, t, x.text) })
		}
	}
	if ran < 40 {
		t.Errorf("only %d examples were run", ran)
	}
}

// A desk is where examples are tried: a machine with dmarcd, and a world around it.
type desk struct {
	*machine
	vars   []string // of dmarcd
	base   string   // of one that serves
	secret string   // of a token that may do everything
	super  string   // a PostgreSQL of its own
	hooks  chan delivery
	hook   *delivery // that notify test sent
	ran    []string  // of SQL
}

// A delivery is a webhook that came.
type delivery struct {
	header http.Header
	body   []byte
}

// ofKubernetes stands in for a cluster: what would be run in a pod is run here.
const ofKubernetes = `#!/bin/sh
[ "$1 $2 $3" = "exec deploy/dmarcd --" ] || exit 2
shift 3
exec "$@"
`

func newDesk(t *testing.T) *desk {
	t.Helper()
	for _, program := range []string{"curl", "python3"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("DMARCD_TEST_REQUIRE") != "" {
				t.Fatalf("%s is not installed: apt-get install %[1]s", program)
			}
			t.Skipf("SKIPPED: %s, which examples use, is not installed", program)
		}
	}
	s := &desk{machine: newMachine(t), hooks: make(chan delivery, 10), super: pgtest.Own(t).URL}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mails := smtp.NewServer(&mailServer{})
	go mails.Serve(l)
	t.Cleanup(func() { mails.Close() })
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.hooks <- delivery{r.Header, body}
	}))
	t.Cleanup(receiver.Close)
	for name, text := range map[string]string{
		"oidc_secret": "hush\n", "mail_password": "hush\n", "chat_url": "discord://token@1234\n", "kafka_password": "hush\n", "imap_password": dovecottest.Password,
		"dmarcd.toml": "[digest]\nevery = \"weekly\"\nto = [\"postmaster@example.com\"]\n[mail]\nserver = \"smtp://" + l.Addr().String() + "\"\nfrom = \"dmarcd@example.com\"\n" +
			"[[target]]\nname = \"hook\"\nurl = \"" + receiver.URL + "\"\nsecret = \"key\"\nprivate = true\n",
	} {
		s.put("etc/dmarcd/"+name, text)
	}
	certs := filepath.Join(s.dir, "etc/dmarcd")
	writeCertificate(t, filepath.Join(certs, "cert.pem"), filepath.Join(certs, "key.pem"))
	writeCertificate(t, filepath.Join(certs, "kafka_ca.pem"), filepath.Join(certs, "kafka_key.pem"))
	for _, dir := range []string{"usr/local/bin", "usr/local/share", "var/lib/dmarcd", "Maildir/.Archive.Aggregate/cur"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.put("Maildir/.Archive.Aggregate/cur/1", string(aMail("of a Maildir")))
	s.put("var/spool/dmarc-reports/1.xml", aReport("of a folder"))
	history, err := os.ReadFile("../../parse/testdata/parsedmarc/aggregate-9.json")
	if err != nil {
		t.Fatal(err)
	}
	s.put("var/lib/parsedmarc/aggregate.json", string(history))
	s.put("aggregate.json", string(history))
	failingCurl(t, s.machine)
	if err := os.WriteFile(filepath.Join(s.dir, "kubectl"), []byte(ofKubernetes), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(s.binary, filepath.Join(s.dir, "bin/dmarcd")); err != nil {
		t.Fatal(err)
	}
	address := porttest.FreeAddress(t)
	s.vars = []string{
		"DMARCD_CONFIG=" + filepath.Join(s.dir, "etc/dmarcd/dmarcd.toml"), "DMARCD_DATABASE_URL=" + pgtest.URL(t), "DMARCD_LISTEN=" + address,
		"DMARCD_RESOLVER=" + resolving(t, rootZone), "DMARCD_ACCESS_TOKENS=true", "DMARCD_IMAP_URL=imaps://" + "dmarc@" + s.imap.TLSAddress + "/INBOX", "DMARCD_IMAP_PASSWORD=" + dovecottest.Password,
	}
	s.base = s.serving("exec dmarcd serve", address, s.vars...).base
	out := s.run(t, "dmarcd token create --name desk --role read --role admin --role upload --expires never 2>/dev/null")
	s.secret = strings.TrimSpace(out)
	s.ask(t, http.MethodPost, "/api/v1/reports", aReport("of the desk"))
	return s
}

// run runs commands, which must succeed, and returns what they print.
func (s *desk) run(t *testing.T, text string) string {
	t.Helper()
	out, err := s.in(t).shell(text, s.vars...)
	if err != nil {
		t.Errorf("%s: %v\n%s", text, err, out)
	}
	return out
}

// ask asks the API, which must do as it is told.
func (s *desk) ask(t *testing.T, method, path, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.secret)
	if strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		t.Errorf("%s %s %s: %s\n%s", method, path, body, resp.Status, answer)
	}
}

// elsewhere puts the paths of an example below the folder of the machine.
func (s *desk) elsewhere(text string) string {
	for _, root := range []string{"etc", "usr/local", "var/lib", "var/spool"} {
		text = regexp.MustCompile(`(^|[\s"=])/`+root+"/").ReplaceAllString(text, "${1}"+s.dir+"/"+root+"/")
	}
	return text
}

func (s *desk) request(t *testing.T, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		m := asRequest.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("no request: %s", line)
			continue
		}
		s.ask(t, m[1], strings.ReplaceAll(m[2], "DOMAIN", "example.com"), m[3])
	}
}

// publish publishes records, in place of those of a domain that has no errors, and has dmarcd look: they are all found, and
// there is no error either.
func publish(t *testing.T, text string) {
	t.Helper()
	text = strings.NewReplacer("‹rua›", "mailto:dmarc@example.com", "‹target›", "ns1.example.com").Replace(text)
	text = regexp.MustCompile("‹[a-z]+›").ReplaceAllString(text, "example.com")
	reports := "example.com"
	if m := regexp.MustCompile(`\._report\._dmarc\.(\S+)\. `).FindStringSubmatch(text); m != nil { // of whoever has agreed
		reports = m[1]
	}
	zone := map[string][]string{} // by name and type
	published := map[string]bool{}
	read := func(line string) (string, dns.RR) {
		rr, err := dns.NewRR(line)
		if err != nil || rr == nil {
			t.Fatalf("%s: %v", line, err)
		}
		return rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype], rr
	}
	for line := range strings.SplitSeq(rootZone+`example.com. SOA ns1.example.com. hostmaster.example.com. 1 7200 3600 1209600 3600
example.com. NS ns1.example.com.
example.com. NS ns2.example.com.
ns1.example.com. A 9.9.9.9
ns2.example.com. A 8.8.8.8
example.com. A 9.9.9.9
example.com. MX 10 mail.example.com.
example.com. TXT "v=spf1 mx -all"
mail.example.com. A 9.9.9.9
9.9.9.9.in-addr.arpa. PTR mail.example.com.
_dmarc.example.com. TXT "v=DMARC1; p=none; rua=mailto:dmarc@`+reports+`"
_smtp._tls.example.com. TXT "v=TLSRPTv1; rua=mailto:dmarc@example.com"
reports.example.net. MX 10 mail.example.com.`, "\n") {
		key, _ := read(line)
		zone[key] = append(zone[key], line)
	}
	type set struct{ name, kind, value string }
	var want []set
	for line := range strings.SplitSeq(text, "\n") {
		key, rr := read(line)
		if !published[key] {
			published[key], zone[key] = true, nil
		}
		zone[key] = append(zone[key], line)
		name, kind, _ := strings.Cut(key, " ")
		want = append(want, set{strings.TrimSuffix(name, "."), kind, strings.TrimPrefix(rr.String(), rr.Header().String())})
	}
	var all strings.Builder
	for _, lines := range zone {
		all.WriteString(strings.Join(lines, "\n") + "\n")
	}
	got := world{}.run(t, "check", "--resolver", resolving(t, all.String()), "--resolver-only", "--format", "json", "example.com")
	var found records.Result
	if err := json.Unmarshal([]byte(got.stdout), &found); err != nil {
		t.Errorf("%v: %+v", err, got)
	}
	wrong := slices.DeleteFunc(found.Findings, func(f records.ResultFinding) bool { return f.Severity != "error" })
	if len(wrong) > 0 || got.status != exitDone {
		t.Errorf("%s\nstatus %d, %s %+v", text, got.status, got.stderr, wrong)
	}
	for _, w := range want {
		if !slices.ContainsFunc(found.Records.Sets, func(s records.ResultSet) bool {
			return s.Name == w.name && s.Type == w.kind && slices.Contains(s.Values, w.value)
		}) {
			t.Errorf("nobody looks for %s, or it is not found", w)
		}
	}
}

func (s *desk) variables(t *testing.T, text string) {
	if _, err := load(t, "", strings.Split(s.elsewhere(text), "\n")...); err != nil {
		t.Error(err)
	}
}

// settings reads settings, beside those of other tables that the page says belong to them.
func (s *desk) settings(t *testing.T, text string) {
	for part, table := range map[string]string{
		`listen = ":443"`: "[access]\ntokens = true\n", "[digest]": aMailServer, "mailto:": aMailServer,
	} {
		head, _, _ := strings.Cut(table, "\n")
		if strings.Contains(text, part) && !strings.Contains(text, head) {
			text += "\n" + table
		}
	}
	if got := mistakes(t, s.elsewhere(text)); got != "" {
		t.Errorf("%s\n%s", text, got)
	}
}

const aMailServer = "[mail]\nserver = \"smtp+starttls://mail.example.com\"\nfrom = \"dmarcd@example.com\"\n"

func (s *desk) command(t *testing.T, text string) {
	text = s.elsewhere(text)
	text = strings.Replace(text, "https://dmarc.example.com", s.base, 1)
	text = strings.Replace(text, "dmarcd_…", s.secret, 1)
	if strings.Contains(text, "-g dmarcd /dev/stdin") {
		text = strings.Replace("echo secret | "+text, "-g dmarcd", "-g "+fmt.Sprint(os.Getgid()), 1)
	}
	switch {
	case strings.Contains(text, " --follow"): // it goes on until it is stopped
		file := regexp.MustCompile(`--to (\S+)`).FindStringSubmatch(text)[1]
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "exec "+text)
		cmd.Dir, cmd.Env = s.dir, s.machine.vars(s.vars...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			if text, _ := os.ReadFile(file); bytes.HasSuffix(text, []byte("\n")) {
				break
			}
			if time.Now().After(deadline) {
				t.Error("nothing is written")
				break
			}
		}
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		return
	case strings.Contains(text, "notify test"):
		s.hook = nil
		s.tested(t, text)
		return
	}
	out := s.run(t, text)
	for begin, want := range map[string]string{
		"dmarcd token create": "dmarcd_", "dmarcd parse": "parsedmarc", "dmarcd import": "", "dmarcd doctor": "mailbox", "curl": `"example.com"`, "dmarcd export": "", "install": "",
		"kubectl exec": "dmarcd_", "dmarcd notify digest": "DMARC: the week", "DMARCD_PARSEDMARC_ZONE=": "",
	} {
		if strings.HasPrefix(text, begin) && !strings.Contains(out, want) {
			t.Errorf("%s: no %q in\n%s", text, want, out)
		}
	}
	for _, written := range regexp.MustCompile(`(?m)> ?(\S+)$`).FindAllStringSubmatch(text, -1) {
		if info, err := os.Stat(filepath.Join(s.dir, strings.TrimPrefix(written[1], s.dir))); err != nil || info.Size() == 0 {
			t.Errorf("%s: nothing is in %s: %v", text, written[1], err)
		}
	}
}

// sql runs statements, after those that stand before them: the page on security makes the role and database of dmarcd, and
// others make roles in it.
func (s *desk) sql(t *testing.T, text string) {
	for _, page := range slices.Sorted(maps.Keys(documents(t))) {
		for _, x := range examples(t, page) {
			if isSQL.MatchString(x.text) && !slices.Contains(s.ran, text) && !slices.Contains(s.ran, x.text) {
				s.statements(t, x.text)
				s.ran = append(s.ran, x.text)
			}
		}
	}
}

// statements runs statements on a PostgreSQL of the desk, as its superuser, or as a role that may only read. dmarcd then finds
// that the role and database that were made for it are all it needs.
func (s *desk) statements(t *testing.T, text string) {
	made := func(database string) string {
		u, err := url.Parse(s.super)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set("user", "dmarcd")
		if database == "" {
			q.Set("user", "postgres")
		}
		u.RawQuery, u.Path = q.Encode(), "/dmarcd"
		return u.String()
	}
	migrate := func() {
		out, err := s.in(t).shell("dmarcd migrate && dmarcd verify", "DMARCD_CONFIG=/dev/null", "DMARCD_DATABASE_URL="+made("dmarcd"))
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	at := s.super
	if !strings.Contains(text, "CREATE DATABASE") {
		migrate()
		at = made("")
	}
	conn, err := pgx.Connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if strings.HasPrefix(text, "SELECT ") { // as the role that the page has made for it
		text = "SET ROLE grafana; " + text
	}
	for statement := range strings.SplitSeq(strings.ReplaceAll(text, "'…'", "'secret'"), ";") {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	migrate()
}

// webhook holds a body that is shown against one that came.
func (s *desk) webhook(t *testing.T, text string) {
	var shown notify.Message
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&shown); err != nil || shown.Kind != "events" || len(shown.Events) != 1 || shown.Count != 1 {
		t.Errorf("%+v, %v", shown, err)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatal(err)
	}
	var came map[string]any
	if err := json.Unmarshal(s.tested(t, "dmarcd notify test").body, &came); err != nil || came["kind"] != "test" {
		t.Errorf("%v, %v", came, err)
	}
	for name := range came {
		if _, ok := fields[name]; !ok {
			t.Errorf("a webhook has the field %s", name)
		}
	}
	all, err := json.Marshal(shown.Events[0])
	if err != nil {
		t.Fatal(err)
	}
	var of map[string]any
	if err := json.Unmarshal(all, &of); err != nil {
		t.Fatal(err)
	}
	events, _ := fields["events"].([]any)
	for name := range of {
		if event, _ := events[0].(map[string]any); event[name] == nil {
			t.Errorf("an event has the field %s", name)
		}
	}
}

// tested has dmarcd send a test of its targets, unless it did already, and returns the webhook that came.
func (s *desk) tested(t *testing.T, text string) *delivery {
	t.Helper()
	if s.hook != nil {
		return s.hook
	}
	s.run(t, text)
	select {
	case h := <-s.hooks:
		s.hook = &h
	case <-time.After(patience):
		t.Fatal("no webhook comes")
	}
	return s.hook
}

// python has the code that checks signatures look at a webhook that came, and at others.
func (s *desk) python(t *testing.T, text string) {
	h := s.tested(t, "dmarcd notify test")
	headers, err := json.Marshal(map[string]string{"Dmarcd-Timestamp": h.header.Get("Dmarcd-Timestamp"), "Dmarcd-Signature": h.header.Get("Dmarcd-Signature")})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", text+fmt.Sprintf("\n\nimport sys\nbody = sys.stdin.buffer.read()\nheaders = %s\n", headers)+
		"print(genuine(b'key', headers, body), genuine(b'kay', headers, body), genuine(b'key', headers, body + b' '), genuine(b'key', {**headers, 'Dmarcd-Timestamp': '1'}, body))")
	cmd.Stdin = bytes.NewReader(h.body)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "True False False False\n" {
		t.Errorf("%v\n%s", err, out)
	}
}
