package sources

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

// zone is what the DNS server of the tests serves; what is not there does not
// exist, and names of fail.example are not answered.
const zone = `
9.113.0.203.in-addr.arpa. 60 IN PTR mx1.acme.example.
10.113.0.203.in-addr.arpa. 60 IN PTR mx1.acme.example.
11.113.0.203.in-addr.arpa. 60 IN PTR O1.PTR1234.sendgrid.net.
11.113.0.203.in-addr.arpa. 60 IN PTR mx1.acme.example.
12.113.0.203.in-addr.arpa. 60 IN PTR host.fail.example.
13.113.0.203.in-addr.arpa. 60 IN PTR gone.example.
9.2.0.192.in-addr.arpa. 60 IN CNAME 9.sub.2.0.192.in-addr.arpa.
9.sub.2.0.192.in-addr.arpa. 60 IN PTR www.acme.example.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 IN PTR mx1.acme.example.
mx1.acme.example. 60 IN A 203.0.113.9
mx1.acme.example. 60 IN AAAA 2001:db8::1
www.acme.example. 60 IN A 192.0.2.9
o1.ptr1234.sendgrid.net. 60 IN A 203.0.113.11
`

// serveDNS runs a DNS server on loopback and returns a resolver that asks it.
func serveDNS(t *testing.T) *loopback {
	t.Helper()
	records := make(map[string][]dns.RR)
	parser := dns.NewZoneParser(strings.NewReader(zone), ".", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		name := dns.CanonicalName(rr.Header().Name)
		records[name] = append(records[name], rr)
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := dns.CanonicalName(q.Question[0].Name)
		if dns.IsSubDomain("fail.example.", name) || name == "14.113.0.203.in-addr.arpa." {
			m.Rcode = dns.RcodeServerFailure
		} else if records[name] == nil {
			m.Rcode = dns.RcodeNameError
		}
		for hops := 0; hops < 3; hops++ {
			for _, rr := range records[name] {
				switch c, ok := rr.(*dns.CNAME); {
				case ok:
					m.Answer = append(m.Answer, rr)
					name = dns.CanonicalName(c.Target)
				case rr.Header().Rrtype == q.Question[0].Qtype:
					m.Answer = append(m.Answer, rr)
				}
			}
			if len(m.Answer) == 0 || m.Answer[len(m.Answer)-1].Header().Rrtype != dns.TypeCNAME {
				break
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return &loopback{server: conn.LocalAddr().String()}
}

// loopback asks the server of a test.
type loopback struct {
	server string
	mu     sync.Mutex
	asked  []string
}

func (l *loopback) Lookup(ctx context.Context, name string, qtype uint16) Answer {
	l.mu.Lock()
	l.asked = append(l.asked, name)
	l.mu.Unlock()
	m, err := dns.ExchangeContext(ctx, new(dns.Msg).SetQuestion(name+trailing(name), qtype), l.server)
	if err != nil || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return Answer{State: dmarc.LookupFailed}
	}
	a := Answer{State: dmarc.LookupAbsent}
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.PTR:
			a.Names = append(a.Names, rr.Ptr)
		case *dns.A:
			addr, _ := netip.AddrFromSlice(rr.A.To4())
			a.Addrs = append(a.Addrs, addr)
		case *dns.AAAA:
			addr, _ := netip.AddrFromSlice(rr.AAAA)
			a.Addrs = append(a.Addrs, addr)
		}
	}
	if len(a.Names)+len(a.Addrs) > 0 {
		a.State = dmarc.LookupFound
	}
	return a
}

func trailing(name string) string {
	if dns.IsFqdn(name) {
		return ""
	}
	return "."
}

// memory is a store of some addresses.
type memory struct {
	order []netip.Addr
	known map[netip.Addr]dmarc.SourceIdentity
	puts  int
	fail  error
}

func newMemory(addrs ...string) *memory {
	m := &memory{known: make(map[netip.Addr]dmarc.SourceIdentity)}
	for _, a := range addrs {
		m.order = append(m.order, netip.MustParseAddr(a))
	}
	return m
}

