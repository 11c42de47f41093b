package walk

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// A line is a line of a table: its cells by the names of their columns, its head under "",
// and where its links lead.
type line struct {
	cells map[string]string
	links []string
}

// table reads the first table of a page of a class.
func table(t *testing.T, address, class string) []line {
	t.Helper()
	if all := tables(t, address, class); len(all) > 0 {
		return all[0]
	}
	return nil
}

// tables reads the tables of a page of a class.
func tables(t *testing.T, address, class string) (all [][]line) {
	t.Helper()
	body, _, err := fetch(address)
	if err != nil {
		t.Fatal(err)
	}
	page, err := html.Parse(strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	for n := range page.Descendants() {
		if n.DataAtom != atom.Table || !strings.Contains(attribute(n, "class"), class) {
			continue
		}
		var lines []line
		for row := range n.Descendants() {
			if row.DataAtom != atom.Tr || row.Parent.DataAtom != atom.Tbody {
				continue
			}
			l := line{cells: make(map[string]string)}
			for in := range row.Descendants() {
				switch in.DataAtom {
				case atom.Td, atom.Th:
					l.cells[attribute(in, "data-label")] = words(in)
				case atom.A:
					l.links = append(l.links, attribute(in, "href"))
				}
			}
			lines = append(lines, l)
		}
		all = append(all, lines)
	}
	return all
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func words(n *html.Node) string {
	var b strings.Builder
	for in := range n.Descendants() {
		if in.Type == html.TextNode {
			b.WriteString(in.Data)
		}
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(b.String(), "\u00a0", " ")), " ")
}

// listsAgree holds the lists of reports, failures, TLS reports and messages, line by line,
// against what the API lists.
func listsAgree(t *testing.T, base string) {
	t.Helper()
	from := "&from=" + time.Now().UTC().AddDate(0, 0, -89).Format(time.DateOnly)
	same := func(what string, i int, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("line %d of %s: %q, and the API has %q", i+1, what, got, want)
		}
	}
	// There is a link that ends with the number of what the line is about.
	leads := func(what string, i int, l line, to string) {
		t.Helper()
		for _, link := range l.links {
			if path, _, _ := strings.Cut(link, "#"); strings.HasSuffix(path, to) {
				return
			}
		}
		t.Errorf("line %d of %s leads to %q, not to %s", i+1, what, l.links, to)
	}

	var reports struct {
		Items []struct {
			ID       string
			Domain   string
			Org_Name string
			Totals   struct{ Messages, DMARC_Pass, Quarantine, Reject int64 }
			Active   bool
		}
	}
	of := map[string]string{"/reports": "", "/domains/" + owner + "/reports": "&domain=" + owner}
	for path, filter := range of {
		read(t, base+"/api/v1/reports?limit=100"+from+filter, &reports)
		lines := table(t, base+path+"?days=90", "reports")
		if len(lines) != len(reports.Items) || len(lines) < 100 {
			t.Fatalf("%s has %d lines, and the API %d", path, len(lines), len(reports.Items))
		}
		for i, r := range reports.Items {
			l := lines[i]
			same(path, i, l.cells["Messages"], thousands(r.Totals.Messages))
			same(path, i, l.cells["Stopped"], thousands(min(r.Totals.Messages-r.Totals.DMARC_Pass, r.Totals.Quarantine+r.Totals.Reject)))
			if filter == "" && r.Domain == owner {
				same(path, i, l.cells["Domain"], r.Domain)
			}
			if r.Domain == owner && !strings.Contains(r.Org_Name, "<") { // a long name is cut
				same(path, i, l.cells["Reporter"], r.Org_Name)
			}
			leads(path, i, l, "/reports/"+url.PathEscape(r.ID))
		}
	}

	var failures struct {
		Items []struct {
			ID              string
			Reported_Domain string
			Source_IP       *string
			Incidents       int64
		}
	}
	read(t, base+"/api/v1/failures?limit=100"+from, &failures)
	lines := table(t, base+"/failures?days=90", "failures")
	if len(lines) != len(failures.Items) || len(lines) == 0 {
		t.Fatalf("%d failure reports, and the API has %d", len(lines), len(failures.Items))
	}
	for i, f := range failures.Items {
		source := "not said"
		if f.Source_IP != nil {
			source = *f.Source_IP
		}
		same("failures", i, lines[i].cells["Address"], source)
		if !strings.Contains(f.Reported_Domain, "<") {
			same("failures", i, lines[i].cells["Domain"], f.Reported_Domain)
		}
		if f.Incidents > 1 && !strings.HasSuffix(lines[i].cells["What failed"], thousands(f.Incidents)+" messages") {
			t.Errorf("line %d of failures: %q, and the API has %d incidents", i+1, lines[i].cells["What failed"], f.Incidents)
		}
		leads("failures", i, lines[i], "/failures/"+url.PathEscape(f.ID))
	}

	var tls struct {
		Items []struct {
			Policies []struct{ Domain string }
			Totals   struct{ Successful_Sessions, Failed_Sessions int64 }
		}
	}
	read(t, base+"/api/v1/tls?limit=100&domain="+owner+from, &tls)
	var sessions, failed int64
	for _, r := range tls.Items {
		sessions, failed = sessions+r.Totals.Successful_Sessions+r.Totals.Failed_Sessions, failed+r.Totals.Failed_Sessions
	}
	for i, l := range table(t, base+"/tls?days=90", "cards") {
		if l.cells[""] == owner {
			same("TLS", i, l.cells["Sessions"], thousands(sessions))
			same("TLS", i, l.cells["Failed"], thousands(failed))
			same("TLS", i, l.cells["Reports"], strconv.Itoa(len(tls.Items)))
			sessions = -1
		}
	}
	if sessions >= 0 || failed == 0 {
		t.Errorf("the list of domains with TLS reports has no line of %s; %d sessions failed", owner, failed)
	}

	var messages struct {
		Items []struct {
			ID      int64
			Outcome string
			Parts   []struct{ Report *string }
		}
	}
	read(t, base+"/api/v1/messages?limit=100", &messages)
	lines = table(t, base+"/messages", "ledger")
	if len(lines) != len(messages.Items) || len(lines) < 100 {
		t.Fatalf("%d messages, and the API has %d", len(lines), len(messages.Items))
	}
	for i, m := range messages.Items {
		leads("messages", i, lines[i], "/messages/"+strconv.FormatInt(m.ID, 10))
		if !strings.Contains(lines[i].cells["Fate"], m.Outcome) {
			t.Errorf("line %d of messages: %q, and the API has %s", i+1, lines[i].cells["Fate"], m.Outcome)
		}
	}
	intakeAgrees(t, base)
}

