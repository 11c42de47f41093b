package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/postgres"
)

const (
	importUsage = `Stores the reports in files: messages, mbox, Maildir, .xml, .gz, .zip, .json, what parsedmarc wrote, and directories of any of them; "-" is
standard input. Files stay as they are. Importing twice changes nothing, and is quick: stop a long import with Ctrl-C
and run it again, and it passes over what is done.

Without DMARCD_DATABASE_URL the private PostgreSQL in the data directory is used, also while dmarcd serve runs.
Exit status 1 if anything looked like a report but could not be stored; the ledger says why.`

	importExamples = `Examples:
  dmarcd import ~/Mail/dmarc/
  dmarcd import --format json reports.mbox | jq .reports`
)

func runImport(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("import", "PATH...", importUsage, importExamples)
	format := fs.choice("format", "how to print the result", "text", "json")
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	s, err := openService(ctx, cfg, log, postgres.Options{}, true)
	if err != nil {
		return err
	}
	shown := env.startProgress("messages", 0)
	s.ingester.OnFate = func(*dmarc.Delivery, dmarc.Fate) { shown.add(1) }
	began := time.Now()
	files := &ingest.Files{Paths: fs.Args(), Stdin: env.stdin, Limit: cfg.Limits.Message}
	shown.share = env.measure(ctx, files)
	sum, err := s.ingester.Pass(ctx, files)
	if err == nil {
		err = errors.Join(s.store.SummariseSources(ctx), s.store.SummariseFacts(ctx))
	}
	shown.stop()
	if err != nil && ctx.Err() != nil {
		env.say("%s messages are done; run the same again to go on from there.", grouped(int64(sum.Messages)))
	}
	if err := errors.Join(err, s.close()); err != nil {
		return err
	}

	seconds := time.Since(began).Seconds()
	if format.word == "json" {
		err = json.NewEncoder(env.stdout).Encode(importResult{
			Messages: sum.Messages,
			Reports:  importReports{sum.Added, sum.Duplicate, sum.Conflict, sum.Refused},
			Rows:     sum.Rows, Outcomes: sum.Outcomes, Seconds: seconds,
		})
	} else {
		_, err = fmt.Fprintf(env.stdout, "%s messages in %.1f s, %s of them known: %s reports added with %s rows, %s duplicates, %s conflicts, %s refused\n",
			grouped(int64(sum.Messages)), seconds, grouped(int64(sum.Known)), grouped(int64(sum.Added)), grouped(sum.Rows),
			grouped(int64(sum.Duplicate)), grouped(int64(sum.Conflict)), grouped(int64(sum.Refused)))
	}
	if err != nil {
		return err
	}
	for outcome, n := range sum.Outcomes {
		if n > 0 && !outcome.Harmless() {
			return errSaid
		}
	}
	return nil
}

// measure adds up beside the work, for a terminal, how much of it there is. It
// returns what tells how much is done.
func (env *environ) measure(ctx context.Context, files *ingest.Files) func() (done, total int64) {
	if !env.stderr.terminal {
		return nil
	}
	var total atomic.Int64
	go func() {
		if n, err := files.Total(ctx); err == nil {
			total.Store(n)
		}
	}()
	return func() (int64, int64) { return files.Done(), total.Load() }
}

// importResult is what --format json prints.
type importResult struct {
	Messages int                   `json:"messages"`
	Reports  importReports         `json:"reports"`
	Rows     int64                 `json:"rows"`
	Outcomes map[dmarc.Outcome]int `json:"outcomes"`
	Seconds  float64               `json:"seconds"`
}

type importReports struct {
	Added     int `json:"added"`
	Duplicate int `json:"duplicate"`
	Conflict  int `json:"conflict"`
	Refused   int `json:"refused"`
}
