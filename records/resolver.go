package records

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

// A Client is a Resolver that asks a validating recursive resolver, and a
// Direct resolver. What was answered is remembered for its TTL, within a bound
// on memory; a question that several want answered is asked once.
type Client struct {
	servers []string
	wire    wire // to the resolver
	direct  wire // to other servers, which more often do not answer
	limit   *rate.Limiter
	cache   *answerCache
	asking  singleflight.Group
}

// ClientOptions are how a Client asks. Zero is a default that suits a resolver
// of one's own nearby.
type ClientOptions struct {
	Server   string        // host:port of the resolver; "": those of /etc/resolv.conf
	Timeout  time.Duration // for the first try; each further one waits longer
	Tries    int           // over UDP
	Rate     int           // questions a second
	InFlight int           // questions at a time to the resolver, and as many to other servers
	Cache    int           // octets of memory
}

// resolvConf names the system's resolvers.
const resolvConf = "/etc/resolv.conf"

// answerTime bounds the time for one answer, with all its tries and aliases.
const answerTime = time.Minute

// NewClient returns a Client. It fails where no resolver is named and the
// system has none.
func NewClient(o ClientOptions) (*Client, error) {
	or := func(n *int, usual int) {
		if *n <= 0 {
			*n = usual
		}
	}
	or(&o.Tries, 3)
	or(&o.Rate, 1000)
	or(&o.InFlight, 100)
	or(&o.Cache, 16<<20)
	if o.Timeout <= 0 {
		o.Timeout = 3 * time.Second
	}
	servers := []string{o.Server}
	if o.Server == "" {
		system, err := dns.ClientConfigFromFile(resolvConf)
		if err != nil {
			return nil, fmt.Errorf("the system's resolver: %w", err)
		}
		servers = nil
		for _, s := range system.Servers {
			servers = append(servers, net.JoinHostPort(s, system.Port))
		}
		if len(servers) == 0 {
			return nil, fmt.Errorf("the system's resolver: %s names none", resolvConf)
		}
	}
	return &Client{
		servers: servers,
		wire:    wire{timeout: o.Timeout, tries: o.Tries, inFlight: make(chan struct{}, o.InFlight)},
		direct:  wire{timeout: min(o.Timeout, 2*time.Second), tries: min(o.Tries, 2), inFlight: make(chan struct{}, o.InFlight)},
		limit:   rate.NewLimiter(rate.Limit(o.Rate), max(o.Rate/4, 1)),
		cache:   newAnswerCache(o.Cache),
	}, nil
}

// Servers returns the resolvers that are asked, as host:port.
func (c *Client) Servers() []string { return c.servers }

// Lookup is that of Resolver.
func (c *Client) Lookup(ctx context.Context, name string, qtype uint16) Answer {
	name = bareName(name)
	return c.once(ctx, question{name: name, qtype: qtype}, func(ctx context.Context) Answer {
		return c.resolve(ctx, name, qtype)
	})
}

// Ask is that of Direct.
func (c *Client) Ask(ctx context.Context, server netip.AddrPort, name string, qtype uint16) Answer {
	name = bareName(name)
	return c.once(ctx, question{name: name, qtype: qtype, server: server}, func(ctx context.Context) Answer {
		return c.askServer(ctx, server, name, qtype)
	})
}

// A question is what is asked, and of whom: no server is the resolver.
type question struct {
	name   string
	qtype  uint16
	server netip.AddrPort
	rd     bool // a server is asked to resolve
}

// once returns what is remembered, waits for somebody who is asking already,
// or asks. What is asked for one caller goes on when that caller leaves, as
// others may wait for it.
func (c *Client) once(ctx context.Context, q question, ask func(context.Context) Answer) Answer {
	if _, ok := dns.IsDomainName(dns.Fqdn(q.name)); !ok {
		return Answer{Name: q.name, Type: q.qtype, At: time.Now().UTC(), Err: "not a name that DNS can hold"}
	}
	if a, ok := c.cache.get(q, time.Now()); ok {
		return a
	}
	if err := ctx.Err(); err != nil {
		return Answer{Name: q.name, Type: q.qtype, At: time.Now().UTC(), Err: "not asked: " + err.Error()}
	}
	key := fmt.Sprintf("%s %d %s %t", q.name, q.qtype, q.server, q.rd)
	done := c.asking.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
		defer cancel()
		a := ask(ctx)
		c.cache.add(q, a, time.Now())
		return a, nil
	})
	select {
	case r := <-done:
		return r.Val.(Answer)
	case <-ctx.Done():
		return Answer{Name: q.name, Type: q.qtype, At: time.Now().UTC(), Err: "no answer: " + ctx.Err().Error()}
	}
}

// forever is longer than any TTL.
const forever = time.Duration(1 << 62)

// maxChain is how many aliases are followed.
const maxChain = 8

