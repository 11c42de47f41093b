package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

//go:embed templates
var templates embed.FS

// pages are the templates by name, each with the layout.
type pages map[string]*template.Template

// A view is what a handler answers: the page and all that is shown on it.
type view struct {
	Page   string // name of the template
	Status int    // 200 if zero
	Title  string
	Nav    string // path of the entry that is lit
	Search string // what stands in the search box
	Span   span
	Choose *chooser // of the period; nil where there is none
	Data   any

	Once   bool   // it shows what is not shown again, and nothing keeps it
	User   string // who asks; "" where nobody is asked
	Leaves bool   // they can log out
}

// parsePages reads the templates. They are in the binary: a mistake in one is
// met by every test.
func (s *site) parsePages() pages {
	layout := template.Must(template.New("layout.html").Funcs(template.FuncMap{
		"count": count, "short": numeral, "shortText": short, "percent": percent, "plural": plural,
		"day": day, "isoDay": isoDay, "clock": clock, "moment": moment,
		"plain": plain, "stranger": stranger, "mono": mono, "marked": marked,
		"passBar": passBar, "senderBar": senderBar, "shareBar": shareBar, "sparkline": sparkline,
		"link": s.link, "domainLink": s.domainLink, "domainsLink": s.domainsLink, "groupLink": s.groupLink, "reporterLink": s.reporterLink,
		"reportLink": s.reportLink, "outcomeLink": s.outcomeLink, "mailboxLink": s.mailboxLink, "asset": s.asset,
		"swatch": swatch, "stopped": stopped, "reportPeriod": reportPeriod, "binName": binName, "classify": classify,
		"countInt":  func(n int) string { return count(int64(n)) },
		"pluralInt": func(n int, one, many string) string { return plural(int64(n), one, many) },
		"failed":    failed, "level": levelOf, "noSpan": func() span { return span{Preset: defaultDays} },
		"flagText": flagText, "severityText": severityText, "severityWord": severityWord, "lines": lines,
		"includes": s.includes,
		"depth":    func(n int) int { return min(n, 4) },
		"minus":    func(a, b int) int { return a - b },
		"net":      networkText,
		"deref":    func(s *string) string { return *s },
		"isTrue":   func(b *bool) bool { return b != nil && *b },
		"isNil":    func(list []string) bool { return list == nil },
		"parts":    firstParts, "more": moreParts,
		"advises":     func() bool { return s.adviser != nil },
		"verdictWord": wordOf, "effectWord": effectWord, "sourceName": sourceName,
		"rateOf": func(n int64, days int) string { return rate(perDay(n, days)) }, "signed": signed,
		"fraction": fraction, "fractionBar": fractionBar,
		"words": func(words ...string) []string { return words },
		"record": func(name, kind, value string) advice.Publication {
			return advice.Publication{Name: name, Type: kind, Value: value}
		},
		"pair":       func(n, of int64, class string) barOf { return barOf{n, of, class} },
		"senderLink": s.senderLink, "kindLink": s.kindLink, "sentence": sentence, "spoken": spoken,
		"sentenceCase": func(label string) string { return strings.ToUpper(label[:1]) + label[1:] },
		"ownBar": func(v *dmarc.DomainVerdict) template.HTML {
			return bar(v.Own, piece{"own", v.Passing}, piece{"lost", v.Own - v.Passing})
		},
		"ownMail": func(v *dmarc.DomainVerdict) (o ownMail) {
			o.add(v)
			return o
		},
		"adviceDays": func() int { return adviceDays },
		"nextPolicy": nextPolicy,
		"needWord":   needWord, "wordOf": func(verdict string) verdictWord { return wordOf(advice.Verdict(verdict)) },
		"stoppedADay": func(d dmarc.DomainTraffic, sp span) string { return rate(stoppedADay(d, sp)) },
		"says":        func() bool { return s.overruler != nil }, "overrulesLink": func(domain string) string { return s.link(domainPath(domain, "overrules")) },
		"answers": func() any { return answers }, "networkText": sourceName,
		"crewTable": func(domain string, sp span, items []sender) *crewPage {
			heads := s.headsOf(domainPath(domain, "sources"), sp.query(nil), bySender)
			return &crewPage{crew: &crew{Domain: domain, Span: sp}, Items: items, Heads: heads, Sort: bySender}
		},
		"crewRows": s.crewRows,
		"kindChip": kindChip, "stoppedCount": stoppedCount,
		"csrf":    s.csrfField,
		"version": func() string { return s.version },
	}).Funcs(s.reportFuncs()).Funcs(s.operatingFuncs()).ParseFS(templates, "templates/layout.html", "templates/parts.html", "templates/operating.html"))
	files, err := templates.ReadDir("templates")
	if err != nil {
		panic(err)
	}
	all := pages{}
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".html")
		if name == "layout" || name == "parts" || name == "operating" {
			continue
		}
		p := template.Must(layout.Clone())
		all[name] = template.Must(p.ParseFS(templates, path.Join("templates", f.Name())))
	}
	return all
}

