package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/store"
)

// Meters tell how much goes through each stage, how long it takes, and how far
// it is behind.
type meters struct {
	registry *prometheus.Registry

	messages, bytes, rows, failures *prometheus.CounterVec
	parse, pass                     *prometheus.HistogramVec
	batchMessages, batchRows        prometheus.Histogram
	commit                          *prometheus.HistogramVec
	passed, leases                  *prometheus.GaugeVec
	lookedUp                        *prometheus.CounterVec
	waiting                         prometheus.Gauge // messages in the outbox

	onPass func(pass string, took time.Duration, err error) // is told of passes, too; nil for nobody
}

// durations are the bounds of what takes from a millisecond to minutes.
var durations = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// newMeters returns meters of what an ingester takes in from now on, and of the
// connections it is kept by.
func newMeters(in *ingest.Ingester, db *pgxpool.Pool) *meters {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	m := &meters{
		registry: prometheus.NewRegistry(),
		messages: counter("dmarcd_messages_total", "Messages taken in, by mailbox and outcome.", "mailbox", "outcome"),
		bytes:    counter("dmarcd_bytes_total", "Bytes of the messages taken in, as they came, by mailbox.", "mailbox"),
		rows:     counter("dmarcd_rows_total", "Rows of aggregate reports stored, by mailbox.", "mailbox"),
		parse:    histogram("dmarcd_parse_seconds", "How long a message takes to be unpacked and checked, by mailbox.", durations, "mailbox"),
		batchMessages: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dmarcd_batch_messages", Help: "Messages in a batch.", Buckets: []float64{1, 3, 10, 30, 100, 300, 1000},
		}),
		batchRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dmarcd_batch_rows", Help: "Rows of aggregate reports in a batch.", Buckets: []float64{0, 10, 100, 1000, 2500, 5000, 10_000, 100_000, 1_000_000},
		}),
		commit:   histogram("dmarcd_commit_seconds", "How long a batch takes from the first question to the database to its commit, by whether it is stored or failed.", durations, "result"),
		pass:     histogram("dmarcd_pass_seconds", "How long passes take, those over mailboxes included.", durations, "pass"),
		failures: counter("dmarcd_pass_failures_total", "Passes that failed and are tried again.", "pass"),
		passed:   gauge("dmarcd_pass_timestamp_seconds", "When a pass was last finished without an error, in seconds since 1970.", "pass"),
		leases:   gauge("dmarcd_lease_held", "1 while this process does what a lease is for, 0 while another one does.", "lease"),
	}
	m.lookedUp = newLookedUp()
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dmarcd_waiting_messages", Help: "Messages whose senders wait for them to be stored.",
	}, func() float64 { return float64(in.Waiting()) })
	m.registry.MustRegister(m.messages, m.bytes, m.rows, m.parse, m.batchMessages, m.batchRows, m.commit, m.pass, m.failures, m.passed, m.leases, m.lookedUp, waiting)
	m.watchPool(db, nil)
	in.OnFate = func(d *dmarc.Delivery, f dmarc.Fate) {
		if !f.Known {
			m.messages.WithLabelValues(d.Mailbox, string(f.Outcome)).Inc()
			m.bytes.WithLabelValues(d.Mailbox).Add(float64(d.Size))
			m.rows.WithLabelValues(d.Mailbox).Add(float64(f.Rows))
		}
	}
	in.OnRead = func(d *dmarc.Delivery, took time.Duration) {
		m.parse.WithLabelValues(d.Mailbox).Observe(took.Seconds())
	}
	in.OnPass = func(mailbox string, took time.Duration, err error) { m.done("mailbox "+mailbox, took, err) }
	in.Store = &meteredStore{in.Store, m}
	return m
}

// done counts a pass.
func (m *meters) done(pass string, took time.Duration, err error) {
	if m.onPass != nil {
		m.onPass(pass, took, err)
	}
	m.pass.WithLabelValues(pass).Observe(took.Seconds())
	failures := m.failures.WithLabelValues(pass) // that there is none is told too
	if err != nil {
		failures.Inc()
		return
	}
	m.passed.WithLabelValues(pass).SetToCurrentTime()
}

// A meteredStore meters the batches on their way into a store.
type meteredStore struct {
	ingest.Store
	m *meters
}

