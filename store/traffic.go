package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/dmarcd/dmarcd/dmarc"
)

// tally sums the columns of a tally, in the order of scanTally.
const tally = `
	coalesce(sum(rows), 0)::bigint,
	coalesce(sum(messages), 0)::bigint,
	coalesce(sum(dmarc_pass), 0)::bigint,
	coalesce(sum(dkim_aligned), 0)::bigint,
	coalesce(sum(spf_aligned), 0)::bigint,
	coalesce(sum(none), 0)::bigint,
	coalesce(sum(quarantine), 0)::bigint,
	coalesce(sum(reject), 0)::bigint,
	coalesce(sum(pass), 0)::bigint,
	coalesce(sum(unstated), 0)::bigint`

// tallyColumns are the columns of a tally made from verdicts: see dmarc.Verdict.
const tallyColumns = `
	coalesce(sum(rows), 0)::bigint AS rows,
	coalesce(sum(messages), 0)::bigint AS messages,
	coalesce(sum(messages) FILTER (WHERE verdict & 3 <> 0), 0)::bigint AS dmarc_pass,
	coalesce(sum(messages) FILTER (WHERE verdict & 1 <> 0), 0)::bigint AS dkim_aligned,
	coalesce(sum(messages) FILTER (WHERE verdict & 2 <> 0), 0)::bigint AS spf_aligned,
	coalesce(sum(messages) FILTER (WHERE verdict >> 4 IN (1, 4)), 0)::bigint AS none,
	coalesce(sum(messages) FILTER (WHERE verdict >> 4 = 2), 0)::bigint AS quarantine,
	coalesce(sum(messages) FILTER (WHERE verdict >> 4 = 3), 0)::bigint AS reject,
	coalesce(sum(messages) FILTER (WHERE verdict >> 4 = 4), 0)::bigint AS pass,
	coalesce(sum(messages) FILTER (WHERE verdict >> 4 = 0), 0)::bigint AS unstated`

// scanTally returns where the columns of a tally go.
func scanTally(t *dmarc.Tally) []any {
	return []any{&t.Rows, &t.Messages, &t.DMARCPass, &t.DKIMAligned, &t.SPFAligned, &t.None, &t.Quarantine, &t.Reject, &t.Pass, &t.Unstated}
}

// domainID returns the number of a domain, or dmarc.ErrNotFound.
func (s *Store) domainID(ctx context.Context, name string) (int64, error) {
	name = clean(name)
	if id, ok := s.dict.domain(name); ok {
		return id, nil
	}
	var id int64
	err := s.db.QueryRow(ctx, "SELECT id FROM domains WHERE name = $1", name).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("domain %q: %w", name, err)
	}
	s.dict.addDomain(name, id)
	return id, nil
}

// planned is how to ask what is to be planned for its very arguments: questions about many
// domains, for which a plan that is made once, for all periods, takes up to eight times as
// long. Planning takes a millisecond, which is too much for those about one domain.
const planned = pgx.QueryExecModeCacheDescribe

// Domains returns the domains that reports were stored for, busiest first.
// Those without messages in the period come last.
func (s *Store) Domains(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error) {
	return s.domains(ctx, q, nil)
}

// DomainsWithTotal returns what Domains returns, and the sum of all domains of the query,
// whatever page of them it asks for.
func (s *Store) DomainsWithTotal(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, dmarc.DomainsTotal, error) {
	var total dmarc.DomainsTotal
	list, next, err := s.domains(ctx, q, &total)
	return list, next, total, err
}

