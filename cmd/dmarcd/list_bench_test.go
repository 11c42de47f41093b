package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// BenchmarkListOfAMillion has the real program list reports whole, as NDJSON and CSV: a
// thousand of them, and DMARCD_LIST_ITEMS, a million unless it says otherwise. It tells how
// much memory the program took at most, and how many items a second came.
func BenchmarkListOfAMillion(b *testing.B) {
	items := 1_000_000
	if n, err := strconv.Atoi(os.Getenv("DMARCD_LIST_ITEMS")); err == nil {
		items = n
	}
	url := pgtest.URL(b)
	address := porttest.FreeAddress(b)
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.TempDir(), "DMARCD_CONFIG=" + os.DevNull, "DMARCD_DATABASE_URL=" + url, "DMARCD_LISTEN=" + address,
		"DMARCD_RECORDS_WATCH=false", "DMARCD_SOURCES_LOOKUP=false", "DMARCD_LOG_LEVEL=error"}
	migrate := exec.Command(build(b), "migrate")
	migrate.Env = environ
	if out, err := migrate.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	db, err := store.Open(b.Context(), url, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(db.Close)
	const fill = `
		WITH d AS (INSERT INTO domains (name) SELECT format('of-%s.example', $1::int) RETURNING id),
			r AS (INSERT INTO reporters (domain_id, key, org_name, email) SELECT id, 'beta', 'Beta', 'a@beta.example' FROM d RETURNING domain_id, id)
		INSERT INTO reports (domain_id, reporter_id, report_id, begins_at, ends_at, hash, active, day, dated, received_at, message, part, flags, about,
			rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated, rows_dropped, messages_dropped)
		SELECT r.domain_id, r.id, format('report-%s', n), begins, begins + interval '1 day', sha256(n::text::bytea), true, begins::date, true, begins, 1, '', 0,
			'{"org_name": "Beta", "email": "a@beta.example", "p": "none"}', 10, 100, 90, 80, 70, 100, 0, 0, 0, 0, 0, 0
		FROM r, generate_series(1, $1::int) AS n, LATERAL (SELECT date_trunc('day', now()) - make_interval(days => n % 365) AS begins) AS t`
	for _, n := range []int{1000, items} {
		if _, err := db.Exec(b.Context(), fill, n); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := db.Exec(b.Context(), "VACUUM ANALYZE"); err != nil {
		b.Fatal(err)
	}
	for _, media := range []string{"application/x-ndjson", "text/csv"} {
		for _, n := range []int{1000, items} {
			b.Run(fmt.Sprintf("%s-%d", media[strings.LastIndex(media, "/")+1:], n), func(b *testing.B) {
				run := exec.Command(build(b), "serve") // one that has asked for no memory yet
				run.Env, run.Stderr = environ, os.Stderr
				if err := run.Start(); err != nil {
					b.Fatal(err)
				}
				defer func() {
					run.Process.Signal(syscall.SIGTERM)
					run.Wait()
				}()
				for range 600 {
					if r, err := http.Get("http://" + address + "/readyz"); err == nil {
						if r.Body.Close(); r.StatusCode == http.StatusOK {
							break
						}
					}
					time.Sleep(50 * time.Millisecond)
				}
				for b.Loop() {
					r, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/api/v1/reports?domain=of-%d.example&from=2000-01-01", address, n), nil)
					r.Header.Set("Accept", media)
					answer, err := http.DefaultClient.Do(r)
					if err != nil {
						b.Fatal(err)
					}
					lines := 0
					text := bufio.NewReaderSize(answer.Body, 1<<20)
					for {
						if _, err := text.ReadSlice('\n'); err != nil {
							if err != io.EOF {
								b.Fatal(err)
							}
							break
						}
						lines++
					}
					answer.Body.Close()
					if media == "text/csv" {
						lines-- // the names of the columns
					}
					if answer.StatusCode != http.StatusOK || lines != n {
						b.Fatalf("%s with %d lines, want %d", answer.Status, lines, n)
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "items/s")
				b.ReportMetric(float64(peakOf(b, run.Process.Pid))/(1<<20), "peak-MiB")
			})
		}
	}
}
