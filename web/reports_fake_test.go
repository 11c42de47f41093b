package web

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// singles are what a fake knows of single reports.
type singles struct {
	rows     map[string][]dmarc.Row // by report
	others   map[string][]dmarc.ReportSummary
	text     map[string]string
	failed   []dmarc.StoredFailure
	tls      []dmarc.StoredTLS
	noRole   bool     // nobody may read failure reports
	readings []string // of failure reports: ID, and whether whole
}

func (f *fake) Reports(_ context.Context, q dmarc.ReportQuery) ([]dmarc.ReportSummary, dmarc.Cursor, error) {
	if f.err != nil {
		return nil, "", f.err
	}
	var all []dmarc.ReportSummary
	for _, d := range f.all {
		if q.Domain != "" && d.name != q.Domain {
			continue
		}
		for _, r := range d.reports {
			b := r.Report.Period.Begin
			if !b.Before(q.Period.Begin) && b.Before(q.Period.End) && (q.Reporter == "" || r.Report.Reporter.OrgName == q.Reporter) && !(q.Inactive && r.Active) &&
				(q.Flags == 0 || r.Report.Flags&q.Flags != 0) && (q.Aligned != dmarc.No || r.Report.Tally.DMARCPass < r.Report.Tally.Messages) &&
				(q.Disposition != dmarc.DispositionReject || r.Report.Tally.Reject > 0) && (!q.Source.IsValid() || f.sent(r.ID, q.Source)) {
				all = append(all, r)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b dmarc.ReportSummary) int {
		s, t := a.Report.Tally, b.Report.Tally
		switch q.Sort {
		case "-messages":
			return cmp.Compare(t.Messages, s.Messages)
		case "-failed":
			return cmp.Compare(t.Messages-t.DMARCPass, s.Messages-s.DMARCPass)
		}
		return b.Report.Period.Begin.Compare(a.Report.Period.Begin)
	})
	return pageOf(all, q.Page)
}

// sent tells whether a report has a row of an address in a network.
func (f *fake) sent(id string, network netip.Prefix) bool {
	return slices.ContainsFunc(f.rows[id], func(r dmarc.Row) bool { return network.Contains(r.Source) })
}

func (f *fake) Report(_ context.Context, id string) (dmarc.ReportSummary, error) {
	if f.err != nil {
		return dmarc.ReportSummary{}, f.err
	}
	for _, d := range f.all {
		for _, r := range d.reports {
			if r.ID == id {
				return r, nil
			}
		}
	}
	return dmarc.ReportSummary{}, dmarc.ErrNotFound
}

func (f *fake) Alternatives(_ context.Context, id string, page dmarc.Page) ([]dmarc.ReportSummary, dmarc.Cursor, error) {
	return pageOf(f.others[id], page)
}

func (f *fake) ReportRows(_ context.Context, q dmarc.RowQuery) (dmarc.RowList, dmarc.Cursor, error) {
	var list dmarc.RowList
	var all []dmarc.Row
	for _, r := range f.rows[q.Report] {
		stopped := r.Disposition == dmarc.DispositionQuarantine || r.Disposition == dmarc.DispositionReject
		if q.Choice == dmarc.RowsPassed && !r.Passes() || q.Choice == dmarc.RowsFailed && r.Passes() || q.Choice == dmarc.RowsStopped && !stopped ||
			q.Choice == dmarc.RowsOdd && r.Flags == 0 && r.Ours.Disagreement == 0 || q.Source.IsValid() && !q.Source.Contains(r.Source) {
			continue
		}
		all = append(all, r)
		list.Rows++
		list.Messages += r.Count
	}
	slices.SortStableFunc(all, func(a, b dmarc.Row) int {
		busiest := cmp.Compare(b.Count, a.Count)
		switch q.Order {
		case dmarc.RowsBusiest:
			return busiest
		case dmarc.RowsBySource:
			return a.Source.Compare(b.Source)
		case dmarc.RowsFailing:
			return cmp.Or(cmp.Compare(passes(a), passes(b)), busiest)
		}
		return 0
	})
	var next dmarc.Cursor
	var err error
	list.Items, next, err = pageOf(all, q.Page)
	return list, next, err
}

func passes(r dmarc.Row) int {
	if r.Passes() {
		return 1
	}
	return 0
}

func (f *fake) Failures(_ context.Context, q dmarc.FailureQuery) ([]dmarc.StoredFailure, dmarc.Cursor, error) {
	if f.noRole {
		return nil, "", dmarc.ErrForbidden
	}
	var all []dmarc.StoredFailure
	for _, x := range f.failed {
		if (q.Domain == "" || x.Report.ReportedDomain == q.Domain) && (!q.Source.IsValid() || q.Source.Contains(x.Report.SourceIP)) && q.Period.Contains(x.Report.Arrival) {
			all = append(all, x)
		}
	}
	return pageOf(all, q.Page)
}

func (f *fake) Failure(_ context.Context, id string, whole bool) (dmarc.StoredFailure, error) {
	if f.noRole {
		return dmarc.StoredFailure{}, dmarc.ErrForbidden
	}
	for _, x := range f.failed {
		if x.ID == id {
			f.mu.Lock()
			f.readings = append(f.readings, fmt.Sprint(id, whole))
			f.mu.Unlock()
			if !whole {
				x.Report = *x.Report.Masked()
			}
			return x, nil
		}
	}
	return dmarc.StoredFailure{}, dmarc.ErrNotFound
}

func (f *fake) TLS(_ context.Context, q dmarc.TLSQuery) ([]dmarc.StoredTLS, dmarc.Cursor, error) {
	var all []dmarc.StoredTLS
	for _, x := range f.tls {
		if (q.Domain == "" || x.Report.Domain == q.Domain) && q.Period.Contains(x.Report.Period.Begin) {
			all = append(all, x)
		}
	}
	return pageOf(all, q.Page)
}

func (f *fake) TLSReport(_ context.Context, id string) (dmarc.StoredTLS, error) {
	for _, x := range f.tls {
		if x.ID == id {
			return x, nil
		}
	}
	return dmarc.StoredTLS{}, dmarc.ErrNotFound
}

func (f *fake) TLSTraffic(ctx context.Context, q dmarc.TLSQuery) (dmarc.TLSTraffic, error) {
	var t dmarc.TLSTraffic
	q.Page = dmarc.Page{Limit: 1 << 30}
	all, _, err := f.TLS(ctx, q)
	type kind struct{ result, mx string }
	days, policies, failures := map[int64]*dmarc.TLSDay{}, map[kind]*dmarc.TLSPolicyTraffic{}, map[kind]*dmarc.TLSFailureTraffic{}
	for _, x := range all {
		t.Reports++
		at := x.Report.Period.Begin.Truncate(aDay)
		d := days[at.Unix()]
		if d == nil {
			d = &dmarc.TLSDay{Day: at, ByResult: map[string]int64{}}
			days[at.Unix()] = d
		}
		for _, p := range x.Report.Policies {
			d.Successful, d.Failed = d.Successful+p.Successful, d.Failed+p.Failed
			t.Successful, t.Failed = t.Successful+p.Successful, t.Failed+p.Failed
			k := kind{p.Type, p.Domain}
			if policies[k] == nil {
				policies[k] = &dmarc.TLSPolicyTraffic{Type: p.Type, Domain: p.Domain, Strings: p.Strings, LastDay: at}
			}
			policies[k].Successful, policies[k].Failed = policies[k].Successful+p.Successful, policies[k].Failed+p.Failed
			for _, e := range p.Details {
				result := e.ResultType
				if !slices.Contains(dmarc.TLSResults, result) {
					result = ""
				}
				d.ByResult[result] += e.FailedSessions
				k := kind{e.ResultType, e.ReceivingMXHost}
				if failures[k] == nil {
					failures[k] = &dmarc.TLSFailureTraffic{ResultType: e.ResultType, MX: e.ReceivingMXHost, Reporters: 1, FirstDay: at, LastDay: at, Reason: e.AdditionalInfo}
				}
				failures[k].Sessions += e.FailedSessions
				if at.Before(failures[k].FirstDay) {
					failures[k].FirstDay = at
				}
			}
		}
	}
	for _, d := range days {
		t.Days = append(t.Days, *d)
	}
	slices.SortFunc(t.Days, func(a, b dmarc.TLSDay) int { return a.Day.Compare(b.Day) })
	for _, p := range policies {
		t.Policies = append(t.Policies, *p)
	}
	slices.SortFunc(t.Policies, func(a, b dmarc.TLSPolicyTraffic) int {
		return cmp.Or(cmp.Compare(b.Successful, a.Successful), cmp.Compare(a.Type, b.Type))
	})
	for _, e := range failures {
		t.Failures = append(t.Failures, *e)
	}
	slices.SortFunc(t.Failures, func(a, b dmarc.TLSFailureTraffic) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions), cmp.Compare(a.ResultType+a.MX, b.ResultType+b.MX))
	})
	return t, err
}

