package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/notify"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/records"
)

// Pages whose examples have a test of their own, which fails for one that it does not know.
var pagesWithTests = []string{
	"README.md", "docs/intake.md", // TestExamplesOfTheDocumentationWork
	"docs/api.md",    // TestTheExamplesOfTheAPIWork
	"docs/backup.md", // TestTheCommandsOfThePageOnBackupsWork
	"docs/zones.md",  // TestTheExamplesOfCheckingZonesWork
}

// What no test can run, by how it begins, and why.
var notRunHere = map[string]string{
	"git clone https://github.com/dmarcd/dmarcd && cd dmarcd\nmake build\nbin/": "TestANewcomersFirstChange does what follows the clone",
	`p.line("Version"`:                   "TestANewcomersFirstChange writes it",
	"go run ./cmd/dmarcd parse":          "TestANewcomersFirstChange runs it",
	"go test ./cmd/dmarcd -run Parse -u": "TestANewcomersFirstChange runs it",
	"make check\nmake test":              "this is part of it",
	"mailbox → message":                  "a picture",
	"DNS → records":                      "a picture",
	"cmd → ingest":                       "a picture; TestImportsFollowTheFlow holds it against the code",
	"systemctl edit":                     "deploy/new-machine.sh runs the unit where systemd is",
	"docker build":                       "there is no Docker; TestNothingButTheImageIsNeeded reads the Dockerfile",
	"kubectl apply":                      "there is no cluster; TestTheKubernetesManifestIsSound reads the manifest",
	"New-ServicePrincipal":               "of Exchange Online",
	"rows a day":                         "a formula",
}

// An example of the documentation, where it stands.
type snippet struct{ page, text string }

// snippets are all examples that no other test runs.
func snippets(t *testing.T) (all []snippet) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob("../../" + pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			page := strings.TrimPrefix(filepath.ToSlash(file), "../../")
			if slices.Contains(pagesWithTests, page) {
				continue
			}
			for _, text := range examples(t, file) {
				all = append(all, snippet{page, text})
			}
		}
	}
	return all
}

var (
	isRequest  = regexp.MustCompile(`(?m)^(GET|PUT|POST|DELETE) +(/api/\S+) *(.*)$`)
	isRecord   = regexp.MustCompile(`(?m)^\S+\s+(IN )?(TXT|MX|NS) `)
	isVariable = regexp.MustCompile(`\A([A-Z][A-Z_]+=\S+\n?)+\z`)
	isMeasure  = regexp.MustCompile(`(^|\n|[A-Z_]+=\S+ )(make |go test )`)
	isSetting  = regexp.MustCompile(`(?m)^\[\[?[a-z]+\]\]?$|^[a-z_]+ = `)
	isCommand  = regexp.MustCompile(`^(dmarcd|curl|install|git|DMARCD_\w+=\S+ dmarcd) `)
)

// Every example of the documentation is run as it stands, but for addresses and paths, or
// it is said here why not: settings are read, records parsed, questions asked, commands run.
func TestEveryExampleOfTheDocumentationIsRun(t *testing.T) {
	t.Parallel()
	s := newDesk(t)
	reasons := map[string]bool{}
next:
	for _, x := range snippets(t) {
		for begin := range notRunHere {
			if strings.HasPrefix(x.text, begin) {
				reasons[begin] = true
				continue next
			}
		}
		do := map[*regexp.Regexp]func(*testing.T, string){isRequest: s.request, isRecord: publish, isVariable: s.variables, isMeasure: measured, isSetting: s.settings, isCommand: s.command}
		var run func(*testing.T, string)
		for _, kind := range []*regexp.Regexp{isRequest, isRecord, isMeasure, isVariable, isSetting, isCommand} {
			if run == nil && kind.MatchString(x.text) {
				run = do[kind]
			}
		}
		switch {
		case run != nil:
		case strings.HasPrefix(x.text, "CREATE ") || strings.HasPrefix(x.text, "SELECT "):
			run = s.sql
		case strings.HasPrefix(x.text, "import ") || strings.HasPrefix(x.text, "def "):
			run = s.python
		case strings.HasPrefix(x.text, "{"):
			run = s.webhook
		default:
			t.Errorf("%s: nobody runs this example: write how, or say why not:\n%s", x.page, x.text)
			continue
		}
		first, _, _ := strings.Cut(x.text, "\n")
		t.Run(x.page+" "+first, func(t *testing.T) { run(t, x.text) })
	}
	for begin := range notRunHere {
		if !reasons[begin] {
			t.Errorf("no example begins like this any more: %q", begin)
		}
	}
	s.genuine(t)
}

