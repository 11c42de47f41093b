package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// textPrinter writes reports for people: a paragraph each. All that strangers
// wrote goes through inline.
type textPrinter struct {
	w    *bufio.Writer
	full bool
}

// head begins a paragraph.
func (p *textPrinter) head(source, path, what string) {
	fmt.Fprint(p.w, inline(source))
	if path != "" {
		fmt.Fprintf(p.w, ", part %s", inline(path))
	}
	fmt.Fprintf(p.w, "\n  %s\n", what)
}

// line writes a line of a paragraph, unless there is nothing to say.
func (p *textPrinter) line(label, text string) {
	if text != "" {
		fmt.Fprintf(p.w, "  %-10s  %s\n", label, text)
	}
}

// end ends a paragraph. An error of any earlier write comes out here.
func (p *textPrinter) end() error {
	_, err := p.w.WriteString("\n")
	return err
}

func (p *textPrinter) none(source string, part dmarc.Part) error {
	fate := "Not read"
	if part.Outcome.Harmless() {
		fate = "Skipped"
	}
	p.head(source, part.Path, fmt.Sprintf("%s (%s): %s", fate, part.Outcome, inline(part.Reason)))
	return p.end()
}

func (p *textPrinter) report(ctx context.Context, source string, part dmarc.Part) error {
	switch {
	case part.Aggregate != nil:
		return p.aggregate(ctx, source, part.Path, part.Aggregate)
	case part.Failure != nil:
		return p.failure(source, part.Path, part.Failure)
	}
	return p.tls(source, part.Path, part.TLS)
}

func (p *textPrinter) aggregate(ctx context.Context, source, path string, r *dmarc.AggregateReport) error {
	t := r.Tally
	p.head(source, path, fmt.Sprintf("Aggregate report for %s by %s", named(r.Policy.Domain), named(r.Reporter.OrgName)))
	p.line("Period", period(r.Period))
	p.line("Report ID", inline(r.ID))
	p.line("Policy", policy(r.Policy))
	p.line("Messages", grouped(t.Messages)+" in "+counted(t.Rows, "row", "rows"))
	if t.Messages > 0 {
		p.line("Passed", fmt.Sprintf("%s (%s), DKIM aligned %s, SPF aligned %s", grouped(t.DMARCPass), share(t.DMARCPass, t.Messages), grouped(t.DKIMAligned), grouped(t.SPFAligned)))
		handled := fmt.Sprintf("none %s, quarantine %s, reject %s", grouped(t.None), grouped(t.Quarantine), grouped(t.Reject))
		if t.Unstated > 0 {
			handled += ", not said " + grouped(t.Unstated)
		}
		p.line("Handled", handled)
	}
	for _, text := range r.Errors {
		p.line("Error", inline(text))
	}
	p.flags(r.Flags)
	var failed error
	if p.full {
		failed = p.rows(ctx, r)
	}
	if err := p.end(); err != nil {
		return err
	}
	return failed
}

// rows writes the rows of a report as a table, while they are read.
func (p *textPrinter) rows(ctx context.Context, r *dmarc.AggregateReport) error {
	fmt.Fprintf(p.w, "\n  %-39s  %12s  %-10s  %-4s  %-4s  %s\n", "Source", "Messages", "Handled", "DKIM", "SPF", "From")
	for row, err := range r.Rows {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			p.line("Error", "the rows end here: "+inline(err.Error()))
			if ctx.Err() != nil {
				return err
			}
			return &readError{err}
		}
		from := address(row.Source)
		if from == nil {
			from = word(cmp.Or(inline(row.SourceText), "unknown"))
		}
		_, err := fmt.Fprintf(p.w, "  %-39s  %12s  %-10s  %-4s  %-4s  %s\n", *from, grouped(row.Count),
			cmp.Or(row.Disposition.String(), "-"), cmp.Or(row.DKIM.String(), "-"), cmp.Or(row.SPF.String(), "-"), cmp.Or(inline(row.HeaderFrom), "-"))
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *textPrinter) failure(source, path string, r *dmarc.FailureReport) error {
	p.head(source, path, fmt.Sprintf("Failure report for %s by %s", named(r.ReportedDomain), named(r.ReporterDomain)))
	p.line("Arrived", clock(r.Arrival))
	p.line("Source", ip(r.SourceIP))
	p.line("Failed", inline(strings.Join(r.AuthFailure, ", ")))
	p.line("Delivery", inline(r.Delivery))
	p.line("MAIL FROM", inline(r.MailFrom))
	if r.Incidents > 1 {
		p.line("Stands for", counted(r.Incidents, "message", "messages"))
	}
	p.flags(r.Flags)
	if p.full {
		for _, f := range r.Headers {
			p.line("Sample", inline(f.Name)+": "+inline(f.Value))
		}
		for _, s := range r.Body {
			p.line("Sample", fmt.Sprintf("%s, %s", inline(s.MediaType), counted(s.Size, "byte", "bytes")))
		}
	}
	return p.end()
}

func (p *textPrinter) tls(source, path string, r *dmarc.TLSReport) error {
	successful, failed := r.Sessions()
	p.head(source, path, fmt.Sprintf("TLS report for %s by %s", named(r.Domain), named(r.OrgName)))
	p.line("Period", period(r.Period))
	p.line("Report ID", inline(r.ID))
	p.line("Sessions", fmt.Sprintf("%s successful, %s failed, under %s", grouped(successful), grouped(failed), counted(int64(len(r.Policies)), "policy", "policies")))
	p.flags(r.Flags)
	if p.full {
		for _, policy := range r.Policies {
			p.line("Policy", fmt.Sprintf("%s of %s: %s successful, %s failed", inline(policy.Type), named(policy.Domain), grouped(policy.Successful), grouped(policy.Failed)))
			for _, d := range policy.Details {
				p.line("Failed", fmt.Sprintf("%s %s, %s to %s", grouped(d.FailedSessions), inline(d.ResultType),
					cmp.Or(inline(d.SendingMTAIP), "unknown"), cmp.Or(inline(d.ReceivingMXHost), inline(d.ReceivingIP), "unknown")))
			}
		}
	}
	return p.end()
}

// flags says what was odd about a report.
func (p *textPrinter) flags(f dmarc.Flags) {
	for i, doc := range dmarc.ReportFlagDocs {
		if f&(1<<i) != 0 {
			p.line("Noticed", doc.Text)
		}
	}
}

// named is the name of a domain or of an organization.
func named(name string) string { return cmp.Or(inline(name), "somebody unnamed") }

func ip(a netip.Addr) string {
	if !a.IsValid() {
		return "unknown"
	}
	return a.String()
}

func period(p dmarc.Period) string {
	return clock(p.Begin) + " to " + clock(p.End)
}

// clock writes a moment in UTC, and says so.
func clock(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.UTC().Format("2 Jan 2006 15:04:05 UTC")
}

// policy writes a published policy in the tags of its record.
func policy(p dmarc.PolicyPublished) string {
	var tags []string
	for _, tag := range []struct{ name, value string }{
		{"p", p.P.String()}, {"sp", p.SP.String()}, {"np", p.NP.String()},
		{"adkim", p.ADKIM.String()}, {"aspf", p.ASPF.String()}, {"fo", inline(p.FO)},
	} {
		if tag.value != "" {
			tags = append(tags, tag.name+"="+tag.value)
		}
	}
	if p.Pct != nil {
		tags = append(tags, fmt.Sprintf("pct=%d", *p.Pct))
	}
	if p.Testing != nil && *p.Testing {
		tags = append(tags, "t=y")
	}
	return strings.Join(tags, "; ")
}