func (m *memory) DueSources(_ context.Context, now time.Time, limit int) ([]dmarc.IdentifiedSource, error) {
	var due []dmarc.IdentifiedSource
	for _, a := range m.order {
		if id := m.known[a]; id.DueAt.Before(now) && len(due) < limit {
			due = append(due, dmarc.IdentifiedSource{Source: a, Identity: id})
		}
	}
	return due, m.fail
}

func (m *memory) PutIdentities(_ context.Context, list []dmarc.IdentifiedSource) error {
	m.puts++
	for _, s := range list {
		m.known[s.Source] = s.Identity
	}
	return nil
}

func TestAPassFindsOutWhoseAddressesAre(t *testing.T) {
	store := newMemory("203.0.113.9", "203.0.113.10", "203.0.113.11", "203.0.113.12", "203.0.113.13", "203.0.113.14", "203.0.113.15", "192.0.2.9", "2001:db8::1", "10.1.1.1")
	id := &Identifier{Store: store, Resolver: serveDNS(t), Catalogue: builtin(t), Log: slog.New(slog.DiscardHandler), Rate: 10_000}
	before := time.Now()
	if err := id.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	type found struct {
		PTR             string
		Names, Unproven []string
		Sender          string
		Keep            time.Duration
	}
	want := map[string]found{
		"203.0.113.9":  {"found", []string{"mx1.acme.example"}, nil, "", keepFound},
		"203.0.113.10": {"found", nil, []string{"mx1.acme.example"}, "", keepFound}, // a name that leads elsewhere
		"203.0.113.11": {"found", []string{"o1.ptr1234.sendgrid.net"}, []string{"mx1.acme.example"}, "sendgrid", keepFound},
		"203.0.113.12": {"failed", nil, []string{"host.fail.example"}, "", keepFailed}, // cannot be proven for now
		"203.0.113.13": {"found", nil, []string{"gone.example"}, "", keepFound},
		"203.0.113.14": {"failed", nil, nil, "", keepFailed},
		"203.0.113.15": {"absent", nil, nil, "", keepAbsent},
		"192.0.2.9":    {"found", []string{"www.acme.example"}, nil, "", keepFound}, // RFC 2317
		"2001:db8::1":  {"found", []string{"mx1.acme.example"}, nil, "", keepFound},
		"10.1.1.1":     {"not_asked", nil, nil, "", keepFound},
	}
	got := make(map[string]found)
	for a, s := range store.known {
		f := found{s.PTR.String(), s.Names, s.Unproven, "", s.DueAt.Sub(s.CheckedAt)}
		if s.PTR == dmarc.LookupNotAsked {
			f.PTR = "not_asked"
		}
		if s.Sender != nil {
			f.Sender = s.Sender.ID
		}
		if s.CheckedAt.Before(before.Add(-time.Second)) {
			t.Errorf("%v was checked at %v", a, s.CheckedAt)
		}
		got[a.String()] = f
	}
	if !reflect.DeepEqual(got, want) {
		for a := range want {
			if !reflect.DeepEqual(got[a], want[a]) {
				t.Errorf("%s\n got %+v\nwant %+v", a, got[a], want[a])
			}
		}
	}
	store.puts = 0
	if err := id.Pass(t.Context()); err != nil || store.puts != 0 {
		t.Errorf("a second pass looked up again what is not due: %d, %v", store.puts, err)
	}
}

func TestWhatWasKnownStaysWhereALookupFails(t *testing.T) {
	store := newMemory("203.0.113.14")
	store.known[store.order[0]] = dmarc.SourceIdentity{PTR: dmarc.LookupFound, Names: []string{"o9.sendgrid.net"}}
	id := &Identifier{Store: store, Resolver: serveDNS(t), Catalogue: builtin(t), Log: slog.New(slog.DiscardHandler), Rate: 1000}
	if err := id.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := store.known[store.order[0]]
	if got.PTR != dmarc.LookupFailed || !slices.Equal(got.Names, []string{"o9.sendgrid.net"}) || got.Sender == nil || got.By != "ptr" {
		t.Errorf("%+v", got)
	}
}

