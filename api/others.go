package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// FailureItem is a failure report. Local parts of addresses are masked.
type FailureItem struct {
	ID             string    `json:"id"`
	ReportedDomain string    `json:"reported_domain"`
	Arrival        time.Time `json:"arrival"`
	ReceivedAt     time.Time `json:"received_at"`
	Reporter       *string   `json:"reporter" doc:"domain of the reporter"`
	SourceIP       *string   `json:"source_ip"`
	AuthFailure    []string  `json:"auth_failure" nullable:"false"`
	Delivery       *string   `json:"delivery_result"`
	MailFrom       *string   `json:"mail_from" doc:"local part masked; empty for the null sender"`
	Incidents      int64     `json:"incidents" doc:"messages this report stands for, at least"`
	Flags          []string  `json:"flags" nullable:"false"`
	Seen           int64     `json:"seen"`
}

func (a *API) failures(ctx context.Context, in *struct {
	Period
	Page
	OfDomain
	FromSource
	Reporter string `query:"reporter" maxLength:"255" doc:"only what this reporter tells: its domain"`
	Sort     string `query:"sort" enum:"arrival,-arrival" default:"-arrival" doc:"the first or the last first"`
}) (*List[FailureItem], error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.store.Failures(ctx, dmarc.FailureQuery{
		Domain: aLabel(in.OfDomain.Domain), Filter: dmarc.Filter{Subdomains: in.Subdomains, Reporter: in.Reporter, Source: in.prefix},
		Period: in.period(in.at), Page: in.sorted(in.Sort),
	})
	if err != nil {
		return nil, a.problem(err, "listing failure reports")
	}
	return listOf(list, next, func(f *dmarc.StoredFailure) FailureItem {
		item := FailureItem{
			ID: f.ID, ReportedDomain: f.Report.ReportedDomain, Arrival: f.Report.Arrival, ReceivedAt: f.ReceivedAt, Reporter: orNull(f.Report.ReporterDomain),
			AuthFailure: append([]string{}, f.Report.AuthFailure...), Delivery: orNull(f.Report.Delivery), MailFrom: orNull(masked(f.Report.MailFrom)),
			Incidents: f.Report.Incidents, Flags: f.Report.Flags.Names(), Seen: f.Seen,
		}
		if f.Report.SourceIP.IsValid() {
			item.SourceIP = orNull(f.Report.SourceIP.String())
		}
		if f.Report.NullSender {
			item.MailFrom = new(string)
		}
		return item
	}), nil
}

// masked hides the local part of an address.
func masked(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return ""
	}
	return "…" + address[i:]
}

// TLSItem is an SMTP TLS report.
type TLSItem struct {
	ID         string          `json:"id"`
	Domain     string          `json:"domain"`
	OrgName    string          `json:"org_name"`
	ReportID   string          `json:"report_id"`
	Begin      time.Time       `json:"begin"`
	End        time.Time       `json:"end"`
	ReceivedAt time.Time       `json:"received_at"`
	Totals     TLSTotals       `json:"totals" doc:"sums over policies: a session may be counted under several"`
	Policies   []TLSPolicyItem `json:"policies" nullable:"false"`
	Flags      []string        `json:"flags" nullable:"false"`
	Seen       int64           `json:"seen"`
	Contact    *string         `json:"contact_info"`
	Active     bool            `json:"active" doc:"false if another report of the same identity counts instead; lists have those that count"`
	Counting   *string         `json:"counting_id" doc:"the id of the report that counts instead"`
}

// TLSTotals counts sessions.
type TLSTotals struct {
	Successful int64 `json:"successful_sessions"`
	Failed     int64 `json:"failed_sessions"`
}

// TLSPolicyItem is how sessions under one policy fared.
type TLSPolicyItem struct {
	Type     string           `json:"policy_type"`
	Domain   string           `json:"policy_domain"`
	Strings  []string         `json:"policy_string" nullable:"false"`
	MXHosts  []string         `json:"mx_host" nullable:"false"`
	Totals   TLSTotals        `json:"totals"`
	Failures []TLSFailureItem `json:"failure_details" nullable:"false"`
}

