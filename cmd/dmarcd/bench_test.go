package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/parse"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

// writeReports writes gzipped reports of a number of rows each, as unlike as real
// ones are: sources differ, names and results repeat.
func writeReports(b *testing.B, dir string, reports, rows int) {
	b.Helper()
	rnd := rand.New(rand.NewPCG(1, uint64(rows)))
	begin := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for i := range reports {
		domain, day := fmt.Sprintf("d%d.example", rnd.IntN(20)), begin.AddDate(0, 0, rnd.IntN(25)).Unix()
		var text bytes.Buffer
		z := gzip.NewWriter(&text)
		fmt.Fprintf(z, "<?xml version=\"1.0\"?>\n<feedback><report_metadata><org_name>org%d</org_name><email>a@org%[1]d.example</email><report_id>%d</report_id>"+
			"<date_range><begin>%d</begin><end>%d</end></date_range></report_metadata>\n<policy_published><domain>%s</domain><p>none</p></policy_published>\n",
			rnd.IntN(12), i, day, day+86399, domain)
		for range rows {
			result := []string{"pass", "fail"}[rnd.IntN(2)]
			fmt.Fprintf(z, "  <record><row><source_ip>198.%d.%d.%d</source_ip><count>%d</count><policy_evaluated><disposition>none</disposition>"+
				"<dkim>%s</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>%s</header_from><envelope_from>b%d.%[6]s</envelope_from></identifiers>"+
				"<auth_results><dkim><domain>%[6]s</domain><selector>s%[8]d</selector><result>%[5]s</result></dkim>"+
				"<spf><domain>b%[7]d.%[6]s</domain><scope>mfrom</scope><result>pass</result></spf></auth_results></record>\n",
				18+rnd.IntN(2), rnd.IntN(256), rnd.IntN(256), 1+rnd.IntN(40), result, domain, rnd.IntN(5), rnd.IntN(6))
		}
		io.WriteString(z, "</feedback>\n")
		if err := z.Close(); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.xml.gz", i)), text.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

// stages adds up how long statements take, by what they are for.
type stages struct {
	mu    sync.Mutex
	spent map[string]time.Duration
}

type startKey struct{}

type started struct {
	stage string
	at    time.Time
}

func (s *stages) begin(ctx context.Context, stage string) context.Context {
	return context.WithValue(ctx, startKey{}, started{stage, time.Now()})
}

func (s *stages) end(ctx context.Context) {
	if st, ok := ctx.Value(startKey{}).(started); ok {
		s.mu.Lock()
		s.spent[st.stage] += time.Since(st.at)
		s.mu.Unlock()
	}
}

func (s *stages) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	stage := "other"
	for _, kind := range [...]struct{ word, stage string }{
		{"commit", "commit"}, {"reporter_days", "rollups"}, {"domain_days", "rollups"}, {"domain_months", "rollups"}, {"raw_messages", "archive"},
		{"messages (", "ledger"}, {"names", "dictionaries"}, {"auth_results", "dictionaries"}, {"reporters", "dictionaries"}, {"reports", "reports"}, {"messages", "ledger"},
	} {
		if strings.Contains(strings.ToLower(q.SQL), kind.word) {
			stage = kind.stage
			break
		}
	}
	return s.begin(ctx, stage)
}

func (s *stages) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) { s.end(ctx) }

func (s *stages) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return s.begin(ctx, "copy")
}

func (s *stages) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromEndData) {
	s.end(ctx)
}