// resolve asks the resolver, and again for the rest of a chain of aliases that
// it did not follow to the end.
func (c *Client) resolve(ctx context.Context, name string, qtype uint16) Answer {
	a := Answer{Name: name, Type: qtype, AD: true, TTL: forever}
	for at, more := name, true; more; more = at != "" {
		r := c.exchange(ctx, &c.wire, c.servers, newQuery(at, qtype, true))
		a.take(r)
		if r.msg == nil {
			break
		}
		a.AD = a.AD && r.msg.AuthenticatedData
		at = a.read(r.msg, at)
	}
	if a.State == Failed {
		a.AD = false
	}
	if a.TTL == forever {
		a.TTL = 0
	}
	if a.Rcode == dns.RcodeServerFailure {
		c.diagnose(ctx, &a)
	}
	return a
}

// diagnose finds out what SERVFAIL hides: data that do not validate, or
// aliases in a circle.
func (c *Client) diagnose(ctx context.Context, a *Answer) {
	query := newQuery(a.Name, a.Type, true)
	query.CheckingDisabled = true
	if r := c.exchange(ctx, &c.wire, c.servers, query); r.msg != nil && (r.msg.Rcode == dns.RcodeSuccess || r.msg.Rcode == dns.RcodeNameError) {
		unchecked := Answer{Name: a.Name, Type: a.Type}
		unchecked.read(r.msg, a.Name)
		if a.Loop, a.Chain = unchecked.Loop, unchecked.Chain; !a.Loop {
			a.Bogus = invalid(a.EDE) || signed(r.msg) && c.stillFails(ctx, a)
			return
		}
	}
	if a.Type == dns.TypeCNAME {
		return
	}
	chain := []string{a.Name}
	for at := a.Name; len(chain) <= maxChain+1; {
		link := Answer{Name: at, Type: dns.TypeCNAME}
		r := c.exchange(ctx, &c.wire, c.servers, newQuery(at, dns.TypeCNAME, true))
		if r.msg == nil {
			return
		}
		link.read(r.msg, at)
		if link.State != Found {
			return
		}
		at = bareName(link.RRs[0].(*dns.CNAME).Target)
		a.Chain = append(chain, at)
		if slices.Contains(chain, at) {
			break
		}
		chain = a.Chain
	}
	a.Loop = true
}

// stillFails asks again: a server may have been away for a moment only.
func (c *Client) stillFails(ctx context.Context, a *Answer) bool {
	r := c.exchange(ctx, &c.wire, c.servers, newQuery(a.Name, a.Type, true))
	return r.msg != nil && r.msg.Rcode == dns.RcodeServerFailure
}

// invalid reports whether an extended error is about validation.
func invalid(ede string) bool {
	for _, code := range []uint16{
		dns.ExtendedErrorCodeDNSBogus, dns.ExtendedErrorCodeSignatureExpired, dns.ExtendedErrorCodeSignatureNotYetValid, dns.ExtendedErrorCodeDNSKEYMissing,
		dns.ExtendedErrorCodeRRSIGsMissing, dns.ExtendedErrorCodeNoZoneKeyBitSet, dns.ExtendedErrorCodeNSECMissing,
	} {
		if strings.Contains(ede, fmt.Sprintf("EDE %d ", code)) {
			return true
		}
	}
	return false
}

// signed reports whether there are signatures in a reply.
func signed(m *dns.Msg) bool {
	isSig := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG }
	return slices.ContainsFunc(m.Answer, isSig) || slices.ContainsFunc(m.Ns, isSig)
}

// Recurses reports whether a server resolves a name that it does not serve for
// us, as for anyone.
func (c *Client) Recurses(ctx context.Context, server netip.AddrPort, name string) bool {
	q := question{name: bareName(name), qtype: dns.TypeA, server: server, rd: true}
	a := c.once(ctx, q, func(ctx context.Context) Answer {
		a := Answer{Name: q.name, Type: q.qtype, TTL: forever}
		r := c.exchange(ctx, &c.direct, []string{server.String()}, newQuery(q.name, q.qtype, false))
		a.take(r)
		if r.msg != nil {
			a.AA, a.RA = r.msg.Authoritative, r.msg.RecursionAvailable
			a.read(r.msg, q.name)
		}
		return a
	})
	return a.State == Found && a.RA && !a.AA
}