// intakeAgrees holds mailboxes and passes, as the page about the intake has them, against
// the API.
func intakeAgrees(t *testing.T, base string) {
	t.Helper()
	type item struct {
		Mailbox, Text, State string
		Waiting, Failures    int64
	}
	var mailboxes, passes struct{ Items []item }
	var page [][]line
	// They change by themselves: the page is of a moment when they did not.
	for steady := false; !steady; {
		var mailboxesBefore, passesBefore struct{ Items []item }
		read(t, base+"/api/v1/mailboxes", &mailboxesBefore)
		read(t, base+"/api/v1/passes", &passesBefore)
		page = tables(t, base+"/intake", "health")
		mailboxes.Items, passes.Items = nil, nil
		read(t, base+"/api/v1/mailboxes", &mailboxes)
		read(t, base+"/api/v1/passes", &passes)
		steady = slices.Equal(mailboxesBefore.Items, mailboxes.Items) && slices.Equal(passesBefore.Items, passes.Items) && len(passes.Items) > 4 &&
			!slices.ContainsFunc(mailboxes.Items, func(m item) bool { return m.State == "not_read_yet" })
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
	words := map[string]string{
		"failing": "cannot be read", "unattended": "nobody reads it", "reading": "being read", "read": "read",
		"pass failing": "fails", "pass unattended": "nobody makes it", "pass fine": "fine",
	}
	if len(page) != 2 || len(page[0]) != 2 || len(mailboxes.Items) != 2 || len(page[1]) != len(passes.Items) {
		t.Fatalf("the page has %q; the API has the mailboxes %v and the passes %v", page, mailboxes.Items, passes.Items)
	}
	for i, m := range mailboxes.Items {
		if cells := page[0][i].cells; !strings.HasPrefix(cells[""], m.Mailbox) || cells["Standing"] != words[m.State] || cells["Waiting"] != thousands(m.Waiting) {
			t.Errorf("the page has %q, and the API the mailbox %+v", cells, m)
		}
	}
	for i, p := range passes.Items {
		if cells := page[1][i].cells; cells[""] != p.Text || !strings.HasPrefix(cells["Standing"], words["pass "+p.State]) || cells["Failed, ever"] != thousands(p.Failures) {
			t.Errorf("the page has %q, and the API the pass %+v", cells, p)
		}
	}
}