// domains lists domains, and sums all of them if there is a total: from the same traffic of
// each, which takes most of the time.
func (s *Store) domains(ctx context.Context, q dmarc.DomainQuery, total *dmarc.DomainsTotal) ([]dmarc.DomainTraffic, dmarc.Cursor, error) {
	// What only those need that are listed is summed for those.
	var more []string
	if total != nil {
		more = []string{"dmarc_pass", "quarantine", "reject"}
	}
	order, sums, which, args, err := s.listed(ctx, q, more)
	if errors.Is(err, dmarc.ErrNotFound) {
		return []dmarc.DomainTraffic{}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	sql := sums + order.with + ` page AS (
			SELECT d.id, d.name, d.ignored, coalesce(t.messages, 0) AS busy, ` + order.columns + `
			FROM domains d
			LEFT JOIN sums t ON t.domain_id = d.id` + order.join + `
			WHERE ` + which + `
				AND ` + order.behind + `
			ORDER BY ` + order.by + `
			LIMIT @limit
		)`
	from := "page"
	var into []any
	if t := total; t != nil {
		sql += totalOf(&order, which)
		from = "total LEFT JOIN page ON true"
		into = []any{&t.Domains, &t.Before, &t.Stopped, &t.None, &t.Judged, &t.Own, &t.Passing, &t.LossADay, &t.Messages, &t.DMARCPass}
	}
	sql += `
		SELECT *
		FROM ` + from + `
		ORDER BY ` + order.by
	rows, _ := s.db.Query(ctx, sql, planned, args)
	var lines []domainLine
	var id, busy *int64 // these are NULL beside the total of no domains
	var name, place *string
	var ignored *bool
	var attention *int16
	var loss *float64
	_, err = pgx.ForEachRow(rows, append(into, &id, &name, &ignored, &busy, &attention, &loss, nil, &place), func() error {
		if id != nil {
			lines = append(lines, domainLine{dmarc.DomainTraffic{Domain: *name, Ignored: *ignored}, *id, *busy, *attention, *loss, *place})
		}
		return nil
	})
	if err == nil {
		err = s.fill(ctx, &q, lines)
	}
	if err != nil {
		return nil, "", fmt.Errorf("listing domains: %w", err)
	}
	return pageOf(lines, q.Limit, func(l domainLine) dmarc.DomainTraffic { return l.DomainTraffic },
		order.cursor)
}

// fill fills in what else is told of listed domains.
func (s *Store) fill(ctx context.Context, q *dmarc.DomainQuery, lines []domainLine) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.tallies(ctx, q, lines) })
	g.Go(func() error { return s.latest(ctx, lines) })
	g.Go(func() error { return s.arranged(ctx, lines) })
	if !q.Trend.Begin.IsZero() {
		ids := make([]int64, len(lines))
		at := make(map[int64]*domainLine, len(lines))
		for i := range lines {
			ids[i], at[lines[i].id] = lines[i].id, &lines[i]
		}
		g.Go(func() error {
			return s.days(ctx, ids, q.Trend, func(id int64, d dmarc.DayTraffic) { at[id].Days = append(at[id].Days, d) })
		})
	}
	return g.Wait()
}

// tallies fills in the traffic of listed domains.
func (s *Store) tallies(ctx context.Context, q *dmarc.DomainQuery, lines []domainLine) error {
	if len(lines) == 0 {
		return nil
	}
	at := make(map[int64]*domainLine, len(lines))
	ids := make([]int64, len(lines))
	for i := range lines {
		ids[i], at[lines[i].id] = lines[i].id, &lines[i]
	}
	args := pgx.NamedArgs{"ids": ids}
	sql := trafficSums(q, totalColumns, " AND domain_id = ANY (@ids)", args)
	sql = "SELECT domain_id, reports, " + strings.Join(tallyNames, ", ") + " FROM (" + sql + ") AS sums"
	rows, _ := s.db.Query(ctx, sql, planned, args)
	var id, reports int64
	var t dmarc.Tally
	_, err := pgx.ForEachRow(rows, append([]any{&id, &reports}, scanTally(&t)...), func() error {
		at[id].Reports, at[id].Tally = reports, t
		return nil
	})
	return err
}