// page makes a handler of a function that says what to show.
func (s *site) page(show func(*http.Request) (*view, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := show(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.render(w, r, v)
	}
}

// render writes a page, or none of it.
func (s *site) render(w http.ResponseWriter, r *http.Request, v *view) {
	var b bytes.Buffer
	if s.gate != nil {
		v.User, v.Leaves = s.gate.Who(r)
	}
	if err := s.pages[v.Page].ExecuteTemplate(&b, "layout.html", v); err != nil {
		s.log.ErrorContext(r.Context(), "a page cannot be made", "page", v.Page, "error", err)
		http.Error(w, "dmarcd cannot make this page. The reason is in its log.", http.StatusInternalServerError)
		return
	}
	page := s.bindForms(w, r, b.Bytes())
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "private, no-cache")
	if v.Status == 0 {
		v.Status = http.StatusOK
	}
	if v.Once {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(v.Status)
	w.Write(page)
}

// A moved error sends the browser to another address of this dashboard.
type moved string

func (m moved) Error() string { return "moved to " + string(m) }

// A problem is what the page of an error says: what failed, why, what to try.
type problem struct {
	Heading string
	Reasons []string
	Try     string
}

// fail answers with the page of an error; no other knows status codes.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	var bad badRequest
	var form badForm
	var to moved
	var refused dmarc.Refusal
	p := problem{Try: "Go back, or begin anew:"}
	status := http.StatusInternalServerError
	switch {
	case errors.As(err, &to):
		http.Redirect(w, r, string(to), http.StatusFound)
		return
	case errors.As(err, &bad):
		status = http.StatusBadRequest
		p.Heading, p.Reasons = "This address cannot be understood", bad
	case errors.As(err, &form):
		status = http.StatusBadRequest
		p.Heading, p.Reasons = "The form cannot be used as it is", form.sentences()
		p.Try = "Go back: what you wrote is still there."
	case errors.Is(err, dmarc.ErrBadCursor):
		status = http.StatusBadRequest
		p.Heading, p.Reasons = "This place in the list does not exist", []string{"The address names a place that is not one of this list."}
		p.Try = "Go to the beginning of the list."
	case errors.Is(err, dmarc.ErrForbidden):
		status = http.StatusForbidden
		p.Heading, p.Reasons = "This page is not for you", []string{"You have not the role that it needs. Who hands out access can change that."}
	case errors.Is(err, errForeign):
		status = http.StatusForbidden
		p.Heading, p.Reasons = "Nothing was changed", []string{"Another site asked your browser for this change. If it was you, do it on a page of dmarcd."}
	case errors.As(err, &refused):
		status = http.StatusConflict
		p.Heading, p.Reasons = "Nothing was changed", []string{strings.ToUpper(string(refused[:1])) + string(refused[1:]) + "."}
		p.Try = "Go back."
	case errors.Is(err, errNotKept):
		status = http.StatusNotFound
		p.Heading, p.Reasons = "The report as it came is not kept", []string{"Its message is no longer in the archive, or there is no such report. What was read of it is still here."}
		p.Try = "How long messages are kept is set by retention.raw."
	case errors.Is(err, dmarc.ErrNotFound):
		status = http.StatusNotFound
		p.Heading, p.Reasons = "There is no such page", []string{"Nothing is known under this address."}
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return // nobody is waiting
	default:
		s.log.ErrorContext(r.Context(), "a page cannot be shown", "path", r.URL.Path, "error", err)
		p.Heading = "This page cannot be shown now"
		p.Reasons = []string{"dmarcd could not read what belongs here from its database."}
		p.Try = fmt.Sprintf("Try again in a minute. The reason is in the log of dmarcd, at %s.", s.now().UTC().Format("15:04:05"+nbsp+"UTC"))
	}
	s.render(w, r, &view{Page: "problem", Status: status, Title: p.Heading, Data: p})
}

