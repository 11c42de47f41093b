package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dmarcd/dmarcd/dmarc"
)

// ReportItem is an aggregate report without its rows.
type ReportItem struct {
	ID           string    `json:"id" doc:"of the stored report"`
	Domain       string    `json:"domain" doc:"policy domain"`
	OrgName      string    `json:"org_name"`
	Email        *string   `json:"email"`
	ReportID     string    `json:"report_id" doc:"as the reporter names it"`
	Begin        time.Time `json:"begin"`
	End          time.Time `json:"end" doc:"as sent: inclusive for some reporters"`
	ReceivedAt   time.Time `json:"received_at"`
	Published    *Policy   `json:"published"`
	Totals       Totals    `json:"totals"`
	RowsDropped  int64     `json:"rows_dropped" doc:"rows that could not be read"`
	Flags        []string  `json:"flags" nullable:"false"`
	Errors       []string  `json:"errors" nullable:"false" doc:"what the reporter found wrong with the policy record"`
	Generator    *string   `json:"generator"`
	Active       bool      `json:"active" doc:"false if another report of the same identity counts instead"`
	Chosen       bool      `json:"chosen" doc:"it counts since an operator chose it"`
	Seen         int64     `json:"seen" doc:"how often it came"`
	Message      int64     `json:"message" doc:"number of the message in the ledger"`
	Part         string    `json:"part" doc:"where in the message it stood"`
	Transport    string    `json:"transport_auth" enum:"pass,fail,unknown" doc:"whether the mail that carried it is authentic"`
	ExtraContact *string   `json:"extra_contact_info"`
}

// DescribeReport returns what is told of a report.
func DescribeReport(r *dmarc.ReportSummary) ReportItem {
	rep := &r.Report
	return ReportItem{
		ID: r.ID, Domain: rep.Policy.Domain, OrgName: rep.Reporter.OrgName, Email: orNull(rep.Reporter.Email), ReportID: rep.ID,
		Begin: rep.Period.Begin, End: rep.Period.End, ReceivedAt: r.ReceivedAt, Published: policy(&rep.Policy), Totals: totals(rep.Tally),
		RowsDropped: rep.Dropped.Rows, Flags: rep.Flags.Names(), Errors: append([]string{}, rep.Errors...), Generator: orNull(rep.Generator),
		Active: r.Active, Chosen: r.Chosen, Seen: r.Seen, Message: r.MessageID, Part: r.Part, Transport: r.Transport.String(), ExtraContact: orNull(rep.Reporter.ExtraContact),
	}
}

