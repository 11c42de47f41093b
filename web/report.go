package web

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

const (
	alternativesListed = 20
	rowsPerPage        = 50
	textShown          = 256 << 10 // bytes of the text of a report on a page
)

// reportPage is one aggregate report.
type reportPage struct {
	dmarc.ReportSummary
	Odd        []template.HTML
	Chips      []chip
	Day        span // the days that the report is about
	Others     []dmarc.ReportSummary
	MoreOthers bool
	MessageAt  string // address of the message that it came in; "" for none
	Path       string
	Text       string // address of the report as it came; "" for none
	Download   string

	Rows    []judgedRow
	Matched dmarc.RowList // what the filter leaves
	First   int           // place of the first row on this page, from 1; 0 if it is not known
	Form    rowForm
	pager
}

// Last returns the place of the last row on the page.
func (p *reportPage) Last() int { return p.First + len(p.Rows) - 1 }

// A rowForm is what is asked of the rows.
type rowForm struct {
	Choice  dmarc.RowChoice
	Order   dmarc.RowOrder
	Source  string
	Choices []rowOption
	Action  string
	Clear   string
	Sorts   map[string]rowSort
}

// Set tells whether it leaves any row out.
func (f *rowForm) Set() bool { return f.Choice != "" || f.Source != "" }

type rowOption struct {
	Value, Label string
	Current      bool
}

// A rowSort is a column that rows can be sorted by.
type rowSort struct {
	URL  string
	Aria string // "descending", "ascending"; "" if rows are sorted otherwise
}

var orderWords = map[dmarc.RowOrder]string{
	dmarc.RowsBusiest: "most messages first", dmarc.RowsFailing: "those that failed first", dmarc.RowsBySource: "by address", dmarc.RowsStored: "as they stand in the report",
}

var rowLabels = []struct {
	choice dmarc.RowChoice
	label  string
}{
	{dmarc.RowsAll, "all"}, {dmarc.RowsFailed, "failed"}, {dmarc.RowsPassed, "passed"}, {dmarc.RowsStopped, "quarantined or rejected"}, {dmarc.RowsOdd, "odd"},
}

// query adds the question to the values of an address.
func (f *rowForm) query(v url.Values) url.Values {
	for name, value := range map[string]string{"show": string(f.Choice), "sort": string(f.Order), "source": f.Source} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}

// readRows reads the question from an address. The error is a badRequest.
func (s *site) readRows(q url.Values, path string) (f rowForm, source netip.Prefix, err error) {
	var bad badRequest
	f.Source, source, err = readSource(q)
	errors.As(err, &bad)
	f.Choice, f.Order = dmarc.RowChoice(q.Get("show")), dmarc.RowOrder(q.Get("sort"))
	known := false
	for _, l := range rowLabels {
		f.Choices = append(f.Choices, rowOption{string(l.choice), l.label, l.choice == f.Choice})
		known = known || l.choice == f.Choice
	}
	if !known {
		bad = append(bad, "show is "+`"`+cut(plain(q.Get("show")), 40)+`": it must be failed, passed, stopped or odd`)
	}
	orders := []struct {
		column, aria string
		order        dmarc.RowOrder
	}{{"messages", "descending", dmarc.RowsBusiest}, {"source", "ascending", dmarc.RowsBySource}, {"verdict", "ascending", dmarc.RowsFailing}, {"stored", "ascending", dmarc.RowsStored}}
	f.Action, f.Sorts = s.link(path)+"#rows", map[string]rowSort{}
	known = false
	for _, o := range orders {
		to, sort := f, rowSort{}
		to.Order = o.order
		sort.URL = s.link(path, to.query(url.Values{})) + "#rows"
		if o.order == f.Order {
			sort.Aria, known = o.aria, true
		}
		f.Sorts[o.column] = sort
	}
	if !known {
		bad = append(bad, "sort is "+`"`+cut(plain(q.Get("sort")), 40)+`": it must be failing, source or stored`)
	}
	all := rowForm{Order: f.Order}
	f.Clear = s.link(path, all.query(url.Values{})) + "#rows"
	if len(bad) > 0 {
		return f, source, bad
	}
	return f, source, nil
}

