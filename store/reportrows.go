package store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// rowOrders are what rows of a report are sorted by before their place: two numbers
// and an address, of which an order uses what it needs. Columns are those that it reads.
var rowOrders = map[dmarc.RowOrder]struct {
	first, second, third string
	columns              []string
}{
	dmarc.RowsBusiest:  {"0", "-u.messages", "inet '0.0.0.0'", []string{"messages"}},
	dmarc.RowsFailing:  {"least(u.verdict & 3, 1)", "-u.messages", "inet '0.0.0.0'", []string{"verdict", "messages"}},
	dmarc.RowsBySource: {"(u.source IS NULL)::int", "0", "coalesce(u.source, '0.0.0.0')", []string{"source"}},
	dmarc.RowsStored:   {"0", "0", "inet '0.0.0.0'", nil},
}

var rowChoices = map[dmarc.RowChoice]struct {
	condition string
	columns   []string
}{
	dmarc.RowsAll:     {},
	dmarc.RowsPassed:  {" AND u.verdict & 3 <> 0", []string{"verdict"}},
	dmarc.RowsFailed:  {" AND u.verdict & 3 = 0", []string{"verdict"}},
	dmarc.RowsStopped: {" AND u.verdict >> 4 & 7 IN (2, 3)", []string{"verdict"}},
	dmarc.RowsOdd:     {" AND (coalesce(u.flags, 0) <> 0 OR u.ours >= " + strconv.Itoa(oursDisagreement) + ")", []string{"flags", "ours"}},
}

// singleColumns unnests the columns that are needed, and no others: each costs time.
func singleColumns(columns []string) string {
	columns = slices.Clone(columns)
	slices.Sort(columns)
	list := ""
	for _, c := range slices.Compact(columns) {
		list += ", unnest(" + c + ") AS " + c
	}
	return list
}

// A rowPlace is a place in a sorted list of the rows of a report.
type rowPlace struct {
	first, second int64
	third         netip.Addr
	group         string // ctid of the group
	n             int64  // in it
}

var groupPlace = regexp.MustCompile(`^\([0-9]{1,9},[0-9]{1,4}\)$`)

func (p rowPlace) cursor() dmarc.Cursor {
	return encodeCursor(strconv.FormatInt(p.first, 10), strconv.FormatInt(p.second, 10), p.third.String(), p.group, strconv.FormatInt(p.n, 10))
}

