package access

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// A vault answers everything with what is the same for all, and counts how
// often it is asked.
type vault struct {
	Store
	TokenStore
	asked  int
	parts  []dmarc.LedgerPart
	audit  []dmarc.AuditEntry
	broken bool
}

func (v *vault) Summary(context.Context, dmarc.TrafficQuery) (dmarc.DomainSummary, error) {
	v.asked++
	return dmarc.DomainSummary{}, nil
}

func (v *vault) DomainOfReport(_ context.Context, id string) (string, error) {
	domain, ok := map[string]string{"1": "a.example", "2": "b.example"}[strings.Split(id, "-")[0]]
	if !ok {
		return "", dmarc.ErrNotFound
	}
	return domain, nil
}

func (v *vault) Report(context.Context, string) (dmarc.ReportSummary, error) {
	v.asked++
	return dmarc.ReportSummary{}, nil
}

func (v *vault) Raw(context.Context, string) (io.ReadCloser, dmarc.LedgerEntry, error) {
	return io.NopCloser(strings.NewReader("raw")), dmarc.LedgerEntry{ID: 7, Reports: v.parts}, nil
}

func (v *vault) Failures(context.Context, dmarc.FailureQuery) ([]dmarc.StoredFailure, dmarc.Cursor, error) {
	return []dmarc.StoredFailure{{ID: "1-1", Report: dmarc.FailureReport{ReportedDomain: "a.example"}}}, "", nil
}

func (v *vault) Evidence(_ context.Context, domain string, _ dmarc.Period) (*advice.Evidence, error) {
	return &advice.Evidence{Domain: domain, Sources: []advice.Source{{Elsewhere: advice.Elsewhere{1, 2, 3}}}}, nil
}

func (v *vault) Whose(context.Context, string, []netip.Addr) (map[netip.Addr]dmarc.SourceIdentity, error) {
	v.asked++
	return nil, nil
}

func (v *vault) ReportRows(context.Context, dmarc.RowQuery) (dmarc.RowList, dmarc.Cursor, error) {
	v.asked++
	return dmarc.RowList{}, "", nil
}

func (v *vault) Failure(_ context.Context, id string, whole bool) (dmarc.StoredFailure, error) {
	v.asked++
	return dmarc.StoredFailure{ID: id, Report: dmarc.FailureReport{ReportedDomain: "a.example"}}, nil
}

func (v *vault) TLSTraffic(context.Context, dmarc.TLSQuery) (dmarc.TLSTraffic, error) {
	v.asked++
	return dmarc.TLSTraffic{}, nil
}

func (v *vault) TLSReport(_ context.Context, id string) (dmarc.StoredTLS, error) {
	return dmarc.StoredTLS{ID: id, Report: dmarc.TLSReport{Domain: "a.example", Policies: []dmarc.TLSPolicy{{Domain: "a.example"}, {Domain: "b.example"}, {}}}}, nil
}

func (v *vault) Overrules(context.Context, string) ([]dmarc.Overrule, error) {
	return []dmarc.Overrule{{Network: netip.MustParsePrefix("192.0.2.0/24"), By: "ann", Note: "as b.example said"}, {Domain: "a.example", By: "jo", Note: "ours"}}, nil
}

func (v *vault) PutOverrule(context.Context, *dmarc.Overrule) (bool, error) { return true, nil }
func (v *vault) DropOverrule(context.Context, string, netip.Prefix) error   { return nil }
func (v *vault) AddAudit(_ context.Context, e dmarc.AuditEntry) error {
	if v.broken {
		return errors.New("the log is full")
	}
	v.audit = append(v.audit, e)
	return nil
}

