package records

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Options are what a lookup is told beside the domain.
type Options struct {
	Resolver Resolver
	Direct   Direct  // nil: the checks that ask name servers themselves are not made
	Fetcher  Fetcher // nil: policies that are served over HTTPS are not fetched
	// Selectors are the DKIM selectors to look at, with what is known of them.
	Selectors []Selector
	// Senders are the addresses that are known to send for the domain, and
	// the names they say in HELO; "" if that is not known.
	Senders []Sender
	Sends   Sending // whether the domain sends mail, as far as that is known
	// Authors are subdomains that own mail names in From; the first are asked
	// for, whether they exist.
	Authors []string
	// ReportAddresses are our own mail addresses that reports are sent to.
	ReportAddresses []string
	// Reported is what reports tell of a domain's mail; nil for nothing.
	Reported *Reported
	// Memory is what the look before left; nil where nobody remembers looks.
	Memory *Memory
	// RandomLabel is a label that nobody publishes, to find wildcards with;
	// "": one is made up.
	RandomLabel string
	// MXHosts are the mail hosts that the operator named; "*.example.com" is
	// any host one label below. None: any host may be an MX.
	MXHosts []string
	Probe   Probe          // nil: no server is connected to
	Roots   *x509.CertPool // of authorities that senders trust; nil: those of this machine
	Traffic Traffic        // what reports tell of the mail
	// Documentation addresses (RFC 5737, RFC 3849) are taken for public ones:
	// for tests.
	Documentation bool
	Now           time.Time
}

// Sending tells whether a domain sends mail.
type Sending uint8

// What is known about a domain's mail.
const (
	SendingUnknown Sending = iota
	SendingYes
	SendingNo
)

// Published is all that was found for a domain: the input of Check. It holds
// answers and what was read from them, and no judgement.
type Published struct {
	Domain string // lower-case A-label
	At     time.Time
	Sends  Sending

	Name   NameFound   // the domain itself, delegation, SOA, DNSSEC
	MX     MXFound     // mail hosts and their addresses
	Hosts  HostsFound  // PTR and forward confirmation
	SPF    SPFFound    // the whole tree
	DKIM   DKIMFound   // a key for each selector
	DMARC  DMARCFound  // the walk, and the authorisation of report destinations
	MTASTS MTASTSFound // record and policy
	TLSRPT TLSRPTFound
	DANE   DANEFound
	BIMI   BIMIFound
	CAA    CAAFound
	Bulk   BulkFound

	Authors []Author // subdomains that mail names

	Alignment AlignmentFound // of the mail that reports tell of

	Reported *Reported // what Lookup was told
	memory   *Memory   // likewise

	Failed  []Answer    // lookups that failed for now
	Records []RecordSet // all that was answered, by name and type
}

// Lookup looks up what a domain publishes. Lookups run side by side, and the
// work for one domain is bounded. A domain that is no name is told by
// Published.Name; an error means that ctx has ended. Everything else is found
// in the answers.
func Lookup(ctx context.Context, domain string, o Options) (*Published, error) {
	g := newGatherer(domain, o)
	if g.p.Name.Invalid != "" {
		return g.p, ctx.Err()
	}
	var wg sync.WaitGroup
	for _, kind := range kinds {
		wg.Go(func() { kind.gather(ctx, g) })
	}
	wg.Wait()
	g.p.Failed, g.p.Records = g.failed(), g.snapshot()
	return g.p, ctx.Err()
}

// Check judges what was found, by kind of record. It is pure. Of a domain that
// does not exist, or is no name, nothing else is judged. Of one check there are
// at most maxFindings, those that were found first.
func Check(p *Published) []Finding {
	if p.Name.Invalid != "" || p.Name.nonexistent() {
		return checkName(p)
	}
	var all []Finding
	// A lookup that failed is told of once, whoever wanted it, and not at all
	// where checkName says what is behind it.
	failed := map[string]bool{}
	explained := func(f *Finding) bool {
		return slices.ContainsFunc(p.Failed, func(a Answer) bool {
			return a.Name == f.Subject && dns.TypeToString[a.Type] == f.Value("type") && (a.Bogus || a.Loop || a.TCPFailed)
		})
	}
	told := map[string]int{}
	for _, kind := range kinds {
		for _, f := range kind.check(p) {
			if told[f.ID] == maxFindings {
				continue
			}
			if f.ID == "dns.lookup_failed" {
				key := f.Subject + " " + f.Value("type") + " " + f.Value("rcode")
				if failed[key] || explained(&f) {
					continue
				}
				failed[key] = true
			}
			told[f.ID]++
			all = append(all, f)
		}
	}
	return all
}

