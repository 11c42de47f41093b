package records

import (
	"context"
	"sync"
	"time"
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
	Now     time.Time
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
}

// Lookup looks up what a domain publishes. Lookups run side by side; the work
// for one domain is bounded. An error means that the domain is not a name, or that ctx
// has ended; everything else is found in the answers.
// Lookup looks up what a domain publishes. Lookups run side by side, and the
// work for one domain is bounded. An error means that the domain is no name, or that
// ctx has ended; everything else is found in the answers.
func Lookup(ctx context.Context, domain string, o Options) (*Published, error) {
	g := &gatherer{o: o, p: &Published{Domain: domain, At: o.Now, Sends: o.Sends}}
	var wg sync.WaitGroup
	for _, kind := range kinds {
		wg.Go(func() { kind.gather(ctx, g) })
	}
	wg.Wait()
	return g.p, ctx.Err()
}

// Check judges what was found, by kind of record. It is pure.
func Check(p *Published) []Finding {
	var all []Finding
	for _, kind := range kinds {
		all = append(all, kind.check(p)...)
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
	{gatherBIMI, checkBIMI}, {gatherCAA, checkCAA},
}

// A gatherer asks what Lookup wants to know.
type gatherer struct {
	o Options
	p *Published
}

// ask asks a question, once for a domain however many want to know, and
// within the bound on work.
func (g *gatherer) ask(ctx context.Context, name string, qtype uint16) Answer {
	return g.o.Resolver.Lookup(ctx, name, qtype)
}