func TestTheGuardAsksOnlyWhatMayBeKnown(t *testing.T) {
	v := &vault{}
	keeper := &Keeper{Store: v, Log: slog.New(slog.DiscardHandler), Now: time.Now}
	g := &Guard{Store: v, Keeper: keeper, Adviser: v, Said: v}
	as := func(scope dmarc.Scope, roles ...dmarc.Role) context.Context {
		return With(context.Background(), &Principal{Name: "jo", Grants: []Grant{{Roles: roles, Scope: scope}}})
	}
	mine, all := as(dmarc.ScopeOf("a.example"), dmarc.RoleRead), as(dmarc.Everything, dmarc.RoleRead)
	sum := func(ctx context.Context, domain string) error {
		_, err := g.Summary(ctx, dmarc.TrafficQuery{Domain: domain})
		return err
	}
	if err := sum(context.Background(), "a.example"); !errors.Is(err, dmarc.ErrForbidden) {
		t.Errorf("without a principal: %v", err)
	}
	if err := sum(as(dmarc.Everything, dmarc.RoleUpload), "a.example"); !errors.Is(err, dmarc.ErrForbidden) {
		t.Errorf("without the role: %v", err)
	}
	for _, domain := range []string{"b.example", "none.example", ""} {
		if err := sum(mine, domain); !errors.Is(err, dmarc.ErrNotFound) {
			t.Errorf("about %q: %v", domain, err)
		}
	}
	for _, id := range []string{"2-1", "3-1", "x"} {
		if _, err := g.Report(mine, id); !errors.Is(err, dmarc.ErrNotFound) {
			t.Errorf("report %s: %v", id, err)
		}
	}
	for what, err := range map[string]error{
		"rows":     second(g.ReportRows(mine, dmarc.RowQuery{Report: "2-1"})),
		"text":     first(g.ReportText(mine, "2-1")),
		"TLS":      first(g.TLSReport(mine, "2-1")),
		"TLS text": first(g.TLSText(mine, "2-1")),
		// Its policies are of others, too.
		"text of TLS": first(g.TLSText(mine, "1-1")),
		"failure":     first(g.Failure(as(dmarc.ScopeOf("a.example"), dmarc.RoleFailures), "2-1", false)),
		"identity":    first(g.Whose(mine, "b.example", nil)),
	} {
		if !errors.Is(err, dmarc.ErrNotFound) {
			t.Errorf("%s of others: %v", what, err)
		}
	}
	for _, ctx := range []context.Context{mine, as(dmarc.Everything, dmarc.RoleRead, dmarc.RoleAdmin)} {
		if _, err := g.Failure(ctx, "1-1", false); !errors.Is(err, dmarc.ErrForbidden) {
			t.Errorf("a failure report without the role: %v", err)
		}
	}
	if t2, err := g.TLSTraffic(mine, dmarc.TLSQuery{Domain: "b.example"}); err != nil || t2.Reports != 0 {
		t.Errorf("TLS of others: %+v, %v", t2, err)
	}
	if t3, err := g.TLSReport(mine, "1-1"); err != nil || len(t3.Report.Policies) != 2 || t3.Report.Policies[1].Domain != "" || !t3.Partial {
		t.Errorf("a TLS report with a policy of others: %+v, %v", t3, err)
	}
	if v.asked != 0 {
		t.Errorf("the store was asked %d times about what may not be known", v.asked)
	}
	if err := sum(mine, "www.a.example"); err != nil || v.asked != 1 {
		t.Errorf("about a domain of theirs: %v", err)
	}

	raw := func(ctx context.Context, parts ...dmarc.LedgerPart) error {
		v.parts = parts
		body, _, err := g.Raw(ctx, "1-1")
		if err == nil {
			body.Close()
		}
		return err
	}
	ours, theirs, unread, failure := dmarc.LedgerPart{Kind: "aggregate", Report: "1-1"}, dmarc.LedgerPart{Kind: "aggregate", Report: "2-1"}, dmarc.LedgerPart{Kind: "none"}, dmarc.LedgerPart{Kind: "failure", Report: "1-2"}
	for _, c := range []struct {
		what  string
		ctx   context.Context
		parts []dmarc.LedgerPart
		want  error
	}{
		{"ours", mine, []dmarc.LedgerPart{ours}, nil},
		{"with a report of others", mine, []dmarc.LedgerPart{ours, theirs}, dmarc.ErrNotFound},
		{"with a TLS report that has a policy of others", mine, []dmarc.LedgerPart{ours, {Kind: "tls", Report: "1-3"}}, dmarc.ErrNotFound},
		{"with what was not read", mine, []dmarc.LedgerPart{ours, unread}, dmarc.ErrNotFound},
		{"of others, to who may see all", all, []dmarc.LedgerPart{ours, theirs, unread}, nil},
		{"with a failure report", mine, []dmarc.LedgerPart{ours, failure}, dmarc.ErrForbidden},
		{"with a failure report, to who may see all but those", all, []dmarc.LedgerPart{failure}, dmarc.ErrForbidden},
		{"with a failure report, with the role", as(dmarc.ScopeOf("a.example"), dmarc.RoleRead, dmarc.RoleFailures), []dmarc.LedgerPart{ours, failure}, nil},
	} {
		if err := raw(c.ctx, c.parts...); !errors.Is(err, c.want) {
			t.Errorf("a message %s: %v, want %v", c.what, err, c.want)
		}
		// By its number it may be had where all of it was read; that this is asked is recorded nowhere.
		may, err := g.MayReadMessage(c.ctx, &dmarc.LedgerEntry{ID: 7, Reports: c.parts})
		if want := c.want == nil && !slices.Contains(c.parts, unread); err != nil || may != want {
			t.Errorf("a message %s: may it be read: %v, %v", c.what, may, err)
		}
	}
	if len(v.audit) != 1 || v.audit[0].Action != "failures.read" || v.audit[0].Subject != "message 7" {
		t.Errorf("recorded %+v", v.audit)
	}

	private := as(dmarc.ScopeOf("a.example"), dmarc.RoleFailures)
	for whole, how := range map[bool]string{false: "failure report 1-7, masked", true: "failure report 1-7, whole"} {
		_, err := g.Failure(private, "1-7", whole)
		if last := v.audit[len(v.audit)-1]; err != nil || last.Action != "failures.read" || last.Subject != "a.example" || last.Detail != how {
			t.Errorf("reading a failure report: %v, recorded %+v, want %s", err, last, how)
		}
	}
	v.audit = v.audit[:1]
	if list, _, err := g.Failures(private, dmarc.FailureQuery{}); err != nil || len(list) != 1 || len(v.audit) != 2 {
		t.Errorf("failure reports: %d, %v; recorded %d", len(list), err, len(v.audit))
	}
	v.broken = true
	if list, _, err := g.Failures(private, dmarc.FailureQuery{}); err == nil || len(list) != 0 {
		t.Errorf("failure reports whose reading cannot be recorded: %d, %v", len(list), err)
	}
	if f, err := g.Failure(private, "1-7", false); err == nil || f.ID != "" {
		t.Errorf("a failure report whose reading cannot be recorded: %+v, %v", f, err)
	}
	if err := raw(as(dmarc.Everything, dmarc.Roles...), failure); err == nil {
		t.Error("a message with a failure report whose reading cannot be recorded is handed out")
	}

	for _, c := range []struct {
		ctx  context.Context
		tell bool
	}{{mine, false}, {all, true}} {
		e, err := g.Evidence(c.ctx, "a.example", dmarc.Period{})
		if told := err == nil && e.Sources[0].Elsewhere != (advice.Elsewhere{}); told != c.tell {
			t.Errorf("what other domains say is told: %v, %v", told, err)
		}
		said, err := g.Overrules(c.ctx, "a.example")
		if err != nil || (said[0].Note != "") != c.tell || (said[0].By != "") != c.tell || said[1].Note != "ours" {
			t.Errorf("overrules %+v, %v", said, err)
		}
	}
}

