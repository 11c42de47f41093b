package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Replica answers questions from a streaming replica of the database while
// that is fresh enough, and from the database itself otherwise.
type Replica struct {
	*Store // the primary
	copy   *Store
	maxLag time.Duration

	mu      sync.Mutex
	state   ReplicaState
	samples []walSample // oldest first; the first is the newest that is replayed
}

// ReplicaState is what is known of a replica.
type ReplicaState struct {
	Lag    time.Duration // how old its newest data may be
	Used   bool          // questions go there
	Reason string        // why it is not used
}

// A walSample is how far the primary had written at a time.
type walSample struct {
	at  time.Time
	lsn int64
}

// maxSamples bounds what is remembered: half an hour of a look each second.
const maxSamples = 1800

// NewReplica returns a replica that is not used before the first Check.
func NewReplica(primary *Store, db *pgxpool.Pool, maxLag time.Duration) *Replica {
	return &Replica{Store: primary, copy: New(db, primary.log), maxLag: maxLag, state: ReplicaState{Reason: "it was not looked at yet"}}
}

// State returns what the last Check found.
func (r *Replica) State() ReplicaState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Check measures how far the replica is behind, and decides whether it is used.
// The measure is the time since the primary had written what is replayed now, so
// that a quiet primary gives no lag, and a broken connection does.
func (r *Replica) Check(ctx context.Context) ReplicaState {
	at := time.Now()
	var written int64
	primary := r.Store.db.QueryRow(ctx, "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint").Scan(&written)
	var replayed *int64
	err := r.copy.db.QueryRow(ctx, "SELECT (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint").Scan(&replayed)

	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.decide(ReplicaState{Lag: r.state.Lag, Reason: err.Error()})
	case replayed == nil:
		r.decide(ReplicaState{Reason: "it is no replica: it is not in recovery"})
	case primary != nil:
		// It cannot be told how fresh it is, but there is nothing fresher.
		r.state.Reason = "the primary does not answer: " + primary.Error()
	default:
		r.samples = append(r.samples, walSample{at, written})
		if len(r.samples) > maxSamples {
			r.samples = r.samples[1:]
		}
		for len(r.samples) > 1 && r.samples[1].lsn <= *replayed {
			r.samples = r.samples[1:]
		}
		state := ReplicaState{Lag: time.Since(r.samples[0].at), Used: true}
		if state.Lag > r.maxLag {
			state.Used, state.Reason = false, fmt.Sprintf("it is %s behind, more than %s", state.Lag.Round(100*time.Millisecond), r.maxLag)
		} else if r.samples[0].lsn > *replayed {
			state.Used, state.Reason = false, "how far it is behind is not known yet"
		}
		r.decide(state)
	}
	return r.state
}

// decide notes a state, and says so when it changes; r.mu is locked.
func (r *Replica) decide(state ReplicaState) {
	switch {
	case state.Used && !r.state.Used:
		r.log.Info("questions go to the replica")
	case !state.Used && r.state.Used:
		r.log.Warn("questions go to the primary, since the replica cannot be used", "reason", state.Reason)
	}
	r.state = state
}

// ask puts a question to the replica if it is fresh. What the replica does not
// have or cannot do is asked of the primary.
func (r *Replica) ask(question func(*Store) error) error {
	if r.State().Used {
		err := question(r.copy)
		switch {
		case err == nil, errors.Is(err, dmarc.ErrBadCursor), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			return err
		case errors.Is(err, dmarc.ErrNotFound), isReadOnly(err):
		default:
			r.mu.Lock()
			r.decide(ReplicaState{Lag: r.state.Lag, Reason: err.Error()})
			r.mu.Unlock()
		}
	}
	return question(r.Store)
}

// isReadOnly tells that a question needs a database that can be written to, or was
// cancelled since what it read was about to go.
func isReadOnly(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "25006" || pg.Code == "40001")
}

