package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dmarcd/dmarcd/parse"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/sample/large"
)

// BenchmarkPages serves the pages with most behind them, from an installation
// with 5,000 domains, one of which has 5,000 sources. It tells the CPU time of a page, of
// this process and of its connections in the database: other work on the machine is in neither.
func BenchmarkPages(b *testing.B) {
	room.own = true // as the binary has it
	makeRoom(0)
	answerSooner()
	url := pgtest.URL(b)
	open := func() *service { // not for a cleanup, which would hold what each had
		cfg := defaultConfig(&environ{vars: map[string]string{"HOME": b.TempDir()}})
		cfg.DatabaseURL, cfg.Limits, cfg.HTTP.PerMinute, cfg.ready = newSecret(url), parse.DefaultLimits, 0, readyConns
		s, err := openService(b.Context(), cfg, slog.New(slog.DiscardHandler), postgres.Options{}, true)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	s := open()
	defer s.close()
	fillPages(b, s)
	h := s.handler()
	forever := time.Now().AddDate(1, 0, 0)
	today := lastDays(time.Now(), 1).Begin
	between := func(from, to int) string {
		return "from=" + today.AddDate(0, 0, -from).Format(time.DateOnly) + "&to=" + today.AddDate(0, 0, -to).Format(time.DateOnly)
	}
	for _, path := range []string{
		"/", "/?days=365&by=volume", "/domains/acme.example", "/domains/acme.example?days=90", "/domains/acme.example?days=180", "/domains/acme.example?days=365", "/domains/acme.example?" + between(300, 200),
		"/domains/acme.example/sources", "/domains/acme.example/sources?all=1", "/domains/acme.example/senders?all=1", "/domains/acme.example/source?of=11.0.7.9",
		"/domains/acme.example/policy", "/domains/acme.example/reporters", "/domains/acme.example/selectors", "/domains/acme.example/dns", "/messages",
	} {
		size := 0
		ask := func(b *testing.B, h http.Handler) {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Header.Set("Accept-Encoding", "gzip")
			r.Host = "localhost"
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if size = w.Body.Len(); w.Code != http.StatusOK {
				b.Fatal(path, w.Code, w.Body.String())
			}
		}
		visit := func(name string, before func()) {
			b.Run(name+strings.ReplaceAll(path, "/", "_"), func(b *testing.B) {
				ask := func() {
					before()
					ask(b, h)
				}
				ask() // what is read for the first time is cold
				own, database := processorTime(b, s)
				for b.Loop() {
					ask()
				}
				ownAfter, databaseAfter := processorTime(b, s)
				b.ReportMetric(float64(ownAfter-own)/float64(b.N)/1e6, "cpu-ms/op")
				b.ReportMetric(float64(databaseAfter-database)/float64(b.N)/1e6, "db-cpu-ms/op")
				b.ReportMetric(float64(size), "bytes")
			})
		}
		// The very first page of a process that leaves verdicts to another one, and so has gathered nothing, on connections
		// that nobody has used.
		b.Run("begun"+strings.ReplaceAll(path, "/", "_"), func(b *testing.B) {
			var own, database time.Duration
			for b.Loop() {
				b.StopTimer()
				begun := open()
				h := begun.handler()
				for begun.db.Stat().IdleConns() < readyConns { // as it is some moments after the beginning
					time.Sleep(time.Millisecond)
				}
				runtime.GC() // what those before have left
				ownBefore, databaseBefore := processorTime(b, begun)
				b.StartTimer()
				ask(b, h)
				b.StopTimer()
				ownAfter, databaseAfter := processorTime(b, begun)
				own, database = own+ownAfter-ownBefore, database+databaseAfter-databaseBefore
				begun.adviser.kept.forget(forever) // of which the goal is told
				begun.close()
				b.StartTimer()
			}
			b.ReportMetric(float64(own)/float64(b.N)/1e6, "cpu-ms/op")
			b.ReportMetric(float64(database)/float64(b.N)/1e6, "db-cpu-ms/op")
		})
		// The first page about a domain has to gather what is known of it; those after it, and after a verdict, find that
		// kept.
		visit("first", func() { s.adviser.kept.forget(forever) })
		visit("next", func() {})
	}
}

// processorTime returns what this process, and its connections, have used.
func processorTime(b *testing.B, s *service) (own, database time.Duration) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	rows, _ := s.db.Query(b.Context(), "SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		b.Fatal(err)
	}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // not on this machine
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(rest)
		for _, field := range f[11:13] { // utime and stime, in hundredths of a second
			n, _ := strconv.ParseInt(field, 10, 64)
			database += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), database
}

// fillPages fills the database of a service, and has its passes do their work.
func fillPages(b *testing.B, s *service) {
	ctx := b.Context()
	if err := large.Fill(ctx, s.db, time.Now()); err != nil {
		b.Fatal(err)
	}
	analyse := func(sql string) {
		if _, err := s.db.Exec(ctx, sql); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.store.SummariseSources(ctx); err != nil { // lists them
		b.Fatal(err)
	}
	analyse("ANALYZE")
	if err := s.store.SummariseFacts(ctx); err != nil { // packs them
		b.Fatal(err)
	}
	analyse("ANALYZE")
	if err := s.adviser.pass(ctx); err != nil { // who the senders are, and the verdicts
		b.Fatal(err)
	}
	analyse("VACUUM ANALYZE")
}
