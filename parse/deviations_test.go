package parse

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

var update = flag.Bool("update", false, "write what is read as what is wanted")

// knownDeviations is how many ways to deviate from the standards are known,
// numbered from 1. Each has a fixture or several.
const knownDeviations = 114

// Every known deviation is read as the file .want beside its fixture says:
// what was understood, and which flags tell of it.
func TestEveryKnownDeviationIsReadAsExpected(t *testing.T) {
	files, err := filepath.Glob("testdata/deviations/*")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, path := range files {
		if strings.HasSuffix(path, ".want") {
			continue
		}
		n, err := strconv.Atoi(filepath.Base(path)[:3])
		if err != nil {
			t.Fatalf("%s has no number", path)
		}
		seen[n] = true
		t.Run(filepath.Base(path), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// The name behind the number is what the file was called.
			found, err := Message(context.Background(), bytes.NewReader(raw), filepath.Base(path)[4:], DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			defer found.Close()
			got := describe(t, found)
			if *update {
				if err := os.WriteFile(path+".want", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path + ".want")
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	for n := 1; n <= knownDeviations; n++ {
		if !seen[n] {
			t.Errorf("deviation %d has no fixture", n)
		}
	}
}

// describe writes what was found, a line for each thing, without what is the
// same everywhere.
func describe(t *testing.T, found *Found) string {
	var b strings.Builder
	line := func(indent int, words ...string) {
		var kept []string
		for _, w := range words {
			if w != "" {
				kept = append(kept, w)
			}
		}
		fmt.Fprintf(&b, "%s%s\n", strings.Repeat("  ", indent), strings.Join(kept, " "))
	}
	if found.Outcome != "" {
		line(0, string(found.Outcome)+":", found.Reason)
	}
	for _, p := range found.Parts {
		switch {
		case p.Aggregate != nil:
			describeAggregate(t, line, p.Aggregate)
		case p.Failure != nil:
			describeFailure(line, p.Failure)
		case p.TLS != nil:
			describeTLS(line, p.TLS)
		default:
			line(0, string(p.Outcome)+":", p.Reason)
		}
	}
	return b.String()
}

// days says for which days a report counts.
func days(a dmarc.Attribution) string {
	switch {
	case !a.Dated:
		return "for no day"
	case a.Estimated:
		return fmt.Sprintf("for %d days from %s, estimated", len(a.Days), a.Days[0].Format(time.DateOnly))
	}
	return "for " + a.Days[0].Format(time.DateOnly)
}

func flagged(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "[" + strings.Join(names, " ") + "]"
}

func pair(name, value string) string {
	if value == "" {
		return ""
	}
	return name + "=" + value
}

func quoted(name, value string) string {
	if value == "" {
		return ""
	}
	return name + "=" + strconv.Quote(value)
}

func describeAggregate(t *testing.T, line func(int, ...string), r *dmarc.AggregateReport) {
	line(0, "aggregate", strconv.Quote(r.ID), "by", strconv.Quote(r.Reporter.OrgName), "<"+r.Reporter.Email+">", flagged(r.Flags.Names()))
	day, flags := r.Period.Attribute(time.Date(2026, 1, 20, 0, 0, 0, 0, time.UTC))
	line(1, "period", r.Period.Begin.Format(time.RFC3339), r.Period.End.Format(time.RFC3339), days(day), flagged(flags.Names()))
	pct, testing := "", ""
	if r.Policy.Pct != nil {
		pct = fmt.Sprintf("pct=%d", *r.Policy.Pct)
	}
	if r.Policy.Testing != nil {
		testing = fmt.Sprintf("testing=%v", *r.Policy.Testing)
	}
	line(1, "policy", r.Policy.Domain, pair("p", r.Policy.P.String()), pair("sp", r.Policy.SP.String()), pair("np", r.Policy.NP.String()),
		pair("adkim", r.Policy.ADKIM.String()), pair("aspf", r.Policy.ASPF.String()), pct, pair("fo", r.Policy.FO), testing, pair("discovery", r.Policy.DiscoveryMethod))
	if r.Namespace != "" || r.Generator != "" || len(r.Errors) > 0 || r.Version != "1.0" {
		line(1, "file", quoted("version", r.Version), quoted("namespace", r.Namespace), quoted("generator", r.Generator), strings.Join(r.Errors, "; "))
	}
	if r.Dropped != (dmarc.Dropped{}) {
		line(1, fmt.Sprintf("dropped %d rows with %d messages", r.Dropped.Rows, r.Dropped.Messages))
	}
	tally := r.Tally
	line(1, fmt.Sprintf("%d messages: pass=%d dkim=%d spf=%d; none=%d quarantine=%d reject=%d", tally.Messages, tally.DMARCPass, tally.DKIMAligned, tally.SPFAligned, tally.None, tally.Quarantine, tally.Reject))
	for row, err := range r.Rows {
		if err != nil {
			t.Fatal(err)
		}
		source := row.SourceText
		if row.Source.IsValid() {
			source = row.Source.String()
		}
		sender := pair("envelope_from", row.EnvelopeFrom)
		if row.NullSender {
			sender = "envelope_from=<>"
		}
		line(1, "row", strconv.Quote(source), fmt.Sprintf("x%d", row.Count), pair("disposition", row.Disposition.String()), quoted("word", row.DispositionWord),
			pair("dkim", row.DKIM.String()), pair("spf", row.SPF.String()), pair("header_from", row.HeaderFrom), sender, pair("envelope_to", row.EnvelopeTo), flagged(row.Flags.Names()))
		for _, d := range row.AuthDKIM {
			line(2, "dkim", pair("domain", d.Domain), pair("selector", d.Selector), pair("result", d.Result.String()), quoted("word", d.Word), quoted("human", d.Human))
		}
		for _, s := range row.AuthSPF {
			line(2, "spf", pair("domain", s.Domain), pair("scope", s.Scope), pair("result", s.Result.String()), quoted("word", s.Word), quoted("human", s.Human))
		}
		for _, reason := range row.Reasons {
			line(2, "reason", pair("type", reason.Type), quoted("comment", reason.Comment))
		}
		line(2, "ours", fmt.Sprintf("dkim=%v spf=%v helo=%v", row.Ours.DKIM, row.Ours.SPF, row.Ours.HELO), row.Ours.Disagreement.String())
	}
}

func describeFailure(line func(int, ...string), r *dmarc.FailureReport) {
	line(0, "failure by", r.ReporterDomain, "about", r.ReportedDomain, flagged(r.Flags.Names()))
	source := ""
	if r.SourceIP.IsValid() {
		source = r.SourceIP.String()
	}
	sender := pair("mail_from", r.MailFrom)
	if r.NullSender {
		sender = "mail_from=<>"
	}
	line(1, r.FeedbackType, strings.Join(r.AuthFailure, ","), quoted("agent", r.UserAgent), pair("version", r.Version), pair("source", source), sender, fmt.Sprintf("incidents=%d", r.Incidents))
	line(1, "arrival", r.Arrival.Format(time.RFC3339), "from", r.ArrivalSource, pair("delivery", r.Delivery), quoted("word", r.DeliveryWord), quoted("identity_alignment", r.IdentityAlign))
	for _, h := range r.Headers {
		line(2, h.Name+":", h.Value)
	}
	for _, p := range r.Body {
		line(2, "part", p.MediaType, fmt.Sprintf("%d bytes", p.Size))
	}
	for _, h := range r.Other {
		line(2, "other", h.Name+":", h.Value)
	}
}

func describeTLS(line func(int, ...string), r *dmarc.TLSReport) {
	line(0, "tls", strconv.Quote(r.ID), "by", strconv.Quote(r.OrgName), "<"+r.Contact+">", "about", r.Domain, flagged(r.Flags.Names()))
	line(1, "period", r.Period.Begin.Format(time.RFC3339), r.Period.End.Format(time.RFC3339))
	for _, p := range r.Policies {
		line(1, "policy", p.Type, p.Domain, quoted("strings", strings.Join(p.Strings, " | ")), quoted("mx", strings.Join(p.MXHosts, " ")), fmt.Sprintf("successful=%d failed=%d", p.Successful, p.Failed))
		for _, d := range p.Details {
			line(2, d.ResultType, pair("from", d.SendingMTAIP), pair("to", d.ReceivingMXHost), pair("at", d.ReceivingIP), fmt.Sprintf("sessions=%d", d.FailedSessions))
		}
	}
}
