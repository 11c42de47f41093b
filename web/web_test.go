package web

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/dmarcd/dmarcd/dmarc"
)

// get asks a dashboard for a page, as a browser without compression.
func get(t *testing.T, store Store, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h := New(store, options(store))
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// words returns the text of a page as people read it, and where its links and
// forms lead.
func words(t *testing.T, page string) (all string, links []string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "title" {
			b.WriteString(n.Data)
		}
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "td", "th", "tr", "p", "li", "h1", "h2":
			b.WriteByte(' ')
		}
		for _, a := range n.Attr {
			if a.Key == "href" || a.Key == "src" || a.Key == "action" {
				links = append(links, a.Val)
			}
		}
	}
	return strings.Join(strings.Fields(spaced(b.String())), " "), links
}

// says fails the test unless the page has the words, whatever is between them.
func says(t *testing.T, page string, want ...string) {
	t.Helper()
	got, _ := words(t, page)
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("the page does not say %q:\n%s", w, got)
		}
	}
}

func TestAllDomainsBeginWithTheAnswer(t *testing.T) {
	page := get(t, realistic(), "/").Body.String()
	says(t, page,
		"98.0 % of your own mail is aligned (90 days); 99 a day of it would be lost by the next step of each domain.",
		"Of all mail, forgeries too: 93.8 % of 1,344,820 messages passed DMARC in the last 30 days; 83,043 failed. 68,492 of what failed was stopped. 6 domains, 2 of them with the policy none.",
		"Needs you acme.example new failure newsbird.example has failed since 15 November 2026: 7,200 of 7,200 messages did not pass; 100 % of its mail passed before. Look",
		"river.example ready Ready for quarantine: you would lose 0 a day of your own 900.",
		"Those first that deserve attention. Busiest first",
		"acme.example ✕ 2 blockers quarantine → none 97.0 % 1.2 M",
		"north.example ● done reject 100 % 79,051",
		"parked.example ✓ ready reject → reject sends nothing no mail seen no reports 0",
	)
	f := realistic()
	f.advice = nil
	says(t, get(t, f, "/").Body.String(), "All domains 93.8 % of 1,344,820 messages passed DMARC", "Busiest first.", "acme.example quarantine 94.2 % 1.2 M", "parked.example reject no mail seen no mail seen no reports 0")
	if _, links := words(t, page); !slices.Contains(links, "/domains/acme.example") || !slices.Contains(links, "/?days=90") {
		t.Errorf("links are %q", links)
	}
}

func TestThePeriodIsKeptOnTheWay(t *testing.T) {
	page := get(t, realistic(), "/?days=90&q=acme").Body.String()
	says(t, page, "in the last 90 days", "2 domains")
	_, links := words(t, page)
	for _, want := range []string{"/domains/acme.example?days=90", "/?days=365&q=acme", "/?q=acme"} {
		if !slices.Contains(links, want) {
			t.Errorf("no link to %s among %q", want, links)
		}
	}
	if !strings.Contains(page, `<input type="hidden" name="q" value="acme">`) || !strings.Contains(page, `<input type="hidden" name="days" value="90">`) {
		t.Error("the forms lose what was searched for, or the period")
	}
}

func TestManyDomainsComeInPages(t *testing.T) {
	f := crowd(120)
	seen := map[string]bool{}
	path, pages := "/?days=90", 0
	needed := 0 // links above the list
	for ; path != ""; pages++ {
		page := get(t, f, path).Body.String()
		says(t, page, "messages passed DMARC in the last 90 days", "120 domains, 40 of them with the policy none.")
		says(t, page, []string{"Domains 1 to 50 of 120, those first", "Domains 51 to 100 of 120, those first", "Domains 101 to 120 of 120, those first"}[pages])
		path = ""
		_, links := words(t, page)
		for _, l := range links {
			if strings.HasPrefix(l, "/domains/") && strings.HasSuffix(l, "?days=90") && !(pages == 0 && needed < needsShown) {
				if seen[l] {
					t.Errorf("%s is listed twice", l)
				}
				seen[l] = true
			} else if strings.HasPrefix(l, "/domains/") && strings.HasSuffix(l, "?days=90") {
				needed++
			}
			if strings.Contains(l, "after=") {
				path = l
			}
		}
	}
	if len(seen) != 120 || pages != 3 {
		t.Errorf("%d domains on %d pages, want 120 on 3", len(seen), pages)
	}
}

