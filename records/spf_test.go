package records

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

// gatheredSPF looks up the SPF of a domain, and nothing else.
func gatheredSPF(t testing.TB, r Resolver, domain string, senders ...Sender) *Published {
	t.Helper()
	g := newGatherer(domain, Options{Resolver: r, Senders: senders, Documentation: true})
	gatherSPF(t.Context(), g)
	return g.p
}

// acme is the zones of a domain with something of everything.
var acme = map[string]string{
	"acme.test": txt("@", "v=spf1 a mx include:_spf.mailer.test include:crm.test ~all") + "@ A 192.0.2.7\n@ AAAA 2001:db8::7\n@ MX 10 mx1\nmx1 A 192.0.2.8\n",
	"mailer.test": txt("_spf", "v=spf1 include:eu.mailer.test a:out.mailer.test exists:%{i}.l.mailer.test ~all") +
		txt("eu", "v=spf1 ip4:198.51.100.0/24 ~all"),
	"crm.test": txt("@", "v=spf1 include:a.crm.test ?include:b.crm.test include:c.crm.test -all") +
		txt("a", "v=spf1 ip4:203.0.113.0/26 -ip4:203.0.113.64 -all") + txt("b", "v=spf1 ip4:203.0.113.128/26 ptr -all") +
		txt("c", "v=spf1 redirect=d.crm.test") + txt("d", "v=spf1 mx/28 -all") + "d MX 10 mx.d\nmx.d A 203.0.113.200\n",
}

func TestSPFTreeTellsWhatEachTermCostsAndStandsFor(t *testing.T) {
	f := &gatheredSPF(t, newZoneResolver(t, acme), "acme.test").SPF
	want := `
acme.test  v=spf1 a mx include:_spf.mailer.test include:crm.test ~all  13/10, 1 void
  1 a                                 +1       total 1   192.0.2.7, 2001:db8::7
  2 mx                                +1       total 2   mx1.acme.test 192.0.2.8
  3 include:_spf.mailer.test          +1  =4   total 6
      3.1 include:eu.mailer.test      +1       total 4   198.51.100.0/24; ~all
      3.2 a:out.mailer.test           +1       total 5   finds nothing (NXDOMAIN)
      3.3 exists:%{i}.l.mailer.test   +1       total 6   per message
      3.4 ~all                                           all others: softfail
  4 include:crm.test                  +1  =7   total 13
      4.1 include:a.crm.test          +1       total 8   203.0.113.0/26; -ip4:203.0.113.64, -all
      4.2 ?include:b.crm.test         +1  =2   total 10
          4.2.1 ip4:203.0.113.128/26
          4.2.2 ptr                   +1       total 10  per message
          4.2.3 -all                                     all others: fail
!     4.3 include:c.crm.test          +1  =3   total 13  OVER THE LIMIT OF 10
          4.3.1 redirect=d.crm.test   +1  =2   total 13
              4.3.1.1 mx/28           +1       total 13  mx.d.crm.test 203.0.113.192/28
              4.3.1.2 -all                               all others: fail
      4.4 -all                                           all others: fail
  5 ~all                                                 all others: softfail
`
	if got := "\n" + f.Tree(); got != want {
		t.Errorf("tree:%s\nwant:%s", got, want)
	}
	if f.Lookups != 13 || f.Voids != 1 || f.Voids4 != 1 || f.Voids6 != 1 || f.Cut {
		t.Errorf("%d lookups, %d, %d and %d void, cut %v", f.Lookups, f.Voids, f.Voids4, f.Voids6, f.Cut)
	}
}

