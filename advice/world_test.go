package advice

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// start is the first day of the mail of tests.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A world is reports about acme.example, told mail by mail.
type world struct {
	policy dmarc.PolicyPublished
	facts  dmarc.FactReducer
	days   int // the present is so many days after start
}

func newWorld(days int) *world {
	return &world{days: days, policy: dmarc.PolicyPublished{
		Domain: "acme.example", P: dmarc.PolicyNone, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentRelaxed,
	}}
}

// send lets a source send n messages every step days, from day from up to, and
// without, day to. Four reporters see them in turn.
func (w *world) send(source string, row dmarc.Row, n int64, from, to, step int) *world {
	row.Source = netip.MustParseAddr(source)
	for d := from; d < to; d += step {
		at := start.AddDate(0, 0, d)
		row.Count = n
		w.facts.Add(&row, &w.policy, dmarc.Attribution{Days: []time.Time{at}, Main: at, Dated: true}, int64(1+d/step%4))
	}
	return w
}

func (w *world) evidence() *Evidence {
	e := &Evidence{
		Domain: "acme.example", Period: dmarc.Period{Begin: start, End: start.AddDate(0, 0, w.days)}, Sources: Collect(dmarc.FactsBySource(w.facts.Days())),
		Reporters: map[int64]string{1: "one", 2: "two", 3: "three", 4: "four"}, RUA: "dmarc@reports.example",
		Published: Published{
			Record: "v=DMARC1; p=" + w.policy.P.String() + "; rua=mailto:dmarc@reports.example", FoundAt: "acme.example",
			P: w.policy.P, SP: w.policy.SP, ADKIM: w.policy.ADKIM, ASPF: w.policy.ASPF, ReportsTo: true,
		},
	}
	return e
}

// What rows say, by who sends. The From domain is acme.example, unless from
// changes it.
func own() dmarc.Row {
	return dmarc.Row{
		HeaderFrom: "acme.example", DKIM: dmarc.ResultPass, SPF: dmarc.ResultPass, Disposition: dmarc.DispositionNone,
		AuthDKIM: []dmarc.DKIMResult{{Domain: "acme.example", Selector: "k1", Result: dmarc.ResultPass}},
		AuthSPF:  []dmarc.SPFResult{{Domain: "acme.example", Result: dmarc.ResultPass}},
	}
}

func ownBroken() dmarc.Row {
	row := own()
	row.DKIM, row.SPF = dmarc.ResultFail, dmarc.ResultFail
	row.AuthDKIM = []dmarc.DKIMResult{{Domain: "acme.example", Selector: "k1", Result: dmarc.ResultFail}}
	row.AuthSPF = []dmarc.SPFResult{{Domain: "acme.example", Result: dmarc.ResultFail}}
	return row
}

func spfOnly() dmarc.Row {
	row := own()
	row.DKIM, row.AuthDKIM = dmarc.ResultFail, nil
	return row
}

// service is mail of a service that signs with a key of its own.
func service(as string) dmarc.Row {
	return dmarc.Row{
		HeaderFrom: "acme.example", DKIM: dmarc.ResultPass, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionNone,
		AuthDKIM: []dmarc.DKIMResult{{Domain: "acme.example", Selector: "s1", Result: dmarc.ResultPass}, {Domain: as, Selector: "x", Result: dmarc.ResultPass}},
		AuthSPF:  []dmarc.SPFResult{{Domain: "bounce." + as, Result: dmarc.ResultPass}},
	}
}

// unaligned is mail that authenticates as somebody else.
func unaligned(as string) dmarc.Row {
	row := service(as)
	row.DKIM = dmarc.ResultFail
	row.AuthDKIM = row.AuthDKIM[1:]
	return row
}

func forwarded() dmarc.Row {
	row := own()
	row.SPF = dmarc.ResultFail
	row.AuthSPF = []dmarc.SPFResult{{Domain: "acme.example", Result: dmarc.ResultSoftFail}}
	return row
}

func forwardBroken() dmarc.Row {
	row := ownBroken()
	row.AuthSPF = []dmarc.SPFResult{{Domain: "list.example", Result: dmarc.ResultPass}}
	return row
}

func spoof() dmarc.Row {
	return dmarc.Row{
		HeaderFrom: "acme.example", DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionNone,
		AuthSPF: []dmarc.SPFResult{{Domain: "acme.example", Result: dmarc.ResultSoftFail}},
	}
}

func from(author string, row dmarc.Row) dmarc.Row {
	row.HeaderFrom = author
	return row
}

func because(reason string, row dmarc.Row) dmarc.Row {
	row.Reasons = []dmarc.Reason{{Type: reason}}
	return row
}

func stopped(d dmarc.Disposition, row dmarc.Row) dmarc.Row {
	row.Disposition = d
	return row
}

// known is a catalogue of two.
type known map[string]*dmarc.Sender

func (k known) ByDomain(domain string) *dmarc.Sender { return k[dmarc.OrganizationalDomain(domain)] }

var mailer = &dmarc.Sender{
	ID: "mailer", Name: "Mailer", Kind: dmarc.SenderService, DKIM: dmarc.SupportYes, Fix: "Ask Mailer for a custom DKIM domain for {domain}.",
	Publish: []dmarc.Template{{Type: "CNAME", Name: "k2._domainkey.{domain}", Value: "dkim.mailer.example"}},
}

func ids(a *Advice) map[string]Effect {
	m := make(map[string]Effect)
	for _, r := range a.Reasons {
		m[r.ID] = r.Effect
	}
	return m
}

// source returns what became of one source.
func source(t *testing.T, all []Classified, address string) Classified {
	t.Helper()
	for _, c := range all {
		if c.Source.Source.IsValid() && c.Source.Source.Addr().String() == address {
			return c
		}
	}
	t.Fatalf("no source %s", address)
	return Classified{}
}
