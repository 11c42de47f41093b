package access

import (
	"context"
	"io"
	"net/netip"

	"github.com/dmarcd/dmarcd/dmarc"
)

// ReportRows returns rows of an aggregate report.
func (g *Guard) ReportRows(ctx context.Context, q dmarc.RowQuery) (dmarc.RowList, dmarc.Cursor, error) {
	if err := g.report(ctx, dmarc.RoleRead, q.Report); err != nil {
		return dmarc.RowList{}, "", err
	}
	return g.Store.ReportRows(ctx, q)
}

// ReportText opens the text of an aggregate report. It holds that report alone,
// whatever else is in the message that it came in.
func (g *Guard) ReportText(ctx context.Context, id string) (io.ReadCloser, error) {
	if err := g.report(ctx, dmarc.RoleRead, id); err != nil {
		return nil, err
	}
	return g.Intake.ReportText(ctx, id)
}

// TLSText opens the text of a TLS report, if all of its policies are of domains that the
// principal may know of.
func (g *Guard) TLSText(ctx context.Context, id string) (io.ReadCloser, error) {
	t, err := g.TLSReport(ctx, id)
	if err == nil && t.Partial {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return g.Intake.TLSText(ctx, id)
}

// Failure returns a failure report, masked or whole. That it was read, and how, is
// recorded first.
func (g *Guard) Failure(ctx context.Context, id string, whole bool) (dmarc.StoredFailure, error) {
	if err := g.report(ctx, dmarc.RoleFailures, id); err != nil {
		return dmarc.StoredFailure{}, err
	}
	f, err := g.Store.Failure(ctx, id, whole)
	if err != nil {
		return f, err
	}
	how := "masked"
	if whole {
		how = "whole"
	}
	if err := g.Keeper.record(ctx, "failures.read", f.Report.ReportedDomain, "failure report "+f.ID+", "+how); err != nil {
		return dmarc.StoredFailure{}, err
	}
	return f, nil
}

// TLSTraffic returns how sessions with TLS to the mail servers of a domain fared.
func (g *Guard) TLSTraffic(ctx context.Context, q dmarc.TLSQuery) (t dmarc.TLSTraffic, err error) {
	if q.Scope, err = scope(ctx, dmarc.RoleRead); err != nil || !q.Scope.Covers(q.Domain) {
		return t, err
	}
	return g.Store.TLSTraffic(ctx, q)
}

// TLSDomains returns the domains that TLS reports are about.
func (g *Guard) TLSDomains(ctx context.Context, q dmarc.TLSQuery) (items []dmarc.TLSDomain, next dmarc.Cursor, err error) {
	if q.Scope, err = scope(ctx, dmarc.RoleRead); err != nil {
		return nil, "", err
	}
	return g.Store.TLSDomains(ctx, q)
}

// Whose returns what is known of addresses that sent as a domain.
func (g *Guard) Whose(ctx context.Context, domain string, addrs []netip.Addr) (map[netip.Addr]dmarc.SourceIdentity, error) {
	if err := about(ctx, dmarc.RoleRead, domain); err != nil {
		return nil, err
	}
	return g.Adviser.Whose(ctx, domain, addrs)
}
