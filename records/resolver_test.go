package records

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/records/knottest"
)

// client returns a client that has patience with a busy machine.
func client(t testing.TB, server string) *Client {
	t.Helper()
	c, err := NewClient(ClientOptions{Server: server, Timeout: 30 * time.Second, Tries: 2, Rate: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	c.direct.timeout = c.wire.timeout
	return c
}

// hasty returns a client that loses patience at once, and asks so many times.
func hasty(t testing.TB, server string, tries int) *Client {
	t.Helper()
	c, err := NewClient(ClientOptions{Server: server, Timeout: 200 * time.Millisecond, Tries: tries, Rate: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// replyWith returns a reply with records.
func replyWith(q *dns.Msg, lines ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func tcp(w dns.ResponseWriter) bool { return w.RemoteAddr().Network() == "tcp" }

func TestTruncatedAnswersAreAskedForOverTCP(t *testing.T) {
	c := client(t, knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := replyWith(q, `corp.test. 60 TXT "whole"`)
		if !tcp(w) {
			m.Answer, m.Truncated = nil, true
		}
		w.WriteMsg(m)
	}))
	a := c.Lookup(t.Context(), "corp.test", dns.TypeTXT)
	if got := texts(a); a.State != Found || !slices.Equal(got, []string{"whole"}) || !a.Truncated || a.TCPFailed {
		t.Errorf("%+v", a)
	}
}

func TestTruncatedAnswersWithoutTCPFail(t *testing.T) {
	c := client(t, knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if tcp(w) {
			w.Close()
			return
		}
		m := replyWith(q, `corp.test. 60 TXT "half"`)
		m.Truncated = true
		w.WriteMsg(m)
	}))
	if a := c.Lookup(t.Context(), "corp.test", dns.TypeTXT); a.State != Failed || !a.Truncated || !a.TCPFailed || a.RRs != nil || !strings.HasPrefix(a.Err, "cut off over UDP, and over TCP ") {
		t.Errorf("%+v", a)
	}
}

func TestLostAnswersAreAskedForAgain(t *testing.T) {
	var n atomic.Int64
	c := hasty(t, knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if n.Add(1) > 1 {
			w.WriteMsg(replyWith(q, `corp.test. 60 A 192.0.2.1`))
		}
	}), 10)
	if a := c.Lookup(t.Context(), "corp.test", dns.TypeA); a.State != Found || n.Load() < 2 {
		t.Errorf("after %d queries: %+v", n.Load(), a)
	}
}