func TestSPFTreeTellsWhomItLetsPassAndWhatThatCosts(t *testing.T) {
	f := &gatheredSPF(t, newZoneResolver(t, acme), "acme.test").SPF
	var got []string
	for _, a := range f.allowed() {
		got = append(got, fmt.Sprintf("%s %s saves %d", a.Net, strings.Join(a.Path, " "), a.Saves))
	}
	want := []string{
		"192.0.2.7/32 a saves 1",
		"2001:db8::7/128 a saves 1",
		"192.0.2.8/32 mx saves 1",
		"198.51.100.0/24 include:_spf.mailer.test include:eu.mailer.test ip4:198.51.100.0/24 saves 4",
		"203.0.113.0/26 include:crm.test include:a.crm.test ip4:203.0.113.0/26 saves 7",
		"203.0.113.192/28 include:crm.test include:c.crm.test redirect=d.crm.test mx/28 saves 7",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("allowed:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A slowResolver answers after a time, as servers far away do.
type slowResolver struct {
	Resolver
	asked atomic.Int64
}

func (r *slowResolver) Lookup(ctx context.Context, name string, qtype uint16) Answer {
	r.asked.Add(1)
	time.Sleep(100 * time.Millisecond)
	return r.Resolver.Lookup(ctx, name, qtype)
}

func TestSPFLookupsOfOneLevelRunSideBySide(t *testing.T) {
	record, zone := "v=spf1", "mx A 192.0.2.99\n"
	for i := range 5 {
		n := itoa(i)
		record += " include:i" + n + ".%{d} a:h" + n + ".%{d} mx:m" + n + ".%{d}"
		zone += txt("i"+n, "v=spf1 include:j"+n+".wide.test a:h"+n+".wide.test -all") + txt("j"+n, "v=spf1 mx:m"+n+".wide.test exists:h"+n+".wide.test -all") +
			"h" + n + " A 192.0.2.1\nm" + n + " MX 10 mx\n"
	}
	zones := map[string]string{"wide.test": txt("@", record+" -all") + zone}
	synctest.Test(t, func(t *testing.T) {
		r := &slowResolver{Resolver: newZoneResolver(t, zones)}
		start := time.Now()
		f := &gatheredSPF(t, r, "wide.test").SPF
		// Records stand at three levels, and the addresses of mail hosts are
		// asked for after their names.
		const depth = 3
		if took := time.Since(start); took > (depth+2)*100*time.Millisecond {
			t.Errorf("took %v for %d questions", took, r.asked.Load())
		}
		if f.Lookups != 35 || f.Voids != 0 {
			t.Errorf("%d lookups, %d void", f.Lookups, f.Voids)
		}
	})
}

// A hostileResolver answers any question with a record made for the name.
type hostileResolver struct {
	txt func(name string) string
	mu  sync.Mutex
	n   int
}

func (r *hostileResolver) Lookup(_ context.Context, name string, qtype uint16) Answer {
	r.mu.Lock()
	r.n++
	r.mu.Unlock()
	a := Answer{Name: name, Type: qtype, State: Found}
	hdr := dns.RR_Header{Name: dns.Fqdn(name), Rrtype: qtype, Class: dns.ClassINET}
	switch qtype {
	case dns.TypeTXT:
		rr := &dns.TXT{Hdr: hdr}
		for text := r.txt(name); text != ""; {
			n := min(len(text), 255)
			rr.Txt = append(rr.Txt, text[:n])
			text = text[n:]
		}
		a.RRs = append(a.RRs, rr)
	case dns.TypeMX:
		for i := range 500 {
			a.RRs = append(a.RRs, &dns.MX{Hdr: hdr, Mx: fmt.Sprintf("m%d.%s.", i, name)})
		}
	case dns.TypePTR:
		for i := range 500 {
			a.RRs = append(a.RRs, &dns.PTR{Hdr: hdr, Ptr: fmt.Sprintf("p%d.evil.test.", i)})
		}
	default:
		a.State = NoData
	}
	return a
}

func TestSPFHostileRecordsCostABoundedNumberOfQuestions(t *testing.T) {
	for name, record := range map[string]func(name string) string{
		"an include without end": func(string) string { return "v=spf1 include:a.%{d} -all" },
		"includes that double":   func(string) string { return "v=spf1 include:a.%{d} include:b.%{d} -all" },
		"a doubled name without end": func(n string) string {
			return "v=spf1 include:x" + itoa(len(n)) + ".test include:x" + itoa(len(n)) + ".test -all"
		},
		"10,000 terms":                 func(string) string { return "v=spf1" + strings.Repeat(" a", 10000) },
		"10,000 names":                 func(string) string { return "v=spf1" + manyTerms(10000, " a:h%d.evil.test") },
		"10,000 includes":              func(string) string { return "v=spf1" + manyTerms(2500, " include:h%d.evil.test") },
		"10,000 errors":                func(string) string { return "v=spf1" + strings.Repeat(" !", 10000) },
		"many networks":                func(string) string { return "v=spf1" + manyTerms(3000, " ip4:10.0.%d.0/8") },
		"mail hosts":                   func(string) string { return "v=spf1" + manyTerms(300, " mx:h%d.evil.test") },
		"a redirect to itself":         func(n string) string { return "v=spf1 redirect=" + n },
		"a redirect without end":       func(string) string { return "v=spf1 redirect=a.%{d}" },
		"macros that grow":             func(string) string { return "v=spf1 exists:" + strings.Repeat("%{S}", 5000) + ".x.test" },
		"names of the address, always": func(string) string { return "v=spf1" + strings.Repeat(" ptr exists:%{p}.x.test", 1000) },
	} {
		t.Run(name, func(t *testing.T) {
			r := &hostileResolver{txt: record}
			p := gatheredSPF(t, r, "evil.test", Sender{Addr: netip.MustParseAddr("198.51.100.1"), Own: true})
			if r.n > maxSPFQuestions {
				t.Errorf("%d questions for the tree", r.n)
			}
			if n := len(p.SPF.lines()); n > maxSPFBranches {
				t.Errorf("%d lines", n)
			}
			findings := checkSPF(p)
			if len(findings) == 0 || len(findings) > 60 {
				t.Errorf("%d findings", len(findings))
			}
			r.n = 0
			v := checkHost(t.Context(), r, netip.MustParseAddr("198.51.100.1"), "x.test", strings.Repeat("l.", 100)+"@evil.test", SPFOptions{})
			// The record, and ten terms of ten hosts; the names of the address.
			if r.n > 1+spfLookups*(1+spfHosts)+1+spfHosts {
				t.Errorf("%d questions for a check, %s", r.n, v.Result)
			}
		})
	}
}

func manyTerms(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i%256)
	}
	return b.String()
}

func TestSPFAliasesThatDoNotEndAreFailures(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"loop.test": txt("@", "v=spf1 include:a.loop.test a:a.loop.test mx:a.loop.test -all") + "a CNAME b\nb CNAME a\n"})
	p := gatheredSPF(t, r, "loop.test")
	if n := len(r.asked); n > 6 {
		t.Errorf("%d questions: %v", n, r.asked)
	}
	ids := found(checkSPF(p)) // that the aliases do not end is told with the name
	if ids["dns.lookup_failed"] || ids["spf.include_missing"] || ids["spf.void"] || ids["spf.ok"] {
		t.Errorf("findings %v", ids)
	}
	if v := checkHost(t.Context(), r, netip.MustParseAddr("192.0.2.1"), "x.test", "a@loop.test", SPFOptions{}); v.Result != dmarc.ResultTempError {
		t.Errorf("result %s, want temperror", v.Result)
	}
}

