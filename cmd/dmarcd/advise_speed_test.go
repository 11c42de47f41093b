package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/sources"
	"github.com/dmarcd/dmarcd/store"
)

// BenchmarkAdvise judges a domain with 5,000 sources in 90 days.
func BenchmarkAdvise(b *testing.B) {
	for _, active := range []int{500, 1500, 5000} {
		b.Run(fmt.Sprintf("%d a day", active), func(b *testing.B) {
			db, err := store.Open(b.Context(), pgtest.URL(b), 0)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			if _, err := migrations.Apply(b.Context(), db); err != nil {
				b.Fatal(err)
			}
			s := store.New(db, slog.New(slog.DiscardHandler))
			period := lastDays(time.Now(), 90)
			var id int64
			if err := db.QueryRow(b.Context(), "INSERT INTO domains (name) VALUES ('acme.example') RETURNING id").Scan(&id); err != nil {
				b.Fatal(err)
			}
			policy := dmarc.PolicyPublished{Domain: "acme.example", P: dmarc.PolicyNone, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentRelaxed}
			const days = `
				INSERT INTO domain_days (day, domain_id, dated, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated, estimated, reports, changes, summarised, reduced)
				SELECT $1::date + n, $2, true, 10, 1000, 900, 800, 700, 950, 0, 50, 0, 0, 0, 14, 1, 1, 1 FROM generate_series(0, 89) AS n`
			if _, err := db.Exec(b.Context(), days, period.Begin, id); err != nil {
				b.Fatal(err)
			}
			var lines [][]any
			for d := range 90 {
				day := period.Begin.AddDate(0, 0, d)
				var facts dmarc.FactReducer
				for i := range active {
					n := (d*active + i) % 5000
					row := dmarc.Row{
						Source: netip.AddrFrom4([4]byte{byte(11 + n%200), byte(n / 200), 7, 9}), Count: int64(1 + n%50), HeaderFrom: "acme.example", EnvelopeFrom: "acme.example",
						DKIM: dmarc.ResultPass, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionNone,
						AuthDKIM: []dmarc.DKIMResult{{Domain: "acme.example", Selector: fmt.Sprint("s", n%7), Result: dmarc.ResultPass}},
						AuthSPF:  []dmarc.SPFResult{{Domain: fmt.Sprintf("bounce.m%d.example", n%40), Result: dmarc.ResultPass}},
					}
					if n%3 == 0 {
						row.DKIM, row.AuthDKIM[0].Result = dmarc.ResultFail, dmarc.ResultFail
					}
					for reporter := range int64(3) {
						facts.Add(&row, &policy, dmarc.Attribution{Days: []time.Time{day}, Main: day, Dated: true}, reporter)
					}
				}
				for _, f := range facts.Days() {
					lines = append(lines, []any{id, f.Day, int16(0), f.Source, f.AppendFacts(nil)})
				}
			}
			if _, err := db.CopyFrom(b.Context(), pgx.Identifier{"source_facts"}, []string{"domain_id", "day", "kind", "source", "facts"}, pgx.CopyFromRows(lines)); err != nil {
				b.Fatal(err)
			}
			if err := s.SummariseFacts(b.Context()); err != nil { // packs them
				b.Fatal(err)
			}
			senders, err := sources.Builtin()
			if err != nil {
				b.Fatal(err)
			}
			a := &adviser{store: s, senders: senders, overrules: &overruler{store: s}, log: slog.New(slog.DiscardHandler)}
			began := time.Now()
			if err := a.pass(b.Context()); err != nil { // so that all of them are known
				b.Fatal(err)
			}
			b.Logf("%d lines; the first pass took %v", len(lines), time.Since(began))
			var before, after syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				found, err := a.advise(b.Context(), "acme.example", dmarc.PolicyUnknown, period)
				if err != nil || len(found.Sources) != 5000 {
					b.Fatal(len(found.Sources), err)
				}
			}
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
				b.Fatal(err)
			}
			used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(used)/float64(b.N)/1e6, "cpu-ms/op") // of this process: other work on the machine is not in it
		})
	}
}