// trafficSums is a query for some columns of the traffic of each domain that a question
// is about, held to the domains of a condition on domain_id.
func trafficSums(q *dmarc.DomainQuery, columns []string, within string, args pgx.NamedArgs) string {
	if q.Mail.Reporter != "" {
		return toldBy(q, within, args)
	}
	return `
			SELECT domain_id, ` + summed(columns) + `
			FROM (` + trafficOf(q.Period, columns, within, args) + `) AS parts
			GROUP BY domain_id`
}

// neededFor returns the columns of traffic that the order and the conditions of a question
// rest on, and more.
func neededFor(q *dmarc.DomainQuery, more []string) []string {
	columns := append([]string{"messages"}, more...)
	switch strings.TrimPrefix(string(q.Sort), "-") {
	case "failed", "pass_rate":
		columns = append(columns, "dmarc_pass")
	case "reports":
		columns = append(columns, "reports")
	}
	if q.Mail.Aligned != dmarc.Either {
		columns = append(columns, "dmarc_pass")
	}
	if q.Mail.Disposition != dmarc.DispositionUnknown {
		columns = append(columns, q.Mail.Disposition.String()) // they have the same names
	}
	slices.Sort(columns)
	return slices.Compact(columns)
}

// listed returns what lists of domains begin with: how they are sorted, the
// traffic of the period as sums, as far as the order, conditions and more columns need
// it, and which domains are in them. Its error is dmarc.ErrNotFound if there is no
// domain that is asked for.
func (s *Store) listed(ctx context.Context, q dmarc.DomainQuery, more []string) (order domainOrder, sums, which string, args pgx.NamedArgs, err error) {
	args = pgx.NamedArgs{"search": strings.ToLower(clean(q.Search)), "limit": q.Limit + 1}
	if order, err = orderOfDomains(&q, args); err != nil {
		return order, "", "", nil, err
	}
	within, err := s.within(ctx, q.Scope, "domain_id", args)
	if err != nil {
		return order, "", "", nil, err
	}
	one, err := s.ofDomain(ctx, "domain_id", q.Domain, q.Subdomains, args)
	if err != nil {
		return order, "", "", nil, err
	}
	within += one
	which = "d.name <> ''" + strings.ReplaceAll(within, "domain_id", "d.id")
	if !q.Ignored {
		which += " AND (NOT d.ignored OR d.name = @named)"
		args["named"] = clean(q.Domain)
	}
	if q.Verdict != "" {
		which += " AND EXISTS (SELECT FROM verdicts v WHERE v.domain_id = d.id AND v.computed_at IS NOT NULL AND v.verdict = @verdict)"
		args["verdict"] = clean(q.Verdict)
	}
	if q.Label != "" {
		if args["labelled"], err = s.labelled(ctx, q.Label); err != nil {
			return order, "", "", nil, err
		}
		which += " AND d.name = ANY (@labelled::text[])"
	}
	sums = trafficSums(&q, neededFor(&q, more), within, args)
	if q.Mail.Reporter != "" {
		which += " AND t.domain_id IS NOT NULL"
	} else {
		which += talliesOf(&q.Mail, "t.")
	}
	which += sendersOf(&q.Mail, args)
	sums = `
		WITH sums AS (` + sums + `
		), `
	return order, sums, which + " AND (@search = '' OR strpos(d.name, @search) > 0)", args, nil
}

// toldBy is a query for the mail of domains that a reporter tells of and that meets a
// filter, with columns as in domain_days. It adds its arguments.
func toldBy(q *dmarc.DomainQuery, within string, args pgx.NamedArgs) string {
	args["reporter"], args["begin"], args["end"] = clean(q.Mail.Reporter), q.Period.Begin, q.Period.End
	return `
			SELECT c.domain_id,` + tallyColumns + `, sum(estimated)::bigint AS estimated, sum(reports)::bigint AS reports
			FROM reporter_days c
			JOIN reporters r ON r.domain_id = c.domain_id AND r.id = c.reporter_id
			WHERE r.org_name = @reporter AND c.day >= @begin AND c.day < @end
				AND ` + cmp.Or(verdictsOf(&q.Mail, "verdict"), "true") + strings.ReplaceAll(within, "domain_id", "c.domain_id") + `
			GROUP BY c.domain_id`
}

