package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// A Store answers questions about everything.
type Store interface {
	Domains(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error)
	DomainsWithTotal(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, dmarc.DomainsTotal, error)
	Summary(ctx context.Context, q dmarc.TrafficQuery) (dmarc.DomainSummary, error)
	Sources(ctx context.Context, q dmarc.TrafficQuery) (dmarc.SourceList, dmarc.Cursor, error)
	Reporters(ctx context.Context, q dmarc.TrafficQuery) ([]dmarc.ReporterTraffic, dmarc.Cursor, error)
	Selectors(ctx context.Context, q dmarc.TrafficQuery) (dmarc.SelectorList, dmarc.Cursor, error)
	Reports(ctx context.Context, q dmarc.ReportQuery) ([]dmarc.ReportSummary, dmarc.Cursor, error)
	Report(ctx context.Context, id string) (dmarc.ReportSummary, error)
	Alternatives(ctx context.Context, id string, page dmarc.Page) ([]dmarc.ReportSummary, dmarc.Cursor, error)
	Raw(ctx context.Context, reportID string) (io.ReadCloser, dmarc.LedgerEntry, error)
	ReportRows(ctx context.Context, q dmarc.RowQuery) (dmarc.RowList, dmarc.Cursor, error)
	Failures(ctx context.Context, q dmarc.FailureQuery) ([]dmarc.StoredFailure, dmarc.Cursor, error)
	Failure(ctx context.Context, id string, whole bool) (dmarc.StoredFailure, error)
	TLSTraffic(ctx context.Context, q dmarc.TLSQuery) (dmarc.TLSTraffic, error)
	TLSDomains(ctx context.Context, q dmarc.TLSQuery) ([]dmarc.TLSDomain, dmarc.Cursor, error)
	TLS(ctx context.Context, q dmarc.TLSQuery) ([]dmarc.StoredTLS, dmarc.Cursor, error)
	TLSReport(ctx context.Context, id string) (dmarc.StoredTLS, error)
	Messages(ctx context.Context, q dmarc.MessageQuery) ([]dmarc.LedgerEntry, dmarc.Cursor, error)
	Notifications(ctx context.Context, q dmarc.NotificationQuery) ([]dmarc.Notification, dmarc.Cursor, error)
	Look(ctx context.Context, domain string) (*records.Result, error)
	RecordChanges(ctx context.Context, domain string, q dmarc.ChangeQuery) ([]dmarc.RecordChange, dmarc.Cursor, error)
	Attention(ctx context.Context, q dmarc.AttentionQuery) ([]dmarc.DomainVerdict, dmarc.Cursor, error)
	Groups(ctx context.Context, q dmarc.GroupQuery) ([]dmarc.GroupTraffic, dmarc.Cursor, error)
	// Group returns a group; dmarc.ErrNotFound if there is none of the name.
	Group(ctx context.Context, name string) (dmarc.Group, error)
	Ready(ctx context.Context) error
	MailboxHealth(ctx context.Context) ([]dmarc.MailboxHealth, error)
	PassHealth(ctx context.Context) ([]dmarc.PassHealth, error)
	Leases(ctx context.Context) ([]dmarc.LeaseHolder, error)
	Refused(ctx context.Context, since time.Time) (map[dmarc.Outcome]int64, error)
	AllOverrules(ctx context.Context, s dmarc.Scope, page dmarc.Page) ([]dmarc.Overrule, dmarc.Cursor, error)
	// Archived returns the bytes of a message; dmarc.ErrNotFound if they are not
	// kept.
	Archived(ctx context.Context, digest dmarc.Digest) (io.ReadCloser, error)
	// DomainOfReport returns the domain that a report of an id is about,
	// whether there is such a report or not.
	DomainOfReport(ctx context.Context, id string) (string, error)
}

