package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/records/knottest"
)

// resolving runs a resolver that knows some records, until the test ends.
// Names that it has no record of do not exist; those in failing give SERVFAIL.
func resolving(t *testing.T, zone string, failing ...string) string {
	t.Helper()
	known := map[string][]dns.RR{}
	parser := dns.NewZoneParser(strings.NewReader("$TTL 3600\n"+zone), ".", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		known[rr.Header().Name] = append(known[rr.Header().Name], rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.AuthenticatedData = true
		name := strings.ToLower(q.Question[0].Name)
		switch rrs, exists := known[name]; {
		case slices.Contains(failing, name):
			m.Rcode = dns.RcodeServerFailure
		case !exists:
			m.Rcode = dns.RcodeNameError
		default:
			for _, rr := range rrs {
				if rr.Header().Rrtype == q.Question[0].Qtype {
					m.Answer = append(m.Answer, rr)
				}
			}
		}
		w.WriteMsg(m)
	})}
	go server.ActivateAndServe()
	<-started
	t.Cleanup(func() { server.Shutdown() })
	return conn.LocalAddr().String()
}

const checkZone = `
. SOA a. b. 1 7200 3600 1209600 3600
good.test. SOA ns.good.test. hostmaster.good.test. 1 7200 3600 1209600 3600
good.test. MX 10 mx.good.test.
mx.good.test. A 9.9.9.9
_dmarc.good.test. TXT "v=DMARC1; p=reject; rua=mailto:d@good.test"
weak.test. SOA ns.weak.test. hostmaster.weak.test. 1 7200 3600 1209600 3600
weak.test. TXT "v=spf1 a include:_spf.weak.test ~all"
weak.test. A 9.9.9.9
_spf.weak.test. TXT "v=spf1 ip4:9.9.9.0/24 -all"
_dmarc.weak.test. TXT "v=DMARC1; p=none; rua=mailto:\027[2Jd@weak.test"
bare.test. SOA ns.bare.test. hostmaster.bare.test. 1 7200 3600 1209600 3600
shaky.test. SOA ns.shaky.test. hostmaster.shaky.test. 1 7200 3600 1209600 3600
`

func (r result) section(t *testing.T, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(r.stdout, "\n  "+heading+"\n")
	if !ok {
		t.Fatalf("no section %s in\n%s", heading, r.stdout)
	}
	section, _, _ := strings.Cut(rest, "\n\n")
	return section
}

func TestCheckSaysWhatIsWrongAndWhatToPublish(t *testing.T) {
	w := world{vars: []string{"DMARCD_RESOLVER=" + resolving(t, checkZone)}}
	got := w.run(t, "check", "bare.test")
	if got.status != exitFailed || got.stderr != "" {
		t.Errorf("status %d, stderr %q", got.status, got.stderr)
	}
	want := `    error    dmarc.missing
      bare.test has no DMARC record, and no domain above it has one.
      Anyone can send mail as bare.test, and you never hear of it.
      Begin with a record that only asks for reports; it changes nothing about your mail.
        _dmarc.bare.test. IN TXT "v=DMARC1; p=none; rua=mailto:dmarc-reports@bare.test"`
	if section := strings.TrimRight(got.section(t, "DMARC"), "\n"); section != want {
		t.Errorf("got\n%s\nwant\n%s", section, want)
	}
}

func TestCheckShowsTheTreeOfSPF(t *testing.T) {
	resolver := resolving(t, checkZone)
	text := world{}.run(t, "check", "--resolver", resolver, "weak.test").section(t, "SPF")
	if tree, _, _ := strings.Cut(text, "\n    note"); !strings.Contains(tree, "    weak.test  v=spf1 a include:_spf.weak.test ~all  2/10, 0 void\n") || !strings.Contains(tree, "2 include:_spf.weak.test") {
		t.Errorf("it says\n%s", text)
	}
	var d records.Result
	got := world{}.run(t, "check", "--resolver", resolver, "--format", "json", "weak.test")
	if err := json.Unmarshal([]byte(got.stdout), &d); err != nil {
		t.Fatal(err)
	}
	if spf := d.Records.SPF; spf == nil || *spf.Record != "v=spf1 a include:_spf.weak.test ~all" || spf.Lookups != 2 || spf.VoidLookups != 0 || len(spf.Tree) != 5 {
		t.Errorf("%+v", spf)
	}
}