func (a *API) reports(ctx context.Context, in *struct {
	Period
	Page
	OfDomain
	ByReporter
	FromSource
	WithMail
	OfClass
	Inactive bool   `query:"inactive" doc:"only those that do not count, since another content of the same identity does"`
	Sort     string `query:"sort" enum:"begin,-begin,messages,-messages,failed,-failed" default:"-begin" doc:"what the list is sorted by, after - the latest or greatest first; failed is messages that failed; all but begin need domain"`
}) (*List[ReportItem], error) {
	if by := strings.TrimPrefix(in.Sort, "-"); by != "begin" && in.OfDomain.Domain == "" {
		return nil, huma.Error422UnprocessableEntity("validation failed", &huma.ErrorDetail{Location: "query.sort", Message: "needs domain", Value: in.Sort})
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	list, next, err := a.store.Reports(ctx, dmarc.ReportQuery{
		Domain: aLabel(in.OfDomain.Domain), Filter: in.OfClass.of(in.WithMail.of(dmarc.Filter{Subdomains: in.Subdomains, Reporter: in.Reporter, Source: in.prefix})),
		Inactive: in.Inactive, Period: in.period(in.at), Page: in.sorted(in.Sort),
	})
	if err != nil {
		return nil, a.problem(err, "listing reports")
	}
	return listOf(list, next, DescribeReport), nil
}

// RowItem is a row of a report.
type RowItem struct {
	Source       *string      `json:"source_ip"`
	SourceText   *string      `json:"source_text,omitempty" doc:"what stood there, if it is no address"`
	Count        int64        `json:"count"`
	Disposition  *string      `json:"disposition"`
	DKIM         *string      `json:"dkim" doc:"aligned result"`
	SPF          *string      `json:"spf" doc:"aligned result"`
	Reasons      []ReasonItem `json:"reasons" nullable:"false"`
	HeaderFrom   *string      `json:"header_from"`
	EnvelopeFrom *string      `json:"envelope_from" doc:"empty for the null sender"`
	EnvelopeTo   *string      `json:"envelope_to"`
	AuthResults  struct {
		DKIM []AuthItem `json:"dkim" nullable:"false"`
		SPF  []AuthItem `json:"spf" nullable:"false"`
	} `json:"auth_results"`
	Ours struct {
		DKIM         bool    `json:"dkim"`
		SPF          bool    `json:"spf"`
		Disagreement *string `json:"disagreement"`
	} `json:"ours" doc:"alignment as recomputed from auth_results"`
	Flags []string `json:"flags" nullable:"false"`
}

// ReasonItem says why a disposition differs from the policy.
type ReasonItem struct {
	Type    string `json:"type"`
	Comment string `json:"comment"`
}

// AuthItem is a raw result.
type AuthItem struct {
	Domain   *string `json:"domain"`
	Selector *string `json:"selector,omitempty"`
	Scope    *string `json:"scope,omitempty"`
	Result   *string `json:"result"`
	Word     *string `json:"word,omitempty" doc:"as written, where it differs"`
	Human    *string `json:"human_result,omitempty"`
}

// DescribeRow returns what is told of a row.
func DescribeRow(r *dmarc.Row) RowItem {
	item := RowItem{
		Count: r.Count, SourceText: orNull(r.SourceText), Disposition: orNull(r.Disposition.String()), DKIM: orNull(r.DKIM.String()), SPF: orNull(r.SPF.String()),
		Reasons: []ReasonItem{}, HeaderFrom: orNull(r.HeaderFrom), EnvelopeFrom: orNull(r.EnvelopeFrom), EnvelopeTo: orNull(r.EnvelopeTo), Flags: r.Flags.Names(),
	}
	if r.Source.IsValid() {
		item.Source = orNull(r.Source.String())
	}
	if r.NullSender {
		item.EnvelopeFrom = new(string)
	}
	for _, x := range r.Reasons {
		item.Reasons = append(item.Reasons, ReasonItem(x))
	}
	item.AuthResults.DKIM, item.AuthResults.SPF = []AuthItem{}, []AuthItem{}
	for _, x := range r.AuthDKIM {
		item.AuthResults.DKIM = append(item.AuthResults.DKIM, AuthItem{Domain: orNull(x.Domain), Selector: orNull(x.Selector), Result: orNull(x.Result.String()), Word: orNull(x.Word), Human: orNull(x.Human)})
	}
	for _, x := range r.AuthSPF {
		item.AuthResults.SPF = append(item.AuthResults.SPF, AuthItem{Domain: orNull(x.Domain), Scope: orNull(x.Scope), Result: orNull(x.Result.String()), Word: orNull(x.Word), Human: orNull(x.Human)})
	}
	item.Ours.DKIM, item.Ours.SPF, item.Ours.Disagreement = r.Ours.DKIM, r.Ours.SPF, orNull(r.Ours.Disagreement.String())
	return item
}

// ID names a stored report.
type ID struct {
	ID string `path:"id" maxLength:"64" doc:"of the stored report"`
}

// ReportHead is what stands before the rows of a report.
type ReportHead struct {
	ReportItem
	Alternatives []ReportItem `json:"alternatives" nullable:"false" doc:"what else came under its identity; the first 100"`
}

// WholeReport is a report as it is streamed.
type WholeReport struct {
	ReportHead
	Rows []RowItem `json:"rows" nullable:"false"`
}

// report streams a report: its fields, and then "rows".
func (a *API) report(ctx context.Context, in *struct{ ID }) (*huma.StreamResponse, error) {
	rep, err := a.store.Report(ctx, in.ID.ID)
	if err != nil {
		return nil, a.problem(err, "reading a report")
	}
	others, _, err := a.store.Alternatives(ctx, in.ID.ID, dmarc.Page{Limit: alternativesShown})
	if err != nil {
		return nil, a.problem(err, "reading the alternatives of a report")
	}
	head, err := json.Marshal(ReportHead{DescribeReport(&rep), listOf(others, "", DescribeReport).Body.Items})
	if err != nil {
		return nil, a.problem(err, "writing a report")
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", "application/json")
		w := bufio.NewWriterSize(hc.BodyWriter(), 32<<10)
		w.Write(head[:len(head)-1])
		w.WriteString(`,"rows":[`)
		first := true
		for row, err := range rep.Report.Rows {
			var text []byte
			if err == nil {
				text, err = json.Marshal(DescribeRow(row))
			}
			if err != nil {
				// Too late for a status: the text breaks off, so that nobody
				// takes it for whole.
				a.opts.Log.Error("writing the rows of a report", "report", rep.ID, "error", err)
				panic(http.ErrAbortHandler)
			}
			if !first {
				w.WriteByte(',')
			}
			first = false
			if _, err := w.Write(text); err != nil {
				return // nobody listens
			}
		}
		w.WriteString("]}\n")
		w.Flush()
	}}, nil
}