// A Guard is a store and an intake as the principal of each context may know and
// use them. What is about a domain beyond the scope is not found, like what is about a
// domain that does not exist, and the store is not asked. It has no
// method that it does not guard: whoever asks the store something new has to say here
// who may know the answer.
type Guard struct {
	Store    Store
	Intake   Intake
	Keeper   *Keeper
	Adviser  Adviser
	Said     Overrules
	Arranged Arrangements
	Setup    Setup
}

// An Adviser gathers what a judgement about a domain rests on.
type Adviser interface {
	Evidence(ctx context.Context, domain string, period dmarc.Period) (*advice.Evidence, error)
	// Whose returns what is known of addresses that sent as a domain.
	Whose(ctx context.Context, domain string, addrs []netip.Addr) (map[netip.Addr]dmarc.SourceIdentity, error)
}

// scope returns what the principal may know of in a role.
func scope(ctx context.Context, role dmarc.Role) (dmarc.Scope, error) {
	p := principalOf(ctx)
	if !p.may(role) {
		return dmarc.Scope{}, dmarc.ErrForbidden
	}
	return p.scope(role), nil
}

// narrow holds a question about a domain to what is in a scope, and reports whether
// anything may be. Of a domain beyond the scope whose subdomains are asked for, too,
// those that the scope was made of are left, so that the store is never asked about others.
func narrow(s *dmarc.Scope, domain *string, subdomains bool) bool {
	if *domain == "" || s.Covers(*domain) {
		return true
	}
	if !subdomains {
		return false
	}
	below := slices.DeleteFunc(s.Domains(), func(d string) bool { return !strings.HasSuffix(d, "."+*domain) })
	if len(below) == 1 {
		*domain = below[0]
		return true
	}
	*s, *domain = dmarc.ScopeOf(below...), ""
	return len(below) > 0
}

// about is nil if the principal may know of a domain in a role.
func about(ctx context.Context, role dmarc.Role, domain string) error {
	s, err := scope(ctx, role)
	if err == nil && !s.Covers(domain) {
		err = dmarc.ErrNotFound
	}
	return err
}

// report is nil if the principal may know of the domain of a report in a role.
func (g *Guard) report(ctx context.Context, role dmarc.Role, id string) error {
	s, err := scope(ctx, role)
	if err != nil || s.All() {
		return err
	}
	domain, err := g.Store.DomainOfReport(ctx, id)
	if err == nil && !s.Covers(domain) {
		err = dmarc.ErrNotFound
	}
	return err
}

// Ready tells whether the store can be asked. Everybody may know.
func (g *Guard) Ready(ctx context.Context) error { return g.Store.Ready(ctx) }

// Domains returns domains.
func (g *Guard) Domains(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error) {
	some, err := g.domains(ctx, &q)
	if err != nil || !some {
		return []dmarc.DomainTraffic{}, "", err
	}
	return g.Store.Domains(ctx, q)
}

// DomainsWithTotal returns domains, and sums all of them.
func (g *Guard) DomainsWithTotal(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, dmarc.DomainsTotal, error) {
	some, err := g.domains(ctx, &q)
	if err != nil || !some {
		return []dmarc.DomainTraffic{}, "", dmarc.DomainsTotal{}, err
	}
	return g.Store.DomainsWithTotal(ctx, q)
}

// domains narrows a query to what the principal may know of, and tells whether anything
// is left of it.
func (g *Guard) domains(ctx context.Context, q *dmarc.DomainQuery) (some bool, err error) {
	if q.Scope, err = scope(ctx, dmarc.RoleRead); err != nil {
		return false, err
	}
	if q.Scope, err = g.inGroup(ctx, q.Scope, q.Group); err != nil {
		return false, err
	}
	return narrow(&q.Scope, &q.Domain, q.Subdomains), nil
}

// Summary returns what reports tell about a domain.
func (g *Guard) Summary(ctx context.Context, q dmarc.TrafficQuery) (dmarc.DomainSummary, error) {
	if err := about(ctx, dmarc.RoleRead, q.Domain); err != nil {
		return dmarc.DomainSummary{}, err
	}
	return g.Store.Summary(ctx, q)
}