// report serves /reports/{id}.
func (s *site) report(r *http.Request) (*view, error) {
	id, err := param(r, "id")
	if err != nil {
		return nil, err
	}
	path := "/reports/" + url.PathEscape(id)
	form, source, err := s.readRows(r.URL.Query(), path)
	if err != nil {
		return nil, err
	}
	p := &reportPage{Path: path, Form: form}
	ctx := r.Context()
	if p.ReportSummary, err = s.store.Report(ctx, id); err != nil {
		return nil, err
	}
	rep := &p.Report
	p.Day = daysOf(rep.Period)
	p.Odd, p.Chips = oddities(&p.ReportSummary), chipsOf(&rep.Policy)
	others, next, err := s.store.Alternatives(ctx, id, dmarc.Page{Limit: alternativesListed})
	if err != nil {
		return nil, err
	}
	p.Others, p.MoreOthers = others, next != ""
	if p.MessageAt, err = s.messageAt(ctx, p.MessageID); err != nil {
		return nil, err
	}
	if s.texts != nil {
		p.Text, p.Download = s.link(path+"/text"), s.link(path+"/download")
	}
	if err := s.rows(r, p, id, source); err != nil {
		return nil, err
	}
	return &view{Page: "report", Title: "Report of " + cut(plain(rep.Reporter.OrgName), 60) + " about " + rep.Policy.Domain, Nav: "/reports", Data: p}, nil
}

// daysOf returns the days, in UTC, that a report is about.
func daysOf(period dmarc.Period) span {
	begin, end := period.Begin.UTC().Truncate(aDay), period.EffectiveEnd().UTC().Truncate(aDay)
	if !end.After(begin) || end.Before(period.EffectiveEnd()) {
		end = end.Add(aDay)
	}
	return span{Period: dmarc.Period{Begin: begin, End: end}}
}

// rows adds a page of the rows of a report, with their senders.
func (s *site) rows(r *http.Request, p *reportPage, id string, source netip.Prefix) error {
	if !p.Active || p.Report.Flags&dmarc.FlagRowsNotKept != 0 {
		return nil
	}
	ctx := r.Context()
	after := dmarc.Cursor(r.URL.Query().Get("after"))
	list, next, err := s.store.ReportRows(ctx, dmarc.RowQuery{Report: id, Order: p.Form.Order, Choice: p.Form.Choice, Source: source,
		Page: dmarc.Page{After: after, Limit: rowsPerPage}})
	if err != nil {
		return err
	}
	p.Matched = list
	p.pager = s.pagerOf(p.Path, p.Form.query(url.Values{}), after, next)
	p.pager.hash("rows")
	if after == "" {
		p.First = 1
	}
	known := map[netip.Addr]dmarc.SourceIdentity{}
	if s.adviser != nil {
		var addrs []netip.Addr
		for i := range list.Items {
			if a := list.Items[i].Source; a.IsValid() {
				addrs = append(addrs, a)
			}
		}
		if known, err = s.adviser.Whose(ctx, p.Report.Policy.Domain, addrs); err != nil {
			return err
		}
	}
	var aligner dmarc.Aligner
	for i := range list.Items {
		j := judge(&list.Items[i], &p.Report, &aligner)
		if a := j.Source; a.IsValid() {
			identity := known[a]
			j.Name, j.Place = senderText(&identity)
			if s.adviser != nil {
				j.Link = s.senderLink(p.Report.Policy.Domain, a.String(), s.around(p.Day))
			}
		}
		p.Rows = append(p.Rows, j)
	}
	return nil
}

// around returns a period in which a sender that a report tells of can be seen.
func (s *site) around(of span) span {
	to := lastDays(adviceDays, s.now())
	if of.Begin.Before(to.Begin) && !of.Begin.Before(dmarc.Earliest) && !of.Begin.After(s.now()) {
		return span{Period: dmarc.Period{Begin: of.Begin, End: of.Begin.AddDate(0, 0, defaultDays)}, Today: to.Today}
	}
	return to
}

