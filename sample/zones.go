package sample

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
)

// zoneFile returns what the domains of a mailbox publish at its end, as a zone
// file: what their reports would lead one to expect, with the mistakes that
// belong to their stories.
func zoneFile(opts Options) string {
	z := &zones{seen: map[string]bool{}}
	for _, firm := range []struct{ name, nets string }{
		{"mailgarden.example", "ip4:198.51.100.16/28"}, {"rolodeck.example", "ip4:198.51.100.40/29"}, {"answerline.example", "ip4:198.51.100.48/29"},
		{"paperplane.example", "ip4:198.51.100.64/29"}, {"newsbird.example", "ip4:198.51.100.80/29"}, {"oldcrm.example", "a:out1.oldcrm.example a:out2.oldcrm.example mx"},
	} {
		z.zone(firm.name)
		z.add(firm.name, "MX 10 mx."+firm.name+".")
		z.add("mx."+firm.name, "A 203.0.113.250")
		z.text("_spf."+firm.name, "v=spf1 "+firm.nets+" -all")
		z.text("bounce."+firm.name, "v=spf1 "+firm.nets+" -all")
	}
	z.add("out1.oldcrm.example", "A 203.0.113.241")
	z.add("out2.oldcrm.example", "A 203.0.113.242")
	z.add("ns1.namehouse.example", "A 192.0.2.241")
	z.add("ns2.namehouse.example", "A 203.0.113.244")
	z.zone("namehouse.example")
	z.add("namehouse.example", "MX 10 ns2.namehouse.example.")
	for i, d := range newScene(opts.withDefaults()).domains {
		z.domain(d, i)
	}
	return z.b.String()
}

type zones struct {
	b    strings.Builder
	seen map[string]bool // lines, so that none is there twice
}

func (z *zones) add(name, record string) {
	line := name + ". " + record + "\n"
	if !z.seen[line] {
		z.seen[line] = true
		z.b.WriteString(line)
	}
}

// text adds a TXT record, in strings of 255 octets.
func (z *zones) text(name, text string) {
	var parts []string
	for part := range slices.Chunk([]byte(text), 255) {
		parts = append(parts, `"`+string(part)+`"`)
	}
	z.add(name, "TXT "+strings.Join(parts, " "))
}

func (z *zones) zone(name string) {
	z.add(name, "SOA ns1.namehouse.example. hostmaster.namehouse.example. 2026112301 7200 3600 1209600 3600")
	z.add(name, "NS ns1.namehouse.example.")
	z.add(name, "NS ns2.namehouse.example.")
}

// domain publishes what a domain of the scene needs today.
func (z *zones) domain(d *domain, number int) {
	z.zone(d.name)
	policy := d.policy(0)
	tags := []string{"v=DMARC1", "p=" + policy.P.String()}
	add := func(name, value string) {
		if value != "" {
			tags = append(tags, name+"="+value)
		}
	}
	add("sp", policy.SP.String())
	add("np", policy.NP.String())
	if policy.ADKIM == dmarc.AlignmentStrict {
		add("adkim", "s")
		add("aspf", "s")
	}
	if policy.Testing != nil && *policy.Testing {
		add("t", "y")
	}
	reports := d.name
	if d.story == "parked" { // it takes no mail itself
		reports = "namehouse.example"
		z.text(d.name+"._report._dmarc."+reports, "v=DMARC1")
	}
	add("rua", "mailto:dmarc@"+reports)
	z.text("_dmarc."+d.name, strings.Join(tags, "; "))
	if d.story == "parked" {
		z.add(d.name, "MX 0 .")
		z.text(d.name, "v=spf1 -all")
		z.text("*._domainkey."+d.name, "v=DKIM1; p=")
		return
	}
	z.keys(d)
	z.hosts(d, number)
	if d.story != "harbor" {
		z.text("_smtp._tls."+d.name, "v=TLSRPTv1; rua=mailto:tls@"+d.name)
	}
	if d.tls.sessions > 0 {
		z.text("_mta-sts."+d.name, "v=STSv1; id=20260801T080000")
		z.add("mta-sts."+d.name, "A 203.0.113.240")
	}
}

// keys publishes the DKIM keys that sign, but not those that are gone.
func (z *zones) keys(d *domain) {
	gone := map[string]bool{}
	for i := range d.senders {
		for _, r := range d.senders[i].dkim {
			if r.Result == dmarc.ResultPermError && d.senders[i].until == 0 {
				gone[r.Selector+"._domainkey."+r.Domain] = true
			}
		}
	}
	for i := range d.senders {
		s := &d.senders[i]
		for _, r := range s.dkim {
			name := r.Selector + "._domainkey." + r.Domain
			if s.way != direct || r.Result != dmarc.ResultPass || gone[name] || r.Domain != d.name && !strings.HasSuffix(r.Domain, "."+d.name) {
				continue
			}
			z.text(name, keyRecord(name, strings.HasPrefix(r.Selector, "e")))
		}
	}
}

