package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/postgres"
	"github.com/dmarcd/dmarcd/store"
)

const (
	verifyUsage = `Computes all totals anew from reports and their rows, of one domain or of all, and compares them with those stored.
It reads one domain after the other, each in a snapshot, and may run beside dmarcd serve.
Exit status 1 if anything differs and was not put right; with --rebuild, if something is left.`

	verifyExamples = `Examples:
  dmarcd verify
  dmarcd verify --rebuild example.com
  dmarcd verify --format json | jq .compared`
)

func runVerify(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("verify", "[DOMAIN]", verifyUsage, verifyExamples)
	rebuild := fs.Bool("rebuild", false, "put right what differs")
	format := fs.choice("format", "how to print the result", "text", "json")
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	o := store.VerifyOptions{Rebuild: *rebuild}
	if fs.NArg() > 0 {
		if o.Domain, err = readDomain(fs.Arg(0)); err != nil {
			return usageError(fmt.Sprintf("%q: write a domain, such as example.com", fs.Arg(0)))
		}
	}
	s, err := openService(ctx, cfg, log, postgres.Options{}, true)
	if err != nil {
		return err
	}
	began := time.Now()
	var left int64
	out := &arrayWriter{w: env.stdout}
	o.Found = func(d store.Difference) {
		repaired := *rebuild && !d.Reparse
		if !repaired {
			left++
		}
		if format.word == "json" {
			out.add(verifyDifference{d.Table, d.Domain, d.Line, d.Stored, d.Computed, repaired})
			return
		}
		end := ""
		switch {
		case repaired:
			end = "; put right"
		case d.Reparse:
			end = "; dmarcd reparse reads the report again"
		}
		out.line("%s: %s, %s: stored %s, computed %s%s", d.Table, d.Domain, d.Line, orNothing(d.Stored), orNothing(d.Computed), end)
	}
	if format.word == "json" {
		out.begin(`{"differences":`)
	}
	v, err := s.store.Verify(ctx, o)
	if err := errors.Join(err, s.close()); err != nil {
		return err
	}
	if format.word == "json" {
		out.end(verifyResult{v.Domains, v.Lines, v.Pending, v.Unreduced, v.Settled, v.Rebuilt, left, time.Since(began).Seconds()})
	} else {
		var lines [][]string
		for _, table := range slices.Sorted(maps.Keys(v.Lines)) {
			lines = append(lines, []string{table, grouped(v.Lines[table])})
		}
		out.line("%s compared in %.1f s", counted(v.Domains, "domain", "domains"), time.Since(began).Seconds())
		if len(lines) > 0 {
			env.style(env.stdout).table(env.stdout, "  ", []column{{"Table", false}, {"Lines", true}}, lines)
		}
		if v.Settled > 0 {
			out.line("%s of reporter_days taken as they are: their rows are no longer kept; what is summed from them was compared", counted(v.Settled, "line", "lines"))
		}
		if v.Pending > 0 {
			out.line("%s left out: the pass over sources has not come to them yet", counted(v.Pending, "day", "days"))
		}
		if v.Unreduced > 0 {
			out.line("%s left out of facts and selectors: the pass over facts has not come to them yet", counted(v.Unreduced, "day", "days"))
		}
		switch {
		case v.Differences == 0:
			out.line("no differences")
		default:
			out.line("%s, %s put right", counted(v.Differences, "difference", "differences"), grouped(v.Rebuilt))
		}
	}
	if out.err != nil {
		return out.err
	}
	if left > 0 {
		return errSaid
	}
	return nil
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

type verifyDifference struct {
	Table    string `json:"table"`
	Domain   string `json:"domain"`
	Line     string `json:"line"`
	Stored   string `json:"stored"`
	Computed string `json:"computed"`
	Repaired bool   `json:"repaired"`
}

type verifyResult struct {
	Domains  int64            `json:"domains"`
	Compared map[string]int64 `json:"compared"`
	Pending  int64            `json:"pending_days"`
	Facts    int64            `json:"pending_fact_days"`
	Settled  int64            `json:"taken_as_they_are"`
	Rebuilt  int64            `json:"rebuilt"`
	Left     int64            `json:"left"`
	Seconds  float64          `json:"seconds"`
}