// Sources returns who sends as a domain.
func (g *Guard) Sources(ctx context.Context, q dmarc.TrafficQuery) (dmarc.SourceList, dmarc.Cursor, error) {
	if err := about(ctx, dmarc.RoleRead, q.Domain); err != nil {
		return dmarc.SourceList{}, "", err
	}
	return g.Store.Sources(ctx, q)
}

// Reporters returns who reports about a domain.
func (g *Guard) Reporters(ctx context.Context, q dmarc.TrafficQuery) ([]dmarc.ReporterTraffic, dmarc.Cursor, error) {
	if err := about(ctx, dmarc.RoleRead, q.Domain); err != nil {
		return nil, "", err
	}
	return g.Store.Reporters(ctx, q)
}

// Selectors returns the keys that sign for a domain.
func (g *Guard) Selectors(ctx context.Context, q dmarc.TrafficQuery) (dmarc.SelectorList, dmarc.Cursor, error) {
	if err := about(ctx, dmarc.RoleRead, q.Domain); err != nil {
		return dmarc.SelectorList{}, "", err
	}
	return g.Store.Selectors(ctx, q)
}

// Reports returns aggregate reports.
func (g *Guard) Reports(ctx context.Context, q dmarc.ReportQuery) (items []dmarc.ReportSummary, next dmarc.Cursor, err error) {
	if q.Scope, err = scope(ctx, dmarc.RoleRead); err != nil {
		return nil, "", err
	}
	if !narrow(&q.Scope, &q.Domain, q.Subdomains) {
		return []dmarc.ReportSummary{}, "", nil
	}
	return g.Store.Reports(ctx, q)
}

// Report returns an aggregate report.
func (g *Guard) Report(ctx context.Context, id string) (dmarc.ReportSummary, error) {
	if err := g.report(ctx, dmarc.RoleRead, id); err != nil {
		return dmarc.ReportSummary{}, err
	}
	return g.Store.Report(ctx, id)
}

// Alternatives returns what else came under the identity of a report: it is
// about the same domain.
func (g *Guard) Alternatives(ctx context.Context, id string, page dmarc.Page) ([]dmarc.ReportSummary, dmarc.Cursor, error) {
	if err := g.report(ctx, dmarc.RoleRead, id); err != nil {
		return nil, "", err
	}
	return g.Store.Alternatives(ctx, id, page)
}

// Raw returns the message that a report came in, if all that it holds is
// reports that the principal may know of.
func (g *Guard) Raw(ctx context.Context, reportID string) (io.ReadCloser, dmarc.LedgerEntry, error) {
	if err := g.report(ctx, dmarc.RoleRead, reportID); err != nil {
		return nil, dmarc.LedgerEntry{}, err
	}
	body, entry, err := g.Store.Raw(ctx, reportID)
	if err != nil {
		return nil, dmarc.LedgerEntry{}, err
	}
	if err := g.whole(ctx, &entry); err != nil {
		body.Close()
		return nil, dmarc.LedgerEntry{}, err
	}
	return body, entry, nil
}

// whole is nil if the principal may read all of a message. Where it holds failure reports
// it is recorded that they were read.
func (g *Guard) whole(ctx context.Context, entry *dmarc.LedgerEntry) error {
	private, err := g.mayRead(ctx, entry)
	if err == nil && private {
		err = g.Keeper.record(ctx, "failures.read", "message "+strconv.FormatInt(entry.ID, 10), "the message as it came")
	}
	return err
}