func afterRow(c dmarc.Cursor) (p rowPlace, err error) {
	if c == "" {
		return p, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(string(c))
	fields := strings.Split(string(text), " ")
	if err != nil || len(fields) != 5 {
		return p, dmarc.ErrBadCursor
	}
	var errs [4]error
	p.first, errs[0] = strconv.ParseInt(fields[0], 10, 32)
	p.second, errs[1] = strconv.ParseInt(fields[1], 10, 64)
	p.third, errs[2] = netip.ParseAddr(fields[2])
	p.n, errs[3] = strconv.ParseInt(fields[4], 10, 32)
	if errors.Join(errs[:]...) != nil || p.third.Zone() != "" || !groupPlace.MatchString(fields[3]) {
		return p, dmarc.ErrBadCursor
	}
	p.group = fields[3]
	return p, nil
}

// ReportRows returns rows of a stored report, sorted, a page at a time, and counts
// those that were asked for. A report that does not count has none.
func (s *Store) ReportRows(ctx context.Context, q dmarc.RowQuery) (dmarc.RowList, dmarc.Cursor, error) {
	domain, number, err := parseReportKey(q.Report)
	if err != nil {
		return dmarc.RowList{}, "", err
	}
	after, err := afterRow(q.After)
	if err != nil {
		return dmarc.RowList{}, "", err
	}
	order, known := rowOrders[q.Order]
	choice, known2 := rowChoices[q.Choice]
	if !known || !known2 {
		return dmarc.RowList{}, "", fmt.Errorf("rows of report %s: no order %q, or no choice %q", q.Report, q.Order, q.Choice)
	}
	var day time.Time
	var list dmarc.RowList
	err = s.db.QueryRow(ctx, "SELECT day, rows, messages FROM reports WHERE domain_id = $1 AND id = $2", domain, number).Scan(&day, &list.Rows, &list.Messages)
	if errors.Is(err, pgx.ErrNoRows) {
		err = dmarc.ErrNotFound
	}
	if err != nil {
		return list, "", fmt.Errorf("report %s: %w", q.Report, err)
	}
	args := pgx.NamedArgs{"domain": domain, "day": day, "report": number, "limit": q.Limit + 1,
		"first": after.first, "second": after.second, "third": after.third, "group": after.group, "n": after.n}
	where, columns := choice.condition, choice.columns
	if q.Source.IsValid() {
		where += " AND u.source <<= @source"
		columns = append([]string{"source"}, columns...)
		args["source"] = q.Source.Masked()
	}
	if where != "" {
		sql := `
			SELECT count(*), coalesce(sum(u.messages), 0)::bigint
			FROM (
				SELECT 0` + singleColumns(append([]string{"messages"}, columns...)) + `
				FROM row_groups
				WHERE domain_id = @domain AND day = @day AND report = @report
			) AS u
			WHERE true` + where
		if err := s.db.QueryRow(ctx, sql, args).Scan(&list.Rows, &list.Messages); err != nil {
			return list, "", fmt.Errorf("counting rows of report %s: %w", q.Report, err)
		}
	}
	beyond := "true"
	if q.After != "" {
		beyond = "(" + order.first + ", " + order.second + ", " + order.third + ", u.place, u.n) > (@first, @second, @third::inet, @group::text::tid, @n)"
	}
	// The place of each row on the page first, and then what stands there.
	sql := `
		SELECT g.messages[t.n], coalesce(g.flags[t.n], 0), g.verdict[t.n], g.ours[t.n], g.source[t.n],
			coalesce((SELECT name FROM names WHERE domain_id = @domain AND id = g.header_from_id[t.n]), ''),
			coalesce((SELECT name FROM names WHERE domain_id = @domain AND id = g.envelope_from_id[t.n]), ''),
			g.envelope_from_id[t.n] IS NOT NULL,
			coalesce((SELECT name FROM names WHERE domain_id = @domain AND id = g.envelope_to_id[t.n]), ''),
			(SELECT body FROM auth_results WHERE domain_id = @domain AND id = g.auth_id[t.n]),
			t.first, t.second, t.third, t.place::text, t.n
		FROM (
			SELECT u.place, u.n, ` + order.first + ` AS first, ` + order.second + ` AS second, ` + order.third + ` AS third
			FROM (
				SELECT ctid AS place, generate_subscripts(messages, 1) AS n` + singleColumns(append(columns, order.columns...)) + `
				FROM row_groups
				WHERE domain_id = @domain AND day = @day AND report = @report
			) AS u
			WHERE ` + beyond + where + `
			ORDER BY first, second, third, place, n
			LIMIT @limit
		) AS t
		JOIN row_groups g ON g.domain_id = @domain AND g.day = @day AND g.report = @report AND g.ctid = t.place
		ORDER BY t.first, t.second, t.third, t.place, t.n`
	type line struct {
		rowPlace
		row dmarc.Row
	}
	rows, _ := s.db.Query(ctx, sql, args)
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l line, err error) {
		err = scanRow(row, &l.row, &l.first, &l.second, &l.third, &l.group, &l.n)
		return l, err
	})
	if err != nil {
		return list, "", fmt.Errorf("rows of report %s: %w", q.Report, err)
	}
	var next dmarc.Cursor
	list.Items, next, err = pageOf(lines, q.Limit, func(l line) dmarc.Row { return l.row }, func(l line) dmarc.Cursor { return l.cursor() })
	return list, next, err
}

// scanRow reads a row of a report from the columns that rowsOf and ReportRows
// select, and what follows them.
func scanRow(rows pgx.CollectableRow, r *dmarc.Row, rest ...any) error {
	var verdict, ours int16
	var flags int32
	var source *netip.Addr
	var known bool
	var body authBody
	into := []any{&r.Count, &flags, &verdict, &ours, &source, &r.HeaderFrom, &r.EnvelopeFrom, &known, &r.EnvelopeTo, &body}
	if err := rows.Scan(append(into, rest...)...); err != nil {
		return err
	}
	if source != nil {
		r.Source = *source
	}
	r.NullSender = known && r.EnvelopeFrom == ""
	r.Flags = dmarc.RowFlags(flags)
	r.Ours = unpackAlignment(ours)
	v := dmarc.Verdict(verdict & verdictMask)
	r.Disposition = v.Disposition()
	r.DKIM = resultOf(v, dmarc.VerdictDKIM, dmarc.VerdictDKIMUnknown)
	r.SPF = resultOf(v, dmarc.VerdictSPF, dmarc.VerdictSPFUnknown)
	body.fill(r)
	return nil
}