func TestEmptyPagesTeachTheNextStep(t *testing.T) {
	for path, want := range map[string][]string{
		"/":                      {"No reports yet", "DMARCD_IMAP_URL=", "dmarcd import PATH", "v=DMARC1; p=none; rua=mailto:"},
		"/messages":              {"Nothing has been taken in yet.", "DMARCD_IMAP_URL", "dmarcd import PATH"},
		"/domains/never.example": {"never.example", "No report about this domain has come in."},
		"/?q=x":                  {"No domain has “x” in its name."},
	} {
		says(t, get(t, &fake{}, path).Body.String(), want...)
	}
	f := realistic()
	says(t, get(t, f, "/domains/parked.example").Body.String(), "p=reject", "No mail seen in the last 30 days.", "No aggregate report about it has come in.")
	says(t, get(t, f, "/domains/river.example?from=2026-11-16&to=2026-11-23").Body.String(),
		"No mail seen from 16 Nov to 22 Nov 2026.", "The newest report is from Comcast, about 14 Nov 2026.")
	says(t, get(t, f, "/?from=2014-01-01&to=2014-02-01").Body.String(), "No mail seen from 1 Jan to 31 Jan 2014.")
}

// idle is an office where nothing was done yet.
type idle struct{ *office }

func (idle) Tokens(context.Context, dmarc.Page) ([]dmarc.Token, dmarc.Cursor, error) {
	return nil, "", nil
}

func (idle) Notifications(context.Context, dmarc.NotificationQuery) ([]dmarc.Notification, dmarc.Cursor, error) {
	return nil, "", nil
}

func (idle) Audit(context.Context, dmarc.AuditQuery) ([]dmarc.AuditEntry, dmarc.Cursor, error) {
	return nil, "", nil
}

func TestEmptySettingsTeachTheNextStep(t *testing.T) {
	f := &fake{}
	o := options(f)
	full := idle{&office{f, ""}}
	o.Intake, o.Keeper = full, full
	h := New(f, o)
	for path, want := range map[string]string{
		"/settings":                      "There are none yet. Make one above for each person and each program",
		"/settings/notifications":        "Nothing was told yet. Send a test to see that it arrives.",
		"/settings/audit":                "Nothing was done yet. New tokens,",
		"/settings/audit?action=x&who=y": "Nothing of this kind was done.",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		says(t, w.Body.String(), want)
	}
}

func TestADomainBeginsWithTheAnswer(t *testing.T) {
	f := realistic()
	f.advice = nil // senders by address
	page := get(t, f, "/domains/acme.example").Body.String()
	says(t, page,
		"p=quarantine sp=reject adkim=r aspf=r as last reported",
		"94.2 % of 1,244,536 messages passed DMARC in the last 30 days; 72,693 failed.",
		"59,989 of what failed was stopped. In the 30 days before, 98.7 % of 1,271,991 messages passed. 420 reports.",
		"312 messages are counted but not drawn",
		"A hatched line marks days that are partly estimated",
		"let through 95.2 % 1.2 M",
		"Reports of the last minutes are still being summarised",
		"and 1,102 more senders, ",
		"41 messages have no address that can be read.",
		"2026-11-13 (estimated)",
	)
	newest := realistic().all[0].reports[0]
	if !strings.Contains(newest.ID, "/") {
		t.Fatalf("%q needs no escaping", newest.ID)
	}
	_, links := words(t, page)
	for _, want := range []string{
		"/domains/acme.example/senders", "/domains/acme.example/reports", "/domains/acme.example/reports?reporter=Yahoo",
		"/reports/" + url.PathEscape(newest.ID),
	} {
		if !slices.Contains(links, want) {
			t.Errorf("no link to %s among %q", want, links)
		}
	}
}

// What is the owner's leads, and forgeries do not count in it.
func TestADomainLeadsWithItsOwnMail(t *testing.T) {
	f := realistic()
	for name, want := range map[string]string{
		"acme.example":   "97.0 % of your own mail is aligned (90 days); 99 a day of it would be lost under p=quarantine.",
		"north.example":  "100 % of your own mail is aligned (90 days); none of it is lost under p=reject. Of all mail, forgeries too: ",
		"parked.example": "No mail seen in the last 30 days.",
	} {
		says(t, get(t, f, "/domains/"+name).Body.String(), want)
	}
	f.verdict("acme.example").Own = 0
	says(t, get(t, f, "/domains/acme.example").Body.String(), "No mail of your own was seen in 90 days. Of all mail, forgeries too: 94.2 % of 1,244,536 messages passed DMARC in the last 30 days; 72,693 failed. 59,989 of what failed was stopped.")
}

