package sample

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A sender sends mail in the name of a domain, rightly or not.
type sender struct {
	perDay   float64 // messages to all reporters on a working day
	weekend  float64 // share of that on Saturdays and Sundays; 0 means a third
	growth   float64 // by which it grows over 90 days; 0.5 is by half
	peaks    []time.Weekday
	monthEnd bool
	// since and until are ages in days: from the one on, up to and without
	// the other. 0 means always.
	since, until int

	addrs []netip.Addr
	hosts int // how many addresses of strangers, instead of addrs

	from     string // author domain
	mailFrom string // "" for the null sender
	made     bool   // the author domain does not exist
	dkim     []dmarc.DKIMResult
	spf      []dmarc.SPFResult
	way      way
}

// A way is how mail comes to a reporter.
type way uint8

const (
	direct way = iota
	forwarded
	listed // through a mailing list that changes it
	forged
)

// ownServers are servers of the domain: DKIM by two keys, and SPF.
func ownServers(name string, perDay float64, servers ...string) sender {
	s := sender{
		perDay: perDay, from: name, mailFrom: name,
		dkim: []dmarc.DKIMResult{signed(name, "r2026"), signed(name, "e2026")},
		spf:  []dmarc.SPFResult{{Domain: name, Scope: "mfrom", Result: dmarc.ResultPass}},
	}
	for _, a := range servers {
		s.addrs = append(s.addrs, netip.MustParseAddr(a))
	}
	return s
}

// service is a firm that sends for the domain from n addresses. Its bounces go
// to itself, so only DKIM can be aligned, and is if it has a selector of the
// domain.
func service(name, firm, selector string, perDay float64, first string, n int) sender {
	bounces := "bounce." + firm
	s := sender{
		perDay: perDay, weekend: 0.2, from: name, mailFrom: bounces,
		dkim: []dmarc.DKIMResult{signed(firm, "mta1")},
		spf:  []dmarc.SPFResult{{Domain: bounces, Scope: "mfrom", Result: dmarc.ResultPass}},
	}
	if selector != "" {
		s.dkim = []dmarc.DKIMResult{signed(name, selector), signed(firm, "mta1")}
	}
	s.addrs = following(first, n)
	return s
}

// withoutKey is a service whose DKIM key of the domain is gone from DNS.
func withoutKey(s sender) sender {
	s.dkim = append([]dmarc.DKIMResult(nil), s.dkim...)
	s.dkim[0].Result, s.dkim[0].Human = dmarc.ResultPermError, "no key for signature"
	return s
}

// forwarders pass mail on as it is: DKIM survives, SPF does not.
func forwarders(name string, perDay float64) sender {
	return sender{
		perDay: perDay, weekend: 0.6, from: name, mailFrom: name, way: forwarded,
		addrs: append(following("203.0.113.20", 4), netip.MustParseAddr("2001:db8:f0::1"), netip.MustParseAddr("2001:db8:f0::2")),
		dkim:  []dmarc.DKIMResult{signed(name, "r2026")},
		spf:   []dmarc.SPFResult{{Domain: name, Scope: "mfrom", Result: dmarc.ResultSoftFail}},
	}
}

// lists change what they pass on: neither signature nor sender survive.
func lists(name string, perDay float64) sender {
	const list = "lists.gardenclub.example"
	broken := signed(name, "r2026")
	broken.Result, broken.Human = dmarc.ResultFail, "body hash did not verify"
	return sender{
		perDay: perDay, weekend: 0.7, from: name, mailFrom: list, way: listed,
		addrs: following("203.0.113.200", 2),
		dkim:  []dmarc.DKIMResult{broken, signed(list, "list")},
		spf:   []dmarc.SPFResult{{Domain: list, Scope: "mfrom", Result: dmarc.ResultPass}},
	}
}