func TestCheckIsQuietAboutWhatIsWell(t *testing.T) {
	resolver := resolving(t, checkZone)
	quiet := world{}.run(t, "check", "--resolver", resolver, "good.test")
	if strings.Contains(quiet.stdout, "dmarc.ok") || !strings.Contains(quiet.stdout, "policy reject, from the p of good.test") {
		t.Errorf("it says\n%s", quiet.stdout)
	}
	if all := (world{}).run(t, "check", "--resolver", resolver, "--all", "good.test"); !strings.Contains(all.stdout, "dmarc.ok") {
		t.Errorf("with --all it says\n%s", all.stdout)
	}
}

func TestCheckPrintsDownToALevel(t *testing.T) {
	resolver := resolving(t, checkZone)
	for level, want := range map[string]string{"info": "warning dmarc.p_none note spf.softfail", "warning": "warning dmarc.p_none", "error": ""} {
		got := world{}.run(t, "check", "--resolver", resolver, "--level", level, "weak.test")
		for _, words := range []string{"warning dmarc.p_none", "note spf.softfail"} {
			severity, id, _ := strings.Cut(words, " ")
			if shown := regexp.MustCompile(severity + " +" + id).MatchString(got.stdout); shown != strings.Contains(want, words) {
				t.Errorf("level %s: %s shown %v\n%s", level, words, shown, got.stdout)
			}
		}
		if !strings.HasPrefix(got.stdout, "weak.test  ") || !strings.Contains(got.stdout, "unknown  dkim.no_selector") {
			t.Errorf("level %s:\n%s", level, got.stdout)
		}
	}
}

func TestCheckShowsNothingOfAStrangersEscapes(t *testing.T) {
	resolver := resolving(t, checkZone)
	for _, format := range []string{"text", "json"} {
		got := world{}.run(t, "check", "--resolver", resolver, "--format", format, "weak.test")
		if strings.Contains(got.stdout, "\x1b") || !strings.Contains(got.stdout, "2Jd@weak.test") {
			t.Errorf("%s: %q", format, got.stdout)
		}
	}
}

func TestCheckPrintsJSON(t *testing.T) {
	resolver := resolving(t, checkZone, "_dmarc.shaky.test.")
	got := world{}.run(t, "check", "--resolver", resolver, "--format", "json", "good.test", "shaky.test", "no such name")
	if got.status != exitFailed { // for the last
		t.Errorf("status %d: %s", got.status, got.stderr)
	}
	var domains []records.Result
	for line := range strings.Lines(got.stdout) {
		var d records.Result
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		domains = append(domains, d)
	}
	if len(domains) != 3 {
		t.Fatalf("%d lines: %s", len(domains), got.stdout)
	}
	good, shaky, none := domains[0], domains[1], domains[2]
	if d := good.Records.DMARC; d == nil || *d.FoundAt != "good.test" || *d.EffectivePolicy != "reject" || d.OrganizationalDomain != "good.test" || !*d.Destinations[0].Authorized {
		t.Errorf("good.test: %+v", d)
	}
	i := slices.IndexFunc(good.Findings, func(f records.ResultFinding) bool { return f.ID == "dmarc.ok" })
	if i < 0 {
		t.Fatalf("good.test: %+v", good.Findings)
	}
	wantFinding := records.ResultFinding{
		ID: "dmarc.ok", Severity: "ok", Subject: "good.test", Value: "reject", Message: "good.test is protected: reject, from the record of good.test.",
		What: "good.test is protected: reject, from the record of good.test.", Why: "Mail that only claims to come from good.test is stopped, and you hear of it.",
		Reference: "RFC 9989, section 3.2.9", Values: map[string]string{"policy": "reject", "at": "good.test"},
		Facts: []records.ResultFact{{Name: "_dmarc.good.test", Type: "TXT", Answer: `"v=DMARC1; p=reject; rua=mailto:d@good.test"`}},
	}
	if got, want := fmt.Sprintf("%+v", good.Findings[i]), fmt.Sprintf("%+v", wantFinding); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if shaky.Records.DMARC != nil || !slices.Contains(shaky.LookupFailed, "_dmarc.shaky.test TXT") {
		t.Errorf("shaky.test: %+v", shaky)
	}
	for _, f := range shaky.Findings {
		if f.ID == "dmarc.missing" {
			t.Error("shaky.test: called missing, although the lookup failed")
		}
	}
	if none.Domain != "no such name" || none.Records.Name != nil || len(none.Findings) != 1 || none.Findings[0].ID != "dns.name_invalid" {
		t.Errorf("no such name: %+v", none)
	}
}

