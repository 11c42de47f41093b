package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// textPrinter writes reports for people: a paragraph each. All that strangers
// wrote goes through inline.
type textPrinter struct {
	w     *bufio.Writer
	style style
	full  bool
}

// head begins a paragraph.
func (p *textPrinter) head(source, path, what string) {
	fmt.Fprint(p.w, p.style.dim(inline(source)))
	if path != "" {
		fmt.Fprintf(p.w, ", part %s", inline(path))
	}
	fmt.Fprintf(p.w, "\n  %s\n", what)
}

// line writes a line of a paragraph, unless there is nothing to say. A long
// one is broken.
func (p *textPrinter) line(label, text string) {
	for i, line := range wrap(text, p.style.width-14) {
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(p.w, "  %-10s  %s\n", label, line)
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
	p.head(source, path, fmt.Sprintf("%s for %s by %s", p.style.bold("Aggregate report"), p.style.bold(named(r.Policy.Domain)), p.style.bold(named(r.Reporter.OrgName))))
	p.line("Period", period(r.Period))
	p.line("Report ID", inline(r.ID))
	p.line("Policy", policy(r.Policy))
	p.line("", asks(r.Policy))
	for _, text := range r.Errors {
		p.line("Error", inline(text))
	}
	p.flags(r.Flags)
	p.line("Messages", grouped(t.Messages)+" in "+counted(t.Rows, "row", "rows"))
	if t.Messages > 0 {
		fmt.Fprintln(p.w)
		columns := min(max(p.style.width-50, 10), 40)
		for _, part := range []struct {
			label string
			n     int64
		}{{"Passed", t.DMARCPass}, {"  by DKIM", t.DKIMAligned}, {"  by SPF", t.SPFAligned}} {
			fmt.Fprintf(p.w, "  %-10s  %s  %8s  %s\n", part.label, p.style.bar(part.n, t.Messages, columns), share(part.n, t.Messages), grouped(part.n))
		}
		handled := fmt.Sprintf("none %s, quarantine %s, reject %s", grouped(t.None), grouped(t.Quarantine), grouped(t.Reject))
		if t.Unstated > 0 {
			handled += ", not said " + grouped(t.Unstated)
		}
		p.line("Handled", handled)
	}
	var failed error
	if p.full {
		failed = p.rows(ctx, r)
	} else if t.Messages > 0 {
		failed = p.sources(ctx, r)
	}
	if err := p.end(); err != nil {
		return err
	}
	return failed
}

// asks says in words what a policy asks for.
func asks(p dmarc.PolicyPublished) string {
	words := map[string]string{"none": "is to be delivered as usual", "quarantine": "is to be treated as suspicious", "reject": "is to be refused"}
	what, known := words[p.P.String()]
	if !known {
		return ""
	}
	text := "mail that fails " + what
	if sub, differs := words[p.SP.String()]; differs && p.SP != p.P {
		text += ", that of subdomains " + sub
	}
	if p.Pct != nil && *p.Pct < 100 && p.P.String() != "none" {
		text += fmt.Sprintf(", %d %% of it", *p.Pct)
	}
	if p.Testing != nil && *p.Testing {
		text += "; only a test (t=y)"
	}
	return text
}

// Bounds of what is kept to say who sent.
const (
	shownSources = 10
	keptSources  = 50_000
)

// sources writes who sent the mail, the busiest first. What is kept of them
// does not grow with the report.
func (p *textPrinter) sources(ctx context.Context, r *dmarc.AggregateReport) error {
	by := map[string]*dmarc.Tally{}
	var others dmarc.Tally // of sources beyond those that are kept
	err := p.each(ctx, r, func(row *dmarc.Row) error {
		name := sourceName(row)
		t := by[name]
		if t == nil {
			if t = &others; len(by) < keptSources {
				t = &dmarc.Tally{}
				by[name] = t
			}
		}
		t.Add(row)
		return nil
	})
	if err != nil {
		return err
	}
	names := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(cmp.Compare(by[b].Messages, by[a].Messages), cmp.Compare(a, b))
	})
	left := others
	var lines [][]string
	for i, name := range names {
		t := by[name]
		if i >= shownSources {
			left.Merge(*t)
			continue
		}
		lines = append(lines, []string{name, grouped(t.Messages), share(t.DMARCPass, t.Messages), share(t.DKIMAligned, t.Messages), share(t.SPFAligned, t.Messages), handling(t)})
	}
	fmt.Fprintln(p.w)
	p.style.table(p.w, "  ", []column{{"Source, busiest first", false}, {"Messages", true}, {"Passed", true}, {"DKIM", true}, {"SPF", true}, {"Handled", false}}, lines)
	if n := int64(len(names)) - shownSources; n > 0 {
		more := counted(n, "more source", "more sources")
		if others.Messages > 0 {
			more = "at least " + more
		}
		fmt.Fprintf(p.w, "  and %s, %s, %s passed; --full prints all rows\n", more, counted(left.Messages, "message", "messages"), share(left.DMARCPass, left.Messages))
	}
	return nil
}