// keyRecord makes a public key that nobody has the private one of.
func keyRecord(name string, ed25519 bool) string {
	sum := sha256.Sum256([]byte(name))
	if ed25519 {
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(sum[:])
	}
	var modulus []byte
	for i := range 8 {
		part := sha256.Sum256(append(sum[:], byte(i)))
		modulus = append(modulus, part[:]...)
	}
	modulus[0], modulus[len(modulus)-1] = modulus[0]|0x80, modulus[len(modulus)-1]|1
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537})
	if err != nil {
		panic(err) // the key is a constant
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

// hosts publishes SPF, MX and the names of the domain's own servers.
func (z *zones) hosts(d *domain, number int) {
	terms := map[string][]string{} // by author domain
	var order []string
	term := func(domain, t string) {
		if _, ok := terms[domain]; !ok {
			order = append(order, domain)
		}
		if !slices.Contains(terms[domain], t) {
			terms[domain] = append(terms[domain], t)
		}
	}
	n, named := 0, map[netip.Addr]bool{}
	for i := range d.senders {
		s := &d.senders[i]
		if s.way != direct || s.made {
			continue
		}
		own := s.mailFrom == s.from || s.mailFrom == ""
		for _, a := range s.addrs {
			if !own {
				break
			}
			if named[a] {
				continue
			}
			named[a] = true
			n++
			host := fmt.Sprintf("out%d.%s", n, d.name)
			kind := "A"
			if a.Is6() {
				kind = "AAAA"
			}
			z.add(host, kind+" "+a.String())
			if len(s.dkim) > 0 { // servers that were forgotten have no reverse name
				z.add(reverse(a), "PTR "+host+".")
			}
			if len(s.spf) > 0 && s.spf[0].Result == dmarc.ResultPass && s.mailFrom != "" {
				term(s.from, map[bool]string{false: "ip4:", true: "ip6:"}[a.Is6()]+a.String())
			}
		}
	}
	switch d.story {
	case "acme":
		// It has grown: a service that is gone is still in it.
		for _, firm := range []string{"mailgarden.example", "rolodeck.example", "answerline.example", "oldcrm.example"} {
			term(d.name, "include:_spf."+firm)
		}
		z.text(d.name, "google-site-verification=abcdefghijklmnopqrstuvwxyz0123456789")
	case "north":
		term(d.name, "include:_spf.mailgarden.example")
	}
	z.add(d.name, "MX 10 mx1."+d.name+".")
	z.add(d.name, "MX 20 mx2."+d.name+".")
	for i := range 2 {
		host := fmt.Sprintf("mx%d.%s", i+1, d.name)
		four, six := mailHost(number, i), fmt.Sprintf("2001:db8:25:%x::%d", number, i+1)
		z.add(host, "A "+four)
		z.add(host, "AAAA "+six)
		for _, a := range []string{four, six} {
			z.add(reverse(netip.MustParseAddr(a)), "PTR "+host+".")
		}
	}
	for _, domain := range order {
		end := "-all"
		if d.story == "acme" {
			end = "~all"
		}
		z.text(domain, "v=spf1 "+strings.Join(append(terms[domain], end), " "))
	}
}

// mailHost is the IPv4 address of a mail host of the domain with a number.
func mailHost(number, i int) string { return fmt.Sprintf("203.0.113.%d", 120+2*(number%50)+i) }

// reverse is the name that holds the reverse name of an address.
func reverse(a netip.Addr) string {
	name, err := dns.ReverseAddr(a.String())
	if err != nil {
		panic(err) // a is an address
	}
	return strings.TrimSuffix(name, ".")
}

// ServeDNS answers questions about the domains of a mailbox, and of nothing
// else, on a loopback address until ctx ends: it stands for a resolver. It
// returns its address.
func ServeDNS(ctx context.Context, opts Options) (address string, err error) {
	known := map[string][]dns.RR{}
	parser := dns.NewZoneParser(strings.NewReader("$TTL 3600\n"+zoneFile(opts)), ".", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		name := strings.ToLower(rr.Header().Name)
		known[name] = append(known[name], rr)
		for up := name; up != "."; { // what is between a name and the root exists
			if _, up, ok = strings.Cut(up, "."); !ok || up == "" {
				break
			}
			if _, there := known[up]; !there {
				known[up] = nil
			}
		}
	}
	if err := parser.Err(); err != nil {
		return "", fmt.Errorf("zones of the sample: %w", err)
	}
	packets, stream, err := bothPorts()
	if err != nil {
		return "", err
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(answer(known, q, w.LocalAddr().Network() == "udp")) })
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: stream, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go server.ActivateAndServe()
		<-started
		context.AfterFunc(ctx, func() { server.Shutdown() })
	}
	return packets.LocalAddr().String(), nil
}

// bothPorts listens at a loopback address for packets and for streams. A port that
// is free for one may be taken for the other, so that some are tried.
func bothPorts() (packets net.PacketConn, stream net.Listener, err error) {
	for range 20 {
		if packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if stream, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			return packets, stream, nil
		}
		packets.Close()
	}
	return nil, nil, err
}

func answer(known map[string][]dns.RR, q *dns.Msg, udp bool) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if len(q.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		return m
	}
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		size = int(opt.UDPSize())
		m.SetEdns0(opt.UDPSize(), opt.Do())
	}
	ask := q.Question[0]
	name := strings.ToLower(ask.Name)
	all, exists := known[name]
	if !exists { // RFC 4592: the wildcard below the nearest name that exists
		for up := name; !exists && up != "."; {
			_, rest, _ := strings.Cut(up, ".")
			if up = rest; up == "" {
				up = "."
			}
			if _, there := known[up]; there {
				all, exists = known["*."+up]
				break
			}
		}
	}
	for _, rr := range all {
		if rr.Header().Rrtype == ask.Qtype {
			found := dns.Copy(rr)
			found.Header().Name = ask.Name
			m.Answer = append(m.Answer, found)
		}
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		soa := "example. 3600 IN SOA ns1.namehouse.example. hostmaster.namehouse.example. 1 7200 3600 1209600 3600"
		if rr, err := dns.NewRR(soa); err == nil {
			m.Ns = append(m.Ns, rr)
		}
	}
	if udp {
		m.Truncate(size)
	}
	return m
}
