package web

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// advisers is what the tests know about domains, told mail by mail.
type advisers map[string]*told

func (a advisers) Evidence(_ context.Context, domain string, period dmarc.Period) (*advice.Evidence, error) {
	t := a[domain]
	if t == nil {
		return nil, fmt.Errorf("domain %q: %w", domain, dmarc.ErrNotFound)
	}
	var days []dmarc.SourceDay
	for _, d := range t.facts.Days() {
		if !d.Day.Before(period.Begin) && d.Day.Before(period.End) {
			days = append(days, d)
		}
	}
	e := &advice.Evidence{
		Domain: domain, Period: period, Sources: advice.Collect(dmarc.FactsBySource(days)), Reporters: t.reporters,
		Published: advice.Published{Record: "v=DMARC1; p=" + t.policy.P.String() + "; rua=mailto:dmarc@" + domain, FoundAt: domain, P: t.policy.P, ReportsTo: true},
	}
	e.Changes = advice.Changes(e.Sources)
	return e, nil
}

// Whose knows every fourth address of a network of documentation.
func (a advisers) Whose(_ context.Context, domain string, addrs []netip.Addr) (map[netip.Addr]dmarc.SourceIdentity, error) {
	known := map[netip.Addr]dmarc.SourceIdentity{}
	for _, addr := range addrs {
		if addr.Is4() && addr.As4()[3]%4 == 1 {
			known[addr] = dmarc.SourceIdentity{Sender: &dmarc.Sender{ID: "newsbird", Name: "Newsbird"}, Org: "Newsbird Ltd", Country: "IE"}
		} else if addr.Is4() && addr.As4()[3]%4 == 2 {
			known[addr] = dmarc.SourceIdentity{Names: []string{"mail.host-" + addr.String() + ".example"}, Org: hostile}
		}
	}
	return known, nil
}

// told is mail that was sent as a domain.
type told struct {
	domain    string
	policy    dmarc.PolicyPublished
	facts     dmarc.FactReducer
	reporters map[int64]string
}

func tell(domain string, policy dmarc.Policy) *told {
	return &told{
		domain: domain, policy: dmarc.PolicyPublished{Domain: domain, P: policy, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentRelaxed},
		reporters: map[int64]string{1: "google.com", 2: "Enterprise Outlook", 3: "Yahoo", 4: hostile},
	}
}

// How mail authenticates.
const (
	byBoth = iota
	bySPF
	byService   // signs for the domain, and takes bounces itself
	byOther     // authenticates as somebody else
	forwardedOn // carries the signature of the domain's own servers
	byNothing
)

// send lets a source send n messages on each day from so many days ago up to
// so many days ago, without the last.
func (t *told) send(source string, how int, as string, n int64, from, to int) *told {
	row := dmarc.Row{
		Source: netip.MustParseAddr(source), HeaderFrom: t.domain, Count: n, Disposition: dmarc.DispositionNone,
		DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail, AuthSPF: []dmarc.SPFResult{{Domain: t.domain, Result: dmarc.ResultFail}},
	}
	sign := func(domain, selector string) {
		row.AuthDKIM = append(row.AuthDKIM, dmarc.DKIMResult{Domain: domain, Selector: selector, Result: dmarc.ResultPass})
	}
	switch how {
	case byBoth:
		row.DKIM, row.SPF = dmarc.ResultPass, dmarc.ResultPass
		row.AuthSPF[0].Result = dmarc.ResultPass
		sign(t.domain, "k1")
	case bySPF:
		row.SPF = dmarc.ResultPass
		row.AuthSPF[0].Result = dmarc.ResultPass
	case forwardedOn:
		row.DKIM = dmarc.ResultPass
		sign(t.domain, "k1")
	case byService, byOther:
		row.AuthSPF = []dmarc.SPFResult{{Domain: "bounce." + as, Result: dmarc.ResultPass}}
		sign(as, "x")
		if how == byService {
			row.DKIM = dmarc.ResultPass
			sign(t.domain, "s1")
		}
	}
	if row.DKIM != dmarc.ResultPass && row.SPF != dmarc.ResultPass {
		switch t.policy.P {
		case dmarc.PolicyQuarantine:
			row.Disposition = dmarc.DispositionQuarantine
		case dmarc.PolicyReject:
			row.Disposition = dmarc.DispositionReject
		}
	}
	for ago := from; ago > to; ago-- {
		at := today().AddDate(0, 0, -ago)
		t.facts.Add(&row, &t.policy, dmarc.Attribution{Days: []time.Time{at}, Main: at, Dated: true}, int64(1+ago%4))
	}
	return t
}