func TestNoAnswerIsNoAbsence(t *testing.T) {
	c := hasty(t, knottest.Serve(t, silent), 2)
	if a := c.Lookup(t.Context(), "corp.test", dns.TypeA); a.State != Failed || a.Absent() || a.Err != "no answer in time" {
		t.Errorf("%+v", a)
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	for _, c := range []struct {
		name    string
		answer  dns.HandlerFunc
		want    State
		rcode   int
		ede     string
		bogus   bool
		loop    bool
		errText string
	}{
		{name: "REFUSED", answer: refusing, want: Failed, rcode: dns.RcodeRefused},
		{name: "SERVFAIL with a reason", answer: func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg)
			m.SetRcode(q, dns.RcodeServerFailure)
			m.SetEdns0(1232, true)
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: 22, ExtraText: "all \x1b[31m servers"})
			w.WriteMsg(m)
		}, want: Failed, rcode: dns.RcodeServerFailure, ede: "EDE 22 (No Reachable Authority): all ?[31m servers"},
		{name: "bogus", answer: func(w dns.ResponseWriter, q *dns.Msg) {
			m := replyWith(q, "corp.test. A 192.0.2.1", "corp.test. RRSIG A 13 2 3600 20260101000000 20250101000000 1 corp.test. AAAA")
			if !q.CheckingDisabled {
				m.Answer, m.Rcode = nil, dns.RcodeServerFailure
			}
			w.WriteMsg(m)
		}, want: Failed, rcode: dns.RcodeServerFailure, bogus: true},
		{name: "a server away for a moment", answer: func(w dns.ResponseWriter, q *dns.Msg) {
			m := replyWith(q, "corp.test. A 192.0.2.1") // not signed, so that nothing can be wrong with it
			if !q.CheckingDisabled {
				m.Answer, m.Rcode = nil, dns.RcodeServerFailure
			}
			w.WriteMsg(m)
		}, want: Failed, rcode: dns.RcodeServerFailure},
		{name: "bogus by its reason", answer: func(w dns.ResponseWriter, q *dns.Msg) {
			m := replyWith(q, "corp.test. A 192.0.2.1")
			m.SetEdns0(1232, true)
			if !q.CheckingDisabled {
				m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeRRSIGsMissing})
				m.Answer, m.Rcode = nil, dns.RcodeServerFailure
			}
			w.WriteMsg(m)
		}, want: Failed, rcode: dns.RcodeServerFailure, ede: "EDE 10 (RRSIGs Missing)", bogus: true},
		{name: "aliases in a circle", answer: func(w dns.ResponseWriter, q *dns.Msg) {
			w.WriteMsg(replyWith(q, "corp.test. CNAME a.test.", "a.test. CNAME corp.test."))
		}, want: Failed, loop: true},
		{name: "aliases in a circle behind SERVFAIL", answer: func(w dns.ResponseWriter, q *dns.Msg) {
			m := replyWith(q, q.Question[0].Name+" CNAME x"+q.Question[0].Name)
			if q.Question[0].Qtype != dns.TypeCNAME {
				m.Answer, m.Rcode = nil, dns.RcodeServerFailure
			}
			w.WriteMsg(m)
		}, want: Failed, rcode: dns.RcodeServerFailure, loop: true},
		{name: "too many records", answer: func(w dns.ResponseWriter, q *dns.Msg) {
			m := replyWith(q)
			if !tcp(w) {
				m.Truncated = true
			} else {
				for i := range 2000 {
					rr, _ := dns.NewRR(fmt.Sprintf("corp.test. A 10.0.%d.%d", i/256, i%256))
					m.Answer = append(m.Answer, rr)
				}
				m.Compress = true
			}
			w.WriteMsg(m)
		}, want: Failed, errText: "2000 records, more than can be meant"},
		{name: "garbage", answer: func(w dns.ResponseWriter, q *dns.Msg) {
			m, _ := replyWith(q).Pack()
			m[7] = 9 // says that there are answers
			w.Write(m)
		}, want: Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := client(t, knottest.Serve(t, c.answer)).Lookup(t.Context(), "corp.test", dns.TypeA)
			if a.State != c.want || a.Rcode != c.rcode || a.EDE != c.ede || a.Bogus != c.bogus || a.Loop != c.loop || c.errText != "" && a.Err != c.errText || a.AD {
				t.Errorf("%+v", a)
			}
			if whyFailed(a) == "NOERROR" {
				t.Error("it is not said why")
			}
		})
	}
}

// Answers to other questions, with other numbers, and queries sent back are
// passed over.
func TestForgedAnswersArePassedOver(t *testing.T) {
	c := client(t, knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		forged := replyWith(q, "corp.test. A 10.6.6.6")
		forged.Id++
		w.WriteMsg(forged)
		forged.Id--
		forged.Question[0].Name = "other.test."
		w.WriteMsg(forged)
		w.WriteMsg(q)
		w.WriteMsg(replyWith(q, "corp.test. A 192.0.2.1", "other.test. A 10.6.6.6"))
	}))
	a := c.Lookup(t.Context(), "CORP.test.", dns.TypeA)
	if got := addresses(a); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) {
		t.Errorf("%v: %+v", got, a)
	}
}

