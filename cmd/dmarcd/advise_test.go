package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/advice"
)

// Three months of reports about a shop whose newsletter has lost its key: the
// command says so, in words and as JSON.
func TestAdviseSaysWhatReportsLetOneExpect(t *testing.T) {
	t.Parallel()
	url := sampled(t)
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}}

	text := w.run(t, "advise", "Acme.Example.")
	for _, want := range []string{"acme.example   p=none", "Not ready for quarantine:", "Fix first", "1. newsbird.example", "Publish now", "_dmarc.acme.example"} {
		if !strings.Contains(text.stdout, want) {
			t.Errorf("no %q in\n%s", want, text.stdout)
		}
	}
	for args, want := range map[string][2]string{
		"acme.example":                 {"not_ready", "quarantine"},
		"--policy reject acme.example": {"not_ready", "reject"},
		"north.example":                {"done", "reject"},
		// Five days are never enough; that a sender of the shop would lose mail shows in them on some days of the month.
		"--days 5 --policy reject acme.example": {"not_enough_evidence or not_ready", "reject"},
	} {
		got := w.run(t, append([]string{"advise", "--format", "json"}, strings.Fields(args)...)...)
		var out struct {
			Verdict string `json:"verdict"`
			Target  struct {
				P string `json:"p"`
			} `json:"target"`
		}
		if err := json.Unmarshal([]byte(got.stdout), &out); err != nil || got.status != exitDone || !slices.Contains(strings.Split(want[0], " or "), out.Verdict) || out.Target.P != want[1] {
			t.Errorf("%s: %+v, %v, status %d; want %v\n%s", args, out, err, got.status, want, got.stderr)
		}
	}
	h := openTest(t, url).handler()
	for _, policy := range []string{"", "none", "quarantine", "reject"} {
		var byAPI, byCommand advice.JSON
		query, args := "", []string{"advise", "--format", "json"}
		if policy != "" {
			query, args = "?policy="+policy, append(args, "--policy", policy)
		}
		if code := call(t, h, "GET", "/api/v1/domains/acme.example/advice"+query, &byAPI); code != http.StatusOK {
			t.Fatal(code)
		}
		if err := json.Unmarshal([]byte(w.run(t, append(args, "acme.example")...).stdout), &byCommand); err != nil || !reflect.DeepEqual(byAPI, byCommand) {
			t.Errorf("%q: the API says %+v\nthe command says %+v, %v", policy, byAPI, byCommand, err)
		}
		page := httptest.NewRecorder()
		h.ServeHTTP(page, httptest.NewRequest("GET", "/domains/acme.example/policy"+strings.Replace(query, "policy", "p", 1), nil))
		if got := heldByClass(page.Body.String()); page.Code != http.StatusOK || !maps.Equal(got, byAPI.Simulation.AffectedByClass) {
			t.Errorf("%q: the page says %v, the API %v", policy, got, byAPI.Simulation.AffectedByClass)
		}
		var each []string // policy: as the API has it
		for _, p := range byAPI.Policies {
			each = append(each, fmt.Sprint(p.Tags, " ", p.Quarantined, " ", p.Rejected, " ", p.AffectedByClass["own"]+p.AffectedByClass["service"]))
		}
		if got := policiesOf(page.Body.String()); len(each) < 2 || !slices.Equal(got, each) {
			t.Errorf("%q: the page says %q, the API %q", policy, got, each)
		}
		if !strings.Contains(page.Body.String(), byAPI.Headline) {
			t.Errorf("%q: the page does not say %q", policy, byAPI.Headline)
		}
	}

	// Whose a sender is, is said on the page, and the verdict follows.
	page := httptest.NewRecorder()
	h.ServeHTTP(page, httptest.NewRequest("GET", "/domains/acme.example/source?of=198.51.100.64", nil))
	csrf := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(page.Body.String())
	if csrf == nil {
		t.Fatalf("no form of the page is bound to who asks:\n%s", page.Body)
	}
	form := httptest.NewRequest("POST", "/domains/acme.example/overrules", strings.NewReader("network=198.51.100.64&network=198.51.100.65&class=service&note=invoices&csrf="+csrf[1]))
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	said := httptest.NewRecorder()
	h.ServeHTTP(said, form)
	if got := w.run(t, "advise", "acme.example").stdout; said.Code != http.StatusSeeOther || !strings.Contains(got, "1. paperplane.example") || !strings.Contains(got, "2. newsbird.example") {
		t.Errorf("said with %d; then\n%s", said.Code, got)
	}
	for args, status := range map[string]int{"never.example": exitFailed, "": exitUsage, "a b": exitUsage, "--days 0 acme.example": exitUsage, "--policy maybe acme.example": exitUsage, "not_a..domain": exitUsage} {
		if got := w.run(t, append([]string{"advise"}, strings.Fields(args)...)...); got.status != status || got.stdout != "" {
			t.Errorf("%q: status %d, want %d\n%s%s", args, got.status, status, got.stdout, got.stderr)
		}
	}
}

// policiesOf reads what the page of a policy says each policy would do:
// quarantined, rejected, and of those the owner's.
func policiesOf(page string) (out []string) {
	for _, m := range regexp.MustCompile(`<tr data-policy="([^"]+)"><th scope="row">.*?</th><td class="n">([0-9,]+)</td><td class="n">([0-9,]+)</td><td class="n">([0-9,]+)</td>`).FindAllStringSubmatch(page, -1) {
		out = append(out, strings.ReplaceAll(strings.Join(m[1:], " "), ",", ""))
	}
	return out
}

// heldByClass reads how much of each class the page of a policy says would be
// quarantined or rejected.
func heldByClass(page string) map[string]int64 {
	out := map[string]int64{"own": 0, "service": 0, "forwarder": 0, "suspicious": 0, "unknown": 0}
	for _, m := range regexp.MustCompile(`<tr data-class="(\w+)"><th scope="row">[^<]*</th>(?:<td class="n">[^<]*</td>){3}<td class="n">([0-9,]+)</td>`).FindAllStringSubmatch(page, -1) {
		if n, err := strconv.ParseInt(strings.ReplaceAll(m[2], ",", ""), 10, 64); err == nil && m[1] != "all" {
			out[m[1]] = n
		}
	}
	return out
}
