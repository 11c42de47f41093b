package store

import (
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// pieces covers a period of whole days by months, days that are added and days
// that are taken away again: of a month of which the larger part is in, it is
// shorter to take away the rest.
func pieces(period dmarc.Period) (months []time.Time, plus, minus []dmarc.Period) {
	for month := firstOfMonth(period.Begin); month.Before(period.End); month = month.AddDate(0, 1, 0) {
		next := month.AddDate(0, 1, 0)
		begin, end := month, next
		if period.Begin.After(begin) {
			begin = period.Begin
		}
		if period.End.Before(end) {
			end = period.End
		}
		if 2*end.Sub(begin) <= next.Sub(month) {
			plus = append(plus, dmarc.Period{Begin: begin, End: end})
			continue
		}
		months = append(months, month)
		if begin.After(month) {
			minus = append(minus, dmarc.Period{Begin: month, End: begin})
		}
		if end.Before(next) {
			minus = append(minus, dmarc.Period{Begin: end, End: next})
		}
	}
	return months, plus, minus
}

// trafficOf is a query for lines that add up to the traffic of every domain in
// a period, in some columns of domain_days. It adds its arguments. Each part is
// held to the domains of a condition on domain_id, "" for all.
func trafficOf(period dmarc.Period, columns []string, within string, args pgx.NamedArgs) string {
	months, plus, minus := pieces(period)
	args["months"] = months
	parts := []string{`
			SELECT domain_id, ` + strings.Join(columns, ", ") + `
			FROM domain_months
			WHERE month = ANY (@months::date[])` + within}
	add := func(sign string, all []dmarc.Period) {
		for _, p := range all {
			n := strconv.Itoa(len(parts))
			args["begin"+n], args["end"+n] = p.Begin, p.End
			parts = append(parts, `
			SELECT domain_id, `+sign+strings.Join(columns, ", "+sign)+`
			FROM domain_days
			WHERE day >= @begin`+n+` AND day < @end`+n+within)
		}
	}
	add("", plus)
	add("-", minus)
	return strings.Join(parts, `
			UNION ALL`)
}