func TestAliasesAreFollowedBeyondTheAnswer(t *testing.T) {
	c := client(t, knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := replyWith(q, "www.test. 300 CNAME host.test.")
		if q.Question[0].Name == "host.test." {
			m = replyWith(q, "host.test. 60 A 192.0.2.1")
		} else {
			m.AuthenticatedData = true
		}
		w.WriteMsg(m)
	}))
	a := c.Lookup(t.Context(), "www.test", dns.TypeA)
	if a.State != Found || !slices.Equal(a.Chain, []string{"www.test", "host.test"}) || a.TTL != time.Minute || a.AD {
		t.Errorf("%+v", a)
	}
}

func TestEndlessAliasesEnd(t *testing.T) {
	var n atomic.Int64
	c := client(t, knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		n.Add(1)
		w.WriteMsg(replyWith(q, q.Question[0].Name+" CNAME x"+q.Question[0].Name))
	}))
	if a := c.Lookup(t.Context(), "corp.test", dns.TypeA); !a.Loop || a.State != Failed || n.Load() > 2*maxChain {
		t.Errorf("after %d queries: %+v", n.Load(), a)
	}
}

func TestServersOfBeforeEDNSAreAskedWithout(t *testing.T) {
	c := client(t, knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if q.IsEdns0() != nil {
			m := new(dns.Msg)
			w.WriteMsg(m.SetRcode(q, dns.RcodeFormatError))
			return
		}
		w.WriteMsg(replyWith(q, "corp.test. A 192.0.2.1"))
	}))
	if a := c.Lookup(t.Context(), "corp.test", dns.TypeA); a.State != Found {
		t.Errorf("%+v", a)
	}
}

func TestAQuestionThatManyHaveIsAskedOnce(t *testing.T) {
	var n atomic.Int64
	release := make(chan struct{})
	c := client(t, knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		n.Add(1)
		<-release
		w.WriteMsg(replyWith(q, "corp.test. 60 A 192.0.2.1"))
	}))
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if a := c.Lookup(t.Context(), "corp.test", dns.TypeA); a.State != Found {
				t.Errorf("%+v", a)
			}
		})
	}
	// One who leaves takes nothing away from the others.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a := c.Lookup(ctx, "corp.test", dns.TypeA); a.State != Failed {
		t.Errorf("%+v", a)
	}
	close(release)
	wg.Wait()
	c.Lookup(t.Context(), "corp.test", dns.TypeA)
	if n.Load() > 2 { // a slow machine may try again
		t.Errorf("%d queries", n.Load())
	}
}

func TestTheCacheForgets(t *testing.T) {
	now := time.Unix(1e9, 0)
	c := newAnswerCache(40_000)
	key := func(i int) question { return question{name: fmt.Sprintf("n%d.test", i), qtype: dns.TypeA} }
	c.add(key(0), Answer{State: Found, TTL: time.Minute}, now)
	c.add(key(1), Answer{State: Found, TTL: 0}, now)
	c.add(key(2), Answer{State: Failed, TTL: time.Hour}, now)
	c.add(key(3), Answer{State: Found, TTL: 1000 * time.Hour}, now)
	for _, want := range []struct {
		i     int
		after time.Duration
		there bool
	}{{0, 59 * time.Second, true}, {0, time.Minute, false}, {1, 0, false}, {2, failedTTL - 1, true}, {2, failedTTL, false}, {3, maxTTL - 1, true}, {3, maxTTL, false}} {
		if _, there := c.get(key(want.i), now.Add(want.after)); there != want.there {
			t.Errorf("%d after %s: %v", want.i, want.after, there)
		}
	}
	for i := range 10_000 {
		c.add(key(i), Answer{State: Found, TTL: time.Hour, Size: 100}, now)
		c.get(key(5), now) // what is wanted again and again stays
	}
	if n := len(c.young) + len(c.old); n > 100 {
		t.Errorf("%d answers are kept", n)
	}
	if _, there := c.get(key(9_999), now); !there {
		t.Error("the last is forgotten")
	}
	if _, there := c.get(key(5), now); !there {
		t.Error("what is wanted again and again is forgotten")
	}
	c.add(key(-1), Answer{State: Found, TTL: time.Hour, Size: 60_000}, now)
	if _, there := c.get(key(-1), now); there {
		t.Error("a giant is kept")
	}
}