// sendersOf is a condition on domains d that a filter about senders makes: that they
// have such, by their last verdict. It begins with AND.
func sendersOf(f *dmarc.Filter, args pgx.NamedArgs) string {
	if !readsRows(f) {
		return ""
	}
	where := ""
	if f.Classed {
		where, args["class"] = " AND x.class = @class", int16(f.Class)
	}
	if f.Source.IsValid() { // a network is a piece of the index
		args["network"] = f.Source.Masked()
		where += " AND x.source >= host(network(@network::inet))::inet AND x.source <= host(broadcast(@network::inet))::inet AND x.source <<= @network::inet"
	}
	return " AND EXISTS (SELECT FROM domain_sources x WHERE x.domain_id = d.id" + where + ")"
}

// totalOf is what sums the domains of a list as total, behind what listed returns.
func totalOf(order *domainOrder, which string) string {
	return `, judged AS MATERIALIZED (
			SELECT domain_id, policy, own, passing, loss_a_day
			FROM verdicts
			WHERE computed_at IS NOT NULL
		), total AS (
			SELECT count(*), count(*) FILTER (WHERE NOT ` + order.behind + `),
				coalesce(sum(least(t.messages - t.dmarc_pass, t.quarantine + t.reject)), 0)::bigint,
				count(*) FILTER (WHERE v.policy = 'p=none' OR v.policy LIKE 'p=none;%'), count(v.domain_id),
				coalesce(sum(v.own), 0)::bigint, coalesce(sum(v.passing), 0)::bigint, coalesce(sum(v.loss_a_day), 0),
				coalesce(sum(t.messages), 0)::bigint, coalesce(sum(t.dmarc_pass), 0)::bigint
			FROM domains d
			LEFT JOIN sums t ON t.domain_id = d.id` + order.join + `
			LEFT JOIN judged v ON v.domain_id = d.id
			WHERE ` + which + `
		)`
}

// A domainLine is a line in the list of domains.
type domainLine struct {
	dmarc.DomainTraffic
	id        int64
	busy      int64 // messages, for the order
	attention int16
	loss      float64
	place     string // by what it is sorted
}

// A domainOrder is how the list of domains is sorted, and paged.
type domainOrder struct {
	with    string // what the order rests on, beside traffic
	join    string
	columns string // attention and loss, what else it is sorted by, and that as text
	behind  string // the condition of the next page
	by      string
	cursor  func(domainLine) dmarc.Cursor
}

var domainSorts = map[string]order{
	"messages":  {by: "coalesce(t.messages, 0)", kind: "bigint"},
	"failed":    {by: "coalesce(t.messages - t.dmarc_pass, 0)", kind: "bigint"},
	"pass_rate": {by: "coalesce(t.dmarc_pass::double precision / nullif(t.messages, 0), -1)", kind: "double precision"},
	"reports":   {by: "coalesce(t.reports, 0)", kind: "bigint"},
	"domain":    {by: "d.name", kind: "text"},
}

// orderOfDomains is the order that a question asks for. It adds the arguments of its
// cursor.
func orderOfDomains(q *dmarc.DomainQuery, args pgx.NamedArgs) (domainOrder, error) {
	if q.Urgent || q.Sort == "attention" {
		var err error
		args["attention"], args["loss"], args["messages"], args["name"], err = afterUrgent(q.After)
		return urgentFirst, err
	}
	o, err := sorted(q.Sort, "-messages", domainSorts)
	if err != nil {
		return domainOrder{}, err
	}
	o.name, o.nameKind = "d.name", "text"
	behind, err := o.behind(q.After, args)
	return domainOrder{
		columns: "0::smallint AS attention, 0::double precision AS loss, " + o.by + " AS sorted, (" + o.by + ")::text AS place",
		behind:  behind,
		by:      "sorted" + o.direction() + ", name",
		cursor:  func(l domainLine) dmarc.Cursor { return placeCursor(l.place, l.Domain) },
	}, err
}

