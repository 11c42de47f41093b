package sample

import (
	"math/rand/v2"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A report is what one reporter saw of one domain in one period.
type report struct {
	by     *reporter
	domain *domain
	policy *dmarc.PolicyPublished
	period dmarc.Period // half-open
	at     time.Time    // when it is mailed
	id     string
	rows   []dmarc.Row
	rnd    *rand.Rand
}

// written returns the period as the report tells it.
func (r *report) written() dmarc.Period {
	p := r.period
	if r.by.inclusive {
		p.End = p.End.Add(-time.Second)
	}
	return p
}

// newReport sets up a report, without rows. It depends on nothing but the
// seed, the reporter, the domain and the period.
func (w *writer) newReport(by *reporter, d *domain, p dmarc.Period) *report {
	r := &report{by: by, domain: d, period: p}
	r.rnd = w.random(by.OrgName, d.name, p.Begin.String(), p.End.String())
	r.policy = d.policy(w.scene.age(p.End.Add(-time.Second)))
	r.at = p.End.Add(by.delay + time.Duration(r.rnd.Int64N(int64(by.delay)))).Truncate(time.Second)
	r.id = by.id(r)
	return r
}

// At most so many addresses of strangers are told apart in a report.
const mostStrangers = 24

// see fills in what the reporter saw.
func (w *writer) see(r *report) {
	for i := range r.domain.senders {
		s := &r.domain.senders[i]
		mean := s.messages(w.scene, r.period) * r.by.share
		for _, a := range s.addrs {
			w.seeFrom(r, s, dmarc.Row{Source: a}, some(r.rnd, mean/float64(len(s.addrs))))
		}
		if s.hosts == 0 {
			continue
		}
		key := seed(w.opts.Seed, r.domain.name, s.from, s.mailFrom) + uint64(s.since)
		n := some(r.rnd, mean)
		for most := 1 + int(n)*2/mostStrangers; n > 0; {
			c := min(n, 1+int64(r.rnd.IntN(most)))
			w.seeFrom(r, s, dmarc.Row{Source: stranger(r.rnd, key, s.hosts)}, c)
			n -= c
		}
	}
	if r.by.heartbeat && len(r.rows) == 0 {
		r.rows = append(r.rows, dmarc.Row{})
	}
}

// seeFrom splits messages from an address by their recipients, if the reporter
// tells those.
func (w *writer) seeFrom(r *report, s *sender, row dmarc.Row, n int64) {
	for i, to := range r.by.recipients {
		if n == 0 {
			return
		}
		row.EnvelopeTo = to
		part := n
		if left := len(r.by.recipients) - i - 1; left > 0 {
			part = min(n, 1+int64(float64(n)*(0.5+0.2*r.rnd.Float64())))
		}
		n -= part
		w.addRow(r, s, row, part)
	}
	if len(r.by.recipients) == 0 && n > 0 {
		w.addRow(r, s, row, n)
	}
}

// addRow judges a number of equal messages as the reporter does.
func (w *writer) addRow(r *report, s *sender, row dmarc.Row, n int64) {
	row.Count = n
	row.HeaderFrom, row.EnvelopeFrom, row.NullSender = s.from, s.mailFrom, s.mailFrom == ""
	row.AuthDKIM, row.AuthSPF = s.dkim, s.spf
	ours := w.aligner.Judge(&row, r.policy)
	row.DKIM, row.SPF = result(ours.DKIM), result(ours.SPF)

	policy := applied(r.policy, s)
	row.Disposition = disposition(policy)
	override, known := r.by.overrides[s.way]
	switch {
	case row.Passes():
		row.Disposition = dmarc.DispositionNone
		if r.by.saysPass && policy > dmarc.PolicyNone {
			row.Disposition = dmarc.DispositionPass
		}
	case policy <= dmarc.PolicyNone:
	case known && r.rnd.IntN(10) < 7:
		row.Disposition = dmarc.DispositionNone
		row.Reasons = []dmarc.Reason{override}
	case r.by.rfc9990 && r.policy.Testing != nil && *r.policy.Testing:
		row.Disposition = disposition(policy - 1)
		row.Reasons = []dmarc.Reason{{Type: "policy_test_mode"}}
	case !r.by.rfc9990 && r.policy.Pct != nil && *r.policy.Pct < 100:
		out := row
		out.Count = 0
		for range n {
			if r.rnd.IntN(100) >= *r.policy.Pct {
				out.Count++
			}
		}
		out.Disposition = disposition(policy - 1)
		out.Reasons = []dmarc.Reason{{Type: "sampled_out"}}
		if out.Count > 0 {
			r.rows = append(r.rows, out)
		}
		if row.Count -= out.Count; row.Count == 0 {
			return
		}
	}
	r.rows = append(r.rows, row)
}

// applied returns the policy for a sender's author domain (RFC 9989, section
// 4.7): np for names that do not exist, sp for subdomains, else p.
func applied(p *dmarc.PolicyPublished, s *sender) dmarc.Policy {
	switch {
	case s.from == p.Domain:
	case s.made && p.NP != dmarc.PolicyUnknown:
		return p.NP
	case p.SP != dmarc.PolicyUnknown:
		return p.SP
	}
	return p.P
}

func disposition(p dmarc.Policy) dmarc.Disposition { return dmarc.ParseDisposition(p.String()) }

func result(aligned bool) dmarc.Result {
	if aligned {
		return dmarc.ResultPass
	}
	return dmarc.ResultFail
}
