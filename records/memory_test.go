package records

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"context"

	"github.com/miekg/dns"
)

var rememberedAt = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// A served zone at one moment: what each name server answers, in their order.
type moment struct {
	after   time.Duration // since rememberedAt
	serials []int         // -1: no answer
	ttls    []int         // of MX, by server; nil: an hour
}

// seen is what a look at a moment finds.
func (m moment) seen(memory *Memory) *Published {
	at := rememberedAt.Add(m.after)
	p := &Published{Domain: "corp.test", At: at, memory: memory}
	p.Name.Zone, p.Name.asked, p.Name.NS.State = "corp.test", true, Found
	for i, serial := range m.serials {
		s := NameServer{Name: fmt.Sprintf("ns%d.corp.test", i+1)}
		a := AskedServer{Addr: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i+1))}
		if serial >= 0 {
			a.SOA = Answer{Name: "corp.test", Type: dns.TypeSOA, State: Found, AA: true, At: at, RRs: []dns.RR{&dns.SOA{Serial: uint32(serial)}}}
			ttl := 3600
			if m.ttls != nil {
				ttl = m.ttls[i]
			}
			a.MX = Answer{Name: "corp.test", Type: dns.TypeMX, State: Found, TTL: time.Duration(ttl) * time.Second}
		}
		s.Addresses = []AskedServer{a}
		p.Name.Servers = append(p.Name.Servers, s)
	}
	return p
}

// Serials differ for a moment after each change: only a server that stays at
// its old one for an hour has a problem.
func TestServersThatAreBehindAreRemembered(t *testing.T) {
	for name, c := range map[string]struct {
		moments []moment
		want    []string // severity and server that is behind, at each moment; "" for none
	}{
		"all are the same":      {[]moment{{0, []int{7, 7}, nil}, {2 * time.Hour, []int{8, 8}, nil}}, []string{"", ""}},
		"one is behind":         {[]moment{{0, []int{8, 7}, nil}, {50 * time.Minute, []int{8, 7}, nil}, {61 * time.Minute, []int{9, 7}, nil}}, []string{"info ns2 7", "info ns2 7", "warning ns2 7"}},
		"it follows, late":      {[]moment{{0, []int{8, 7}, nil}, {90 * time.Minute, []int{9, 8}, nil}}, []string{"info ns2 7", "info ns2 8"}},
		"it caught up":          {[]moment{{0, []int{8, 7}, nil}, {time.Hour, []int{8, 8}, nil}, {2 * time.Hour, []int{8, 7}, nil}}, []string{"info ns2 7", "", "info ns2 7"}},
		"it is away for a look": {[]moment{{0, []int{8, 7}, nil}, {30 * time.Minute, []int{8, -1}, nil}, {2 * time.Hour, []int{8, 7}, nil}}, []string{"info ns2 7", "", "warning ns2 7"}},
		"serials run over":      {[]moment{{0, []int{2, 1<<32 - 3}, nil}, {time.Hour, []int{2, 1<<32 - 3}, nil}}, []string{"info ns2 4294967293", "warning ns2 4294967293"}},
		"two are behind":        {[]moment{{0, []int{7, 9, 9}, nil}, {time.Hour, []int{7, 9, 8}, nil}}, []string{"info ns1 7", "warning ns1 7"}},
	} {
		t.Run(name, func(t *testing.T) {
			memory := &Memory{}
			for i, m := range c.moments {
				p := m.seen(memory)
				v := &verdicts{}
				checkSerials(p, v)
				got := ""
				for _, f := range v.all {
					got += f.Severity.String() + " " + f.Value("ns2")[:3] + " " + f.Value("b")
				}
				if got != c.want[i] {
					t.Errorf("look %d: %q, want %q", i+1, got, c.want[i])
				}
				next := p.nextMemory()
				memory = &next
			}
		})
	}
	// Without memory nobody knows for how long.
	v := &verdicts{}
	if checkSerials(moment{0, []int{8, 7}, nil}.seen(nil), v); len(v.all) != 1 || v.all[0].Severity != Info {
		t.Errorf("without memory: %+v", v.all)
	}
}

