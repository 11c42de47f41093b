package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/parse"
)

const (
	parseUsage = `Reads reports from files and prints what they hold: messages, mbox, Maildir, .xml, .gz, .zip, .json, what parsedmarc wrote, and directories of
any of them; "-" is standard input. Nothing is stored, and no database is needed.

With --format ndjson it prints one JSON object a line for each report, and one for each input that holds none.
Exit status 1 if anything looked like a report but could not be read.`

	parseExamples = `Examples:
  dmarcd parse ~/Mail/dmarc/
  dmarcd parse --format ndjson report.xml.gz | jq .totals
  curl -s https://example.com/report.eml | dmarcd parse --full -`

	parseEnvironment = `Environment:
  DMARCD_CONFIG    configuration file
  DMARCD_LIMITS_…  what a message may cost; "dmarcd config --help" lists all
  NO_COLOR         no colours on a terminal
  COLUMNS          how wide lines may be`
)

func runParse(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("parse", "PATH...", parseUsage, parseExamples, parseEnvironment)
	fs.configFlag()
	format := fs.choice("format", "how to print it", "text", "ndjson")
	full := fs.Bool("full", false, "print the whole report, with its rows")
	if err := fs.Parse(args); err != nil {
		return err
	}
	cfg, err := env.loadConfig(*fs.config, valuesOnly)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(env.stdout, 64<<10)
	p := &parser{env: env, limits: cfg.Limits, out: out}
	if format.word == "ndjson" {
		p.printer = &ndjsonPrinter{w: out, full: *full}
	} else {
		p.printer = &textPrinter{w: out, style: env.style(env.stdout), full: *full}
	}
	if !isTerminal(env.stdout) {
		p.progress = env.startProgress("messages", 0)
		defer p.progress.stop()
	}
	if err := p.run(ctx, fs.Args()); err != nil {
		return err
	}
	if format.word == "text" {
		env.say("%s", p.summary())
	}
	if p.failed {
		return errSaid
	}
	return nil
}

// A printer writes what was found, in the order of the inputs.
type printer interface {
	// report writes a report of a source. Its rows may turn out to be
	// unreadable: that is written, too, and is a readError.
	report(ctx context.Context, source string, part dmarc.Part) error
	// none writes why there is no report.
	none(source string, part dmarc.Part) error
}

// A readError is what the rows of a report gave instead of rows.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// A parser reads inputs and prints what they hold.
type parser struct {
	env      *environ
	limits   parse.Limits
	out      *bufio.Writer // flushed after each input
	printer  printer
	progress *progress // nil for none

	failed                            bool // something looked like a report and could not be read
	inputs, aggregate, failure, tls   int64
	withoutReport, unreadable, broken int64
}

// A job is a message that is being read.
type job struct {
	msg   ingest.Message
	found *parse.Found
	err   error
	done  chan struct{}
}

func (j *job) close() {
	if j.found != nil {
		j.found.Close()
	}
	if j.msg.Raw != nil {
		j.msg.Raw.Close()
	}
}

// run reads some inputs at a time, and prints them in their order. When ctx
// ends it returns at once, whatever an input is waiting for.
func (p *parser) run(ctx context.Context, paths []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := runtime.GOMAXPROCS(0)
	queue := make(chan *job, workers)
	free := make(chan struct{}, workers+1) // bounds how many messages are kept
	files := &ingest.Files{Paths: paths, Stdin: p.env.stdin, Limit: p.limits.Message}
	var walkErr error // once queue is closed
	go func() {
		defer close(queue)
		walkErr = files.Each(ctx, dmarc.Place{}, func(ctx context.Context, msg ingest.Message) error {
			j := &job{msg: msg, done: make(chan struct{})}
			if !send(ctx, free, struct{}{}) {
				j.close()
				return context.Cause(ctx)
			}
			go func() {
				defer close(j.done)
				if msg.Err == nil {
					j.found, j.err = parse.Message(ctx, msg.Raw, msg.Name, p.limits)
				}
			}()
			if !send(ctx, queue, j) {
				return context.Cause(ctx)
			}
			return nil
		})
	}()
	for {
		var j *job
		select {
		case j = <-queue:
			if j == nil {
				return walkErr
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-j.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err := errors.Join(p.print(ctx, j), p.out.Flush())
		j.close()
		<-free
		if err != nil {
			return err
		}
	}
}

// send sends unless ctx ends first.
func send[T any](ctx context.Context, to chan<- T, v T) bool {
	select {
	case to <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

// print prints an input: each of its reports, and what looked like one but
// could not be read. An input without either has one line that says why.
func (p *parser) print(ctx context.Context, j *job) error {
	p.inputs++
	if p.progress != nil {
		p.progress.add(1)
	}
	source := j.msg.Name
	if j.msg.Err != nil {
		return p.printNone(source, 0, []dmarc.Part{{Outcome: j.msg.Err.Outcome, Reason: j.msg.Err.Reason}})
	}
	if j.err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return p.printNone(source, 0, []dmarc.Part{{Outcome: dmarc.OutcomeUnreadable, Reason: j.err.Error()}})
	}
	reports := 0
	var none []dmarc.Part
	for _, part := range j.found.Parts {
		switch {
		case part.Aggregate != nil:
			p.aggregate++
		case part.Failure != nil:
			p.failure++
		case part.TLS != nil:
			p.tls++
		default:
			none = append(none, part)
			continue
		}
		reports++
		err := p.printer.report(ctx, source, part)
		var unreadable *readError
		if errors.As(err, &unreadable) {
			p.failed = true
			p.unreadable++
			err = nil
		}
		if err != nil {
			return err
		}
	}
	if len(j.found.Parts) == 0 {
		none = append(none, dmarc.Part{Outcome: j.found.Outcome, Reason: j.found.Reason})
	}
	return p.printNone(source, reports, none)
}

// printNone prints what is no report: the first that is a loss, or else the
// first if there was no report at all.
func (p *parser) printNone(source string, reports int, none []dmarc.Part) error {
	if len(none) == 0 {
		return nil
	}
	worst := none[0]
	for _, part := range none {
		if !part.Outcome.Harmless() {
			worst = part
			break
		}
	}
	switch {
	case !worst.Outcome.Harmless():
		p.failed = true
		if worst.Outcome == dmarc.OutcomeUnreadable {
			p.unreadable++
		} else {
			p.broken++
		}
	case reports > 0:
		return nil
	default:
		p.withoutReport++
	}
	return p.printer.none(source, worst)
}

// summary says in a line what was read.
func (p *parser) summary() string {
	parts := []string{}
	for _, c := range []struct {
		n         int64
		one, many string
	}{
		{p.aggregate, "aggregate report", "aggregate reports"},
		{p.failure, "failure report", "failure reports"},
		{p.tls, "TLS report", "TLS reports"},
		{p.withoutReport, "without a report", "without a report"},
		{p.broken, "with a report that could not be read", "with reports that could not be read"},
		{p.unreadable, "unreadable", "unreadable"},
	} {
		if c.n > 0 {
			parts = append(parts, counted(c.n, c.one, c.many))
		}
	}
	if len(parts) == 0 {
		return "Found nothing to read."
	}
	return fmt.Sprintf("Read %s: %s.", counted(p.inputs, "message", "messages"), strings.Join(parts, ", "))
}