func TestDirectTellsReferralsFromAbsence(t *testing.T) {
	ask := func(handler dns.HandlerFunc, name string, qtype uint16) Answer {
		addr := knottest.Serve(t, handler)
		return client(t, addr).Ask(t.Context(), netip.MustParseAddrPort(addr), name, qtype)
	}
	a := ask(delegating("corp.test", "@ NS ns1", "ns1 A 192.0.2.1"), "corp.test", dns.TypeNS)
	if a.State != Failed || len(a.Referral) != 2 || a.AA {
		t.Errorf("a referral: %+v", a)
	}
	a = ask(func(w dns.ResponseWriter, q *dns.Msg) {
		if q.RecursionDesired {
			t.Error("recursion is asked for")
		}
		m := replyWith(q)
		m.Authoritative = true
		soa, _ := dns.NewRR("corp.test. 600 SOA a. b. 1 2 3 4 300")
		m.Ns = []dns.RR{soa}
		w.WriteMsg(m)
	}, "x.corp.test", dns.TypeA)
	if a.State != NoData || !a.AA || a.Zone != "corp.test" || a.TTL != 5*time.Minute {
		t.Errorf("no data: %+v", a)
	}
}

func TestNamesThatDNSCannotHoldAreNotAsked(t *testing.T) {
	c := client(t, knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) { t.Errorf("asked %s", q.Question[0].Name) }))
	for _, name := range []string{strings.Repeat("a", 64) + ".test", "a..test", strings.Repeat("a.", 200)} {
		if a := c.Lookup(t.Context(), name, dns.TypeA); a.State != Failed || a.Err != "not a name that DNS can hold" {
			t.Errorf("%q: %+v", name, a)
		}
	}
}

func TestTheNextResolverIsAsked(t *testing.T) {
	c := client(t, porttest.FreeAddress(t))
	c.servers = append(c.servers, knottest.Serve(t, func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(replyWith(q, "corp.test. A 192.0.2.1")) }))
	if a := c.Lookup(t.Context(), "corp.test", dns.TypeA); a.State != Found || a.Server != c.servers[1] {
		t.Errorf("%+v", a)
	}
	c.servers = c.servers[:1]
	if a := c.Lookup(t.Context(), "other.test", dns.TypeA); a.State != Failed || a.Err != "the connection was refused" {
		t.Errorf("%+v", a)
	}
}

func TestErrorsOfTheResolverAreShortAndPrintable(t *testing.T) {
	if got := describe(errors.New("odd \x1b[2J\n" + strings.Repeat("x", 300))); strings.ContainsAny(got, "\x1b\n") || len(got) > 210 {
		t.Errorf("%q", got)
	}
}

// What a server sends may be anything.
func FuzzReadReply(f *testing.F) {
	q := newQuery("corp.test", dns.TypeTXT, true)
	for _, m := range []*dns.Msg{
		replyWith(q, `corp.test. TXT "v=spf1 -all" "\000\"\\"`, "corp.test. RRSIG TXT 13 2 3600 20260101000000 20250101000000 1 corp.test. AAAA"),
		replyWith(q, "corp.test. CNAME a.test.", "a.test. CNAME corp.test."),
		replyWith(q, "corp.test. CNAME A.test.", `a.test. TXT "x"`),
	} {
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		m := new(dns.Msg)
		if m.Unpack(packed) != nil {
			return
		}
		a := Answer{Name: "corp.test", Type: dns.TypeTXT, TTL: forever}
		next := a.read(m, "corp.test")
		if a.State == Found && len(a.RRs) == 0 || len(a.Chain) > maxChain+2 || next != "" && a.State != Failed {
			t.Errorf("%+v, next %q", a, next)
		}
		texts(a)
		factOf(a)
		extendedError(m)
	})
}