// An address that cannot be looked up is tried again later and later, and soon
// again once it had an answer.
func TestRetriesBackOff(t *testing.T) {
	store := newMemory("203.0.113.14")
	state := dmarc.LookupFailed
	r := resolverFunc(func(string, uint16) Answer { return Answer{State: state} })
	id := &Identifier{Store: store, Resolver: &r, Catalogue: builtin(t), Log: slog.New(slog.DiscardHandler), Rate: 10_000}
	again := func() time.Duration {
		t.Helper()
		known := store.known[store.order[0]]
		known.DueAt = time.Time{}
		store.known[store.order[0]] = known
		if err := id.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		known = store.known[store.order[0]]
		return known.DueAt.Sub(known.CheckedAt)
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 168, 168, 168, 168, 168, 168} {
		if got := again(); got != want*time.Hour {
			t.Errorf("tried again after %v, want %v", got, want*time.Hour)
		}
	}
	state = dmarc.LookupAbsent
	if got := again(); got != keepAbsent {
		t.Errorf("looked up again after %v", got)
	}
	state = dmarc.LookupFailed
	if got := again(); got != keepFailed {
		t.Errorf("tried again after %v, want %v", got, keepFailed)
	}
}

func TestAnAddressWithManyNamesCostsFewQuestions(t *testing.T) {
	r := resolverFunc(func(name string, qtype uint16) Answer {
		if qtype != dns.TypePTR {
			return Answer{State: dmarc.LookupAbsent}
		}
		a := Answer{State: dmarc.LookupFound, Names: []string{"bad name\x00", "*", ""}}
		for i := range 500 {
			a.Names = append(a.Names, "h"+string(rune('a'+i%26))+".example.")
		}
		return a
	})
	store := newMemory("203.0.113.9")
	id := &Identifier{Store: store, Resolver: &r, Catalogue: builtin(t), Log: slog.New(slog.DiscardHandler), Rate: 10_000}
	if err := id.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := store.known[store.order[0]]; r.asked != 1+mostNames || len(got.Unproven) != mostNames || len(got.Names) != 0 {
		t.Errorf("%d questions, %+v", r.asked, got)
	}
}

type fakeResolver struct {
	mu     sync.Mutex
	asked  int
	answer func(string, uint16) Answer
}

func resolverFunc(f func(string, uint16) Answer) fakeResolver { return fakeResolver{answer: f} }

func (r *fakeResolver) Lookup(_ context.Context, name string, qtype uint16) Answer {
	r.mu.Lock()
	r.asked++
	r.mu.Unlock()
	return r.answer(name, qtype)
}

func TestQuestionsKeepThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var addrs []string
		for i := range 100 {
			addrs = append(addrs, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}).String())
		}
		r := resolverFunc(func(string, uint16) Answer { return Answer{State: dmarc.LookupAbsent} })
		id := &Identifier{Store: newMemory(addrs...), Resolver: &r, Log: slog.New(slog.DiscardHandler), Rate: 10}
		start := time.Now()
		if err := id.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 9900*time.Millisecond || r.asked != 100 {
			t.Errorf("%d questions took %v, want 100 in 9.9 s", r.asked, took)
		}
	})
}

func TestAPassEndsWhenItIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		store := newMemory("203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4")
		r := resolverFunc(func(string, uint16) Answer { return Answer{State: dmarc.LookupAbsent} })
		id := &Identifier{Store: store, Resolver: &r, Log: slog.New(slog.DiscardHandler), Rate: 1}
		if err := id.Pass(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		if len(store.known) != 0 {
			t.Errorf("half a batch was kept: %v", store.known)
		}
	})
	store := newMemory("203.0.113.1")
	store.fail = errors.New("no database")
	if err := (&Identifier{Store: store, Log: slog.New(slog.DiscardHandler)}).Pass(t.Context()); !errors.Is(err, store.fail) {
		t.Errorf("err = %v", err)
	}
}

func TestReverseNamesAreThoseOfDNS(t *testing.T) {
	for _, a := range []string{"203.0.113.9", "2001:db8::1", "::1", "0.0.0.0"} {
		want, err := dns.ReverseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if got := reverseName(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