func TestWhatIsLeftOutOfTheSendersIsSaid(t *testing.T) {
	f := realistic()
	f.advice = nil
	f.all[0].others = dmarc.Tally{Messages: 5000, DMARCPass: 50}
	d, _ := f.Summary(context.Background(), dmarc.TrafficQuery{Domain: "acme.example", Period: lastDays(30, now).Period})
	left := d.Tally.Messages - 5000 - 41
	for _, s := range f.all[0].sources[:topSenders] {
		left -= s.Tally.Messages
	}
	says(t, get(t, f, "/domains/acme.example").Body.String(),
		"and 1,102 more senders, "+count(left)+" messages",
		"5,000 messages came from senders that are summed, not named: each day names its busiest only. 1.0 % of them passed.")
}

func TestListsOfADomainArePagedOrShownWhole(t *testing.T) {
	f := crowd(5000)
	for path, want := range map[string]int{
		"/domains/customer-0000.example":                           topSenders,
		"/domains/customer-0000.example/senders":                   100,
		"/domains/customer-0000.example/senders?after=4950":        50,
		"/domains/customer-0000.example/senders?all=1":             5000,
		"/domains/customer-0000.example/reporters":                 100,
		"/domains/customer-0000.example/reporters?after=5000":      7,
		"/domains/customer-0000.example/reports":                   14,
		"/domains/customer-0000.example/reports?reporter=Comcast":  2,
		"/domains/customer-0000.example/reports?reporter=No+%26+x": 0,
	} {
		page := get(t, f, path).Body.String()
		table := page
		if i := strings.Index(page, `<table class="cards`); i >= 0 {
			table = page[i : i+strings.Index(page[i:], "</table>")]
			if strings.Contains(path, "all=1") { // in pieces
				table = page[i:strings.LastIndex(page, "</table>")]
			}
		}
		if got := strings.Count(table, `<tr><th scope="row">`); got != want {
			t.Errorf("%s lists %d, want %d", path, got, want)
		}
	}
}

func TestTheLedgerShowsFateAndReason(t *testing.T) {
	page := get(t, realistic(), "/messages?outcome=bad_xml").Body.String()
	says(t, page, "bad_xml: XML that breaks off or cannot be understood.", "the XML breaks off in <record> 214 at byte 65,536")
	if strings.Contains(page, "not_a_report</a>") {
		t.Error("messages of other outcomes are listed")
	}
	says(t, get(t, realistic(), "/messages?mailbox=import").Body.String(), "1759276800!1759363200.xml.gz")
	says(t, get(t, realistic(), "/messages?mailbox=none").Body.String(), "No message is of this kind.")
}

func TestErrorsSayWhatToTry(t *testing.T) {
	broken := &fake{err: errors.New("secret detail")}
	for _, c := range []struct {
		store  Store
		path   string
		status int
		want   string
	}{
		{realistic(), "/nowhere", 404, "There is no such page"},
		{realistic(), "/domains/", 404, "There is no such page"},
		{realistic(), "/domains/never.example", 404, "No report about this domain has come in."},
		{realistic(), "/domains/never.example/senders", 404, "No report about this domain has come in."},
		{realistic(), "/?days=0&from=x", 400, "days is \"0\": it must be a number from 1 to 3660 from is \"x\": it must be a day"},
		{realistic(), "/?after=nonsense", 400, "This place in the list does not exist"},
		{realistic(), "/domains/acme.example/senders?after=-1", 400, "This place in the list does not exist"},
		{realistic(), "/messages?outcome=%3Cb%3E", 400, `outcome is "<b>"`},
		{broken, "/", 500, "Try again in a minute. The reason is in the log of dmarcd, at 19:03:00 UTC."},
		{broken, "/domains/acme.example", 500, "This page cannot be shown now"},
		{broken, "/messages", 500, "This page cannot be shown now"},
	} {
		w := get(t, c.store, c.path)
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d", c.path, w.Code, c.status)
		}
		says(t, w.Body.String(), c.want)
		if strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s tells what belongs in the log", c.path)
		}
	}
}

