package api

import (
	"net/netip"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// OfDomain holds a list to a domain.
type OfDomain struct {
	Domain     string `query:"domain" maxLength:"255" doc:"only what is about this policy domain"`
	Subdomains bool   `query:"subdomains" doc:"and about its subdomains"`
}

// Resolve looks for what is to have subdomains.
func (d *OfDomain) Resolve(huma.Context) []error {
	if d.Subdomains && d.Domain == "" {
		return []error{&huma.ErrorDetail{Location: "query.subdomains", Message: "needs domain", Value: true}}
	}
	return nil
}

// WithSubdomains adds up what is about a domain and its subdomains.
type WithSubdomains struct {
	Subdomains bool `query:"subdomains" doc:"with the subdomains of the domain"`
}

// FromSource holds a list to a sending address.
type FromSource struct {
	Source string `query:"source" maxLength:"64" example:"192.0.2.0/24" doc:"only this sending address, or those of this network"`

	prefix netip.Prefix
}

// Resolve reads the address.
func (s *FromSource) Resolve(huma.Context) []error {
	if s.Source == "" {
		return nil
	}
	p, err := readNetwork(s.Source)
	if err != nil {
		return []error{&huma.ErrorDetail{Location: "query.source", Message: "is no address and no network, such as 192.0.2.7 or 192.0.2.0/24", Value: s.Source}}
	}
	s.prefix = p
	return nil
}

// ByReporter holds a list to a reporter.
type ByReporter struct {
	Reporter string `query:"reporter" maxLength:"512" doc:"only what this reporter tells: org_name, as it stands in reports"`
}

// WithMail holds a list to some mail.
type WithMail struct {
	Aligned     string `query:"aligned" enum:"true,false" doc:"only where there is mail that passed DMARC, with DKIM or SPF aligned; false: that failed"`
	Disposition string `query:"disposition" enum:"none,quarantine,reject,pass" doc:"only where there is mail that met this disposition; none holds pass"`
}

func (m *WithMail) of(f dmarc.Filter) dmarc.Filter {
	f.Aligned, f.Disposition = choice(m.Aligned), dmarc.ParseDisposition(m.Disposition)
	return f
}

// OfClass holds a list to sources of a class.
type OfClass struct {
	Class string `query:"class" enum:"own,service,forwarder,suspicious,unknown" doc:"only sources of this class"`
}

func (c *OfClass) of(f dmarc.Filter) dmarc.Filter {
	f.Class, f.Classed = dmarc.ParseClass(c.Class)
	return f
}

// oneDomain refuses a question that reads rows for more than one domain.
func oneDomain(f *dmarc.Filter) error {
	if f.Subdomains && (f.Source.IsValid() || f.Classed) {
		return huma.Error422UnprocessableEntity("validation failed", &huma.ErrorDetail{
			Location: "query.subdomains", Message: "is not possible with source and class, for which rows are read: ask for one domain after the other", Value: true})
	}
	return nil
}

func choice(text string) dmarc.Choice {
	switch text {
	case "true":
		return dmarc.Yes
	case "false":
		return dmarc.No
	}
	return dmarc.Either
}

// Sometime chooses a period, which is not bounded unless that is said.
type Sometime struct {
	From string `query:"from" example:"2026-01-01" doc:"first day (UTC), or a time in RFC 3339, whose day counts; default: the beginning"`
	To   string `query:"to" example:"2026-02-01" doc:"the day after the last one; default: no end"`

	period dmarc.Period
}

// Resolve reads the parameters.
func (s *Sometime) Resolve(ctx huma.Context) []error {
	p := Period{From: s.From, To: s.To}
	errs := p.Resolve(ctx)
	if len(errs) == 0 && (s.From != "" || s.To != "") {
		s.period = dmarc.Period{Begin: p.begin, End: p.end}
		if s.From == "" {
			s.period.Begin = firstDay
		}
		if s.To == "" {
			s.period.End = lastDay
		}
	}
	return errs
}