func TestCheckSaysThatThereIsNoResolver(t *testing.T) {
	got := world{}.run(t, "check", "--resolver", porttest.FreeAddress(t), "good.test")
	if got.status != exitFailed || !strings.Contains(got.stderr, "the connection was refused; name another with --resolver or DMARCD_RESOLVER") {
		t.Errorf("%+v", got)
	}
	if got := (world{}).run(t, "check", "--resolver", "192.0.2.53", "good.test"); got.status != exitUsage {
		t.Errorf("%+v", got)
	}
}

func TestCheckKeepsOrderAndFewDomainsAtATime(t *testing.T) {
	const n = 1000
	var domains []string
	for i := range n {
		domains = append(domains, fmt.Sprintf("d%d.test", i))
	}
	var at, most atomic.Int64
	var out bytes.Buffer
	c := &checker{out: bufio.NewWriter(&out), json: true, look: func(_ context.Context, domain string) (*records.Published, error) {
		for now := at.Add(1); ; {
			if was := most.Load(); now <= was || most.CompareAndSwap(was, now) {
				break
			}
		}
		defer at.Add(-1)
		return &records.Published{Domain: domain, Name: records.NameFound{Invalid: "it is made up"}}, nil
	}}
	if err := c.run(t.Context(), domains); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(&out)
	for i := range n {
		var d records.Result
		if err := dec.Decode(&d); err != nil || d.Domain != domains[i] {
			t.Fatalf("domain %d is %s, %v", i, d.Domain, err)
		}
	}
	if most.Load() > checkWorkers {
		t.Errorf("%d at a time", most.Load())
	}
}

// A thousand domains are looked up for real, and what is kept of the first
// hundreds is no more than what is kept of all: answers are remembered within a
// bound, and a domain is forgotten once it is printed.
func TestAThousandDomainsAreCheckedInFlatMemory(t *testing.T) {
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		name := q.Question[0].Name
		var data string
		switch q.Question[0].Qtype {
		case dns.TypeSOA:
			data = "SOA ns1.d.test. hostmaster.d.test. 1 7200 3600 1209600 3600"
		case dns.TypeMX:
			data = "MX 10 mx." + name
		case dns.TypeA:
			data = "A 9.9.9.9"
		case dns.TypeTXT:
			data = `TXT "v=spf1 mx ip4:9.9.9.0/24 ` + strings.Repeat("ip4:192.88.100.0/24 ", 8) + `~all"`
			if strings.HasPrefix(name, "_dmarc.") {
				data = `TXT "v=DMARC1; p=none; rua=mailto:d@` + name[7:len(name)-1] + `"`
			}
		default:
			w.WriteMsg(m)
			return
		}
		rr, err := dns.NewRR(name + " 3600 IN " + data)
		if err != nil {
			t.Error(err)
		}
		m.Answer = append(m.Answer, rr)
		w.WriteMsg(m)
	})
	client, err := records.NewClient(records.ClientOptions{Server: knottest.Serve(t, handler), Rate: 1e6, Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	domains := make([]string, 1000)
	for i := range domains {
		domains[i] = fmt.Sprintf("d%d.test", i)
	}
	var printed atomic.Int64 // octets
	out := writerFunc(func(p []byte) (int, error) { printed.Add(int64(len(p))); return len(p), nil })
	c := &checker{out: bufio.NewWriter(out), json: true, look: func(ctx context.Context, domain string) (*records.Published, error) {
		return records.Lookup(ctx, domain, records.Options{Resolver: client})
	}}
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	if err := c.run(t.Context(), domains[:250]); err != nil {
		t.Fatal(err)
	}
	before, octets := inUse(), printed.Load()
	if err := c.run(t.Context(), domains[250:]); err != nil {
		t.Fatal(err)
	}
	grown := inUse() - before
	t.Logf("%d octets in use after 250 domains, %d more after 1000; %d octets printed", before, grown, printed.Load())
	if grown > 1<<20 {
		t.Errorf("750 domains left %d octets", grown)
	}
	if printed.Load() < 3*octets {
		t.Errorf("%d octets for 250 domains, %d for 1000", octets, printed.Load())
	}
}

// A writerFunc is an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestCheckPaintsOnTerminalsOnly(t *testing.T) {
	p := &records.Published{Domain: "x y", Name: records.NameFound{Invalid: "it is made up"}}
	for _, paint := range []bool{true, false} {
		var out bytes.Buffer
		c := &checker{out: bufio.NewWriter(&out), style: style{colours: paint, width: 80}}
		if err := c.print(p); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "\x1b[31;1merror"); got != paint {
			t.Errorf("paint %v: %q", paint, out.String())
		}
	}
}