// Of equally urgent ones, those that lose most are first, and then the busiest.
var urgentFirst = domainOrder{
	with: `urgent AS MATERIALIZED (
			SELECT domain_id, attention, loss_a_day
			FROM verdicts
			WHERE computed_at IS NOT NULL
		),`,
	join: `
			LEFT JOIN urgent u ON u.domain_id = d.id`,
	columns: fmt.Sprintf("coalesce(u.attention, %d::smallint) AS attention, coalesce(u.loss_a_day, 0) AS loss, 0 AS sorted, '' AS place", neverJudged),
	behind:  fmt.Sprintf("(coalesce(u.attention, %d::smallint), -coalesce(u.loss_a_day, 0), -coalesce(t.messages, 0), d.name) > (@attention, -@loss::double precision, -@messages::bigint, @name)", neverJudged),
	by:      "attention, loss DESC, busy DESC, name",
	cursor:  func(l domainLine) dmarc.Cursor { return urgentCursor(l.attention, l.loss, l.busy, l.Domain) },
}

// neverJudged stands for the attention that a domain deserves before there is a
// verdict: it comes last.
const neverJudged = int(dmarc.AttentionNone) + 1

// latest fills in what was heard of each domain last. These are three questions
// a domain, in one round trip: each finds its answer at the end of an index, on the
// machine of its domain.
func (s *Store) latest(ctx context.Context, lines []domainLine) error {
	const last = `
		SELECT day
		FROM domain_days
		WHERE domain_id = $1 AND messages > 0
		ORDER BY day DESC
		LIMIT 1`
	batch := &pgx.Batch{}
	for i := range lines {
		l := &lines[i]
		batch.Queue(last, l.id).QueryRow(func(row pgx.Row) error {
			return ignoreNone(row.Scan(&l.LastDay))
		})
		batch.Queue(lastReportedOf, l.id).QueryRow(func(row pgx.Row) (err error) {
			l.Published, err = readPolicy(row, l.Domain)
			return err
		})
		batch.Queue(verdictOf, l.id).QueryRow(func(row pgx.Row) (err error) {
			l.Verdict, err = readVerdict(row, l.Domain)
			return err
		})
	}
	return s.db.SendBatch(ctx, batch).Close()
}

func ignoreNone(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

// lastReportedOf is a question for the policy that a domain published, as last
// reported.
const lastReportedOf = `
	SELECT about
	FROM reports
	WHERE active AND dated AND domain_id = $1
	ORDER BY begins_at DESC, id DESC
	LIMIT 1`

// readPolicy reads what lastReportedOf answers: nil if nothing was reported.
func readPolicy(row pgx.Row, domain string) (*dmarc.PolicyPublished, error) {
	var text []byte
	if err := row.Scan(&text); err != nil || text == nil {
		return nil, ignoreNone(err)
	}
	var a about
	if err := json.Unmarshal(text, &a); err != nil {
		return nil, err
	}
	p := a.policy(domain)
	return &p, nil
}

// days yields the dated traffic of domains, by domain and ascending by day.
func (s *Store) days(ctx context.Context, ids []int64, period dmarc.Period, take func(int64, dmarc.DayTraffic)) error {
	const sql = `
		SELECT domain_id, day, estimated > 0, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated
		FROM domain_days
		WHERE domain_id = ANY (@ids) AND day >= @begin AND day < @end AND dated AND (messages > 0 OR reports > 0)
		ORDER BY domain_id, day`
	rows, _ := s.db.Query(ctx, sql, pgx.NamedArgs{"ids": ids, "begin": period.Begin, "end": period.End})
	var id int64
	var d dmarc.DayTraffic
	_, err := pgx.ForEachRow(rows, append([]any{&id, &d.Day, &d.Estimated}, scanTally(&d.Tally)...), func() error {
		take(id, d)
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading days: %w", err)
	}
	return nil
}