func (f *fake) TLSDomains(ctx context.Context, q dmarc.TLSQuery) ([]dmarc.TLSDomain, dmarc.Cursor, error) {
	if f.err != nil {
		return nil, "", f.err
	}
	var all []dmarc.TLSDomain
	for _, d := range f.all {
		t, _ := f.TLSTraffic(ctx, dmarc.TLSQuery{Domain: d.name, Period: q.Period})
		if t.Reports > 0 {
			all = append(all, dmarc.TLSDomain{Domain: d.name, Reports: t.Reports, Successful: t.Successful, Failed: t.Failed, LastDay: t.Days[len(t.Days)-1].Day})
		}
	}
	slices.SortFunc(all, func(a, b dmarc.TLSDomain) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), cmp.Compare(a.Domain, b.Domain))
	})
	return pageOf(all, q.Page)
}

// texts opens the reports of a fake as they came.
type texts struct{ store Store }

func (t texts) ReportText(_ context.Context, id string) (io.ReadCloser, error) {
	if f, ok := t.store.(*fake); ok && f.text[id] != "" {
		return io.NopCloser(strings.NewReader(f.text[id])), nil
	}
	return nil, dmarc.ErrNotFound
}

func (t texts) TLSText(ctx context.Context, id string) (io.ReadCloser, error) {
	return t.ReportText(ctx, id)
}

