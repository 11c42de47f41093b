package records

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A slow resolver takes a second for each answer, as a far one does.
type slow struct{ *zoneResolver }

func (s slow) Lookup(ctx context.Context, name string, qtype uint16) Answer {
	time.Sleep(time.Second)
	return s.zoneResolver.Lookup(ctx, name, qtype)
}

// Ask answers as a server of the zone.
func (s slow) Ask(ctx context.Context, server netip.AddrPort, name string, qtype uint16) Answer {
	time.Sleep(time.Second)
	a := s.zoneResolver.Lookup(ctx, name, qtype)
	a.AA, a.Server = true, server.String()
	return a
}

// A slowPolicy and slowHosts take a second as well.
type slowPolicy struct{ servedPolicy }

func (s slowPolicy) FetchPolicy(ctx context.Context, host string) ([]byte, int, error) {
	time.Sleep(time.Second)
	return s.servedPolicy.FetchPolicy(ctx, host)
}

type slowHosts struct{}

func (slowHosts) Certificates(context.Context, string, netip.AddrPort) ([]*x509.Certificate, error) {
	time.Sleep(time.Second)
	return nil, errNoSTARTTLS
}

// What does not depend on each other is asked side by side: the time for a
// domain is that of the longest chain of questions, and not of their number.
func TestLookupTakesFewRoundTrips(t *testing.T) {
	usual := map[string]string{
		"test": apex,
		"corp.test": apex + mailHost + txt("@", "v=spf1 mx -all") +
			txt("_dmarc", "v=DMARC1; p=none; rua=mailto:a@one.test, mailto:b@two.test, mailto:c@corp.test"),
		"one.test": apex + mailHost + txt("corp.test._report._dmarc", "v=DMARC1"),
		"two.test": apex + mailHost,
	}
	everything := map[string]string{
		"test": apex,
		"corp.test": apex + twoMailHosts + txt("@", "v=spf1 mx include:spf.mailer.test -all") + txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:a@one.test, mailto:c@corp.test") +
			txt("_dmarc.eu", "v=DMARC1; p=none; psd=n") + txt("s._domainkey", "v=DKIM1; p="+rsa2048) + stsRecord + policyHost + txt("_smtp._tls", "v=TLSRPTv1; rua=mailto:t@corp.test") +
			tlsa("mx1", "3 1 1", 32) + tlsa("mx2", "3 1 1", 32) + txt("default._bimi", "v=BIMI1; l=https://corp.test/logo.svg; a=https://corp.test/logo.pem") + "@ CAA 0 issue \"ca.test\"\n",
		"mailer.test":          apex + txt("spf", "v=spf1 a:out.mailer.test -all") + "out A 192.0.2.20\n",
		"one.test":             apex + mailHost + txt("corp.test._report._dmarc", "v=DMARC1"),
		"2.0.192.in-addr.arpa": apex + "20 PTR out.mailer.test.\n",
	}
	deep := map[string]string{"test": apex, "corp.test": apex + mailHost + txt("@", "v=spf1 include:i1.corp.test -all")}
	for i := range 7 {
		deep["corp.test"] += txt(fmt.Sprintf("i%d", i+1), fmt.Sprintf("v=spf1 include:i%d.corp.test -all", i+2))
	}
	deep["corp.test"] += txt("i8", "v=spf1 ip4:192.0.2.1 -all")
	for _, c := range []struct {
		name  string
		zones map[string]string
		o     Options
		chain time.Duration // links of the longest chain of questions
		want  string
	}{
		{"NS, its address, what it says; record, authorisation, the wildcard that is hidden", usual, Options{}, 3, "rauth.missing"},
		{"eight includes, one in the other", deep, Options{}, 9, "spf.ok"},
		{"everything is published: MX, its address, its name, the address of that", everything, Options{
			Selectors: []Selector{{Name: "s", LastSeen: time.Now()}}, Senders: []Sender{{Addr: netip.MustParseAddr("192.0.2.20"), HELO: "out.mailer.test", Own: true}},
			Fetcher: slowPolicy{servedPolicy{body: policyStart + "mx: *.corp.test\n"}}, Probe: slowHosts{},
			Reported: &Reported{Named: []dmarc.NamedMail{named("corp.test", "a.eu.corp.test", "", 1)}},
		}, 4, "dmarc.one_method"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := slow{newZoneResolver(t, c.zones)}
				began := time.Now()
				o := c.o
				o.Resolver, o.Direct, o.Documentation = r, r, true
				p, err := Lookup(t.Context(), "corp.test", o)
				if err != nil {
					t.Fatal(err)
				}
				trips := time.Since(began) / time.Second
				t.Logf("%d round trips for %d questions", trips, len(r.asked))
				if trips > c.chain+2 {
					t.Errorf("%d round trips, want at most %d", trips, c.chain+2)
				}
				if ids := found(Check(p)); !ids[c.want] || ids["dns.lookup_failed"] {
					t.Errorf("found %v", ids)
				}
			})
		})
	}
}

