package records

import (
	"strings"
)

// ResultMail is what a domain publishes for mail beside SPF and DMARC. What is
// null could not be looked up.
type ResultMail struct {
	MX     []ResultMX    `json:"mx"`    // empty where there is none
	Hosts  []ResultHost  `json:"hosts"` // addresses that take or send mail
	DKIM   []ResultKey   `json:"dkim"`  // a key for each selector that was named
	MTASTS *ResultMTASTS `json:"mta_sts"`
	TLSRPT []string      `json:"tls_rpt"` // where TLS reports go
	TLSA   []ResultTLSA  `json:"tlsa"`    // of mail hosts that have an address
	BIMI   *ResultBIMI   `json:"bimi"`
	CAA    *ResultCAA    `json:"caa"`
}

// A ResultMX is a host that takes mail.
type ResultMX struct {
	Host       string   `json:"host"` // "." for a null MX
	Preference uint16   `json:"preference"`
	Addresses  []string `json:"addresses"` // at most 100; null where a lookup failed
}

// A ResultHost is an address that takes or sends mail, and its names.
type ResultHost struct {
	Address string   `json:"address"`
	MX      []string `json:"mx"`     // mail hosts that have it
	Sends   bool     `json:"sends"`  // SPF names it singly, or it is known to send
	PTR     []string `json:"ptr"`    // null where the lookup failed
	FCrDNS  *bool    `json:"fcrdns"` // whether one of its names resolves back to it
}

// A ResultKey is the DKIM key of a selector.
type ResultKey struct {
	Selector string  `json:"selector"`
	Name     string  `json:"name"`
	Record   *string `json:"record"` // null unless there is one alone
	Type     *string `json:"type"`
	Bits     *int    `json:"bits"`
	Revoked  bool    `json:"revoked"`
}

// ResultMTASTS is the record of MTA-STS and its policy; a null in it was not had. MaxAge is in seconds.
type ResultMTASTS struct {
	ID     *string  `json:"id"`
	Mode   *string  `json:"mode"` // null where the policy was not had
	MaxAge *int     `json:"max_age"`
	MX     []string `json:"mx"`
}

// A ResultTLSA is the TLSA records of a mail host.
type ResultTLSA struct {
	Host    string   `json:"host"`
	Records []string `json:"records"` // null where the lookup failed
	Secure  bool     `json:"secure"`  // the answer is validated
}

// ResultBIMI is the logo that a domain asserts; a null is not there.
type ResultBIMI struct {
	FoundAt  *string `json:"found_at"`
	Logo     *string `json:"logo"`
	Evidence *string `json:"evidence"`
}

// ResultCAA is which authorities may issue certificates for a domain, by the closest name that says so.
type ResultCAA struct {
	FoundAt *string  `json:"found_at"`
	Records []string `json:"records"`
}

func mailOf(p *Published) ResultMail {
	return ResultMail{
		MX: mxOf(p), Hosts: hostsOf(p), DKIM: keysOf(p), MTASTS: stsOf(p), TLSRPT: tlsrptOf(p), TLSA: tlsaResults(p), BIMI: bimiOf(p), CAA: caaOf(p),
	}
}

func mxOf(p *Published) []ResultMX {
	m := &p.MX
	if m.Answer.State == Failed {
		return nil
	}
	all := []ResultMX{}
	if m.Null {
		all = append(all, ResultMX{Host: ".", Addresses: []string{}})
	}
	for i := range m.Hosts {
		h := &m.Hosts[i]
		j := ResultMX{Host: h.Name, Preference: h.Preference}
		if h.A.Name == "" || h.A.State != Failed && h.AAAA.State != Failed {
			j.Addresses = []string{}
		}
		ips := h.addresses()
		for _, ip := range ips[:min(len(ips), maxShown)] {
			j.Addresses = append(j.Addresses, ip.String())
		}
		all = append(all, j)
	}
	return all
}

func hostsOf(p *Published) []ResultHost {
	all := []ResultHost{}
	for i := range p.Hosts.Addresses {
		h := &p.Hosts.Addresses[i]
		j := ResultHost{Address: h.Addr.String(), MX: append([]string{}, h.MX...), Sends: h.sends()}
		if h.PTR.State != Failed {
			j.PTR = []string{}
		}
		for _, n := range h.Names {
			j.PTR = append(j.PTR, n.Name)
		}
		if confirmed, known := h.confirmed(); known {
			j.FCrDNS = &confirmed
		}
		all = append(all, j)
	}
	return all
}

func keysOf(p *Published) []ResultKey {
	all := []ResultKey{}
	for i := range p.DKIM.Selectors {
		s := &p.DKIM.Selectors[i]
		j := ResultKey{Selector: s.Name, Name: s.Selected(), Revoked: s.Key.Revoked}
		if s.Text != "" {
			j.Record, j.Type = &s.Text, wordOrNull(s.Key.Type)
		}
		if s.Key.Bits > 0 {
			j.Bits = &s.Key.Bits
		}
		all = append(all, j)
	}
	return all
}

func stsOf(p *Published) *ResultMTASTS {
	f := &p.MTASTS
	if f.Answer.State == Failed {
		return nil
	}
	j := &ResultMTASTS{ID: wordOrNull(f.ID), MX: []string{}}
	if f.Fetched && f.Why == "" {
		j.Mode, j.MX = wordOrNull(f.Policy.Mode), append(j.MX, f.Policy.MX...)
		if f.Policy.MaxAge >= 0 {
			j.MaxAge = &f.Policy.MaxAge
		}
	}
	return j
}

func tlsrptOf(p *Published) []string {
	if p.TLSRPT.Answer.State == Failed {
		return nil
	}
	return append([]string{}, p.TLSRPT.URIs...)
}

func tlsaResults(p *Published) []ResultTLSA {
	all := []ResultTLSA{}
	for i := range p.DANE.Hosts {
		if h := &p.DANE.Hosts[i]; h.TLSA.Name != "" {
			all = append(all, ResultTLSA{Host: h.Name, Records: dataOf(h.TLSA), Secure: h.TLSA.AD})
		}
	}
	return all
}

func bimiOf(p *Published) *ResultBIMI {
	f := &p.BIMI
	if f.Answer.State == Failed {
		return nil
	}
	j := &ResultBIMI{Logo: wordOrNull(f.Record.Logo), Evidence: wordOrNull(f.Record.Evidence)}
	if f.Answer.State == Found {
		j.FoundAt = &f.Answer.Name
	}
	return j
}

func caaOf(p *Published) *ResultCAA {
	if len(p.CAA.Sets) == 0 {
		return nil
	}
	a, ok := p.CAA.Sets[0].At()
	if !ok && a.State == Failed {
		return nil
	}
	j := &ResultCAA{Records: []string{}}
	if ok {
		j.FoundAt, j.Records = &a.Name, dataOf(a)
	}
	return j
}

// dataOf writes what the records of an answer hold; nil for a lookup that
// failed.
func dataOf(a Answer) []string {
	if a.State == Failed {
		return nil
	}
	all := []string{}
	for _, rr := range a.RRs {
		if rr.Header().Rrtype == a.Type {
			all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	return all
}