// counsel is about the domains of realistic: one that loses mail, and with it
// a hostile name; one that is done; one that is ready; one that sends nothing.
func counsel() advisers {
	acme := tell("acme.example", dmarc.PolicyNone).send("192.0.2.1", byBoth, "", 2000, 89, 0).send("192.0.2.2", bySPF, "", 300, 89, 0).
		send("203.0.113.1", byService, "newsbird.example", 900, 89, 8).send("203.0.113.1", byOther, "newsbird.example", 900, 8, 0).
		send("203.0.113.9", byService, "crm.example", 40, 89, 0).send("203.0.113.9", byOther, "crm.example", 18, 89, 0).
		send("2001:db8::7", byOther, hostile, 25, 60, 0).send("198.51.100.7", forwardedOn, "", 60, 89, 0)
	for i := range 40 {
		acme.send(fmt.Sprintf("198.51.100.%d", 100+i), byNothing, "", int64(30+i), 40-i%7, 30-i%7)
	}
	north := tell("north.example", dmarc.PolicyNone).send("192.0.2.9", byBoth, "", 700, 89, 70).send("198.51.100.9", byNothing, "", 90, 89, 70)
	north.policy.P = dmarc.PolicyQuarantine
	north.send("192.0.2.9", byBoth, "", 700, 70, 40).send("198.51.100.9", byNothing, "", 90, 70, 40)
	north.policy.P = dmarc.PolicyReject
	north.send("192.0.2.9", byBoth, "", 700, 40, 0).send("198.51.100.9", byNothing, "", 90, 40, 0)
	return advisers{
		"acme.example": acme, "north.example": north,
		"river.example":     tell("river.example", dmarc.PolicyNone).send("192.0.2.30", byBoth, "", 900, 89, 0),
		"parked.example":    tell("parked.example", dmarc.PolicyNone).send("198.51.100.44", byNothing, "", 12, 80, 77).send("198.51.100.45", byNothing, "", 7, 20, 15),
		"shop.acme.example": tell("shop.acme.example", dmarc.PolicyNone),
		"newsletter-and-transactional-mail.departments.a-rather-long-name-for-a-company.example": tell(
			"newsletter-and-transactional-mail.departments.a-rather-long-name-for-a-company.example", dmarc.PolicyQuarantine).send("192.0.2.77", byBoth, "", 40, 20, 0),
	}
}

// storm is about a domain with n senders that pass now and then, and as many
// that never do.
func storm(n int) advisers {
	t := tell("customer-0000.example", dmarc.PolicyNone)
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}).String()
		b := netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 1}).String()
		as := fmt.Sprintf("service-%d.example", i)
		t.send(a, byService, as, int64(10+i%50), 60-i%20, 57-i%20).send(a, byOther, as, 9, 40-i%20, 38-i%20).send(b, byNothing, "", 11, 30-i%20, 29-i%20)
	}
	return advisers{"customer-0000.example": t}
}

// sayings is what operators said.
type sayings struct {
	mu  sync.Mutex
	all []dmarc.Overrule
	err error
}

func (s *sayings) Overrules(_ context.Context, domain string) ([]dmarc.Overrule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []dmarc.Overrule
	for _, o := range s.all {
		if o.Domain == "" || o.Domain == domain {
			out = append(out, o)
		}
	}
	return out, s.err
}

func (s *sayings) PutOverrule(_ context.Context, o *dmarc.Overrule) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, *o)
	return true, s.err
}

func (s *sayings) DropOverrule(_ context.Context, domain string, network netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.all)
	s.all = slices.DeleteFunc(s.all, func(o dmarc.Overrule) bool { return o.Domain == domain && o.Network == network })
	if len(s.all) == n {
		return dmarc.ErrNotFound
	}
	return s.err
}

// listening is an adviser who hears what operators say.
type listening struct {
	advisers
	said *sayings
}

func (l listening) Evidence(ctx context.Context, domain string, period dmarc.Period) (*advice.Evidence, error) {
	e, err := l.advisers.Evidence(ctx, domain, period)
	if err != nil {
		return nil, err
	}
	said, err := l.said.Overrules(ctx, domain)
	for _, o := range said {
		e.Overrules = append(e.Overrules, advice.Overrule{Network: o.Network, Class: o.Class, Note: o.Note})
	}
	return e, err
}
