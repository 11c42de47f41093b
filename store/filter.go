package store

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// domainsOf returns the numbers of a domain and, if they are wanted, of its
// subdomains; dmarc.ErrNotFound if none of them is known.
func (s *Store) domainsOf(ctx context.Context, name string, subdomains bool) ([]int64, error) {
	if !subdomains {
		id, err := s.domainID(ctx, name)
		return []int64{id}, err
	}
	ids, err := s.domainsIn(ctx, dmarc.ScopeOf(name))
	if err == nil && len(ids) == 0 {
		err = dmarc.ErrNotFound
	}
	return ids, err
}

// ofDomain is a condition that holds a list to one domain, "" for all, and if it is
// wanted to its subdomains, and adds its argument.
func (s *Store) ofDomain(ctx context.Context, column, domain string, subdomains bool, args pgx.NamedArgs) (string, error) {
	if domain == "" {
		return "", nil
	}
	ids, err := s.domainsOf(ctx, domain, subdomains)
	if err != nil {
		return "", err
	}
	return " AND " + isOneOf(column, ids, args), nil
}

// trafficList returns what lists of the traffic of one domain begin with: the numbers of the
// domains, how the lines are sorted, and a condition for those after the cursor, with its arguments
// and those for period and limit.
func (s *Store) trafficList(ctx context.Context, q *dmarc.TrafficQuery, sorts map[string]order) (ids []int64, o order, behind string, args pgx.NamedArgs, err error) {
	if ids, err = s.domainsOf(ctx, q.Domain, q.Subdomains); err != nil {
		return nil, o, "", nil, err
	}
	if o, err = sorted(q.Sort, "-messages", sorts); err != nil {
		return nil, o, "", nil, err
	}
	args = pgx.NamedArgs{"begin": q.Period.Begin, "end": q.Period.End, "limit": q.Limit + 1}
	behind, err = o.behind(q.After, args)
	return ids, o, behind, args, err
}

// chosenDomains is a condition that holds a list to the domains that are asked for and may be known
// of, and adds its arguments. Unless one is asked for, those that are ignored are left out by
// their line in domains, d. Its error is dmarc.ErrNotFound if there is no domain that is asked for.
func (s *Store) chosenDomains(ctx context.Context, column, domain string, subdomains bool, scope dmarc.Scope, args pgx.NamedArgs) (string, error) {
	one, err := s.ofDomain(ctx, column, domain, subdomains, args)
	if err != nil {
		return "", err
	}
	within, err := s.within(ctx, scope, column, args)
	if err != nil {
		return "", err
	}
	if domain == "" {
		within += " AND NOT d.ignored"
	}
	return one + within, nil
}

// isOneOf is a condition on the number of a domain. One domain is asked for by =, so
// that an index has its lines in order.
func isOneOf(column string, ids []int64, args pgx.NamedArgs) string {
	if len(ids) == 1 {
		args["domain"] = ids[0]
		return column + " = @domain"
	}
	args["domains"] = ids
	return column + " = ANY (@domains::bigint[])"
}

// verdictsOf is a condition on a verdict of a row that a filter makes, "" for none.
func verdictsOf(f *dmarc.Filter, verdict string) string {
	var all []string
	switch f.Aligned {
	case dmarc.Yes:
		all = append(all, verdict+" & 3 <> 0")
	case dmarc.No:
		all = append(all, verdict+" & 3 = 0")
	}
	switch f.Disposition {
	case dmarc.DispositionNone:
		all = append(all, verdict+" >> 4 & 7 IN (1, 4)")
	case dmarc.DispositionQuarantine:
		all = append(all, verdict+" >> 4 & 7 = 2")
	case dmarc.DispositionReject:
		all = append(all, verdict+" >> 4 & 7 = 3")
	case dmarc.DispositionPass:
		all = append(all, verdict+" >> 4 & 7 = 4")
	}
	return strings.Join(all, " AND ")
}

// talliesOf is a condition on a tally that a filter makes: that some of its messages
// meet it. It begins with AND.
func talliesOf(f *dmarc.Filter, prefix string) string {
	var b strings.Builder
	switch f.Aligned {
	case dmarc.Yes:
		b.WriteString(" AND " + prefix + "dmarc_pass > 0")
	case dmarc.No:
		b.WriteString(" AND " + prefix + "messages > " + prefix + "dmarc_pass")
	}
	if f.Disposition != dmarc.DispositionUnknown {
		// The columns have the names of the dispositions.
		b.WriteString(" AND " + prefix + f.Disposition.String() + " > 0")
	}
	return b.String()
}

// classesOf joins lines of a table of sources by domain with the class that each has
// for its domain. An address that is not kept by itself has the class of its network.
func classesOf(f *dmarc.Filter, table string, args pgx.NamedArgs) (join, where string) {
	if !f.Classed {
		return "", ""
	}
	args["class"] = int16(f.Class)
	join = `
			LEFT JOIN domain_sources own ON own.domain_id = T.domain_id AND own.source = T.source
			LEFT JOIN domain_sources around ON around.domain_id = T.domain_id
				AND around.source = network(set_masklen(T.source, CASE family(T.source) WHEN 4 THEN 24 ELSE 48 END))::inet`
	return strings.ReplaceAll(join, "T.", table+"."), " AND coalesce(own.class, around.class, 0) = @class"
}

// sourceOf is a condition on the column of an address that a filter makes.
func sourceOf(f *dmarc.Filter, column string, args pgx.NamedArgs) string {
	if !f.Source.IsValid() {
		return ""
	}
	args["network"] = f.Source.Masked()
	return " AND " + column + " <<= @network::inet"
}

// reportersNamed returns the numbers of the reporters of a name, by domain.
func (s *Store) reportersNamed(ctx context.Context, domains []int64, name string) ([]int64, error) {
	args := pgx.NamedArgs{"name": clean(name)}
	rows, _ := s.db.Query(ctx, "SELECT id FROM reporters WHERE "+isOneOf("domain_id", domains, args)+" AND org_name = @name", args)
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// within is a condition on a time that a period makes; none if the period is zero.
func during(period dmarc.Period, column string, args pgx.NamedArgs) string {
	if period.Begin.IsZero() && period.End.IsZero() {
		return ""
	}
	args["begin"], args["end"] = period.Begin, period.End
	return " AND " + column + " >= @begin AND " + column + " < @end"
}