// A desk is where examples are tried: a machine with dmarcd, and a world around it.
type desk struct {
	*machine
	vars     []string // of dmarcd
	base     string   // of one that serves
	secret   string   // of a token that may do everything
	super    string   // a PostgreSQL of its own
	hooks    chan delivery
	code     string // in Python, so far
	hookSays map[string]any
}

// A delivery is a webhook that came.
type delivery struct {
	header http.Header
	body   []byte
}

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
		m := isRequest.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("no request: %s", line)
			continue
		}
		s.ask(t, m[1], strings.ReplaceAll(m[2], "DOMAIN", "example.com"), m[3])
	}
}

// publish reads records as they would be published.
func publish(t *testing.T, text string) {
	text = strings.NewReplacer("‹rua›", "mailto:dmarc@example.com", "‹target›", "ns1.example.com").Replace(text)
	for line := range strings.SplitSeq(regexp.MustCompile("‹[a-z]+›").ReplaceAllString(text, "example.com"), "\n") {
		rr, err := dns.NewRR(line)
		if err != nil || rr == nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		txt, ok := rr.(*dns.TXT)
		if !ok {
			continue
		}
		value := strings.Join(txt.Txt, "")
		if strings.HasPrefix(value, "v=DMARC1") {
			if d := records.ParseDMARC(value); d == nil || d.P != dmarc.PolicyNone || len(d.RUA) != 1 {
				t.Errorf("%s: %+v", line, d)
			}
		} else if !strings.HasPrefix(value, "v=TLSRPTv1; rua=mailto:") && !strings.HasPrefix(value, "v=spf1 ") {
			t.Errorf("%s: what is it?", line)
		}
	}
}

func (s *desk) variables(t *testing.T, text string) {
	if _, err := load(t, "", strings.Split(s.elsewhere(text), "\n")...); err != nil {
		t.Error(err)
	}
}

// settings reads settings, beside those that the page says belong to them.
func (s *desk) settings(t *testing.T, text string) {
	for part, more := range map[string]string{
		"user_header": "[http]\nproxies = [\"127.0.0.1\"]\n", `listen = ":443"`: "[access]\ntokens = true\n",
		"[digest]": aMailServer, "mailto:": aMailServer,
	} {
		if strings.Contains(text, part) && !strings.Contains(text, "[mail]") {
			text += "\n" + more
		}
	}
	if got := mistakes(t, s.elsewhere(text)); got != "" {
		t.Errorf("%s\n%s", text, got)
	}
}

const aMailServer = "[mail]\nserver = \"smtp+starttls://mail.example.com\"\nfrom = \"dmarcd@example.com\"\n"

// measured finds what a command measures, which takes too long to be done here.
func measured(t *testing.T, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		if target := regexp.MustCompile(`make (.*)`).FindStringSubmatch(line); target != nil {
			cmd := exec.Command("make", append([]string{"-n"}, strings.Fields(target[1])...)...)
			cmd.Dir = "../.."
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		}
		m := regexp.MustCompile(`go test (\./\S+)(.*)`).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		files, err := filepath.Glob("../../" + m[1] + "/*_test.go")
		if err != nil || len(files) == 0 {
			t.Errorf("%s: no tests, %v", line, err)
		}
		var all bytes.Buffer
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(source)
		}
		for _, flag := range regexp.MustCompile(`-(run|bench) (\w+)`).FindAllStringSubmatch(m[2], -1) {
			kind := map[string]string{"run": "Test", "bench": "Benchmark"}[flag[1]]
			if name := regexp.MustCompile(`(?m)^func (`+kind+`\w*)\(`).FindAllStringSubmatch(all.String(), -1); !slices.ContainsFunc(name, func(m []string) bool { return strings.Contains(m[1], flag[2]) }) {
				t.Errorf("%s: no %s has a name with %s", line, kind, flag[2])
			}
		}
	}
}