// handling says what was done with messages, in the words of dispositions.
func handling(t *dmarc.Tally) string {
	var parts []string
	for _, d := range []struct {
		n    int64
		word string
	}{{t.Reject, "reject"}, {t.Quarantine, "quarantine"}, {t.None, "none"}, {t.Unstated, "not said"}} {
		switch {
		case d.n == 0:
		case d.n == t.Messages:
			return d.word
		default:
			parts = append(parts, d.word+" "+grouped(d.n))
		}
	}
	return strings.Join(parts, ", ")
}

// sourceName is the address of a row as it is shown.
func sourceName(row *dmarc.Row) string {
	if name := address(row.Source); name != nil {
		return string(*name)
	}
	return cmp.Or(inline(row.SourceText), "unknown")
}

// rows writes the rows of a report as a table, while they are read.
func (p *textPrinter) rows(ctx context.Context, r *dmarc.AggregateReport) error {
	fmt.Fprintf(p.w, "\n  %-39s  %12s  %-10s  %-4s  %-4s  %s\n", "Source", "Messages", "Handled", "DKIM", "SPF", "From")
	return p.each(ctx, r, func(row *dmarc.Row) error {
		_, err := fmt.Fprintf(p.w, "  %-39s  %12s  %-10s  %-4s  %-4s  %s\n", sourceName(row), grouped(row.Count),
			cmp.Or(row.Disposition.String(), "-"), cmp.Or(row.DKIM.String(), "-"), cmp.Or(row.SPF.String(), "-"), cmp.Or(inline(row.HeaderFrom), "-"))
		return err
	})
}

// each hands over the rows of a report, and says where they end too early.
func (p *textPrinter) each(ctx context.Context, r *dmarc.AggregateReport, take func(*dmarc.Row) error) error {
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
		if err := take(row); err != nil {
			return err
		}
	}
	return nil
}

func (p *textPrinter) failure(source, path string, r *dmarc.FailureReport) error {
	p.head(source, path, fmt.Sprintf("%s for %s by %s", p.style.bold("Failure report"), p.style.bold(named(r.ReportedDomain)), p.style.bold(named(r.ReporterDomain))))
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
	p.head(source, path, fmt.Sprintf("%s for %s by %s", p.style.bold("TLS report"), p.style.bold(named(r.Domain)), p.style.bold(named(r.OrgName))))
	p.line("Period", period(r.Period))
	p.line("Report ID", inline(r.ID))
	if total := successful + failed; total > 0 {
		fmt.Fprintf(p.w, "  %-10s  %s  %8s\n", "Over TLS", p.style.bar(successful, total, min(max(p.style.width-50, 10), 40)), share(successful, total))
	}
	p.line("Sessions", fmt.Sprintf("%s successful, %s failed, under %s", grouped(successful), grouped(failed), counted(int64(len(r.Policies)), "policy", "policies")))
	p.flags(r.Flags)
	const shown = 5 // reasons of a policy
	if p.full || failed > 0 {
		for _, policy := range r.Policies {
			p.line("Policy", fmt.Sprintf("%s of %s: %s successful, %s failed", inline(policy.Type), named(policy.Domain), grouped(policy.Successful), grouped(policy.Failed)))
			for i, d := range policy.Details {
				if i == shown && !p.full {
					p.line("", "and more reasons; --full prints all")
					break
				}
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
	// Whole days, however their end is written.
	begin, end := p.Begin.UTC(), p.End.UTC()
	if midnight := begin.Truncate(24 * time.Hour); !p.Begin.IsZero() && begin.Equal(midnight) {
		for _, last := range []time.Duration{0, time.Second} {
			switch days := end.Add(last).Sub(begin); {
			case days == 24*time.Hour:
				return begin.Format("Monday, 2 January 2006") + ", the whole day in UTC"
			case days > 0 && days%(24*time.Hour) == 0:
				return fmt.Sprintf("%s to %s, %d whole days in UTC", begin.Format("2 Jan 2006"), begin.Add(days-time.Hour).Format("2 Jan 2006"), days/(24*time.Hour))
			}
		}
	}
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