// mayRead is nil if the principal may read all of a message, and says whether it holds
// failure reports.
func (g *Guard) mayRead(ctx context.Context, entry *dmarc.LedgerEntry) (private bool, err error) {
	reports, failures := principalOf(ctx).scope(dmarc.RoleRead), principalOf(ctx).scope(dmarc.RoleFailures)
	about := func(scope dmarc.Scope, part dmarc.LedgerPart) error {
		if scope.All() {
			return nil
		}
		if part.Report == "" {
			return dmarc.ErrNotFound
		}
		domain, err := g.Store.DomainOfReport(ctx, part.Report)
		if err == nil && !scope.Covers(domain) {
			err = dmarc.ErrNotFound
		}
		if err != nil || part.Kind != tlsKind {
			return err
		}
		t, err := g.Store.TLSReport(ctx, part.Report)
		if cover(&t, scope); err == nil && t.Partial {
			err = dmarc.ErrNotFound
		}
		return err
	}
	for _, part := range entry.Reports {
		if err := about(reports, part); err != nil {
			return private, err
		}
		if part.Kind != failureKind {
			continue
		}
		private = true
		if err := about(failures, part); errors.Is(err, dmarc.ErrNotFound) {
			return private, dmarc.ErrForbidden
		} else if err != nil {
			return private, err
		}
	}
	return private, nil
}

// The kinds of the parts of a message that are failure reports and TLS reports.
const (
	failureKind = "failure"
	tlsKind     = "tls"
)

// Notifications returns what people were told. To whom, and whether that worked,
// is for those who may know of everything.
func (g *Guard) Notifications(ctx context.Context, q dmarc.NotificationQuery) (items []dmarc.Notification, next dmarc.Cursor, err error) {
	if q.Scope, err = scope(ctx, dmarc.RoleRead); err != nil {
		return nil, "", err
	}
	if !narrow(&q.Scope, &q.Domain, q.Subdomains) {
		return []dmarc.Notification{}, "", nil
	}
	items, next, err = g.Store.Notifications(ctx, q)
	if !q.Scope.All() {
		for i := range items {
			items[i].Deliveries = nil
		}
	}
	return items, next, err
}

// Failures returns failure reports. That they were read is recorded first.
func (g *Guard) Failures(ctx context.Context, q dmarc.FailureQuery) (items []dmarc.StoredFailure, next dmarc.Cursor, err error) {
	if q.Scope, err = scope(ctx, dmarc.RoleFailures); err != nil {
		return nil, "", err
	}
	if !narrow(&q.Scope, &q.Domain, q.Subdomains) {
		return []dmarc.StoredFailure{}, "", nil
	}
	if items, next, err = g.Store.Failures(ctx, q); err != nil || len(items) == 0 {
		return items, next, err
	}
	var domains []string
	for i := range items {
		if d := items[i].Report.ReportedDomain; !slices.Contains(domains, d) && len(domains) < 20 {
			domains = append(domains, d)
		}
	}
	detail := fmt.Sprintf("%d failure reports, %s to %s", len(items), items[len(items)-1].ID, items[0].ID)
	if err := g.Keeper.record(ctx, "failures.read", strings.Join(domains, ", "), detail); err != nil {
		return nil, "", err
	}
	return items, next, nil
}

// TLS returns TLS reports. Policies of domains beyond the scope are left out
// of them.
func (g *Guard) TLS(ctx context.Context, q dmarc.TLSQuery) (items []dmarc.StoredTLS, next dmarc.Cursor, err error) {
	if q.Scope, err = scope(ctx, dmarc.RoleRead); err != nil {
		return nil, "", err
	}
	mine := q.Scope
	if !narrow(&q.Scope, &q.Domain, q.Subdomains) {
		return []dmarc.StoredTLS{}, "", nil
	}
	if items, next, err = g.Store.TLS(ctx, q); err != nil {
		return nil, "", err
	}
	for i := range items {
		cover(&items[i], mine)
	}
	return items, next, nil
}

// TLSReport returns a TLS report, without the policies of domains beyond the scope.
func (g *Guard) TLSReport(ctx context.Context, id string) (dmarc.StoredTLS, error) {
	if err := g.report(ctx, dmarc.RoleRead, id); err != nil {
		return dmarc.StoredTLS{}, err
	}
	t, err := g.Store.TLSReport(ctx, id)
	cover(&t, principalOf(ctx).scope(dmarc.RoleRead))
	return t, err
}