// askServer asks a server for what it serves.
func (c *Client) askServer(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (a Answer) {
	a = Answer{Name: name, Type: qtype, TTL: forever}
	defer func() {
		if a.TTL == forever {
			a.TTL = 0
		}
	}()
	query := newQuery(name, qtype, false)
	query.RecursionDesired = false
	r := c.exchange(ctx, &c.direct, []string{server.String()}, query)
	a.take(r)
	if r.msg == nil {
		return a
	}
	a.AA, a.RA = r.msg.Authoritative, r.msg.RecursionAvailable
	next := a.read(r.msg, name)
	if a.State == Found || a.State == NXDomain || a.Rcode != dns.RcodeSuccess {
		return a
	}
	if next != "" { // the alias is all that this server knows
		a.State = NoData
		return a
	}
	for _, rr := range r.msg.Ns {
		if rr.Header().Rrtype == dns.TypeNS {
			a.Referral = append(a.Referral, rr)
		}
	}
	if a.Zone == "" && len(a.Referral) > 0 {
		a.State, a.Err = Failed, "refers to other servers"
		for _, rr := range r.msg.Extra {
			if t := rr.Header().Rrtype; t == dns.TypeA || t == dns.TypeAAAA {
				a.Referral = append(a.Referral, rr)
			}
		}
	}
	return a
}

// newQuery makes a query that asks for what DNSSEC says, if it is wanted.
func newQuery(name string, qtype uint16, dnssec bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	m.AuthenticatedData = dnssec
	m.SetEdns0(udpSize, dnssec)
	return m
}

// exchange waits for its turn, and asks.
func (c *Client) exchange(ctx context.Context, w *wire, servers []string, query *dns.Msg) reply {
	select {
	case w.inFlight <- struct{}{}:
		defer func() { <-w.inFlight }()
	case <-ctx.Done():
		return reply{err: "not asked: " + ctx.Err().Error()}
	}
	if err := c.limit.Wait(ctx); err != nil {
		return reply{err: "not asked: " + err.Error()}
	}
	return w.exchange(ctx, servers, query)
}

// take fills in how a reply came.
func (a *Answer) take(r reply) {
	a.At, a.Server, a.Err = time.Now().UTC(), r.server, r.err
	a.Truncated = a.Truncated || r.truncated
	a.TCPFailed = r.tcpFailed
	a.EDE = r.ede
	if r.msg != nil {
		a.Rcode = r.msg.Rcode
	}
}

// maxRecords bounds how many records of an answer are kept.
const maxRecords = 1000

// read fills in what a reply says about a name. It returns the name to ask
// next where a chain of aliases goes on beyond the reply, or "".
func (a *Answer) read(m *dns.Msg, name string) (next string) {
	a.State, a.RRs, a.Zone = Failed, nil, ""
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return ""
	}
	aliases := map[string]*dns.CNAME{}
	held := map[string][]dns.RR{}
	sigs := map[string]*dns.RRSIG{}
	visible := dns.Msg{Question: m.Question, Compress: true} // without what only DNSSEC adds
	for _, rr := range m.Answer {
		owner := bareName(rr.Header().Name)
		if sig, ok := rr.(*dns.RRSIG); ok && a.Type != dns.TypeRRSIG {
			if last := sigs[owner]; sig.TypeCovered == a.Type && (last == nil || sig.Expiration > last.Expiration) {
				sigs[owner] = sig
			}
			continue
		}
		visible.Answer = append(visible.Answer, rr)
		if rr.Header().Rrtype == a.Type {
			held[owner] = append(held[owner], rr)
		} else if alias, ok := rr.(*dns.CNAME); ok {
			aliases[owner] = alias
		}
	}
	a.Size = visible.Len() + ednsSize
	follow := func(ttl uint32) { a.TTL = min(a.TTL, time.Duration(ttl)*time.Second) }
	at := name
	for {
		if rrs := held[at]; len(rrs) > 0 {
			if len(rrs) > maxRecords {
				a.Err = fmt.Sprintf("%d records, more than can be meant", len(rrs))
				return ""
			}
			for _, rr := range rrs {
				follow(rr.Header().Ttl)
			}
			a.State, a.RRs = Found, rrs
			if sig := sigs[at]; sig != nil {
				a.SigBegins, a.SigEnds = time.Unix(int64(sig.Inception), 0).UTC(), time.Unix(int64(sig.Expiration), 0).UTC()
			}
			return ""
		}
		alias := aliases[at]
		if alias == nil {
			break
		}
		if a.Chain == nil {
			a.Chain = []string{at}
		}
		follow(alias.Hdr.Ttl)
		at = bareName(alias.Target)
		loop := slices.Contains(a.Chain, at)
		a.Chain = append(a.Chain, at)
		if loop || len(a.Chain) > maxChain+1 {
			a.Loop = true
			return ""
		}
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			a.Zone = bareName(soa.Hdr.Name)
			follow(min(soa.Hdr.Ttl, soa.Minttl))
		}
	}
	switch {
	case m.Rcode == dns.RcodeNameError:
		a.State = NXDomain
	case at != name && a.Zone == "":
		return at
	default:
		a.State = NoData
	}
	return ""
}

// address returns a host:port as an address, for a Direct resolver.
func address(addr netip.Addr) netip.AddrPort { return netip.AddrPortFrom(addr.Unmap(), 53) }

// plainText makes what a stranger wrote into one line of printing characters.
func plainText(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}