func TestSPFCheckStopsWhenTheContextEnds(t *testing.T) {
	r := newZoneResolver(t, acme)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v := checkHost(ctx, r, netip.MustParseAddr("192.0.2.7"), "x.test", "a@acme.test", SPFOptions{}); v.Result != dmarc.ResultTempError {
		t.Errorf("result %s, want temperror", v.Result)
	}
}

func TestSPFVerdictTellsWhichTermMatched(t *testing.T) {
	r := newZoneResolver(t, acme)
	for _, c := range []struct {
		ip, want string
	}{
		{"192.0.2.7", "pass by a of acme.test, 1 lookups, 0 void"},
		{"198.51.100.9", "pass by include:_spf.mailer.test of acme.test, 4 lookups, 0 void"},
		{"203.0.113.64", "permerror by  of , 10 lookups, 3 void"},
		{"2001:db8::7", "pass by a of acme.test, 1 lookups, 0 void"},
	} {
		v := checkHost(t.Context(), r, netip.MustParseAddr(c.ip), "x.test", "a@acme.test", SPFOptions{})
		if got := fmt.Sprintf("%s by %s of %s, %d lookups, %d void", v.Result, v.Term, v.Holder, v.Lookups, v.Voids); got != c.want {
			t.Errorf("%s: %s; want %s", c.ip, got, c.want)
		}
	}
}

func FuzzSPFTree(f *testing.F) {
	for _, s := range []string{
		"v=spf1 a mx include:a.%{d} ptr exists:%{ir}.x.test redirect=b.x.test", "v=spf1 include:%{d} a:%{d2r}/24//64 exp=%{l} -all", "v=spf1 -include:a.test ?all +all", "x",
	} {
		f.Add(s, "local@evil.test", "2001:db8::1")
	}
	f.Fuzz(func(t *testing.T, text, sender, addr string) {
		ip, err := netip.ParseAddr(addr)
		if err != nil {
			ip = netip.MustParseAddr("192.0.2.1")
		}
		r := &hostileResolver{txt: func(string) string { return strings.ReplaceAll(text, `\`, `\\`) }}
		p := gatheredSPF(t, r, "evil.test", Sender{Addr: ip, HELO: sender, Own: true})
		if r.n > maxSPFQuestions {
			t.Fatalf("%d questions", r.n)
		}
		for _, finding := range checkSPF(p) {
			if line := finding.Publish(); line != "" && strings.Count(line, "\n") > 0 {
				t.Errorf("%s publishes several lines: %q", finding.ID, line)
			}
		}
		for _, c := range []byte(p.SPF.Tree()) {
			if c < ' ' && c != '\n' || c == 0x7f {
				t.Errorf("the tree holds the octet %d", c)
			}
		}
		p.SPF.allowed()
		r.n = 0
		v := checkHost(t.Context(), r, ip, sender, sender, SPFOptions{})
		if r.n > 1+spfLookups*(1+spfHosts)+1+spfHosts+1 || v.Result == dmarc.ResultUnknown {
			t.Errorf("%d questions, %q", r.n, v.Result)
		}
	})
}