func TestAnErrorIsLoggedOnce(t *testing.T) {
	var log strings.Builder
	h := New(&fake{err: errors.New("no route to database")}, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/domains/a.example", nil))
	if n := strings.Count(log.String(), "no route to database"); n != 1 {
		t.Errorf("logged %d times: %s", n, log.String())
	}
}

// Panicking is a store with a defect.
type panicking struct{ fake }

func (*panicking) Messages(context.Context, dmarc.MessageQuery) ([]dmarc.LedgerEntry, dmarc.Cursor, error) {
	panic("defect")
}

func TestAPanicIsAPage(t *testing.T) {
	w := get(t, &panicking{}, "/messages")
	if w.Code != http.StatusInternalServerError {
		t.Errorf("status %d", w.Code)
	}
	says(t, w.Body.String(), "This page cannot be shown now")
}

func TestWhatStrangersWroteIsNeverMarkup(t *testing.T) {
	f, report := withReports(realistic(), 30, hostile)
	report = url.PathEscape(report)
	name := `<img src=x onerror=alert(1)>.example`
	evil := live(life{name: name, policy: dmarc.PolicyNone, busy: 9_000_000, born: 30, sources: 3, stranger: hostile})
	f.all = append(f.all, evil)
	withLooks(f, name, hostile)
	f.advice[name] = tell(name, dmarc.PolicyNone).send("192.0.2.1", byBoth, "", 500, 89, 0).
		send("203.0.113.1", byService, hostile, 900, 89, 8).send("203.0.113.1", byOther, hostile, 900, 8, 0).send("203.0.113.2", byOther, hostile, 40, 60, 0)
	o := options(f)
	full := &office{f, hostile}
	o.Intake, o.Keeper = full, full
	f.messages = append([]dmarc.LedgerEntry{full.entry(1)}, f.messages...)
	h := New(f, o)
	answers := map[string]int{ // of all others 200
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/sources?after=%3Cscript%3E": 400, "/domains/%3Cscript%3Ealert(1)%3C%2Fscript%3E": 404, "/tls/%3Cscript%3E": 404,
	}
	quiet := map[string]bool{ // they show names of domains alone, or nothing that was asked for
		"/": true, "/?q=%3Cimg": true, "/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/senders": true, "/tls": true, "/tls/%3Cscript%3E": true,
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/sources?after=%3Cscript%3E": true, "/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/sources": true,
	}
	for _, path := range []string{
		"/", "/?q=%3Cimg", "/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "/messages", "/messages?mailbox=%22%3E%3Cscript%3E",
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example",
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/senders",
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/reporters",
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/reports?reporter=%3Cscript%3E",
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/dns",
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/policy",
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/policy?p=reject&mend=" + url.QueryEscape("as "+hostile),
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/sources?after=%3Cscript%3E", "/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/sources",
		"/domains/%3Cimg%20src=x%20onerror=alert(1)%3E.example/source?of=203.0.113.1",
		"/domains/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
		"/reports", "/reports?domain=%22%3E%3Cscript%3E&reporter=%3Cscript%3E&days=90", "/reports/" + report, "/reports/" + report + "?source=203.0.113.0/24", "/reports/" + report + "/text", "/domains/acme.example/reports",
		"/failures", "/failures/7-0", "/failures/7-0?show=whole", "/domains/acme.example/failures", "/tls", "/tls/9-0", "/tls/9-0/text", "/tls/%3Cscript%3E", "/domains/acme.example/tls",
		"/intake", "/messages/1", "/messages/1?was=%3Cscript%3E", "/start", "/start?domain=%22%3E%3Cscript%3E&rua=%3Cscript%3E", "/settings", "/settings/notifications", "/settings/senders", "/settings/configuration", "/settings/audit",
		"/settings/audit?who=%22%3E%3Cscript%3E",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if want := cmp.Or(answers[path], http.StatusOK); w.Code != want {
			t.Errorf("%s: status %d, want %d", path, w.Code, want)
		}
		if !quiet[path] && !strings.Contains(w.Body.String(), "&lt;script&gt;") {
			t.Errorf("%s: nothing of what strangers wrote is there", path)
		}
		root, err := html.Parse(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		scripts := 0
		for n := range root.Descendants() {
			if n.Type == html.TextNode && strings.ContainsAny(n.Data, "\u202e\x00") {
				t.Errorf("%s: text that turns the line: %q", path, n.Data)
			}
			if n.Type != html.ElementNode {
				continue
			}
			switch n.Data {
			case "script":
				if src := slices.IndexFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "src" && strings.HasPrefix(a.Val, "/static/") }); src < 0 || n.FirstChild != nil {
					t.Errorf("%s: a script that is not the page's own", path)
				}
				scripts++
			case "img", "iframe", "object":
				t.Errorf("%s: an element <%s>", path, n.Data)
			}
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.HasPrefix(strings.ToLower(a.Val), "javascript:") {
					t.Errorf("%s: %s=%q on <%s>", path, a.Key, a.Val, n.Data)
				}
			}
		}
		if scripts == 0 {
			t.Errorf("%s: the page's own script is missing", path)
		}
	}
}