// RowPage is a page of the rows of a report.
type RowPage struct {
	Body struct {
		Items    []RowItem `json:"items" nullable:"false"`
		Next     *string   `json:"next" doc:"pass it as after for the next page; null on the last one"`
		Rows     int64     `json:"rows" doc:"rows in the list, over all pages"`
		Messages int64     `json:"messages" doc:"messages of these"`
	}
}

// reportRowsAtOnce is how many rows are read at once while they are streamed: each
// time all rows of the report are looked at.
const reportRowsAtOnce = 20_000

func (a *API) reportRows(ctx context.Context, in *struct {
	ID
	Page
	FromSource
	Which string `query:"which" enum:"passed,failed,stopped,odd" doc:"only rows of mail that passed DMARC, that failed, or that was quarantined or rejected; odd: with flags, or a verdict that the raw results do not bear out"`
	Sort  string `query:"sort" enum:"-count,failing,source,stored" default:"-count" doc:"most messages first; failing: those that failed before the others; source: by address; stored: as they stand in the report"`
}) (*RowPage, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	order := dmarc.RowOrder(in.Sort)
	if in.Sort == "-count" {
		order = dmarc.RowsBusiest
	}
	list, next, err := a.store.ReportRows(ctx, dmarc.RowQuery{Report: in.ID.ID, Order: order, Source: in.prefix, Choice: dmarc.RowChoice(in.Which), Page: in.page()})
	if err != nil {
		return nil, a.problem(err, "listing the rows of a report")
	}
	var out RowPage
	out.Body.Items, out.Body.Next = listOf(list.Items, "", DescribeRow).Body.Items, orNull(string(next))
	out.Body.Rows, out.Body.Messages = list.Rows, list.Messages
	return &out, nil
}

// alternativesShown is how many alternatives stand with a report itself.
const alternativesShown = 100

func (a *API) alternatives(ctx context.Context, in *struct {
	ID
	Page
}) (*List[ReportItem], error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	if _, err := a.store.Report(ctx, in.ID.ID); err != nil {
		return nil, a.problem(err, "reading a report")
	}
	list, next, err := a.store.Alternatives(ctx, in.ID.ID, in.page())
	if err != nil {
		return nil, a.problem(err, "reading the alternatives of a report")
	}
	return listOf(list, next, DescribeReport), nil
}

// Activated is a report that was chosen to count.
type Activated struct {
	Body ReportItem
}

func (a *API) activate(ctx context.Context, in *struct{ ID }) (*Activated, error) {
	rep, err := a.intake.Activate(ctx, in.ID.ID)
	if err != nil {
		return nil, a.problem(err, "letting a report count")
	}
	return &Activated{DescribeReport(&rep)}, nil
}

// raw streams the message that a report came in.
func (a *API) raw(ctx context.Context, in *struct{ ID }) (*huma.StreamResponse, error) {
	body, entry, err := a.store.Raw(ctx, in.ID.ID)
	if err != nil {
		return nil, a.problem(err, "reading the message of a report")
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer body.Close()
		kind, ending := "application/octet-stream", "bin"
		if entry.MessageID != "" || entry.Place.UID != 0 {
			kind, ending = "message/rfc822", "eml"
		}
		hc.SetHeader("Content-Type", kind)
		hc.SetHeader("Content-Disposition", fmt.Sprintf(`attachment; filename="dmarcd-message-%d.%s"`, entry.ID, ending))
		if _, err := io.Copy(hc.BodyWriter(), body); err != nil {
			a.opts.Log.Warn("writing a message", "message", entry.ID, "error", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}
