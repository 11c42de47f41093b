package main

import (
	"strings"

	"github.com/dmarcd/dmarcd/records"
)

// mailJSON is what a domain publishes for mail beside SPF and DMARC. What is
// null could not be looked up.
type mailJSON struct {
	MX     []mxJSON   `json:"mx"`    // empty where there is none
	Hosts  []hostJSON `json:"hosts"` // addresses that take or send mail
	DKIM   []keyJSON  `json:"dkim"`  // a key for each selector that was named
	MTASTS *stsJSON   `json:"mta_sts"`
	TLSRPT []string   `json:"tls_rpt"` // where TLS reports go
	TLSA   []tlsaJSON `json:"tlsa"`    // of mail hosts that have an address
	BIMI   *bimiJSON  `json:"bimi"`
	CAA    *caaJSON   `json:"caa"`
}

type mxJSON struct {
	Host       string   `json:"host"` // "." for a null MX
	Preference uint16   `json:"preference"`
	Addresses  []string `json:"addresses"` // null where a lookup failed
}

type hostJSON struct {
	Address string   `json:"address"`
	MX      []string `json:"mx"`     // mail hosts that have it
	Sends   bool     `json:"sends"`  // SPF names it singly, or it is known to send
	PTR     []string `json:"ptr"`    // null where the lookup failed
	FCrDNS  *bool    `json:"fcrdns"` // whether one of its names resolves back to it
}

type keyJSON struct {
	Selector string  `json:"selector"`
	Name     string  `json:"name"`
	Record   *string `json:"record"` // null unless there is one alone
	Type     *string `json:"type"`
	Bits     *int    `json:"bits"`
	Revoked  bool    `json:"revoked"`
}

type stsJSON struct {
	ID     *string  `json:"id"`
	Mode   *string  `json:"mode"` // null where the policy was not had
	MaxAge *int     `json:"max_age"`
	MX     []string `json:"mx"`
}

type tlsaJSON struct {
	Host    string   `json:"host"`
	Records []string `json:"records"` // null where the lookup failed
	Secure  bool     `json:"secure"`  // the answer is validated
}

type bimiJSON struct {
	FoundAt  *string `json:"found_at"`
	Logo     *string `json:"logo"`
	Evidence *string `json:"evidence"`
}

type caaJSON struct {
	FoundAt *string  `json:"found_at"`
	Records []string `json:"records"`
}

func mailOf(p *records.Published) mailJSON {
	return mailJSON{
		MX: mxOf(p), Hosts: hostsOf(p), DKIM: keysOf(p), MTASTS: stsOf(p), TLSRPT: tlsrptOf(p), TLSA: tlsaOf(p), BIMI: bimiOf(p), CAA: caaOf(p),
	}
}

func mxOf(p *records.Published) []mxJSON {
	m := &p.MX
	if m.Answer.State == records.Failed {
		return nil
	}
	all := []mxJSON{}
	if m.Null {
		all = append(all, mxJSON{Host: ".", Addresses: []string{}})
	}
	for i := range m.Hosts {
		h := &m.Hosts[i]
		j := mxJSON{Host: h.Name, Preference: h.Preference}
		if h.A.Name == "" || h.A.State != records.Failed && h.AAAA.State != records.Failed {
			j.Addresses = []string{}
		}
		for _, ip := range h.Addresses() {
			j.Addresses = append(j.Addresses, ip.String())
		}
		all = append(all, j)
	}
	return all
}

func hostsOf(p *records.Published) []hostJSON {
	all := []hostJSON{}
	for i := range p.Hosts.Addresses {
		h := &p.Hosts.Addresses[i]
		j := hostJSON{Address: h.Addr.String(), MX: append([]string{}, h.MX...), Sends: h.Sends()}
		if h.PTR.State != records.Failed {
			j.PTR = []string{}
		}
		for _, n := range h.Names {
			j.PTR = append(j.PTR, n.Name)
		}
		if confirmed, known := h.Confirmed(); known {
			j.FCrDNS = &confirmed
		}
		all = append(all, j)
	}
	return all
}

func keysOf(p *records.Published) []keyJSON {
	all := []keyJSON{}
	for i := range p.DKIM.Selectors {
		s := &p.DKIM.Selectors[i]
		j := keyJSON{Selector: s.Name, Name: s.Selected(), Revoked: s.Key.Revoked}
		if s.Text != "" {
			j.Record, j.Type = &s.Text, word(s.Key.Type)
		}
		if s.Key.Bits > 0 {
			j.Bits = &s.Key.Bits
		}
		all = append(all, j)
	}
	return all
}

func stsOf(p *records.Published) *stsJSON {
	f := &p.MTASTS
	if f.Answer.State == records.Failed {
		return nil
	}
	j := &stsJSON{ID: word(f.ID), MX: []string{}}
	if f.Fetched && f.Why == "" {
		j.Mode, j.MX = word(f.Policy.Mode), append(j.MX, f.Policy.MX...)
		if f.Policy.MaxAge >= 0 {
			j.MaxAge = &f.Policy.MaxAge
		}
	}
	return j
}

func tlsrptOf(p *records.Published) []string {
	if p.TLSRPT.Answer.State == records.Failed {
		return nil
	}
	return append([]string{}, p.TLSRPT.URIs...)
}

func tlsaOf(p *records.Published) []tlsaJSON {
	all := []tlsaJSON{}
	for i := range p.DANE.Hosts {
		if h := &p.DANE.Hosts[i]; h.TLSA.Name != "" {
			all = append(all, tlsaJSON{Host: h.Name, Records: dataOf(h.TLSA), Secure: h.TLSA.AD})
		}
	}
	return all
}

func bimiOf(p *records.Published) *bimiJSON {
	f := &p.BIMI
	if f.Answer.State == records.Failed {
		return nil
	}
	j := &bimiJSON{Logo: word(f.Record.Logo), Evidence: word(f.Record.Evidence)}
	if f.Answer.State == records.Found {
		j.FoundAt = &f.Answer.Name
	}
	return j
}

func caaOf(p *records.Published) *caaJSON {
	if len(p.CAA.Sets) == 0 {
		return nil
	}
	a, ok := p.CAA.Sets[0].At()
	if !ok && a.State == records.Failed {
		return nil
	}
	j := &caaJSON{Records: []string{}}
	if ok {
		j.FoundAt, j.Records = &a.Name, dataOf(a)
	}
	return j
}

// dataOf writes what the records of an answer hold; nil for a lookup that
// failed.
func dataOf(a records.Answer) []string {
	if a.State == records.Failed {
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