func TestAPageMayDoNothingButItsOwn(t *testing.T) {
	for _, path := range []string{"/", "/nowhere", "/messages"} {
		h := get(t, realistic(), path).Header()
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "same-origin",
			"Cache-Control":           "private, no-cache",
			"Content-Type":            "text/html; charset=utf-8",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}

func TestFilesAreKeptByTheirContent(t *testing.T) {
	_, links := words(t, get(t, &fake{}, "/").Body.String())
	named := regexp.MustCompile(`^/static/\w+\.[0-9a-f]{16}\.(css|js|svg)$`)
	found := 0
	for _, l := range links {
		if !strings.HasPrefix(l, "/static/") {
			continue
		}
		found++
		if !named.MatchString(l) {
			t.Errorf("%s does not tell its content", l)
		}
		w := get(t, &fake{}, l)
		if w.Code != 200 || w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || w.Body.Len() == 0 {
			t.Errorf("%s: status %d, %v", l, w.Code, w.Header())
		}
		r := httptest.NewRequest(http.MethodGet, l, nil)
		r.Header.Set("If-None-Match", w.Header().Get("ETag"))
		again := httptest.NewRecorder()
		New(&fake{}, Options{}).ServeHTTP(again, r)
		if again.Code != http.StatusNotModified {
			t.Errorf("%s: status %d for a browser that has it", l, again.Code)
		}
	}
	if found != 5 {
		t.Errorf("%d files, want 5: %q", found, links)
	}
	if w := get(t, &fake{}, "/static/style.0000000000000000.css"); w.Code != 404 || w.Header().Get("Cache-Control") != "" {
		t.Errorf("a file of another version: status %d, %v", w.Code, w.Header())
	}
}

func TestOtherSpellingsAreMovedToTheOne(t *testing.T) {
	for path, want := range map[string]string{
		"/domains/ACME.Example":                                  "/domains/acme.example",
		"/domains/acme.example.?days=90":                         "/domains/acme.example?days=90",
		"/domains/B%C3%BCcher.example/senders":                   "/domains/xn--bcher-kva.example/senders",
		"/domains/acme.example?first=2026-10-01&last=2026-10-31": "/domains/acme.example?from=2026-10-01&to=2026-11-01",
		"/?q=a&first=2026-10-01&last=2026-10-31":                 "/?from=2026-10-01&q=a&to=2026-11-01",
	} {
		w := get(t, realistic(), path)
		if w.Code != http.StatusFound || w.Header().Get("Location") != want {
			t.Errorf("%s: status %d to %q, want %s", path, w.Code, w.Header().Get("Location"), want)
		}
	}
}

func TestASearchFindsNamesAsTheyAreStored(t *testing.T) {
	for in, want := range map[string]string{"ACME": "acme", "bücher.example": "xn--bcher-kva.example", "a.": "a.", "<b>": "<b>"} {
		if got := searchName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestAllLinksStandUnderTheBase(t *testing.T) {
	h := http.StripPrefix("/dmarc", New(realistic(), Options{Base: "/dmarc/", Now: func() time.Time { return now }, Adviser: counsel()}))
	for _, path := range []string{"/dmarc/", "/dmarc/domains/acme.example", "/dmarc/domains/acme.example/senders", "/dmarc/domains/acme.example/reporters",
		"/dmarc/domains/acme.example/reports", "/dmarc/domains/acme.example/dns", "/dmarc/domains/acme.example/policy?mend=as+newsbird.example", "/dmarc/domains/acme.example/sources",
		"/dmarc/domains/acme.example/source?of=192.0.2.1", "/dmarc/messages", "/dmarc/domains/never.example", "/dmarc/nowhere", "/dmarc/?days=x"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		_, links := words(t, w.Body.String())
		for _, l := range links {
			if !strings.HasPrefix(l, "/dmarc/") && !strings.HasPrefix(l, "#") {
				t.Errorf("%s links to %s", path, l)
			}
		}
		if len(links) < 6 {
			t.Errorf("%s: only %d links", path, len(links))
		}
	}
}

func TestPagesAreCompressedAndHaveHeads(t *testing.T) {
	h := New(realistic(), Options{Now: func() time.Time { return now }})
	server := httptest.NewServer(h)
	defer server.Close()
	head, err := http.Head(server.URL + "/")
	if err != nil || head.StatusCode != 200 {
		t.Fatalf("HEAD: %v, %v", head, err)
	}
	head.Body.Close()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/domains/acme.example", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	h.ServeHTTP(w, r)
	if w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("not compressed: %v", w.Header())
	}
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	says(t, string(page), "acme.example")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", w.Code)
	}
}