func first[T any](_ T, err error) error { return err }

func second[T, U any](_ T, _ U, err error) error { return err }

func TestUploadsAreAboutDomainsInTheScope(t *testing.T) {
	about := func(domain string) dmarc.Part {
		return dmarc.Part{Aggregate: &dmarc.AggregateReport{Policy: dmarc.PolicyPublished{Domain: domain}}}
	}
	tls := func(domains ...string) dmarc.Part {
		r := &dmarc.TLSReport{Domain: domains[0]}
		for _, d := range domains {
			r.Policies = append(r.Policies, dmarc.TLSPolicy{Domain: d})
		}
		return dmarc.Part{TLS: r}
	}
	scope := dmarc.ScopeOf("a.example")
	for _, c := range []struct {
		what  string
		parts []dmarc.Part
		want  bool
	}{
		{"nothing", nil, true},
		{"ours", []dmarc.Part{about("a.example"), about("x.a.example"), tls("a.example")}, true},
		{"ours and theirs", []dmarc.Part{about("a.example"), about("b.example")}, false},
		{"a TLS report with their policy", []dmarc.Part{tls("a.example", "b.example")}, false},
		{"a failure of theirs", []dmarc.Part{{Failure: &dmarc.FailureReport{ReportedDomain: "b.example"}}}, false},
		{"what cannot be read", []dmarc.Part{{Outcome: dmarc.OutcomeBadXML}}, false},
		{"what is no report", []dmarc.Part{about("a.example"), {Outcome: dmarc.OutcomeNotAReport}}, true},
	} {
		d := &dmarc.Delivery{Parts: c.parts}
		if c.parts == nil {
			d.Outcome = dmarc.OutcomeNotAReport
		}
		if err := inScope(scope, d); (err == nil) != c.want {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
