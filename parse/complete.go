package parse

import (
	"context"
	"errors"
	"io"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// hints are what is known of a report from around it.
type hints struct {
	FileName, Subject, MailFrom string
}

// readAggregate reads a report whole, fills in what is missing from the hints,
// and makes its rows available any number of times. If the text is no XML, it
// is tried once more by looser rules. Open may be called at any later time.
func readAggregate(ctx context.Context, open func() (io.ReadCloser, error), limits Limits, h hints) (*dmarc.AggregateReport, error) {
	rep, err := readOnce(ctx, open, limits, h, false)
	if errors.Is(err, &dmarc.Error{Outcome: dmarc.OutcomeBadXML}) {
		if loose, err2 := readOnce(ctx, open, limits, h, true); err2 == nil {
			loose.Flags |= dmarc.FlagStrayMarkup
			return loose, nil
		}
	}
	return rep, err
}

func readOnce(ctx context.Context, open func() (io.ReadCloser, error), limits Limits, h hints, lenient bool) (*dmarc.AggregateReport, error) {
	src, err := open()
	if err != nil {
		return nil, err
	}
	defer src.Close()
	r := newAggregateReader(src, limits, lenient)
	defer r.Close()
	var kept kept
	author, n := "", 0
	for row, err := range r.Rows() {
		if err != nil {
			return nil, err
		}
		n++
		if n == 1 {
			author = row.HeaderFrom
		}
		kept.add(row, r.hash)
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	rep, err := r.End()
	if err != nil {
		return nil, err
	}
	if err := complete(rep, h, author); err != nil {
		return nil, err
	}
	if !kept.over {
		rep.Rows = kept.judged(rep.Policy)
		return rep, nil
	}
	rows := func(yield func(*dmarc.Row, error) bool) {
		src, err := open()
		if err != nil {
			yield(nil, err)
			return
		}
		defer src.Close()
		again := newAggregateReader(src, limits, lenient)
		defer again.Close()
		for row, err := range again.Rows() {
			if !yield(row, err) {
				return
			}
		}
	}
	rep.Rows = judged(rows, rep.Policy)
	return rep, nil
}

// judged adds our own verdict to rows.
func judged(rows iter.Seq2[*dmarc.Row, error], policy dmarc.PolicyPublished) iter.Seq2[*dmarc.Row, error] {
	return func(yield func(*dmarc.Row, error) bool) {
		var aligner dmarc.Aligner
		for row, err := range rows {
			if err == nil {
				judge(&aligner, row, &policy)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// complete fills in what a report lacks from what is known around it, or says
// why it cannot be identified.
func complete(rep *dmarc.AggregateReport, h hints, author string) error {
	file := aggregateFileName(h.FileName)
	if rep.Policy.Domain == "" {
		rep.Policy.Domain = file.domain
		if rep.Policy.Domain == "" {
			if d, ok := domainName(subjectValue(h.Subject, "report domain")); ok {
				rep.Policy.Domain = d
			}
		}
		if rep.Policy.Domain == "" {
			rep.Policy.Domain = dmarc.OrganizationalDomain(author)
		}
		if rep.Policy.Domain == "" {
			return &dmarc.Error{Outcome: dmarc.OutcomeMissing, Reason: "no policy domain: not in policy_published/domain, the file name, the subject or the rows"}
		}
		rep.Flags |= dmarc.FlagDomainDerived
	}
	if rep.Period.Begin.IsZero() || rep.Period.End.IsZero() {
		if file.begin.IsZero() || file.end.IsZero() {
			return &dmarc.Error{Outcome: dmarc.OutcomeMissing, Reason: "no period: date_range lacks begin or end, and the file name does not tell it"}
		}
		rep.Period = dmarc.Period{Begin: file.begin, End: file.end}
		rep.Flags |= dmarc.FlagPeriodDerived
	} else if !file.begin.IsZero() && (!file.begin.Equal(rep.Period.Begin) || !sameEnd(file.end, rep.Period.End)) {
		rep.Flags |= dmarc.FlagPeriodDiffers
	}
	if rep.Reporter.OrgName == "" {
		for _, name := range []string{dmarc.AddressDomain(rep.Reporter.Email), file.receiver, dmarc.AddressDomain(h.MailFrom)} {
			if name != "" {
				rep.Reporter.OrgName = name
				break
			}
		}
		if rep.Reporter.OrgName == "" {
			return &dmarc.Error{Outcome: dmarc.OutcomeMissing, Reason: "no reporter: org_name and email are missing, and neither file name nor mail tells who sent it"}
		}
		rep.Flags |= dmarc.FlagOrgNameDerived
	}
	if rep.ID == "" {
		rep.Flags |= dmarc.FlagReportIDDerived
		if rep.ID, _ = cut(cleanText(subjectValue(h.Subject, "report-id")), maxID); rep.ID == "" {
			rep.ID = "hash:" + rep.Hash.String()
		}
	}
	return nil
}

// sameEnd compares ends, one of which may be inclusive.
func sameEnd(a, b time.Time) bool {
	d := a.Sub(b)
	return d >= -time.Second && d <= time.Second
}

// reportFile is what the name of a file tells.
type reportFile struct {
	receiver, domain string
	begin, end       time.Time
}

func aggregateFileName(name string) (f reportFile) {
	receiver, domain, begin, end := reportFileName(path.Base(strings.ReplaceAll(name, `\`, "/")))
	if begin.IsZero() {
		return f
	}
	f.begin, f.end = begin, end
	if d, ok := domainName(receiver); ok {
		f.receiver = d
	}
	if d, ok := domainName(domain); ok {
		f.domain = d
	}
	return f
}