// TLSFailureItem is a kind of failure.
type TLSFailureItem struct {
	ResultType     string  `json:"result_type"`
	FailedSessions int64   `json:"failed_sessions"`
	ReceivingMX    *string `json:"receiving_mx_hostname"`
	ReceivingHELO  *string `json:"receiving_mx_helo"`
	SendingMTAIP   *string `json:"sending_mta_ip"`
	ReceivingIP    *string `json:"receiving_ip"`
	ReasonCode     *string `json:"failure_reason_code"`
	Info           *string `json:"additional_information"`
}

func (a *API) tls(ctx context.Context, in *struct {
	Period
	Page
	OfDomain
	ByReporter
	Failing bool   `query:"failing" doc:"only those with failed sessions"`
	Sort    string `query:"sort" enum:"begin,-begin" default:"-begin" doc:"the first or the last first"`
}) (*List[TLSItem], error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.store.TLS(ctx, dmarc.TLSQuery{
		Domain: aLabel(in.OfDomain.Domain), Subdomains: in.Subdomains, Reporter: in.Reporter, Failing: in.Failing, Period: in.period(in.at), Page: in.sorted(in.Sort),
	})
	if err != nil {
		return nil, a.problem(err, "listing TLS reports")
	}
	return listOf(list, next, tlsItem), nil
}

func tlsItem(t *dmarc.StoredTLS) TLSItem {
	rep := &t.Report
	ok, failed := rep.Sessions()
	item := TLSItem{ID: t.ID, Domain: rep.Domain, OrgName: rep.OrgName, Contact: orNull(rep.Contact), ReportID: rep.ID, Begin: rep.Period.Begin, End: rep.Period.End,
		ReceivedAt: t.ReceivedAt, Totals: TLSTotals{ok, failed}, Policies: []TLSPolicyItem{}, Flags: rep.Flags.Names(), Seen: t.Seen, Active: t.Active, Counting: orNull(t.Counting)}
	for _, p := range rep.Policies {
		pi := TLSPolicyItem{Type: p.Type, Domain: p.Domain, Strings: append([]string{}, p.Strings...), MXHosts: append([]string{}, p.MXHosts...),
			Totals: TLSTotals{p.Successful, p.Failed}, Failures: []TLSFailureItem{}}
		for _, f := range p.Details {
			pi.Failures = append(pi.Failures, TLSFailureItem{f.ResultType, f.FailedSessions, orNull(f.ReceivingMXHost), orNull(f.ReceivingMXHELO), orNull(f.SendingMTAIP),
				orNull(f.ReceivingIP), orNull(f.FailureReasonCode), orNull(f.AdditionalInfo)})
		}
		item.Policies = append(item.Policies, pi)
	}
	return item
}

func (a *API) tlsReport(ctx context.Context, in *struct{ ID }) (*struct{ Body TLSItem }, error) {
	t, err := a.store.TLSReport(ctx, in.ID.ID)
	if err != nil {
		return nil, a.problem(err, "reading a TLS report")
	}
	return &struct{ Body TLSItem }{tlsItem(&t)}, nil
}

// MessageItem is a line of the ledger.
type MessageItem struct {
	ID         int64             `json:"id"`
	Mailbox    string            `json:"mailbox"`
	UID        *uint32           `json:"uid" doc:"in the IMAP mailbox; null for files"`
	File       *string           `json:"file"`
	SHA256     string            `json:"sha256"`
	Size       int64             `json:"size"`
	MessageID  *string           `json:"message_id"`
	From       *string           `json:"from"`
	Subject    *string           `json:"subject"`
	Date       *time.Time        `json:"date"`
	ReceivedAt time.Time         `json:"received_at"`
	Outcome    string            `json:"outcome"`
	Reason     *string           `json:"reason"`
	Parts      []MessagePartItem `json:"parts" nullable:"false"`

	TransportAuth   string  `json:"transport_auth" enum:"pass,fail,unknown" doc:"whether the mail is authentic: pass, fail or unknown"`
	TransportReason *string `json:"transport_reason" doc:"why; null if it was not, or not yet, looked into"`
}

// MessagePartItem is what was found in a part of a message.
type MessagePartItem struct {
	Path    string  `json:"path"`
	Kind    string  `json:"kind"`
	Report  *string `json:"report" doc:"id of the stored report"`
	Outcome string  `json:"outcome"`
	Reason  *string `json:"reason"`
}

