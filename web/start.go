package web

import (
	"fmt"
	"net/http"
	"net/mail"
	"net/url"
	"strings"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// startPage leads those who have just installed dmarcd to the first chart.
type startPage struct {
	Rights  dmarc.Rights
	Empty   bool // nothing was ever stored
	Install dmarc.Installation
	Came    int64                // messages that were taken in, of those that were looked at
	Latest  []dmarc.LedgerEntry  // that came, and brought no chart
	Trial   *dmarc.MailboxTrial  // of a mailbox, just now
	URL     string               // of it
	Domain  string               // that records are asked for
	Address string               // that its reports are to be sent to
	Wrong   string               // what is wrong with these
	Records []advice.Publication // to publish; none before a domain is named
	Foreign string               // domain of the address, if it has to allow it
}

// usualAddress is where reports go if nothing else is known.
const usualAddress = "dmarc@"

// start serves /start, and / while nothing was stored.
func (s *site) start(r *http.Request) (*view, error) {
	p := &startPage{Empty: true}
	if s.intake != nil {
		p.Rights = s.intake.Rights(r.Context())
		var err error
		if p.Rights.All {
			if p.Install, err = s.intake.Installation(r.Context()); err != nil {
				return nil, err
			}
			if p.Latest, _, err = s.store.Messages(r.Context(), dmarc.MessageQuery{Page: dmarc.Page{Limit: 5}}); err != nil {
				return nil, err
			}
		}
		if p.Rights.Read && r.URL.Path != "/" {
			some, _, err := s.store.Domains(r.Context(), dmarc.DomainQuery{Period: lastDays(defaultDays, s.now()).Period, Page: dmarc.Page{Limit: 1}})
			if err != nil {
				return nil, err
			}
			p.Empty = len(some) == 0
		}
	}
	p.readRecords(r.URL.Query())
	return &view{Page: "start", Title: "Begin", Nav: "/", Data: p}, nil
}

// readRecords works out what to publish for the domain that an address names.
func (p *startPage) readRecords(q url.Values) {
	p.Domain, p.Address = cut(strings.TrimSpace(q.Get("domain")), 255), cut(strings.TrimSpace(q.Get("rua")), 255)
	if p.Address == "" && len(p.Install.Addresses) > 0 {
		p.Address = p.Install.Addresses[0]
	}
	if p.Domain == "" {
		return
	}
	domain, err := asDomain(p.Domain)
	if err != nil {
		p.Wrong = sentence(err.Error())
		return
	}
	p.Domain = domain
	if p.Address == "" {
		p.Address = usualAddress + domain
	}
	a, err := mail.ParseAddress(p.Address)
	if err != nil || a.Address != p.Address || strings.ContainsAny(a.Address, "\"!,; ") {
		p.Wrong = sentence(fmt.Sprintf("%q is no mail address, such as %s", p.Address, usualAddress+domain))
		return
	}
	local, host, _ := strings.Cut(a.Address, "@")
	if host, err = asDomain(host); err != nil {
		p.Wrong = sentence(err.Error())
		return
	}
	p.Address = local + "@" + host
	p.Records = recordsFor(domain, p.Address, p.Install.TLSReport)
	if dmarc.OrganizationalDomain(host) != dmarc.OrganizationalDomain(domain) {
		p.Foreign = host
	}
}

// recordsFor returns what to publish so that reports about a domain are sent to an
// address (RFC 9990 and RFC 8460), and that its domain allows that, if it is another
// one (RFC 9990, section 4).
func recordsFor(domain, address, https string) []advice.Publication {
	_, host, _ := strings.Cut(address, "@")
	to := "mailto:" + uriAddress(address)
	list := []advice.Publication{{Name: "_dmarc." + domain, Type: "TXT", Value: "v=DMARC1; p=none; rua=" + to}}
	if dmarc.OrganizationalDomain(host) != dmarc.OrganizationalDomain(domain) {
		list = append(list, advice.Publication{Name: domain + "._report._dmarc." + host, Type: "TXT", Value: "v=DMARC1;"})
	}
	if https != "" {
		to = https
	}
	return append(list, advice.Publication{Name: "_smtp._tls." + domain, Type: "TXT", Value: "v=TLSRPTv1; rua=" + to})
}

// uriAddress writes an address as it stands in a mailto: URI.
func uriAddress(address string) string {
	local, host, _ := strings.Cut(address, "@")
	return url.PathEscape(local) + "@" + host
}

// tryMailbox serves POST /start/mailbox: it tries a mailbox, keeps nothing of it, and
// says what to write into the configuration.
func (s *site) tryMailbox(w http.ResponseWriter, r *http.Request) {
	address := strings.TrimSpace(r.PostFormValue("url"))
	v, err := s.start(r)
	if err == nil {
		var t dmarc.MailboxTrial
		if t, err = s.intake.TryMailbox(r.Context(), address, r.PostFormValue("password")); err == nil {
			p := v.Data.(*startPage)
			p.Trial, p.URL = &t, cut(plain(address), 500)
			v.Once = true
			s.render(w, r, v)
			return
		}
	}
	s.fail(w, r, err)
}

// bytesText writes a size.
func bytesText(n int64) string {
	switch {
	case n < 1000:
		return plural(n, "byte", "bytes")
	case n < 1_000_000:
		return fmt.Sprintf("%.1f%skB", float64(n)/1e3, nbsp)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f%sMB", float64(n)/1e6, nbsp)
	}
	return fmt.Sprintf("%.1f%sGB", float64(n)/1e9, nbsp)
}