// A kind of record: how it is looked up and how it is judged. Each file adds
// what it knows.
type kind struct {
	// gather fills in a field of g.p that no other kind writes. It may ask
	// what others ask, too: a question is asked once.
	gather func(ctx context.Context, g *gatherer)
	// check reads all of what was found.
	check func(p *Published) []Finding
}

// kinds is in the order of findings.
var kinds = []kind{
	{gatherName, checkName}, {gatherMX, checkMX}, {gatherHosts, checkHosts}, {gatherSPF, checkSPF}, {gatherDKIM, checkDKIM},
	{gatherDMARC, checkDMARC}, {gatherMTASTS, checkMTASTS}, {gatherTLSRPT, checkTLSRPT}, {gatherDANE, checkDANE},
	{gatherBIMI, checkBIMI}, {gatherCAA, checkCAA}, {gatherAuthors, checkAuthors},
	{gatherAlignment, checkAlignment}, {gatherBulk, checkBulk}, {gatherParked, checkParked}, {gatherEvidence, checkEvidence},
}

// Bounds on the work for one domain.
const (
	maxQuestions = 300 // to the resolver
	maxAsked     = 200 // to name servers
	maxFailed    = 20  // failed answers that are kept
	maxFindings  = 50  // of one check
)

// A gatherer asks what Lookup wants to know. A question is asked once for a
// domain, however many want to know.
type gatherer struct {
	o Options
	p *Published

	mu       sync.Mutex
	answers  map[question]*pending
	resolver int // questions to the resolver
	direct   int // questions to name servers
}

// A pending answer is there once done is closed.
type pending struct {
	done   chan struct{}
	answer Answer
}

func newGatherer(domain string, o Options) *gatherer {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	g := &gatherer{o: o, p: &Published{At: o.Now.UTC(), Sends: o.Sends, memory: o.Memory}, answers: map[question]*pending{}}
	var err error
	if g.p.Domain, err = domainName(domain); err != nil {
		g.p.Domain, g.p.Name.Invalid = domain, err.Error()
	}
	return g
}

// ask asks a question, once for a domain however many want to know, and
// within the bound on work.
func (g *gatherer) ask(ctx context.Context, name string, qtype uint16) Answer {
	name = bareName(name)
	return g.once(question{name: name, qtype: qtype}, &g.resolver, maxQuestions, func() Answer {
		return g.o.Resolver.Lookup(ctx, name, qtype)
	})
}

// askServer asks a name server directly, like ask.
func (g *gatherer) askServer(ctx context.Context, server netip.AddrPort, name string, qtype uint16) Answer {
	name = bareName(name)
	return g.once(question{name: name, qtype: qtype, server: server}, &g.direct, maxAsked, func() Answer {
		return g.o.Direct.Ask(ctx, server, name, qtype)
	})
}

func (g *gatherer) once(q question, asked *int, limit int, ask func() Answer) Answer {
	g.mu.Lock()
	a, ok := g.answers[q]
	if !ok {
		if *asked >= limit {
			g.mu.Unlock()
			return Answer{Name: q.name, Type: q.qtype, At: g.p.At, Err: fmt.Sprintf("not asked: this domain takes more than %d questions", limit)}
		}
		*asked++
		a = &pending{done: make(chan struct{})}
		g.answers[q] = a
		g.mu.Unlock()
		a.answer = ask()
		close(a.done)
		return a.answer
	}
	g.mu.Unlock()
	<-a.done
	return a.answer
}

// failed returns the answers of the resolver that failed, in the order of
// names.
func (g *gatherer) failed() []Answer {
	var all []Answer
	for q, a := range g.answers {
		if !q.server.IsValid() && a.answer.State == Failed {
			all = append(all, a.answer)
		}
	}
	slices.SortFunc(all, func(a, b Answer) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
	})
	return all[:min(len(all), maxFailed)]
}