// senderText names whom an address belongs to, and where it is, as far as that is known.
func senderText(id *dmarc.SourceIdentity) (name, place string) {
	switch {
	case id.Sender != nil:
		name = id.Sender.Name
	case len(id.Names) > 0:
		name = id.Names[0]
	}
	var where []string
	if id.Org != "" {
		where = append(where, id.Org)
	}
	if id.Country != "" {
		where = append(where, id.Country)
	}
	return name, strings.Join(where, ", ")
}

// hash lets the links of a pager lead to a part of the page.
func (p *pager) hash(id string) {
	for _, u := range []*string{&p.Begin, &p.More} {
		if *u != "" {
			*u += "#" + id
		}
	}
}

// A textPage is a report as it came.
type textPage struct {
	Domain   string // that it is about
	Reporter string
	Title    string // of the page of the report
	Back     string
	Download string
	Lines    string
	Shown    int64 // bytes
	Cut      bool
}

// reportText serves /reports/{id}/text: the beginning of the report as it came.
func (s *site) reportText(r *http.Request) (*view, error) {
	id, err := param(r, "id")
	if err != nil {
		return nil, err
	}
	rep, err := s.store.Report(r.Context(), id)
	if err != nil {
		return nil, err
	}
	p := &textPage{Domain: rep.Report.Policy.Domain, Reporter: rep.Report.Reporter.OrgName, Title: "Report"}
	return s.text(r, p, "/reports/"+url.PathEscape(id), id, s.texts.ReportText)
}

// text fills the page of the beginning of a report that stands at path.
func (s *site) text(r *http.Request, p *textPage, path, id string, open textOpener) (*view, error) {
	body, err := open(r.Context(), id)
	if errors.Is(err, dmarc.ErrNotFound) {
		return nil, errNotKept
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	head, err := io.ReadAll(io.LimitReader(body, textShown+1))
	if err != nil {
		return nil, fmt.Errorf("reading the text of report %s: %w", id, err)
	}
	if p.Cut = len(head) > textShown; p.Cut {
		head = head[:textShown]
		if i := bytes.LastIndexByte(head, '\n'); i > textShown/2 {
			head = head[:i]
		}
	}
	p.Back, p.Download = s.link(path), s.link(path+"/download")
	p.Shown, p.Lines = int64(len(head)), textLines(string(head))
	return &view{Page: "reporttext", Title: p.Title + " as it came", Nav: "/reports", Data: p}, nil
}

// A textOpener opens the text of a report; dmarc.ErrNotFound if it is not kept.
type textOpener func(ctx context.Context, id string) (io.ReadCloser, error)

// textLines makes a file that a stranger wrote safe to show, indented as it is.
func textLines(s string) string {
	s = strings.TrimPrefix(strings.ReplaceAll(s, "\r\n", "\n"), "\ufeff")
	return lines(strings.ReplaceAll(s, "\t", "    "))
}

// errNotKept is returned for a report whose message is not kept.
var errNotKept = errors.New("the message that the report came in is not kept")

// download serves /reports/{id}/download and /tls/{id}/download: the report as it came,
// however large.
func (s *site) download(w http.ResponseWriter, r *http.Request, open textOpener) {
	id, err := param(r, "id")
	var body io.ReadCloser
	if err == nil {
		body, err = open(r.Context(), id)
	}
	if errors.Is(err, dmarc.ErrNotFound) {
		err = errNotKept
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer body.Close()
	b := bufio.NewReaderSize(body, 32<<10)
	head, _ := b.Peek(64)
	ending, kind := "xml", "application/xml"
	if bytes.HasPrefix(bytes.TrimLeft(head, "\ufeff \t\r\n"), []byte("{")) { // of TLS, or what parsedmarc kept
		ending, kind = "json", "application/json"
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", `attachment; filename="report-`+strings.Map(fileRune, id)+`.`+ending+`"`)
	h.Set("Cache-Control", "private, no-cache")
	if _, err := b.WriteTo(w); err != nil {
		s.log.WarnContext(r.Context(), "a report could not be sent whole", "report", id, "error", err)
		panic(http.ErrAbortHandler) // so that nobody takes it for whole
	}
}

// fileRune keeps what may stand in the name of a file.
func fileRune(r rune) rune {
	if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r == '-' {
		return r
	}
	return '-'
}