// Domains is Store.Domains.
func (r *Replica) Domains(ctx context.Context, q dmarc.DomainQuery) (items []dmarc.DomainTraffic, next dmarc.Cursor, err error) {
	err = r.ask(func(s *Store) (err error) { items, next, err = s.Domains(ctx, q); return err })
	return items, next, err
}

// Summary is Store.Summary.
func (r *Replica) Summary(ctx context.Context, q dmarc.TrafficQuery) (sum dmarc.DomainSummary, err error) {
	err = r.ask(func(s *Store) (err error) { sum, err = s.Summary(ctx, q); return err })
	return sum, err
}

// Sources is Store.Sources.
func (r *Replica) Sources(ctx context.Context, q dmarc.TrafficQuery) (list dmarc.SourceList, next dmarc.Cursor, err error) {
	err = r.ask(func(s *Store) (err error) { list, next, err = s.Sources(ctx, q); return err })
	return list, next, err
}

// Reporters is Store.Reporters.
func (r *Replica) Reporters(ctx context.Context, q dmarc.TrafficQuery) (items []dmarc.ReporterTraffic, next dmarc.Cursor, err error) {
	err = r.ask(func(s *Store) (err error) { items, next, err = s.Reporters(ctx, q); return err })
	return items, next, err
}

// Reports is Store.Reports.
func (r *Replica) Reports(ctx context.Context, q dmarc.ReportQuery) (items []dmarc.ReportSummary, next dmarc.Cursor, err error) {
	err = r.ask(func(s *Store) (err error) { items, next, err = s.Reports(ctx, q); return err })
	return items, next, err
}

// Report is Store.Report.
func (r *Replica) Report(ctx context.Context, id string) (rep dmarc.ReportSummary, err error) {
	err = r.ask(func(s *Store) (err error) { rep, err = s.Report(ctx, id); return err })
	return rep, err
}

// Alternatives is Store.Alternatives.
func (r *Replica) Alternatives(ctx context.Context, id string, page dmarc.Page) (items []dmarc.ReportSummary, next dmarc.Cursor, err error) {
	err = r.ask(func(s *Store) (err error) { items, next, err = s.Alternatives(ctx, id, page); return err })
	return items, next, err
}

// Raw is Store.Raw.
func (r *Replica) Raw(ctx context.Context, reportID string) (body io.ReadCloser, e dmarc.LedgerEntry, err error) {
	err = r.ask(func(s *Store) (err error) { body, e, err = s.Raw(ctx, reportID); return err })
	return body, e, err
}

// Failures is Store.Failures.
func (r *Replica) Failures(ctx context.Context, q dmarc.FailureQuery) (items []dmarc.StoredFailure, next dmarc.Cursor, err error) {
	err = r.ask(func(s *Store) (err error) { items, next, err = s.Failures(ctx, q); return err })
	return items, next, err
}

// TLS is Store.TLS.
func (r *Replica) TLS(ctx context.Context, q dmarc.TLSQuery) (items []dmarc.StoredTLS, next dmarc.Cursor, err error) {
	err = r.ask(func(s *Store) (err error) { items, next, err = s.TLS(ctx, q); return err })
	return items, next, err
}

// TLSReport is Store.TLSReport.
func (r *Replica) TLSReport(ctx context.Context, id string) (t dmarc.StoredTLS, err error) {
	err = r.ask(func(s *Store) (err error) { t, err = s.TLSReport(ctx, id); return err })
	return t, err
}

// Messages is Store.Messages.
func (r *Replica) Messages(ctx context.Context, q dmarc.MessageQuery) (items []dmarc.LedgerEntry, next dmarc.Cursor, err error) {
	err = r.ask(func(s *Store) (err error) { items, next, err = s.Messages(ctx, q); return err })
	return items, next, err
}

// Attention is Store.Attention.
func (r *Replica) Attention(ctx context.Context, q dmarc.AttentionQuery) (items []dmarc.DomainVerdict, next dmarc.Cursor, err error) {
	err = r.ask(func(s *Store) (err error) { items, next, err = s.Attention(ctx, q); return err })
	return items, next, err
}
