package records

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"

	"github.com/dmarcd/dmarcd/dmarc"
)

// The limits of a check (RFC 7208, section 4.6.4).
const (
	spfLookups = 10
	spfVoids   = 2
	spfHosts   = 10 // of an mx term, and of the names of an address
)

// SPFOptions are what macros of explanations say about the receiver.
type SPFOptions struct {
	Receiver string    // its name; "" is written as unknown
	Now      time.Time // when the mail came
}

// An SPFVerdict is what a receiver finds for one message.
type SPFVerdict struct {
	Result      dmarc.Result
	Term        string // that matched, "" if none did
	Holder      string // the domain whose record holds Term
	Reason      string // of a temperror or permerror, and of none
	Explanation string // of a fail, if the domain publishes one
	Lookups     int    // terms that were looked up
	Voids       int    // those of them that found nothing
}

// checkHost is check_host() of RFC 7208, section 4: it checks an address for
// the domain of sender, or for helo if sender is "". As a receiver does, it
// stops at the first term that matches. It asks a bounded number of questions;
// the end of ctx is a temperror.
func checkHost(ctx context.Context, r Resolver, ip netip.Addr, helo, sender string, o SPFOptions) SPFVerdict {
	e := &spfEvaluation{ctx: ctx, r: r, ip: ip.Unmap(), helo: helo, o: o}
	local, domain, ok := cutLast(sender, "@")
	if !ok {
		domain = sender
	}
	if domain == "" {
		domain = strings.TrimSuffix(helo, ".")
	}
	if local == "" {
		local = "postmaster"
	}
	e.local, e.domain = local, domain
	name, err := idna.Lookup.ToASCII(domain)
	if err != nil { // names of hosts only; others, with underscores, can be asked for, too
		name = strings.ToLower(domain)
	}
	name = strings.TrimSuffix(name, ".")
	if !ip.IsValid() || !isDNSName(name) || !strings.Contains(name, ".") || strings.ContainsAny(name, "[] ") || !isASCII(name) {
		return SPFVerdict{Result: dmarc.ResultNone, Reason: fmt.Sprintf("%q is not the name of a domain", domain)}
	}
	v := e.check(name, true)
	v.Lookups, v.Voids = e.lookups, e.voids
	return v
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

func isASCII(s string) bool {
	for _, c := range []byte(s) {
		if c >= 0x80 || c < ' ' {
			return false
		}
	}
	return true
}

// A spfEvaluation is one run of check_host().
type spfEvaluation struct {
	ctx            context.Context
	r              Resolver
	ip             netip.Addr
	helo           string
	local, domain  string // of the sender
	o              SPFOptions
	lookups, voids int
	named          bool     // reverse and names are known
	reverse        Answer   // PTR of ip
	names          []string // of ip, confirmed
}

// A spfError ends an evaluation.
type spfError struct {
	result dmarc.Result
	reason string
}

func (e *spfError) Error() string { return e.reason }

func permError(format string, args ...any) error {
	return &spfError{dmarc.ResultPermError, fmt.Sprintf(format, args...)}
}

func tempError(a *Answer) error {
	return &spfError{dmarc.ResultTempError, fmt.Sprintf("%s %s: %s", a.Name, dns.TypeToString[a.Type], a.why())}
}

// why says why there is no answer.
func (a *Answer) why() string { return strings.TrimSpace(whyFailed(*a) + " " + a.EDE) }

func (v *SPFVerdict) set(err error) SPFVerdict {
	e := err.(*spfError)
	v.Result, v.Reason = e.result, e.reason
	return *v
}

// check evaluates the record of a domain.
func (e *spfEvaluation) check(domain string, explain bool) (v SPFVerdict) {
	if err := e.ctx.Err(); err != nil {
		return SPFVerdict{Result: dmarc.ResultTempError, Reason: err.Error()}
	}
	a := e.r.Lookup(e.ctx, domain, dns.TypeTXT)
	if a.State == Failed {
		return v.set(tempError(&a))
	}
	records := spfRecords(&a)
	switch len(records) {
	case 1:
	case 0:
		return SPFVerdict{Result: dmarc.ResultNone, Reason: domain + " has no SPF record"}
	default:
		return v.set(permError("%s has %d SPF records", domain, len(records)))
	}
	record := parseSPF(records[0])
	if !record.valid() {
		p := record.Problems[0]
		for i := range record.Problems {
			if !record.Problems[i].Harmless {
				p = record.Problems[i]
				break
			}
		}
		return v.set(permError("%s: %q at position %d: %s", domain, p.Term, p.Pos, p.Why))
	}
	for i := range record.Terms {
		t := &record.Terms[i]
		if t.modifier() {
			continue
		}
		matches, err := e.match(domain, t)
		if err != nil {
			return v.set(err)
		}
		if !matches {
			continue
		}
		v.Term, v.Holder, v.Result = t.Text, domain, qualified(t.Qualifier)
		if v.Result == dmarc.ResultFail && explain {
			v.Explanation = e.explanation(domain, record)
		}
		return v
	}
	if t := record.term("redirect"); t != nil {
		if err := e.count(); err != nil {
			return v.set(err)
		}
		target, ok := e.target(domain, t)
		if !ok {
			return v.set(permError("%s: %q leads to no domain", domain, t.Text))
		}
		v = e.check(target, explain)
		if v.Result == dmarc.ResultNone {
			return v.set(permError("%s: %q leads to no SPF record", domain, t.Text))
		}
		return v
	}
	v.Result = dmarc.ResultNeutral
	return v
}

func qualified(q byte) dmarc.Result {
	switch q {
	case '-':
		return dmarc.ResultFail
	case '~':
		return dmarc.ResultSoftFail
	case '?':
		return dmarc.ResultNeutral
	}
	return dmarc.ResultPass
}

// spfRecords returns the SPF records of an answer, as character-strings.
func spfRecords(a *Answer) [][]string {
	var records [][]string
	for _, strs := range txtStrings(a) {
		if isSPF(strings.Join(strs, "")) {
			records = append(records, strs)
		}
	}
	return records
}

// txtStrings returns the character-strings of the TXT records of an answer, as
// they are on the wire.
func txtStrings(a *Answer) [][]string {
	var all [][]string
	for _, rr := range a.RRs {
		var strs []string
		switch rr := rr.(type) {
		case *dns.TXT:
			strs = rr.Txt
		case *dns.SPF:
			strs = rr.Txt
		default:
			continue
		}
		plain := make([]string, len(strs))
		for i, s := range strs {
			plain[i] = unescapeText(s)
		}
		all = append(all, plain)
	}
	return all
}

// count counts a term that is looked up.
func (e *spfEvaluation) count() error {
	if e.lookups++; e.lookups > spfLookups {
		return permError("more than %d terms have to be looked up", spfLookups)
	}
	return nil
}

// void counts a term that found nothing.
func (e *spfEvaluation) void(a *Answer) error {
	if !a.Absent() {
		return nil
	}
	if e.voids++; e.voids > spfVoids {
		return permError("more than %d terms find nothing", spfVoids)
	}
	return nil
}

// ask asks what a term needs. It fails where there is no answer, and where too
// many answers are empty.
func (e *spfEvaluation) ask(name string, qtype uint16) (Answer, error) {
	a := e.r.Lookup(e.ctx, name, qtype)
	if a.State == Failed {
		return a, tempError(&a)
	}
	return a, e.void(&a)
}

// target returns the domain that a term is about; false if no question can be
// asked for it, so that it cannot match.
func (e *spfEvaluation) target(domain string, t *SPFTerm) (string, bool) {
	if t.Domain == "" {
		return domain, true
	}
	name, err := expandMacros(t.Domain, false, e.value(domain))
	if err != nil {
		return "", false
	}
	return expandedName(name)
}

// match reports whether a mechanism matches.
func (e *spfEvaluation) match(domain string, t *SPFTerm) (bool, error) {
	switch t.Name {
	case "all":
		return true, nil
	case "ip4", "ip6":
		return t.Net.Masked().Contains(e.ip), nil
	}
	if err := e.count(); err != nil {
		return false, err
	}
	target, ok := e.target(domain, t)
	if !ok {
		if t.Name == "include" {
			return false, permError("%s: %q leads to no domain", domain, t.Text)
		}
		return false, nil
	}
	switch t.Name {
	case "include":
		return e.matchInclude(domain, target, t)
	case "a":
		return e.matchHost(target, t, true)
	case "mx":
		a, err := e.ask(target, dns.TypeMX)
		if err != nil {
			return false, err
		}
		hosts := mxHosts(&a)
		if len(hosts) > spfHosts {
			return false, permError("%s: %q names more than %d mail hosts", domain, t.Text, spfHosts)
		}
		for _, host := range hosts {
			if ok, err := e.matchHost(host, t, false); ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	case "exists":
		a, err := e.ask(target, dns.TypeA)
		return a.State == Found, err
	case "ptr":
		names := e.confirmed()
		if err := e.void(&e.reverse); err != nil {
			return false, err
		}
		for _, name := range names {
			if name == target || strings.HasSuffix(name, "."+target) {
				return true, nil
			}
		}
		return false, nil
	}
	return false, permError("%s: %q is no mechanism", domain, t.Text)
}

func (e *spfEvaluation) matchInclude(domain, target string, t *SPFTerm) (bool, error) {
	v := e.check(target, false)
	switch v.Result {
	case dmarc.ResultPass:
		return true, nil
	case dmarc.ResultTempError, dmarc.ResultPermError:
		return false, &spfError{v.Result, v.Reason}
	case dmarc.ResultNone:
		return false, permError("%s: %q leads to no SPF record", domain, t.Text)
	}
	return false, nil
}

// mxHosts returns the mail hosts of an answer, without that of a null MX.
func mxHosts(a *Answer) []string {
	var hosts []string
	for _, rr := range a.RRs {
		if mx, ok := rr.(*dns.MX); ok {
			if host := strings.ToLower(strings.TrimSuffix(mx.Mx, ".")); isDNSName(host) {
				hosts = append(hosts, host)
			}
		}
	}
	return hosts
}

// matchHost compares the address with those of a host. The hosts of an mx term
// count neither as lookups nor as void ones.
func (e *spfEvaluation) matchHost(host string, t *SPFTerm, counted bool) (bool, error) {
	qtype, bits := dns.TypeA, t.Bits4
	if e.ip.Is6() {
		qtype, bits = dns.TypeAAAA, t.Bits6
	}
	a := e.r.Lookup(e.ctx, host, qtype)
	if a.State == Failed {
		return false, tempError(&a)
	}
	if counted {
		if err := e.void(&a); err != nil {
			return false, err
		}
	}
	for _, addr := range addresses(a) {
		if netip.PrefixFrom(addr, bits).Masked().Contains(e.ip) {
			return true, nil
		}
	}
	return false, nil
}

// confirmed returns the names of the address that lead back to it (RFC 7208,
// section 5.5). Failures are not errors there: it has fewer names then.
func (e *spfEvaluation) confirmed() []string {
	if e.named {
		return e.names
	}
	e.named = true
	reverse, err := dns.ReverseAddr(e.ip.String())
	if err != nil {
		return nil
	}
	e.reverse = e.r.Lookup(e.ctx, strings.TrimSuffix(reverse, "."), dns.TypePTR)
	qtype := dns.TypeA
	if e.ip.Is6() {
		qtype = dns.TypeAAAA
	}
	for i, rr := range e.reverse.RRs {
		ptr, ok := rr.(*dns.PTR)
		if !ok || i >= spfHosts {
			continue
		}
		name := strings.ToLower(strings.TrimSuffix(ptr.Ptr, "."))
		if !isDNSName(name) {
			continue
		}
		forward := e.r.Lookup(e.ctx, name, qtype)
		for _, addr := range addresses(forward) {
			if addr == e.ip {
				e.names = append(e.names, name)
				break
			}
		}
	}
	return e.names
}

// value returns what macros stand for in the record of a domain.
func (e *spfEvaluation) value(domain string) func(letter byte) string {
	return func(letter byte) string {
		switch letter {
		case 's':
			return e.local + "@" + e.domain
		case 'l':
			return e.local
		case 'o':
			return e.domain
		case 'd':
			return domain
		case 'i':
			return macroAddr(e.ip)
		case 'p':
			return e.validated(domain)
		case 'v':
			if e.ip.Is4() {
				return "in-addr"
			}
			return "ip6"
		case 'h':
			return e.helo
		case 'c':
			return e.ip.String()
		case 'r':
			if e.o.Receiver == "" {
				return "unknown"
			}
			return e.o.Receiver
		case 't':
			return strconv.FormatInt(e.o.Now.Unix(), 10)
		}
		return ""
	}
}

// validated is the macro p: the domain, a name below it, or any name that the
// address confirms.
func (e *spfEvaluation) validated(domain string) string {
	names := e.confirmed()
	for _, name := range names {
		if name == domain {
			return name
		}
	}
	for _, name := range names {
		if strings.HasSuffix(name, "."+domain) {
			return name
		}
	}
	if len(names) > 0 {
		return names[0]
	}
	return "unknown"
}

// explanation returns what the domain says about a fail, or "" (RFC 7208,
// section 6.2): nothing that goes wrong there is an error.
func (e *spfEvaluation) explanation(domain string, record *SPFRecord) string {
	t := record.term("exp")
	if t == nil {
		return ""
	}
	target, ok := e.target(domain, t)
	if !ok {
		return ""
	}
	a := e.r.Lookup(e.ctx, target, dns.TypeTXT)
	texts := txtStrings(&a)
	if len(texts) != 1 {
		return ""
	}
	text, err := expandMacros(strings.Join(texts[0], ""), true, e.value(domain))
	if err != nil || !isASCII(text) {
		return ""
	}
	return text
}