func (s *meteredStore) Add(ctx context.Context, ds []dmarc.Delivery) ([]dmarc.Fate, error) {
	began := time.Now()
	fates, err := s.Store.Add(ctx, ds)
	if len(ds) == 0 {
		return fates, err
	}
	if err != nil {
		s.m.commit.WithLabelValues("failed").Observe(time.Since(began).Seconds())
		return fates, err
	}
	s.m.commit.WithLabelValues("stored").Observe(time.Since(began).Seconds())
	var rows int64
	for _, f := range fates {
		rows += f.Rows
	}
	s.m.batchMessages.Observe(float64(len(ds)))
	s.m.batchRows.Observe(float64(rows))
	return fates, nil
}

// meteredLeases tells which leases are held.
type meteredLeases struct {
	ingest.Leases
	m *meters
}

func (l *meteredLeases) Hold(ctx context.Context, name string, work func(context.Context, dmarc.Lease) error) error {
	held := l.m.leases.WithLabelValues(name)
	held.Set(0)
	return l.Leases.Hold(ctx, name, func(ctx context.Context, lease dmarc.Lease) error {
		held.Set(1)
		defer held.Set(0)
		return work(ctx, lease)
	})
}

// watchMailboxes adds metrics of what is not read yet, of mailboxes that can
// tell.
func (m *meters) watchMailboxes(boxes []ingest.Mailbox) {
	for _, box := range boxes {
		b, ok := box.(interface{ Backlog() (int, time.Time) })
		if !ok {
			continue
		}
		labels := prometheus.Labels{"mailbox": box.Name()}
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dmarcd_mailbox_unread_messages", Help: "Messages that the last look found and that have not been fetched yet, of IMAP mailboxes.", ConstLabels: labels,
		}, func() float64 {
			n, _ := b.Backlog()
			return float64(n)
		}), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "dmarcd_mailbox_oldest_seconds", Help: "How long ago the message came that is being fetched, the oldest of those unread; 0 if none is.", ConstLabels: labels,
		}, func() float64 {
			if n, oldest := b.Backlog(); n > 0 && !oldest.IsZero() {
				return max(0, time.Since(oldest).Seconds())
			}
			return 0
		}))
	}
}

// watchReplica adds metrics of the replica and the connections to it.
func (m *meters) watchReplica(r *store.Replica, db *pgxpool.Pool) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dmarcd_replica_lag_seconds", Help: "How old the newest data of the replica may be.",
	}, func() float64 { return r.State().Lag.Seconds() }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dmarcd_replica_used", Help: "1 while pages and API read from the replica, 0 while they read from the database itself.",
	}, func() float64 {
		if r.State().Used {
			return 1
		}
		return 0
	}))
	m.watchPool(db, prometheus.Labels{"database": "replica"})
}

// watchPool adds metrics of the connections to a database: the one that is
// written to, unless labels say otherwise.
func (m *meters) watchPool(db *pgxpool.Pool, labels prometheus.Labels) {
	if labels == nil {
		labels = prometheus.Labels{"database": "primary"}
	}
	gauge := func(name, help string, value func(*pgxpool.Stat) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return value(db.Stat()) })
	}
	counter := func(name, help string, value func(*pgxpool.Stat) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return value(db.Stat()) })
	}
	m.registry.MustRegister(
		gauge("dmarcd_connections_used", "Connections to the database in use.", func(s *pgxpool.Stat) float64 { return float64(s.AcquiredConns()) }),
		gauge("dmarcd_connections_open", "Connections to the database, in use or not.", func(s *pgxpool.Stat) float64 { return float64(s.TotalConns()) }),
		gauge("dmarcd_connections_most", "Connections to the database that there may be.", func(s *pgxpool.Stat) float64 { return float64(s.MaxConns()) }),
		counter("dmarcd_connection_waits_total", "How often a connection had to be waited for.", func(s *pgxpool.Stat) float64 { return float64(s.EmptyAcquireCount()) }),
		counter("dmarcd_connection_wait_seconds_total", "How long connections were waited for.", func(s *pgxpool.Stat) float64 { return s.EmptyAcquireWaitTime().Seconds() }),
	)
}

// metered makes a pass and counts it. The end of the service is no failure.
func (m *meters) metered(ctx context.Context, name string, pass func(context.Context) error) error {
	began := time.Now()
	err := pass(ctx)
	if err != nil && (ctx.Err() != nil || errors.Is(err, context.Canceled)) {
		return err
	}
	m.done(name, time.Since(began), err)
	return err
}