// BenchmarkWholeWay takes in reports from files to the last commit, and compares
// with what the same rows cost as a bare COPY into an unlogged table without index.
// The least ratios, and the most bytes a row, are those of the design; what is
// reached is the median of three.
func BenchmarkWholeWay(b *testing.B) {
	for _, c := range []struct {
		name          string
		reports, rows int
		ratio, bytes  float64
	}{
		{"15-row-reports", 6000, 15, 0.05, 200},
		{"5000-row-reports", 40, 5000, 0.20, 140},
		{"500000-row-report", 1, 500_000, 0.25, 140},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			writeReports(b, dir, c.reports, c.rows)
			var rates, ratios []float64
			for range 3 * b.N { // both in turn, since machines waver
				rate, copied, size, parts := wholeWay(b, dir, c.reports*c.rows)
				rates, ratios = append(rates, rate), append(ratios, rate/copied)
				b.ReportMetric(size, "B/row")
				b.Logf("%.3f of COPY: %s", rate/copied, parts)
			}
			slices.Sort(rates)
			slices.Sort(ratios)
			b.ReportMetric(rates[len(rates)/2], "rows/s")
			b.ReportMetric(ratios[len(ratios)/2], "of-COPY")
			b.ReportMetric(c.ratio, "of-COPY-wanted")
			b.ReportMetric(c.bytes, "B/row-at-most")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpu is the processor time of this process and of the PostgreSQL server that a
// connection leads to, as far as Linux tells. It does not depend on what else the
// machine does.
type cpu struct{ self, server time.Duration }

func (c cpu) minus(o cpu) cpu { return cpu{c.self - o.self, c.server - o.server} }

func cpuOf(b *testing.B, conn *pgxpool.Conn) (c cpu) {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	c.self = time.Duration(use.Utime.Nano() + use.Stime.Nano())
	parent := procStat(int(conn.Conn().PgConn().PID()))[1]
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		switch stat := procStat(pid); {
		case parent == 0:
		case pid == parent: // and of the processes that ended
			c.server += time.Duration(stat[11]+stat[12]+stat[13]+stat[14]) * 10 * time.Millisecond
		case stat[1] == parent:
			c.server += time.Duration(stat[11]+stat[12]) * 10 * time.Millisecond
		}
	}
	return c
}

// procStat returns the numbers behind the name of a process, from its state on.
func procStat(pid int) (stat [15]int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if i := bytes.LastIndexByte(text, ')'); i >= 0 {
		for i, field := range strings.Fields(string(text[i+1:]))[:len(stat)] {
			stat[i], _ = strconv.Atoi(field)
		}
	}
	return stat
}

// wholeWay returns rows a second on the whole way and as a bare COPY, bytes a
// row, and what the stages took: some run beside others, so that it may be more
// than all.
func wholeWay(b *testing.B, dir string, rows int) (rate, bare, size float64, parts string) {
	ctx := context.Background()
	plain, err := store.Open(ctx, pgtest.URL(b), 0)
	if err != nil {
		b.Fatal(err)
	}
	defer plain.Close()
	if _, err := migrations.Apply(ctx, plain); err != nil {
		b.Fatal(err)
	}
	spent := &stages{spent: map[string]time.Duration{}}
	config := plain.Config()
	config.ConnConfig.Tracer = spent
	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	log := slog.New(slog.DiscardHandler)
	in := &ingest.Ingester{Store: store.New(db, log), Log: log, Limits: parse.DefaultLimits}
	var reading atomic.Int64
	in.OnRead = func(_ *dmarc.Delivery, took time.Duration) { reading.Add(int64(took)) }
	conn, err := plain.Acquire(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	used := cpuOf(b, conn)
	b.StartTimer()
	began := time.Now()
	sum, err := in.Pass(ctx, &ingest.Files{Paths: []string{dir}, Limit: parse.DefaultLimits.Message})
	whole := time.Since(began)
	b.StopTimer()
	if err != nil || sum.Rows != int64(rows) {
		b.Fatalf("%+v, %v; want %d rows", sum, err, rows)
	}

	used = cpuOf(b, conn).minus(used)
	var data bytes.Buffer
	if _, err := conn.Conn().PgConn().CopyTo(ctx, &data, "COPY (SELECT * FROM rows) TO STDOUT (FORMAT binary)"); err != nil {
		b.Fatal(err)
	}
	best := time.Hour
	bareUsed := cpuOf(b, conn)
	const copies = 3
	for range copies {
		if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS bare; CREATE UNLOGGED TABLE bare (LIKE rows)"); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if _, err := conn.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(data.Bytes()), "COPY bare FROM STDIN (FORMAT binary)"); err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(began))
	}
	bareUsed = cpuOf(b, conn).minus(bareUsed)
	var stored int64
	const total = `
		SELECT sum(pg_total_relation_size(c))::bigint
		FROM (
			SELECT inhrelid::regclass AS c FROM pg_inherits WHERE inhparent = 'row_groups'::regclass
			UNION ALL VALUES ('names'::regclass), ('auth_results')
		) AS t`
	if err := plain.QueryRow(ctx, total).Scan(&stored); err != nil {
		b.Fatal(err)
	}
	var words []string
	for stage, d := range spent.spent {
		words = append(words, fmt.Sprintf("%s %.0f %%", stage, 100*d.Seconds()/whole.Seconds()))
	}
	slices.Sort(words)
	words = append(words, fmt.Sprintf("reading, beside it, %.0f %%", 100*float64(reading.Load())/float64(whole)))
	n := float64(rows)
	words = append(words, fmt.Sprintf("of the processor: dmarcd %.2f, PostgreSQL %.2f us a row; for the bare COPY %.2f",
		1e6*used.self.Seconds()/n, 1e6*used.server.Seconds()/n, 1e6*bareUsed.server.Seconds()/n/copies))
	return n / whole.Seconds(), n / best.Seconds(), float64(stored) / n, strings.Join(words, ", ")
}
