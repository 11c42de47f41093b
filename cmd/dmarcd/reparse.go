package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/postgres"
)

const (
	reparseUsage = `Reads the archived messages again with this version's parser and today's limits and settings, and stores what they say
now: reports that could not be read before are added, and those that say something else are replaced whole. All totals
follow in the same transaction, and the ledger keeps what a message was before. What cannot be read any more is left as
it was. It may run beside dmarcd serve; one that is interrupted goes on where it was.`

	reparseExamples = `Examples:
  dmarcd reparse --dry-run
  dmarcd reparse --outcome bad_xml
  dmarcd reparse --since 2026-01-01 --format json`
)

func runReparse(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("reparse", "", reparseUsage, reparseExamples)
	dry := fs.Bool("dry-run", false, "change nothing, and say what would change")
	since := fs.String("since", "", "only messages received since this `DAY` (UTC)")
	outcome := fs.String("outcome", "", "only messages with this `OUTCOME`, such as bad_xml")
	restart := fs.Bool("restart", false, "begin anew, although an earlier run was interrupted")
	all := fs.Bool("all", false, "name reports that stay as they are, too")
	format := fs.choice("format", "how to print the result", "text", "json")
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	o := ingest.RereadOptions{DryRun: *dry, Outcome: dmarc.Outcome(*outcome), Restart: *restart}
	if *since != "" {
		if o.Since, err = time.Parse(time.DateOnly, *since); err != nil {
			return usageError(fmt.Sprintf("--since %q: write a day, such as 2026-01-31", *since))
		}
	}
	if err := knownOutcome(o.Outcome); err != nil {
		return err
	}
	s, err := openService(ctx, cfg, log, postgres.Options{}, true)
	if err != nil {
		return err
	}
	// Another version, or other limits, read otherwise and begin from the start.
	how := fnv.New64a()
	fmt.Fprint(how, version, commit, cfg.Limits, cfg.Domains, cfg.Failure, *since, *outcome)
	o.Pass = fmt.Sprintf("reparse %x", how.Sum(nil))
	out := &arrayWriter{w: env.stdout}
	o.OnChange = func(c dmarc.Change) {
		if c.Kind == dmarc.ChangeNone && !*all {
			return
		}
		if format.word == "json" {
			out.add(reparseChange{c.Message, c.Part, c.Kind, c.Report, c.Name, totalsOf(c.Before), totalsOf(c.After), c.Reason})
			return
		}
		name := ""
		if c.Name != "" {
			name = fmt.Sprintf(", report %q", c.Name)
		}
		reason := ""
		if c.Reason != "" {
			reason = ": " + c.Reason
		}
		out.line("message %d, part %s%s: %s%s", c.Message, c.Part, name, strings.ReplaceAll(string(c.Kind), "_", " "), reason)
	}
	if format.word == "json" {
		out.begin(`{"changes":`)
	}
	began := time.Now()
	var sum ingest.RereadSummary
	err = s.store.Hold(ctx, "reparse", func(ctx context.Context, _ dmarc.Lease) (err error) {
		sum, err = (&ingest.Rereader{Ingester: s.ingester, Archive: s.store}).Reread(ctx, o)
		return err
	})
	if err == nil && !*dry {
		err = errors.Join(s.store.SummariseSources(ctx), s.store.SummariseFacts(ctx))
	}
	if err := errors.Join(err, s.close()); err != nil {
		if sum.Messages > 0 && !*dry {
			err = fmt.Errorf("%w; what was read is stored, and the same command goes on from there", err)
		}
		return err
	}
	if format.word == "json" {
		out.end(reparseResult{sum.Messages, sum.NotArchived, sum.Resumed, sum.Changes, *dry, time.Since(began).Seconds()})
	} else {
		var parts []string
		for _, kind := range []dmarc.ChangeKind{dmarc.ChangeNone, dmarc.ChangeAdded, dmarc.ChangeReadable, dmarc.ChangeContent, dmarc.ChangeRefused, dmarc.ChangeLeft} {
			if n := sum.Changes[kind]; n > 0 {
				parts = append(parts, grouped(n)+" "+strings.ReplaceAll(string(kind), "_", " "))
			}
		}
		if len(parts) == 0 {
			parts = []string{"nothing to change"}
		}
		end := ""
		if sum.NotArchived > 0 {
			end = fmt.Sprintf("; of %s the bytes are not kept", counted(sum.NotArchived, "message", "messages"))
		}
		if *dry {
			end += "; this was a dry run, nothing was changed"
		}
		out.line("%s read again in %.1f s: %s%s", counted(sum.Messages, "message", "messages"), time.Since(began).Seconds(), strings.Join(parts, ", "), end)
	}
	if out.err != nil {
		return out.err
	}
	if sum.Changes[dmarc.ChangeLeft] > 0 {
		return errSaid
	}
	return nil
}

func knownOutcome(o dmarc.Outcome) error {
	if o == "" {
		return nil
	}
	var words []string
	for _, d := range dmarc.OutcomeDocs {
		if d.Outcome == o {
			return nil
		}
		words = append(words, string(d.Outcome))
	}
	return usageError(fmt.Sprintf("--outcome %q: not an outcome%s; they are %s", o, didYouMean(string(o), words), strings.Join(words, ", ")))
}

type reparseChange struct {
	Message int64            `json:"message"`
	Part    string           `json:"part"`
	Kind    dmarc.ChangeKind `json:"change"`
	Report  string           `json:"report"`
	Name    string           `json:"report_id"`
	Before  totals           `json:"before"`
	After   totals           `json:"after"`
	Reason  string           `json:"reason"`
}

type reparseResult struct {
	Messages    int64                      `json:"messages"`
	NotArchived int64                      `json:"not_archived"`
	Resumed     int64                      `json:"resumed_after"`
	Counts      map[dmarc.ChangeKind]int64 `json:"counts"`
	DryRun      bool                       `json:"dry_run"`
	Seconds     float64                    `json:"seconds"`
}