// spoofers are strangers on many addresses, day by day.
func spoofers(name string, perDay float64, hosts int) sender {
	return sender{
		perDay: perDay, weekend: 0.9, from: name, mailFrom: name, way: forged, hosts: hosts,
		spf: []dmarc.SPFResult{{Domain: name, Scope: "mfrom", Result: dmarc.ResultFail}},
	}
}

// campaign is spoofers for a few days, from an age on, with a sender of their
// own.
func campaign(name string, age, days int, perDay float64, hosts int) sender {
	const bulk = "bulk-offers.example"
	s := spoofers(name, perDay, hosts)
	s.since, s.until, s.weekend, s.mailFrom = age, age-days, 1, bulk
	s.spf = []dmarc.SPFResult{{Domain: bulk, Scope: "mfrom", Result: dmarc.ResultNone}}
	if age%2 == 0 {
		s.spf[0].Result = dmarc.ResultPass
		s.dkim = []dmarc.DKIMResult{signed(bulk, "k1")}
	}
	return s
}

func signed(domain, selector string) dmarc.DKIMResult {
	return dmarc.DKIMResult{Domain: domain, Selector: selector, Result: dmarc.ResultPass}
}

// following returns n addresses from the first on.
func following(first string, n int) []netip.Addr {
	addrs := make([]netip.Addr, n)
	a := netip.MustParseAddr(first)
	for i := range addrs {
		addrs[i] = a
		a = a.Next()
	}
	return addrs
}

// messages returns how many messages to expect of the sender in a period, to
// all reporters.
func (s *sender) messages(sc *scene, p dmarc.Period) float64 {
	sum := 0.0
	for day := p.Begin.Truncate(aDay); day.Before(p.End); day = day.Add(aDay) {
		from, to := day, day.Add(aDay)
		if from.Before(p.Begin) {
			from = p.Begin
		}
		if to.After(p.End) {
			to = p.End
		}
		sum += s.rate(sc.age(day), day) * float64(to.Sub(from)) / float64(aDay)
	}
	return sum
}

// rate returns how many messages to expect on a day.
func (s *sender) rate(age int, day time.Time) float64 {
	if s.since > 0 && age > s.since || s.until > 0 && age <= s.until {
		return 0
	}
	n := s.perDay * (1 + s.growth*float64(90-age)/90)
	switch day.Weekday() {
	case time.Saturday, time.Sunday:
		if s.weekend > 0 {
			n *= s.weekend
		} else {
			n /= 3
		}
	}
	for _, peak := range s.peaks {
		if day.Weekday() == peak {
			n *= 2.5
		}
	}
	if s.monthEnd && day.AddDate(0, 0, 2).Month() != day.Month() {
		n *= 4
	}
	return max(n, 0)
}

// stranger returns one of the addresses of forgers.
func stranger(rnd *rand.Rand, key uint64, hosts int) netip.Addr {
	h := mix(key + uint64(rnd.IntN(hosts)))
	if h&1 == 0 {
		return netip.AddrFrom4([4]byte{198, 18 + byte(h>>1&1), byte(h >> 8), byte(h >> 16)})
	}
	return netip.AddrFrom4([4]byte{100, 64 + byte(h>>1&63), byte(h >> 8), byte(h >> 16)})
}

// some returns a random number of events where mean are expected.
func some(rnd *rand.Rand, mean float64) int64 {
	switch {
	case mean <= 0:
		return 0
	case mean > 30:
		// Traffic varies by more than chance alone.
		spread := math.Sqrt(mean) + 0.08*mean
		return max(0, int64(math.Round(mean+spread*rnd.NormFloat64())))
	}
	n, p := int64(-1), 1.0
	for limit := math.Exp(-mean); p > limit; n++ {
		p *= rnd.Float64()
	}
	return n
}

// seed returns a number that depends on all of the words.
func seed(n uint64, words ...string) uint64 {
	h := fnv.New64a()
	for _, w := range words {
		h.Write([]byte(w))
		h.Write([]byte{0})
	}
	return mix(n ^ h.Sum64())
}

// mix scatters numbers (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