// TTLs are low while something changes; a week of that is told.
func TestLowTTLsAreRemembered(t *testing.T) {
	day := 24 * time.Hour
	memory := &Memory{}
	for i, c := range []struct {
		moment
		want bool
	}{
		{moment{0, []int{1, 1}, []int{60, 60}}, false},
		{moment{6 * day, []int{1, 1}, []int{60, 60}}, false},
		{moment{65 * 24 * time.Hour / 10, []int{-1, -1}, nil}, false}, // nobody answers: it is remembered
		{moment{7 * day, []int{1, 1}, []int{60, 60}}, true},
		{moment{8 * day, []int{-1, 1}, []int{0, 60}}, true}, // the first that answers
		{moment{9 * day, []int{1, 1}, []int{300, 60}}, false},
		{moment{10 * day, []int{1, 1}, []int{299, 60}}, false}, // from the beginning again
		{moment{17 * day, []int{1, 1}, []int{299, 60}}, true},
	} {
		p := c.seen(memory)
		v := &verdicts{}
		checkTTL(p, v)
		if got := len(v.all) > 0; got != c.want {
			t.Errorf("look %d: %v, want %v", i+1, got, c.want)
		}
		next := p.nextMemory()
		memory = &next
	}
	v := &verdicts{}
	if checkTTL(moment{0, []int{1}, []int{60}}.seen(nil), v); len(v.all) != 1 {
		t.Errorf("without memory: %+v", v.all)
	}
}

// A TTL at the resolver that has run down is no low TTL of a key.
func TestTheTTLOfAKeyIsThatOfItsServer(t *testing.T) {
	p := &Published{At: rememberedAt, DKIM: DKIMFound{Selectors: []SelectorFound{
		{Selector: Selector{Name: "a", Domain: "corp.test"}, Answer: Answer{Name: "a._domainkey.corp.test", Type: dns.TypeTXT, State: Found, TTL: 10 * time.Second},
			Source: Answer{Name: "a._domainkey.corp.test", Type: dns.TypeTXT, State: Found, TTL: time.Hour}},
		{Selector: Selector{Name: "b", Domain: "corp.test"}, Answer: Answer{Name: "b._domainkey.corp.test", Type: dns.TypeTXT, State: Found, TTL: 10 * time.Second}}, // nobody else was asked
		{Selector: Selector{Name: "c", Domain: "corp.test"}, Answer: Answer{Name: "c._domainkey.corp.test", Type: dns.TypeTXT, State: Found, TTL: time.Minute},
			Source: Answer{Name: "c._domainkey.corp.test", Type: dns.TypeTXT, State: Found, TTL: time.Minute}},
		{Selector: Selector{Name: "d", Domain: "corp.test"}, Answer: Answer{Name: "d._domainkey.corp.test", Type: dns.TypeTXT, State: Found, TTL: time.Hour}},
	}}, memory: &Memory{LowTTL: map[string]time.Time{"d._domainkey.corp.test TXT": rememberedAt, "b._domainkey.corp.test TXT": rememberedAt, "gone._domainkey.corp.test TXT": rememberedAt}}}
	want := map[string]time.Time{"b._domainkey.corp.test TXT": rememberedAt, "c._domainkey.corp.test TXT": rememberedAt}
	if got := p.nextMemory().LowTTL; !reflect.DeepEqual(got, want) {
		t.Errorf("low: %v, want %v", got, want)
	}
}

// A look leaves a memory and its keys; keys that others hold are named; servers
// that are behind are looked at again soon.
func TestALookIsGivenWhatOthersLeft(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": apex + txt("s._domainkey", "v=DKIM1; p="+rsa2048) + txt("old._domainkey", "v=DKIM1; p=")})
	r.broken["gone._domainkey.corp.test"] = Answer{Rcode: dns.RcodeServerFailure}
	key := parseDKIMKey("v=DKIM1; p=" + rsa2048)
	book := &lookBook{domains: []string{"corp.test"}, next: map[string]time.Time{}, keys: map[string][]string{key.fingerprint(): {"k._domainkey.other.test"}}}
	var memory *Memory
	w := &Watcher{Store: book, Log: slog.New(slog.DiscardHandler), Evidence: func(context.Context, string) (Options, error) {
		return Options{Resolver: r, Documentation: true, Memory: memory, Selectors: selectors("s", "old", "gone").Selectors}, nil
	}}
	if err := w.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	look := book.looks[0]
	if want := map[string]string{"s._domainkey.corp.test": key.fingerprint(), "old._domainkey.corp.test": ""}; !reflect.DeepEqual(look.Keys, want) {
		t.Errorf("keys %v, want %v", look.Keys, want)
	}
	i := slices.IndexFunc(look.Result.Findings, func(f ResultFinding) bool { return f.ID == "dkim.key_shared" })
	if i < 0 || look.Result.Findings[i].Values["names"] != "k._domainkey.other.test, s._domainkey.corp.test" {
		t.Errorf("findings %+v", look.Result.Findings)
	}
	late := moment{0, []int{8, 7}, nil}.seen(nil)
	late.Domain = "corp.test"
	if wait := again(late); wait > lookSoonest {
		t.Errorf("servers that are behind are looked at again after %v", wait)
	}
	if wait := again(moment{0, []int{8, 8}, nil}.seen(nil)); wait <= lookSoonest {
		t.Errorf("servers that agree are looked at again after %v", wait)
	}
}