func (a *API) messages(ctx context.Context, in *struct {
	Page
	Sometime
	OfDomain
	Mailbox string `query:"mailbox" maxLength:"512" doc:"name of the mailbox; import, upload, smtp, tlsrpt and directory for what comes another way"`
	Outcome string `query:"outcome" maxLength:"64" doc:"only messages with this outcome"`
	Sort    string `query:"sort" enum:"id,-id" default:"-id" doc:"by number, which grows as messages are taken in"`
}) (*List[MessageItem], error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.store.Messages(ctx, dmarc.MessageQuery{
		Mailbox: in.Mailbox, Outcome: dmarc.Outcome(in.Outcome), Domain: aLabel(in.OfDomain.Domain), Subdomains: in.Subdomains,
		Period: in.Sometime.period, Page: in.sorted(in.Sort),
	})
	if err != nil {
		return nil, a.problem(err, "listing messages")
	}
	return listOf(list, next, func(e *dmarc.LedgerEntry) MessageItem {
		item := MessageItem{ID: e.ID, Mailbox: e.Mailbox, File: orNull(e.Source), SHA256: e.Digest.String(), Size: e.Size, MessageID: orNull(e.MessageID),
			From: orNull(e.From), Subject: orNull(e.Subject), ReceivedAt: e.ReceivedAt, Outcome: string(e.Outcome), Reason: orNull(e.Reason), Parts: []MessagePartItem{},
			TransportAuth: e.Transport.Auth.String(), TransportReason: orNull(e.Transport.Reason)}
		if e.Place.UID != 0 {
			item.UID = &e.Place.UID
		}
		if !e.Date.IsZero() {
			item.Date = &e.Date
		}
		for _, p := range e.Reports {
			item.Parts = append(item.Parts, MessagePartItem{p.Path, p.Kind, orNull(p.Report), string(p.Outcome), orNull(p.Reason)})
		}
		return item
	}), nil
}

// UploadResult is what became of an upload.
type UploadResult struct {
	Status int
	Body   struct {
		Message   int64   `json:"message" doc:"number of the message in the ledger"`
		Outcome   string  `json:"outcome"`
		Reason    *string `json:"reason"`
		Added     int     `json:"added" doc:"reports"`
		Duplicate int     `json:"duplicate" doc:"reports"`
		Conflict  int     `json:"conflict" doc:"reports"`
		Refused   int     `json:"refused" doc:"reports"`
		Rows      int64   `json:"rows"`
	}
}

// Upload is the body of a request, unread.
type Upload struct {
	Name string `query:"filename" maxLength:"512" doc:"name of the file; helps where the report itself lacks something"`
	body io.Reader
}

// Resolve takes hold of the body.
func (u *Upload) Resolve(ctx huma.Context) []error {
	u.body = ctx.BodyReader()
	return nil
}

func (a *API) upload(ctx context.Context, in *Upload) (*UploadResult, error) {
	fate, err := a.intake.Take(ctx, dmarc.MailboxUpload, in.Name, io.LimitReader(in.body, a.opts.MaxUpload+1))
	if err != nil {
		return nil, a.problem(err, "taking in an upload")
	}
	switch {
	case fate.Outcome == dmarc.OutcomeTooLarge || fate.Outcome == dmarc.OutcomeBomb:
		return nil, huma.NewError(http.StatusRequestEntityTooLarge, fmt.Sprintf("%s: %s", fate.Outcome, fate.Reason))
	case !fate.Outcome.Read():
		return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("%s: %s", fate.Outcome, fate.Reason))
	}
	out := &UploadResult{Status: http.StatusCreated}
	if fate.Known || fate.Added == 0 && fate.Conflict == 0 {
		out.Status = http.StatusOK
		if fate.Known {
			fate.Outcome, fate.Reason = dmarc.OutcomeDuplicate, "this file was taken in before"
		}
	}
	b := &out.Body
	b.Message, b.Outcome, b.Reason, b.Rows = fate.MessageID, string(fate.Outcome), orNull(fate.Reason), fate.Rows
	b.Added, b.Duplicate, b.Conflict, b.Refused = fate.Added, fate.Duplicate, fate.Conflict, fate.Refused
	return out, nil
}