// cover leaves out the policies of domains beyond a scope.
func cover(t *dmarc.StoredTLS, mine dmarc.Scope) {
	if mine.All() {
		return
	}
	all := len(t.Report.Policies)
	t.Report.Policies = slices.DeleteFunc(t.Report.Policies, func(p dmarc.TLSPolicy) bool { return p.Domain != "" && !mine.Covers(p.Domain) })
	t.Partial = len(t.Report.Policies) < all
}

// Messages returns the ledger. To those who may not read failure reports it does
// not tell the subjects of messages that hold some: these are often the subjects of
// what failed.
func (g *Guard) Messages(ctx context.Context, q dmarc.MessageQuery) (items []dmarc.LedgerEntry, next dmarc.Cursor, err error) {
	if q.Scope, err = scope(ctx, dmarc.RoleRead); err != nil {
		return nil, "", err
	}
	// Messages may hold reports about others in the scope besides.
	if part, domain := q.Scope, q.Domain; !narrow(&part, &domain, q.Subdomains) {
		return []dmarc.LedgerEntry{}, "", nil
	}
	f := principalOf(ctx).scope(dmarc.RoleFailures)
	q.HideSubjects = !f.All() && (q.Scope.All() || !slices.Equal(f.Domains(), q.Scope.Domains()))
	if items, next, err = g.Store.Messages(ctx, q); err != nil {
		return nil, "", err
	}
	if q.HideSubjects {
		for i := range items {
			if slices.ContainsFunc(items[i].Reports, func(part dmarc.LedgerPart) bool { return part.Kind == failureKind }) {
				items[i].Subject = ""
			}
		}
	}
	return items, next, nil
}

// Look returns what a domain publishes.
func (g *Guard) Look(ctx context.Context, domain string) (*records.Result, error) {
	if err := about(ctx, dmarc.RoleRead, domain); err != nil {
		return nil, err
	}
	return g.Store.Look(ctx, domain)
}

// RecordChanges returns how that changed.
func (g *Guard) RecordChanges(ctx context.Context, domain string, q dmarc.ChangeQuery) ([]dmarc.RecordChange, dmarc.Cursor, error) {
	if err := about(ctx, dmarc.RoleRead, domain); err != nil {
		return nil, "", err
	}
	return g.Store.RecordChanges(ctx, domain, q)
}

// Evidence returns what a judgement about a domain rests on.
func (g *Guard) Evidence(ctx context.Context, domain string, period dmarc.Period) (*advice.Evidence, error) {
	if err := about(ctx, dmarc.RoleRead, domain); err != nil {
		return nil, err
	}
	e, err := g.Adviser.Evidence(ctx, domain, period)
	if err != nil || principalOf(ctx).scope(dmarc.RoleRead).All() {
		return e, err
	}
	return e.Alone(), nil // what other domains say of a source tells about them
}

// Advise judges a policy for a domain, or the next step if none is given.
func (g *Guard) Advise(ctx context.Context, domain string, policy dmarc.Policy, period dmarc.Period) (*advice.Advice, error) {
	e, err := g.Evidence(ctx, domain, period)
	if err != nil {
		return nil, err
	}
	return advice.For(e, advice.Options{Target: policy}), nil
}

// Attention returns verdicts about domains, the most urgent first.
func (g *Guard) Attention(ctx context.Context, q dmarc.AttentionQuery) (items []dmarc.DomainVerdict, next dmarc.Cursor, err error) {
	if q.Scope, err = scope(ctx, dmarc.RoleRead); err != nil {
		return nil, "", err
	}
	if q.Scope, err = g.inGroup(ctx, q.Scope, q.Group); err != nil {
		return nil, "", err
	}
	if !narrow(&q.Scope, &q.Domain, q.Subdomains) {
		return []dmarc.DomainVerdict{}, "", nil
	}
	return g.Store.Attention(ctx, q)
}
