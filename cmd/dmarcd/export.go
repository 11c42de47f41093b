package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dmarcd/dmarcd/api"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/stream"
)

const (
	exportUsage = `Writes every aggregate report that counts, and its rows, as an object of JSON a line (NDJSON): to standard output, to a
file, or to a topic of Kafka. docs/streams.md says what the lines hold.

With --name it is a stream that goes on where it was: how far it came is kept in the database once the lines are where they
cannot be lost. What changes afterwards is told as well, also that a report does not count any more. A stream of the
configuration needs no more than its name. Without --name, what counts now is written once.`

	exportExamples = `Examples:
  dmarcd export > reports.ndjson
  dmarcd export --name siem --to /var/lib/dmarcd/reports.ndjson --follow
  dmarcd export --name lake --to kafka://localhost:9092/dmarc --from now --follow
  dmarcd export --name siem --forget`
)

// streamInterval is how often a stream looks whether there is something to tell.
const streamInterval = time.Second

func runExport(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("export", "", exportUsage, exportExamples)
	to := fs.String("to", "", "`PLACE` to write to: a file, - for standard output, or kafka://HOST:PORT/TOPIC (default -, or what the configuration says of the stream)")
	name := fs.String("name", "", "`NAME` of the stream, which goes on where it was")
	follow := fs.Bool("follow", false, "go on until it is stopped")
	from := fs.choice("from", "where a new stream begins: with all that is stored, or with what changes from now on", fromStart, fromNow)
	restart := fs.Bool("restart", false, "begin the stream anew")
	forget := fs.Bool("forget", false, "end the stream: changes are not kept for it any longer")
	domains := fs.String("domains", "", "only `DOMAINS`, with their subdomains, separated by commas")
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	if *name == "" && (*follow || *restart || *forget || from.word != fromStart) {
		return usageError("--follow, --from, --restart and --forget are for a stream; give it a name with --name")
	}
	if *name != "" && targetName(*name) != nil {
		return usageError("--name " + targetName(*name).Error())
	}
	if *forget && (*follow || *restart || *to != "") {
		return usageError("--forget ends the stream; it goes with --name alone")
	}
	target, err := exported(cfg, *name, *to, from.word, *domains)
	if err != nil {
		return err
	}
	s, err := openService(ctx, cfg, log, postgres.Options{}, true)
	if err != nil {
		return err
	}
	return errors.Join(s.export(ctx, env, target, *follow, *restart, *forget), s.close())
}

// exported returns the stream that the flags mean.
func exported(cfg *config, name, to, from, domains string) (*streamTo, error) {
	target := newStream()
	target.To = standardOutput
	for _, configured := range cfg.Streams {
		if name != "" && configured.Name == name {
			target = configured
		}
	}
	target.Name = name
	if to != "" {
		if !strings.Contains(to, "://") && to != standardOutput {
			whole, err := filepath.Abs(to)
			if err != nil {
				return nil, err
			}
			to = whole
		}
		if err := streamTarget(to); err != nil {
			return nil, usageError("--to " + err.Error())
		}
		target.To = to
	}
	if from == fromNow {
		target.From = from
	}
	if domains != "" {
		if err := target.setting("domains").set(domains); err != nil {
			return nil, usageError("--domains " + err.Error())
		}
	}
	return target, nil
}

func (s *service) export(ctx context.Context, env *environ, target *streamTo, follow, restart, forget bool) error {
	if target.Name == "" {
		st, err := s.newStreamer(target, env.stdout)
		if err != nil {
			return err
		}
		return errors.Join(st.Pass(ctx, dmarc.Lease{}), st.Sink.Close())
	}
	return s.store.Hold(ctx, streamLease(target.Name), func(ctx context.Context, lease dmarc.Lease) error {
		if restart || forget {
			known, err := s.store.ForgetStream(ctx, target.Name)
			if err != nil {
				return err
			}
			if forget {
				if !known {
					return errors.New("there is no stream " + shown(target.Name))
				}
				return nil
			}
		}
		st, err := s.newStreamer(target, env.stdout)
		if err != nil {
			return err
		}
		err = st.Pass(ctx, lease)
		for follow && ctx.Err() == nil {
			if err != nil {
				if errors.Is(err, dmarc.ErrLeaseLost) || target.To == standardOutput {
					break // whoever reads it is gone
				}
				s.log.Error("the stream stands still; it is tried again", "stream", target.Name, "error", err)
			}
			if !sleep(ctx, streamInterval) {
				break
			}
			err = st.Pass(ctx, lease)
		}
		if follow && ctx.Err() != nil {
			err = nil // it was to go on until now
		}
		return errors.Join(err, st.Sink.Close())
	})
}

// streamLease is what one process holds to work on a stream.
func streamLease(name string) string { return "pass " + streamPass(name) }

func streamPass(name string) string { return "stream " + name }

func (s *service) newStreamer(target *streamTo, stdout io.Writer) (*stream.Streamer, error) {
	sink, err := target.sink(stdout)
	if err != nil {
		return nil, err
	}
	return &stream.Streamer{
		Store: s.store, Sink: sink, Name: target.Name, FromNow: target.From == fromNow, Scope: target.scope(), JSON: jsonOf,
		Report: func(r *dmarc.ReportSummary) any { return api.DescribeReport(r) },
		Row:    func(r *dmarc.Row) any { return api.DescribeRow(r) },
	}, nil
}

// newStreams returns what tells the other systems of the configuration.
func (s *service) newStreams(cfg *config, stdout io.Writer) (all []*stream.Streamer, err error) {
	if len(cfg.Streams) == 0 {
		return nil, nil
	}
	stdout = &oneWriter{w: stdout}
	events := s.metrics.watchStreams()
	for _, target := range cfg.Streams {
		st, err := s.newStreamer(target, stdout)
		if err != nil {
			return nil, err
		}
		sent := events.WithLabelValues(target.Name)
		st.OnSent = func(n int) { sent.Add(float64(n)) }
		all = append(all, st)
	}
	return all, nil
}

// oneWriter lets several streams write whole lines to one place.
type oneWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *oneWriter) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}

// stream tells one other system, until ctx ends. Where it writes is let go with the lease, since
// another process goes on there.
func (s *service) stream(ctx context.Context, st *stream.Streamer) {
	s.alone(ctx, streamLease(st.Name), func(ctx context.Context, lease dmarc.Lease) {
		defer st.Sink.Close()
		s.passes(ctx, streamInterval, streamPass(st.Name), func(ctx context.Context) error { return st.Pass(ctx, lease) })
	})
}

// watchStreams adds what is counted of streams.
func (m *meters) watchStreams() *prometheus.CounterVec {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dmarcd_stream_events_total", Help: "Events that a stream has told to where they cannot be lost.",
	}, []string{"stream"})
	m.registry.MustRegister(events)
	return events
}