// withReports adds to a fake a report of n rows about its first domain, an other
// content of it, failure reports and TLS reports. What strangers write is evil.
func withReports(f *fake, n int, evil string) (*fake, string) {
	d := &f.all[0]
	rep := &d.reports[0]
	id := rep.ID
	rep.Report.Policy = dmarc.PolicyPublished{Domain: d.name, P: dmarc.PolicyQuarantine, SP: dmarc.PolicyReject, ADKIM: dmarc.AlignmentRelaxed, ASPF: dmarc.AlignmentStrict, DiscoveryMethod: "treewalk"}
	rep.Report.Flags = dmarc.FlagRowFlags | dmarc.FlagUnknownWords | dmarc.FlagOverlaps | dmarc.FlagAlias
	rep.Report.Generator, rep.Report.Version, rep.Report.Namespace = "reporter 4.2"+evil, "1.0", "urn:ietf:params:xml:ns:dmarc-2.0"
	rep.Report.Errors = []string{"two records at _dmarc" + evil}
	rep.Report.Reporter.ExtraContact = "https://reporter.example/dmarc" + evil
	rep.Part, rep.Seen, rep.MessageID = "2/report.xml.gz"+evil, 2, 871
	own := dmarc.SPFResult{Domain: "bounce." + d.name, Scope: "mfrom", Result: dmarc.ResultPass}
	good := dmarc.DKIMResult{Domain: d.name, Selector: "k1", Result: dmarc.ResultPass}
	all := []dmarc.Row{
		{DKIM: dmarc.ResultPass, SPF: dmarc.ResultFail, AuthDKIM: []dmarc.DKIMResult{good}, AuthSPF: []dmarc.SPFResult{own}, EnvelopeFrom: own.Domain},
		{DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionQuarantine, AuthDKIM: []dmarc.DKIMResult{{Domain: "newsbird.example" + evil, Selector: "s2" + evil, Result: dmarc.ResultPass, Human: evil}},
			AuthSPF: []dmarc.SPFResult{{Domain: "newsbird.example" + evil, Result: dmarc.ResultPass, Human: evil}}, EnvelopeTo: "there.example" + evil},
		{DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail, AuthSPF: []dmarc.SPFResult{{Domain: d.name, Result: dmarc.ResultSoftFail}},
			AuthDKIM: []dmarc.DKIMResult{{Domain: d.name, Selector: "k1", Result: dmarc.ResultFail, Human: "body hash did not verify" + evil}},
			Reasons:  []dmarc.Reason{{Type: "local_policy", Comment: "arc=pass" + evil}, {Type: "odd" + evil, Comment: evil}}},
		{DKIM: dmarc.ResultFail, SPF: dmarc.ResultFail, Disposition: dmarc.DispositionReject, HeaderFrom: "shop." + d.name, NullSender: true, Flags: dmarc.RowUnknownWords,
			AuthSPF: []dmarc.SPFResult{{Domain: "mx.elsewhere.example", Scope: "helo", Result: dmarc.ResultUnknown, Word: "maybe" + evil}}},
		{DispositionWord: "odd" + evil, SourceText: "nowhere" + evil, Flags: dmarc.RowNoSource | dmarc.RowNoResult, Ours: dmarc.Alignment{Disagreement: dmarc.VerdictMissing}},
		{DKIM: dmarc.ResultPass, SPF: dmarc.ResultPass, Disposition: dmarc.DispositionReject, Ours: dmarc.Alignment{Disagreement: dmarc.PassWithoutProof}, Reasons: []dmarc.Reason{{Type: "forwarded"}}},
	}
	var rows []dmarc.Row
	var tally dmarc.Tally
	for i := range n {
		r := all[i%len(all)].Clone()
		r.Count = int64(1 + (n-i)*13%977)
		if r.SourceText == "" {
			r.Source = netip.AddrFrom4([4]byte{203, 0, byte(113 + i>>8), byte(i)})
			if i%9 == 4 {
				r.Source = netip.MustParseAddr(fmt.Sprintf("2001:db8:85a3:8d3:1319:8a2e:370:%x", i))
			}
		}
		if r.HeaderFrom == "" {
			r.HeaderFrom = d.name
		}
		if r.Disposition == 0 && r.DispositionWord == "" {
			r.Disposition = dmarc.DispositionNone
		}
		rows = append(rows, r)
		tally.Add(&r)
	}
	rep.Report.Tally = tally
	f.rows = map[string][]dmarc.Row{id: rows}
	other := *rep
	other.ID, other.Active, other.Report.Tally = id+"b", false, dmarc.Tally{Rows: 3, Messages: 100, DMARCPass: 90, None: 100}
	other.ReceivedAt = other.ReceivedAt.Add(-aDay)
	d.reports = slices.Insert(d.reports, 1, other)
	f.others = map[string][]dmarc.ReportSummary{id: {other}, other.ID: {d.reports[0]}}
	f.text = map[string]string{id: "<?xml version=\"1.0\"?>\n<feedback>\n\t<report_metadata>\n\t\t<org_name>" + evil + "</org_name>\n" + strings.Repeat("\t<record/>\n", n) + "</feedback>\n"}
	for i := range min(n, 120) {
		x := dmarc.StoredFailure{ID: fmt.Sprintf("7-%d", i), ReceivedAt: now, Seen: 1 + int64(i%2), MessageID: int64(400 + i), Report: dmarc.FailureReport{
			ReporterDomain: "reporter.example" + evil, FeedbackType: "auth-failure", AuthFailure: []string{"dmarc", "bodyhash", "odd" + evil}, Delivery: "reject",
			UserAgent: "ua" + evil, Arrival: now.Add(-aDay * 2), SourceIP: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), ReportedDomain: d.name,
			MailFrom: "anna.secret@" + d.name + evil, RcptTo: []string{"bob.secret@there.example" + evil}, Incidents: int64(1 + i%3), ReportingMTA: "mx" + evil,
			AuthResults: []string{"mx.there.example; spf=fail smtp.mailfrom=anna.secret@" + d.name + evil}, DKIMDomain: d.name, DKIMIdentity: "anna.secret@" + d.name, DKIMSelector: "k1" + evil,
			SPFRecords: []string{"v=spf1 -all" + evil}, ReportedURIs: []string{"https://secret.example/" + evil}, IdentityAlign: "none" + evil, EnvelopeID: "secret" + evil,
			Headers: []dmarc.HeaderField{{Name: "From", Value: "Anna Secret <anna.secret@" + d.name + ">"}, {Name: "Subject", Value: "my secret" + evil}, {Name: "Date", Value: "Mon, 23 Nov 2026 10:00:00 +0000"},
				{Name: "X" + evil, Value: "secret" + evil}, {Name: "List-Unsubscribe", Value: "<https://secret.example/token>"}},
			Body:  []dmarc.SamplePart{{MediaType: "text/plain" + evil, Size: 812}},
			Other: []dmarc.HeaderField{{Name: "Odd" + evil, Value: "secret" + evil}}, Flags: dmarc.FlagMissingFields,
		}}
		f.failed = append(f.failed, x)
	}
	for i := range min(n, 26) {
		begin := today().AddDate(0, 0, -1-i)
		if i == 9 || i == 10 {
			continue // nobody reported
		}
		bad := int64(0)
		if i < 6 {
			bad = int64(40 - i*4)
		}
		t := dmarc.TLSReport{OrgName: "google.com" + evil, Contact: "tls@google.com" + evil, ID: fmt.Sprintf("2026-11-%02dT00:00:00Z%s", i, evil), Domain: d.name,
			Period: dmarc.Period{Begin: begin, End: begin.Add(aDay - time.Second)}, Policies: []dmarc.TLSPolicy{
				{Type: "sts", Domain: d.name, Strings: []string{"version: STSv1", "mode: enforce", "mx: *." + d.name, "max_age: 604800" + evil}, Successful: 900 + int64(i*7%90), Failed: bad + 2,
					MXHosts: []string{"*." + d.name, "mx3.example" + evil},
					Details: []dmarc.TLSFailure{{ResultType: "certificate-expired", ReceivingMXHost: "mx2." + d.name, FailedSessions: bad,
						SendingMTAIP: "192.0.2.9" + evil, ReceivingIP: "203.0.113.25" + evil, ReceivingMXHELO: "mail2." + d.name + evil, FailureReasonCode: "X509_V_ERR_CERT_HAS_EXPIRED" + evil}, {ResultType: "odd" + evil, ReceivingMXHost: "mx1" + evil, FailedSessions: 2, AdditionalInfo: "see log" + evil}}},
				{Type: "tlsa", Domain: d.name, Strings: []string{"3 1 1 0d6fce3d"}, Successful: 300, Failed: 1, Details: []dmarc.TLSFailure{{ResultType: "tlsa-invalid", ReceivingMXHost: "mx1." + d.name, FailedSessions: 1}}},
				{Type: "odd" + evil, Domain: "", Successful: 3},
			}}
		f.tls = append(f.tls, dmarc.StoredTLS{ID: fmt.Sprintf("9-%d", i), Report: t, Active: true, ReceivedAt: now, Seen: 1, MessageID: 872, Part: "2/report.json.gz" + evil})
	}
	f.text["9-0"] = `{"organization-name": "` + evil + `", "policies": []}`
	return f, id
}