// link returns an address of the dashboard: a path that begins with a slash,
// escaped, with values if there are any.
func (s *site) link(path string, values ...url.Values) string {
	for _, v := range values {
		if q := v.Encode(); q != "" {
			return s.base + path + "?" + q
		}
	}
	return s.base + path
}

// domainPath returns the path of a domain's page, or of the page named under
// it.
func domainPath(domain, under string) string {
	p := "/domains/" + url.PathEscape(domain)
	if under != "" {
		p += "/" + under
	}
	return p
}

// domainLink returns the address of a page about a domain in a period.
func (s *site) domainLink(domain, under string, sp span) string {
	return s.link(domainPath(domain, under), sp.query(nil))
}

// domainsLink returns the address of the page of all domains in a period.
func (s *site) domainsLink(sp span) string { return s.link("/", sp.query(nil)) }

// reporterLink returns the address of a reporter's reports about a domain.
func (s *site) reporterLink(domain, orgName string, sp span) string {
	v := sp.query(nil)
	if orgName != "" {
		v.Set("reporter", orgName)
	}
	return s.link(domainPath(domain, "reports"), v)
}

// reportLink returns the address of a stored report.
func (s *site) reportLink(id string) string { return s.link("/reports/" + url.PathEscape(id)) }

// outcomeLink returns the address of the ledger's messages of an outcome.
func (s *site) outcomeLink(o dmarc.Outcome) string {
	return s.link("/messages", url.Values{"outcome": {string(o)}})
}

// mailboxLink returns the address of the ledger's messages of a mailbox.
func (s *site) mailboxLink(name string) string {
	return s.link("/messages", url.Values{"mailbox": {name}})
}

func (s *site) asset(name string) (string, error) {
	hashed, ok := s.assets.names[name]
	if !ok {
		return "", fmt.Errorf("no file %q", name)
	}
	return s.link("/static/" + hashed), nil
}

// A chooser lets the reader choose the period of a page.
type chooser struct {
	Choices []choice
	Action  string // address of the form
	Keep    []pair // what else the address says
	First   string
	Last    string
	Dates   string // "" unless the period is named by dates
	Today   string
}

type choice struct {
	Label, URL string
	Current    bool
}

type pair struct{ Name, Value string }

// readPeriod reads the period of a page from its address, and prepares what
// chooses another: path is the page's own, keep names what else of the
// address is kept. What the form sends becomes an address as all others.
func (s *site) readPeriod(r *http.Request, path string, keep ...string) (span, *chooser, error) {
	q := r.URL.Query()
	sp, err := readSpan(q, s.now())
	if err != nil {
		return sp, nil, err
	}
	kept := func() url.Values {
		v := url.Values{}
		for _, name := range keep {
			if q.Get(name) != "" {
				v.Set(name, q.Get(name))
			}
		}
		return v
	}
	if q.Has("first") || q.Has("last") {
		return sp, nil, moved(s.link(path, sp.query(kept())))
	}
	c := &chooser{Action: s.link(path), First: isoDay(sp.Begin), Last: isoDay(sp.Last()), Today: isoDay(sp.Today)}
	for _, p := range presets {
		to := lastDays(p.Days, s.now())
		c.Choices = append(c.Choices, choice{p.Label, s.link(path, to.query(kept())), sp.Preset == p.Days})
	}
	for name := range kept() {
		c.Keep = append(c.Keep, pair{name, q.Get(name)})
	}
	if sp.Preset == 0 {
		c.Dates = sp.Dates()
	} else if sp.Preset != 30 && sp.Preset != 90 && sp.Preset != 365 {
		c.Dates = fmt.Sprintf("%d days", sp.Preset)
	}
	return sp, c, nil
}