func TestLookupAsksEachQuestionOnce(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": apex + mailHost + txt("_dmarc", "v=DMARC1; p=none; rua=mailto:a@sub.corp.test")})
	if _, err := Lookup(t.Context(), "corp.test", Options{Resolver: r}); err != nil {
		t.Fatal(err)
	}
	for question, n := range r.asked {
		if n > 1 {
			t.Errorf("%s is asked %d times", question, n)
		}
	}
}

// counting counts questions.
type counting struct {
	Resolver
	n atomic.Int64
}

func (c *counting) Lookup(ctx context.Context, name string, qtype uint16) Answer {
	c.n.Add(1)
	return c.Resolver.Lookup(ctx, name, qtype)
}

func TestTheWorkForADomainIsBounded(t *testing.T) {
	r := &counting{Resolver: newZoneResolver(t, nil)}
	g := newGatherer("corp.test", Options{Resolver: r})
	for i := range 2 * maxQuestions {
		a := g.ask(t.Context(), fmt.Sprintf("n%d.test", i), dns.TypeA)
		if over := i >= maxQuestions; over != (a.State == Failed) || over != strings.HasPrefix(a.Err, "not asked") {
			t.Fatalf("question %d: %+v", i, a)
		}
	}
	if n := r.n.Load(); n != maxQuestions {
		t.Errorf("%d questions", n)
	}
	if a := g.ask(t.Context(), "n0.test", dns.TypeA); a.State != NXDomain {
		t.Errorf("what was asked before is forgotten: %+v", a)
	}
}

// A zone that wants to make much work: many name servers, mail hosts and report
// addresses.
func TestAHostileZoneMakesLittleWork(t *testing.T) {
	var zone strings.Builder
	zone.WriteString(soaZone(goodSOA, ""))
	uris := ""
	for i := range 200 {
		fmt.Fprintf(&zone, "@ NS ns%[1]d\nns%[1]d A 192.0.2.1\n@ MX 10 mx.d%[1]d.test.\n", i)
		uris += fmt.Sprintf(",mailto:x@h%d.test", i)
	}
	zone.WriteString(txt("_dmarc", "v=DMARC1; p=none; rua="+uris[1:]))
	z := newZoneResolver(t, map[string]string{"corp.test": zone.String()})
	r := &counting{Resolver: z}
	synctest.Test(t, func(t *testing.T) {
		p, err := Lookup(t.Context(), "corp.test", Options{Resolver: r, Direct: slow{z}, Documentation: true})
		if err != nil {
			t.Fatal(err)
		}
		if n := r.n.Load(); n > maxQuestions {
			t.Errorf("%d questions", n)
		}
		if n := len(Check(p)); n > 200 {
			t.Errorf("%d findings", n)
		}
	})
}

func TestLookupEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, err := Lookup(ctx, "corp.test", Options{Resolver: newZoneResolver(t, nil)})
	if err == nil {
		t.Error("no error")
	}
	for _, f := range Check(p) {
		if f.Severity != Unknown {
			t.Errorf("%s is found, although nothing could be looked up", f.ID)
		}
	}
}

// A forgetful resolver has no answer to one question.
type forgetful struct {
	Resolver
	question string
}

func (f forgetful) Lookup(ctx context.Context, name string, qtype uint16) Answer {
	if name+" "+dns.TypeToString[qtype] == f.question {
		return Answer{Name: name, Type: qtype, Rcode: dns.RcodeServerFailure}
	}
	return f.Resolver.Lookup(ctx, name, qtype)
}

// milder are findings that take the place of worse ones, where what made them
// worse is not known any more.
var milder = map[string]string{"rauth.missing": "rauth.wildcard_hidden", "mx.unresolvable": "mx.unregistered", "spf.void": "spf.void_limit"}

// Whatever lookup fails, nothing is called wrong that was not wrong before.
func TestAFailedLookupAccusesNobody(t *testing.T) {
	for _, c := range cases {
		if c.live || len(c.fails) > 0 {
			continue
		}
		r := newZoneResolver(t, c.zones())
		r.unsigned[c.domain] = c.unsigned
		o := c.o
		o.Documentation, o.Now, o.RandomLabel = true, time.Date(2026, 5, 12, 0, 0, 0, 0, time.UTC), "random-label"
		look := func(with Resolver) map[string]bool {
			o.Resolver = with
			p, err := Lookup(t.Context(), c.domain, o)
			if err != nil {
				t.Fatal(err)
			}
			wrong := map[string]bool{}
			for _, f := range Check(p) {
				if f.Severity == Warning || f.Severity == Error {
					wrong[f.ID] = true
				}
			}
			return wrong
		}
		before := look(r)
		for question := range maps.Clone(r.asked) {
			for id := range look(forgetful{r, question}) {
				// Senders with DANE hold back mail for a lookup that fails (RFC
				// 7672, section 2.1.2).
				if !before[id] && !before[milder[id]] && id != "dane.denial_broken" {
					t.Errorf("%s: %s is found when %s has no answer", c.name, id, question)
				}
			}
		}
	}
}