func (s *desk) command(t *testing.T, text string) {
	text = s.elsewhere(text)
	text = strings.Replace(text, "git clone https://github.com/dmarcd/dmarcd && cd dmarcd\nmake build\n", "", 1) // TestANewcomersFirstChange
	text = strings.Replace(text, "https://dmarc.example.com", "-f "+s.base, 1)
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
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
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
		s.run(t, text)
		select {
		case h := <-s.hooks:
			s.hooks <- h
			if err := json.Unmarshal(h.body, &s.hookSays); err != nil || s.hookSays["kind"] != "test" {
				t.Errorf("%s, %v", h.body, err)
			}
		case <-time.After(time.Minute):
			t.Error("no webhook comes")
		}
		return
	}
	out := s.run(t, text)
	for begin, want := range map[string]string{
		"dmarcd token create": "dmarcd_", "dmarcd parse": "parsedmarc", "dmarcd import": "", "dmarcd doctor": "mailbox", "curl": `"example.com"`, "dmarcd export": "", "install": "",
		"dmarcd notify digest": "DMARC: the week", "DMARCD_PARSEDMARC_ZONE=": "",
	} {
		if strings.HasPrefix(text, begin) && !strings.Contains(out, want) {
			t.Errorf("%s: no %q in\n%s", text, want, out)
		}
	}
	for _, written := range regexp.MustCompile(`> ?(\S+)$`).FindAllStringSubmatch(text, -1) {
		if info, err := os.Stat(filepath.Join(s.dir, strings.TrimPrefix(written[1], s.dir))); err != nil || info.Size() == 0 {
			t.Errorf("%s: nothing is in %s: %v", text, written[1], err)
		}
	}
}

// sql runs statements on a PostgreSQL of the desk, as its superuser: first those that make the
// role and database of dmarcd, which then finds that they are all it needs.
func (s *desk) sql(t *testing.T, text string) {
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
	for name := range s.hookSays {
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

func (s *desk) python(_ *testing.T, text string) { s.code += text + "\n\n" }

// genuine has the code that checks signatures look at a webhook that came, and at others.
func (s *desk) genuine(t *testing.T) {
	select {
	case h := <-s.hooks:
		headers, err := json.Marshal(map[string]string{"Dmarcd-Timestamp": h.header.Get("Dmarcd-Timestamp"), "Dmarcd-Signature": h.header.Get("Dmarcd-Signature")})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "python3", "-c", s.code+fmt.Sprintf("import sys\nbody = sys.stdin.buffer.read()\nheaders = %s\n", headers)+
			"print(genuine(b'key', headers, body), genuine(b'kay', headers, body), genuine(b'key', headers, body + b' '), genuine(b'key', {**headers, 'Dmarcd-Timestamp': '1'}, body))")
		cmd.Stdin = bytes.NewReader(h.body)
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "True False False False\n" {
			t.Errorf("%v\n%s", err, out)
		}
	default:
		t.Error("no webhook came")
	}
}

// What CONTRIBUTING.md has a newcomer do for a first change works, in a copy of the source.
func TestANewcomersFirstChange(t *testing.T) {
	t.Parallel()
	racetest.Calm(t)
	text := examples(t, "../../CONTRIBUTING.md")
	at := func(begin string) string {
		t.Helper()
		i := slices.IndexFunc(text, func(x string) bool { return strings.HasPrefix(x, begin) })
		if i < 0 {
			t.Fatalf("no example begins with %q", begin)
		}
		return text[i]
	}
	dir := t.TempDir()
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum", "Makefile"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	folders, err := filepath.Glob(filepath.Join(source, "[a-z]*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if info, err := os.Stat(folder); err == nil && info.IsDir() && filepath.Base(folder) != "bin" {
			if err := os.CopyFS(filepath.Join(dir, filepath.Base(folder)), os.DirFS(folder)); err != nil {
				t.Fatal(err)
			}
		}
	}
	shell := func(text string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", text)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@a.example", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@a.example")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	run := func(text, want string) {
		t.Helper()
		if out, err := shell(text); err != nil || !strings.Contains(out, want) {
			t.Fatalf("%s: %v, no %q in\n%s", text, err, want, out)
		}
	}
	run("git init -q && git add cmd && git commit -qm before", "")
	steps := strings.Replace(at("git clone"), "git clone https://github.com/dmarcd/dmarcd && cd dmarcd\n", "", 1)
	run(strings.Replace(steps, "go test ./parse", "go vet ./parse", 1), "Aggregate report") // these tests are run anyway
	path := filepath.Join(dir, "cmd/dmarcd/text.go")
	code, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reportID := regexp.MustCompile(`(?m)^\s*p\.line\("Report ID".*\n`).FindIndex(code) // that of aggregate reports comes first
	if reportID == nil {
		t.Fatal("there is no line of the Report ID, below which it is to be")
	}
	changed := slices.Concat(code[:reportID[1]], []byte("\t"+at("p.line")+"\n"), code[reportID[1]:])
	if err := os.WriteFile(path, changed, 0o644); err != nil {
		t.Fatal(err)
	}
	look, test, _ := strings.Cut(at("go run"), "\n")
	run(look, "Version")
	if out, err := shell(test); err == nil || !strings.Contains(out, "parse.txt") {
		t.Errorf("%s: %v, and it does not tell of parse.txt\n%s", test, err, out)
	}
	run(at("go test ./cmd/dmarcd -run Parse -update"), "+  Version")
	run(test, "ok  ")
}