// numeral writes a number, short if it is large, with the exact value as title.
func numeral(n int64) template.HTML {
	exact, s := count(n), short(n)
	if s == exact {
		return template.HTML(s)
	}
	return template.HTML(`<span title="` + exact + `">` + s + `</span>`)
}

// moment writes a time in UTC. The script shows it in the reader's zone.
func moment(t time.Time) template.HTML {
	if t.IsZero() {
		return "never"
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, t.UTC().Format(time.RFC3339), clock(t)))
}

// stranger writes text that a stranger wrote, at most n characters of it.
func stranger(s string, n int) template.HTML { return foreign("", s, n) }

// mono writes an address or a domain, at most n characters of it.
func mono(s string, n int) template.HTML { return foreign(` class="mono"`, s, n) }

// marked writes a sentence of ours, with what strangers wrote in it, at most n characters of
// it: what stands between backticks is code.
func marked(s string, n int) template.HTML {
	all := strings.Split(cut(plain(s), n), "`")
	if len(all)%2 == 0 { // one has no other
		return stranger(s, n)
	}
	var b strings.Builder
	for i, t := range all {
		if i%2 == 1 {
			b.WriteString("<code>" + text(t) + "</code>")
		} else {
			b.WriteString(text(t))
		}
	}
	return template.HTML("<bdi>" + b.String() + "</bdi>")
}

// foreign isolates text from what is around it, and cuts its middle.
func foreign(class, s string, n int) template.HTML {
	s = plain(s)
	title := ""
	shown := cut(s, n)
	if shown != s {
		title = ` title="` + text(cut(s, 1000)) + `"`
	}
	return template.HTML("<bdi" + class + title + ">" + text(shown) + "</bdi>")
}

// swatch draws a small square in the colour of a class.
func swatch(class string) template.HTML {
	return template.HTML(`<svg class="swatch" width="12" height="12" aria-hidden="true"><rect class="` + text(class) + `"` + fill(class) +
		` x=".5" y=".5" width="11" height="11"/></svg>`)
}

// failed returns how many messages did not pass.
func failed(t dmarc.Tally) int64 { return t.Messages - t.DMARCPass }

// stopped returns how many messages were quarantined or rejected.
func stopped(t dmarc.Tally) int64 { return t.Quarantine + t.Reject }

// reportPeriod writes the period of a report: its days, the hours of a day, or its first and
// last moment. Only where the first moment ends may a line break.
func reportPeriod(p dmarc.Period) string {
	first, end := p.Begin.UTC().Truncate(aDay), p.EffectiveEnd().UTC()
	whole := p.Begin.Equal(first)
	line := func(t time.Time, layout string) string { return strings.ReplaceAll(t.UTC().Format(layout), " ", nbsp) }
	switch over := end.Sub(first); {
	case whole && over >= aDay-time.Minute && over <= aDay:
		return line(first, "2 Jan 2006")
	case whole && over > aDay && end.Equal(end.Truncate(aDay)):
		last := end.AddDate(0, 0, -1)
		if first.Year() != last.Year() {
			return line(first, "2 Jan 2006 to ") + line(last, "2 Jan 2006")
		}
		return line(first, "2 Jan to ") + line(last, "2 Jan 2006")
	case over > 0 && over <= aDay && !end.Before(p.Begin):
		ends := end.Format("15:04")
		if over == aDay {
			ends = "24:00"
		}
		return line(p.Begin, "2 Jan 2006, 15:04 to ") + ends
	}
	return line(p.Begin, "2 Jan 15:04") + nbsp + "to " + line(end, "2 Jan 2006 15:04")
}
