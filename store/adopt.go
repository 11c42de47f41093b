package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
)

// reducedID is a report_id as parsedmarc keeps it: without <> and without what
// follows an @.
func reducedID(id string) string {
	id, _, _ = strings.Cut(withoutBrackets.Replace(id), "@")
	return id
}

var withoutBrackets = strings.NewReplacer("<", "", ">", "")

// adopt gives the reports of a batch that are known in another form the
// identity of that form, so that they are counted once: what parsedmarc kept of a
// report tells neither the whole name of the reporter nor the whole report_id. They
// are the same where policy domain, period, domain of the address and the rest of the
// report_id are. The report itself is preferred: what was kept of it is a duplicate,
// unless it has more messages.
func (b *batch) adopt(ctx context.Context) error {
	var reduced, whole []*dmarc.AggregateReport
	for i := range b.ds {
		for j := range b.ds[i].Parts {
			switch rep := b.ds[i].Parts[j].Aggregate; {
			case rep == nil || b.fates[i].Known:
			case rep.Flags&dmarc.FlagReduced != 0:
				reduced = append(reduced, rep)
			default:
				whole = append(whole, rep)
			}
		}
	}
	// The flag stands as a number, as in the index that finds them.
	const (
		ofReduced = "r.flags & 8589934592 <> 0 AND r.report_id = w.report_id"
		ofWhole   = "r.flags & 8589934592 = 0 AND split_part(translate(r.report_id, '<>', ''), '@', 1) = w.report_id"
	)
	if err := b.adoptFrom(ctx, whole, ofReduced); err != nil {
		return err
	}
	if err := b.adoptFrom(ctx, reduced, ofWhole); err != nil {
		return err
	}
	if len(reduced) > 0 {
		b.adoptWithin()
	}
	return nil
}

// adoptWithin is adopt for reports that come in both forms at once.
func (b *batch) adoptWithin() {
	type form struct {
		domain, from, id string
		begin, end       int64
	}
	formOf := func(rep *dmarc.AggregateReport) form {
		return form{rep.Policy.Domain, dmarc.AddressDomain(rep.Reporter.Email), reducedID(rep.ID), rep.Period.Begin.Unix(), rep.Period.End.Unix()}
	}
	reduced, whole := map[form]*dmarc.AggregateReport{}, map[form]*dmarc.AggregateReport{}
	for i := range b.ds {
		for j := range b.ds[i].Parts {
			rep := b.ds[i].Parts[j].Aggregate
			if rep == nil || b.fates[i].Known {
				continue
			}
			k := formOf(rep)
			switch other := whole[k]; {
			case rep.Flags&dmarc.FlagReduced == 0:
				whole[k] = rep
				if other := reduced[k]; other != nil {
					rep.Reporter, rep.ID = other.Reporter, other.ID
				}
			case other != nil:
				rep.Reporter, rep.ID = other.Reporter, other.ID
				if other.Tally.Messages >= rep.Tally.Messages && !b.again {
					rep.Hash = other.Hash
				}
			default:
				reduced[k] = rep
			}
		}
	}
}

// adoptFrom looks for other forms of reports among those that meet a condition.
func (b *batch) adoptFrom(ctx context.Context, reps []*dmarc.AggregateReport, condition string) error {
	if len(reps) == 0 {
		return nil
	}
	n := len(reps)
	numbers, domains, ids := make([]int64, n), make([]int64, n), make([]string, n)
	begins, ends := make([]time.Time, n), make([]time.Time, n)
	for i, rep := range reps {
		numbers[i], domains[i], ids[i] = int64(i), b.domains[clean(rep.Policy.Domain)], reducedID(clean(rep.ID))
		begins[i], ends[i] = rep.Period.Begin, rep.Period.End
	}
	sql := `
		SELECT w.n, coalesce(r.about->>'org_name', ''), coalesce(r.about->>'email', ''), r.report_id, r.hash, r.messages
		FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::text[]) AS w (n, domain_id, begins_at, ends_at, report_id)
		JOIN reports r ON r.domain_id = w.domain_id AND r.begins_at = w.begins_at AND r.ends_at = w.ends_at AND ` + condition + `
		ORDER BY w.n, r.active DESC, r.id`
	rows, _ := b.s.db.Query(ctx, sql, numbers, domains, begins, ends, ids)
	var i, messages int64
	var org, email, id string
	var hash []byte
	adopted := map[int64]bool{}
	_, err := pgx.ForEachRow(rows, []any{&i, &org, &email, &id, &hash, &messages}, func() error {
		rep := reps[i]
		if adopted[i] || dmarc.AddressDomain(rep.Reporter.Email) != dmarc.AddressDomain(email) {
			return nil
		}
		adopted[i] = true
		rep.Reporter.OrgName, rep.Reporter.Email, rep.ID = org, email, id
		if rep.Flags&dmarc.FlagReduced != 0 && !b.again && messages >= rep.Tally.Messages {
			copy(rep.Hash[:], hash)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking for other forms of reports: %w", err)
	}
	return nil
}
