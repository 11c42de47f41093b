package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/api"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/sample"
	"github.com/dmarcd/dmarcd/sources"
	"github.com/dmarcd/dmarcd/store"
)

// twoDomains is three months of mails with reports, some of them broken.
var twoDomains = sample.Options{Seed: 1, Now: time.Now(), Domains: 2}

// sampled returns the URL of a database that has twoDomains in it.
func sampled(t testing.TB) string {
	return pgtest.Copy(t, "two domains", func(url string) {
		dir := t.TempDir()
		n := 0
		for mail := range sample.Mailbox(twoDomains, nil) {
			n++
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.eml", n)), mail.Raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(build(t), "import", "--format", "json", dir)
		cmd.Env = []string{"DMARCD_CONFIG=" + os.DevNull, "DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error", "HOME=" + dir}
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		var got importResult
		if jsonErr := json.Unmarshal(out, &got); jsonErr != nil || got.Reports.Added == 0 {
			t.Fatalf("%v, %v\n%s\n%s", err, jsonErr, out, said.String())
		}
	})
}

// advised is a database with three months of reports about two domains, and
// what makes advice of them.
type advised struct {
	w       world
	s       *store.Store
	service *service
	cfg     *config
}

func adviseSample(t *testing.T) *advised {
	t.Helper()
	url := sampled(t)
	a := &advised{w: world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}}}
	db, err := store.Open(t.Context(), url, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	log := slog.New(slog.DiscardHandler)
	a.s = store.New(db, log)
	senders, err := sources.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	o := &overruler{store: a.s}
	a.service = &service{log: log, store: a.s, metrics: &meters{lookedUp: newLookedUp()}, overrules: o, adviser: &adviser{store: a.s, senders: senders, overrules: o, log: log}}
	a.cfg = &config{}
	if a.cfg.Resolver, err = sample.ServeDNS(t.Context(), twoDomains); err != nil {
		t.Fatal(err)
	}
	a.cfg.Sources.PerSecond = 100_000
	return a
}

// advise judges a policy for a domain, or the next step if none is given.
func (a *adviser) advise(ctx context.Context, domain string, target dmarc.Policy, period dmarc.Period) (*advice.Advice, error) {
	e, err := a.Evidence(ctx, domain, period)
	if err != nil {
		return nil, err
	}
	return advice.For(e, advice.Options{Target: target}), nil
}

// classOf returns what became of a source.
func (a *advised) classOf(t *testing.T, domain, address string) (class dmarc.Class, clues string) {
	t.Helper()
	found, err := a.service.adviser.advise(t.Context(), domain, dmarc.PolicyUnknown, lastDays(twoDomains.Now, 90))
	if err != nil {
		t.Fatal(err)
	}
	for i := range found.Sources {
		if c := &found.Sources[i]; c.JSON().Source == address {
			return c.Class, strings.Join(c.Clues, "; ")
		}
	}
	t.Fatalf("%s did not send as %s", address, domain)
	return 0, ""
}

// The command, the API and what is kept tell the same numbers.
func TestAdviceIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	a := adviseSample(t)
	if err := a.service.adviser.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	guard := &access.Guard{Store: a.s, Adviser: a.service.adviser, Said: a.service.overrules}
	handler := api.New(guard, nil, api.Options{Advise: guard.Advise, Evidence: guard.Evidence, Overrules: guard})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(access.With(r.Context(), access.Everybody())))
	}))
	defer server.Close()
	get := func(path string, into any) string {
		t.Helper()
		resp, err := http.Get(server.URL + "/api/v1" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v\n%.500s", path, resp.Status, err, text)
		}
		return string(text)
	}
	now := time.Now()
	for _, domain := range []string{"acme.example", "north.example"} {
		for _, policy := range []string{"", "none", "quarantine", "reject"} {
			var fromAPI, fromCommand, fromStore map[string]any
			get("/domains/"+domain+"/advice?policy="+policy, &fromAPI)
			args := []string{"advise", "--format", "json", domain}
			if policy != "" {
				args = []string{"advise", "--format", "json", "--policy", policy, domain}
			}
			if err := json.Unmarshal([]byte(a.w.run(t, args...).stdout), &fromCommand); err != nil {
				t.Fatal(err)
			}
			found, err := a.service.adviser.advise(t.Context(), domain, dmarc.ParsePolicy(policy), lastDays(now, 90))
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(found.JSON())
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &fromStore); err != nil {
				t.Fatal(err)
			}
			if lastDays(time.Now(), 1) != lastDays(now, 1) {
				t.Skip("the day has changed meanwhile")
			}
			delete(fromAPI, "$schema")
			if !reflect.DeepEqual(fromAPI, fromStore) || !reflect.DeepEqual(fromCommand, fromStore) {
				t.Errorf("%s, policy %q\nAPI     %v\ncommand %v\nstore   %v", domain, policy, fromAPI, fromCommand, fromStore)
			}
			type line struct {
				Name                                              string
				Messages, Affected, Quarantined, Rejected, Spared int64
			}
			for _, p := range found.JSON().Policies {
				tags := p.Tags
				if !strings.Contains(tags, "t=y") {
					tags += "; t=n"
				}
				var sim struct{ Total line }
				get("/domains/"+domain+"/simulation?"+strings.ReplaceAll(tags, "; ", "&"), &sim)
				if want := (line{domain, p.Messages, p.Affected, p.Quarantined, p.Rejected, p.Spared}); sim.Total != want {
					t.Errorf("%s under %s: %+v, want %+v", domain, p.Tags, sim.Total, want)
				}
			}
			if policy != "" {
				var sim struct {
					Total      line
					ByClass    []line `json:"by_class"`
					BySource   []line `json:"by_source"`
					ByReporter []line `json:"by_reporter"`
					ByAuthor   []line `json:"by_subdomain"`
					ByDay      []line `json:"by_day"`
				}
				get("/domains/"+domain+"/simulation?t=n&p="+policy, &sim)
				total := found.Simulation.Total
				want := line{domain, total.Messages, total.Affected(), total.Quarantined, total.Rejected, total.Spared}
				for by, lines := range map[string][]line{"total": {sim.Total}, "class": sim.ByClass, "source": sim.BySource, "reporter": sim.ByReporter, "subdomain": sim.ByAuthor, "day": sim.ByDay} {
					got := line{Name: domain}
					for _, l := range lines {
						got.Messages, got.Affected, got.Quarantined, got.Rejected, got.Spared = got.Messages+l.Messages, got.Affected+l.Affected, got.Quarantined+l.Quarantined, got.Rejected+l.Rejected, got.Spared+l.Spared
					}
					if got != want {
						t.Errorf("%s, policy %q by %s: %+v, want %+v", domain, policy, by, got, want)
					}
				}
				var inFull, fromBreakdown any
				get("/domains/"+domain+"/simulation?t=n&p="+policy, &inFull)
				delete(inFull.(map[string]any), "$schema")
				got := a.w.run(t, "advise", "--policy", policy, "--by", "day", "--format", "json", domain)
				if err := json.Unmarshal([]byte(got.stdout), &fromBreakdown); err != nil {
					t.Fatalf("%v\n%s", err, got.stderr)
				}
				if !reflect.DeepEqual(fromBreakdown, inFull) {
					t.Errorf("%s, policy %q\nAPI     %v\ncommand %v", domain, policy, inFull, fromBreakdown)
				}
				for by, lines := range map[string][]line{"class": sim.ByClass, "source": sim.BySource, "reporter": sim.ByReporter, "subdomain": sim.ByAuthor, "day": sim.ByDay} {
					text := a.w.run(t, "advise", "--policy", policy, "--by", by, domain).stdout
					if !strings.Contains(text, "messages by "+by+"\n") || strings.Count(text, "\n") != len(lines)+4 || !strings.Contains(text, lines[0].Name) {
						t.Errorf("%s, policy %q by %s:\n%s", domain, policy, by, text)
					}
				}
				if worst := sim.BySource[0]; policy == "reject" && worst.Affected > 0 {
					affected := sim.Total.Affected
					get("/domains/"+domain+"/simulation?t=n&p="+policy+"&repaired="+worst.Name, &sim)
					if sim.Total.Affected != affected-worst.Affected {
						t.Errorf("%s: with %s repaired %d are affected, want %d", domain, worst.Name, sim.Total.Affected, affected-worst.Affected)
					}
				}
				continue
			}
			// A policy with all its tags, and a sender taken for mended, by its address or by its name.
			for _, query := range []string{"p=reject&sp=none&t=n", "p=reject&np=reject&t=y", "sp=quarantine&adkim=s&aspf=s", "p=quarantine&adkim=s&t=n&repaired=" + found.Sources[0].JSON().Source} {
				var sim struct {
					Tags  string
					Total line
				}
				var out advice.JSON
				get("/domains/"+domain+"/simulation?"+query, &sim)
				args := []string{"advise", "--format", "json", domain}
				for _, tag := range strings.Split(query, "&") {
					args = append(args, "--"+strings.Replace(tag, "p=", "policy=", strings.Count(tag[:2], "p=")))
				}
				got := a.w.run(t, args...)
				if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
					t.Fatalf("%q: %v\n%s", args, err, got.stderr)
				}
				s := out.Simulation
				if (line{domain, s.Messages, s.Affected, s.Quarantined, s.Rejected, s.Spared}) != sim.Total || s.Tags != sim.Tags {
					t.Errorf("%q: the command says %+v, the API %s, %+v", query, s, sim.Tags, sim.Total)
				}
			}
			for _, b := range found.Blockers {
				mended := a.w.run(t, "advise", "--format", "json", "--repaired", b.Name, domain)
				var out advice.JSON
				if err := json.Unmarshal([]byte(mended.stdout), &out); err != nil {
					t.Fatalf("%v\n%s", err, mended.stderr)
				}
				if want := found.Simulation.Total.Affected() - b.Messages; out.Simulation.Affected != want {
					t.Errorf("with %s mended %d are affected, want %d", b.Name, out.Simulation.Affected, want)
				}
			}
			if got := a.w.run(t, "advise", "--repaired", "nobody.example", domain); got.status != exitFailed || !strings.Contains(got.stderr, `no sender "nobody.example" has sent as `+domain) {
				t.Errorf("status %d, %s", got.status, got.stderr)
			}
			// What the pass has kept is that in short.
			var summary struct {
				Verdict string
				Advice  struct {
					Policy, Target, Attention, Sentence string
					Next                                *string
					Loss                                float64          `json:"loss_per_day"`
					ByClass                             map[string]int64 `json:"messages_by_class"`
					Blockers, Days                      int
				}
			}
			get("/domains/"+domain+"/summary", &summary)
			kept := summary.Advice
			if string(found.Verdict) != summary.Verdict || kept.Target != found.Target.String() || kept.Blockers != len(found.Blockers) || kept.Loss != found.LossADay ||
				kept.Days != found.Days || (kept.Next != nil) != (found.Next != nil) || kept.Next != nil && *kept.Next != found.Next.String() {
				t.Errorf("%s: kept %+v, %s; advised %+v", domain, kept, summary.Verdict, found.JSON())
			}
			for class, n := range kept.ByClass {
				c, _ := dmarc.ParseClass(class)
				if got := found.Simulation.ByClass[c].Messages; got != n {
					t.Errorf("%s: %d messages of class %s were kept, %d are counted", domain, n, class, got)
				}
			}
		}
	}

	// Every source has its class, page by page.
	found, err := a.service.adviser.advise(t.Context(), "acme.example", dmarc.PolicyUnknown, lastDays(twoDomains.Now, 90))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for after := ""; ; {
		var page struct {
			Items []struct {
				Source, Class string
				Messages      int64
			}
			Next  *string
			Total int
		}
		get("/domains/acme.example/classes?limit=7&after="+strings.ReplaceAll(after, " ", "%20"), &page)
		for _, item := range page.Items {
			got = append(got, fmt.Sprint(item))
		}
		if page.Total != len(found.Sources) {
			t.Fatalf("%d sources, want %d", page.Total, len(found.Sources))
		}
		if page.Next == nil {
			break
		}
		after = *page.Next
	}
	var want []string
	for _, c := range found.Busiest(nil) {
		want = append(want, fmt.Sprint(struct {
			Source, Class string
			Messages      int64
		}{c.JSON().Source, c.Class.String(), c.Summary.Messages}))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("classes\n got %q\nwant %q", got, want)
	}

	var urgent struct {
		Items []struct{ Domain, Verdict, Attention, Sentence string }
	}
	get("/attention", &urgent)
	if len(urgent.Items) < 2 || urgent.Items[0].Domain != "acme.example" || urgent.Items[0].Attention != "new_failure" || urgent.Items[0].Sentence == "" {
		t.Errorf("%+v", urgent.Items)
	}
}

// Names that lead back are found by the pass over addresses, and make a server
// the owner's; whatever says otherwise, the operator's word wins.
func TestIdentitiesAndOverrulesDecideWhoseASourceIs(t *testing.T) {
	a := adviseSample(t)
	ctx := t.Context()
	var err error
	if a.service.identifier, err = a.service.newIdentifier(a.cfg); err != nil {
		t.Fatal(err)
	}
	found := a.service.metrics.lookedUp.WithLabelValues("found")
	for _, pass := range []func() error{
		func() error { return a.service.adviser.pass(ctx) }, // tells which addresses there are
		func() error { return a.service.identifier.Pass(ctx) },
	} {
		if err := pass(); err != nil {
			t.Fatal(err)
		}
	}
	due, err := a.s.DueSources(ctx, time.Now(), 10)
	if err != nil || len(due) != 0 {
		t.Errorf("%d addresses are due after a pass, %v", len(due), err)
	}
	classes, err := a.s.SourceClasses(ctx, "acme.example")
	if err != nil {
		t.Fatal(err)
	}
	named := ""
	for _, c := range classes {
		if !c.Source.IsSingleIP() {
			continue
		}
		known, err := a.s.KnownSources(ctx, "acme.example", []netip.Addr{c.Source.Addr()})
		if err != nil {
			t.Fatal(err)
		}
		if names := known[c.Source.Addr()].Identity.Names; len(names) > 0 && strings.HasSuffix(names[0], ".acme.example") {
			named = c.Source.Addr().String()
			break
		}
	}
	if named == "" {
		t.Fatal("no address has a name that leads back to it")
	}
	if class, clues := a.classOf(t, "acme.example", named); class != dmarc.ClassOwn || !strings.Contains(clues, "leads back to it") {
		t.Errorf("%s is %s: %s", named, class, clues)
	}
	var metric dto.Metric
	if err := found.Write(&metric); err != nil || metric.GetCounter().GetValue() == 0 {
		t.Error("no address was counted", err)
	}

	network := netip.PrefixFrom(netip.MustParseAddr(named), 24).Masked()
	o := a.service.overrules
	say := func(p netip.Prefix, domain string, c dmarc.Class, note string) error {
		_, err := o.PutOverrule(ctx, &dmarc.Overrule{Domain: domain, Network: p, Class: c, Note: note, At: time.Now()})
		return err
	}
	for _, err := range []error{
		say(network, "", dmarc.ClassService, "of all domains"),
		say(network, "acme.example", dmarc.ClassForwarder, "of this domain"),
		say(netip.PrefixFrom(network.Addr(), 20).Masked(), "acme.example", dmarc.ClassSuspicious, "wider"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if class, clues := a.classOf(t, "acme.example", named); class != dmarc.ClassForwarder || !strings.Contains(clues, "you said so: of this domain") {
		t.Errorf("%s is %s: %s", named, class, clues)
	}
	if err := o.DropOverrule(ctx, "acme.example", network); err != nil {
		t.Fatal(err)
	}
	if class, clues := a.classOf(t, "acme.example", named); class != dmarc.ClassService || !strings.Contains(clues, "of all domains") {
		t.Errorf("%s is %s: %s", named, class, clues)
	}

	// The configuration wins, and says so.
	cfg := &config{}
	cfg.Sources.Own = []string{network.String()}
	o.file = cfg.overrules()
	a.service.adviser.kept.forget(time.Now().Add(keptFor)) // as a dmarcd that starts with it
	if class, clues := a.classOf(t, "acme.example", named); class != dmarc.ClassOwn || !strings.Contains(clues, "sources.own") {
		t.Errorf("%s is %s: %s", named, class, clues)
	}
	var refused dmarc.Refusal
	if err := say(network, "acme.example", dmarc.ClassService, ""); !errors.As(err, &refused) || !strings.Contains(err.Error(), "sources.own") {
		t.Errorf("what the configuration says was replaced: %v", err)
	}
	if err := o.DropOverrule(ctx, "", network); !errors.As(err, &refused) {
		t.Errorf("what the configuration says was dropped: %v", err)
	}
	list, err := o.Overrules(ctx, "acme.example")
	if err != nil || len(list) != 2 || !list[1].File || list[0].Note != "wider" {
		t.Errorf("%+v, %v", list, err)
	}
	// The verdict follows.
	if err := a.service.adviser.pass(ctx); err != nil {
		t.Fatal(err)
	}
	classes, err = a.s.SourceClasses(ctx, "acme.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range classes {
		if c.Source.Addr().String() == named && c.Class != dmarc.ClassOwn {
			t.Errorf("%s is kept as %s", named, c.Class)
		}
	}
}

// Imports ask nothing of DNS: the resolver that is named is not there.
func TestImportAsksNoDNS(t *testing.T) {
	asked := make(chan struct{}, 1)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		if _, _, err := conn.ReadFrom(make([]byte, 512)); err == nil {
			asked <- struct{}{}
		}
	}()
	dir := t.TempDir()
	n := 0
	for mail := range sample.Mailbox(sample.Options{Seed: 2, Now: time.Now(), Domains: 1}, nil) {
		if n++; n > 30 {
			break
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.eml", n)), mail.Raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + pgtest.URL(t), "DMARCD_LOG_LEVEL=error", "DMARCD_RESOLVER=" + conn.LocalAddr().String()}}
	w.run(t, "import", dir)
	select {
	case <-asked:
		t.Error("a question went to the resolver")
	default:
	}
}

// A change that was seen in DNS, and subdomains that do not exist, are part of
// what is judged: after the change no time has passed to judge it by.
func TestLooksAreEvidence(t *testing.T) {
	a := adviseSample(t)
	ctx := t.Context()
	now := time.Now().UTC()
	change := now.AddDate(0, 0, -5)
	before, after := `"v=DMARC1; p=none; rua=mailto:dmarc@acme.example"`, `"v=DMARC1; p=quarantine; rua=mailto:dmarc@acme.example"`
	at, record, yes, no := "acme.example", strings.Trim(after, `"`), true, false
	for i, value := range []string{before, after} {
		look := &records.Look{
			Domain: "acme.example", At: change.AddDate(0, 0, i-1), Next: now.AddDate(0, 0, 1),
			Records: []records.RecordSet{{Name: "_dmarc.acme.example", Type: "TXT", Values: []string{value}}},
			Result: &records.Result{Domain: "acme.example", Records: records.ResultRecords{
				DMARC:   &records.ResultDMARC{FoundAt: &at, Record: &record},
				Authors: []records.ResultAuthor{{Name: "news.acme.example", Exists: &yes}, {Name: "made.acme.example", Exists: &no}, {Name: "down.acme.example"}},
			}},
		}
		if err := a.s.SaveLook(ctx, look); err != nil {
			t.Fatal(err)
		}
	}
	e, err := a.service.adviser.Evidence(ctx, "acme.example", lastDays(now, 90))
	if err != nil {
		t.Fatal(err)
	}
	want := advice.Change{Day: change.Truncate(24 * time.Hour), From: dmarc.PolicyNone, To: dmarc.PolicyQuarantine}
	if n := len(e.Changes); n == 0 || e.Changes[n-1] != want {
		t.Errorf("changes %+v, want %+v", e.Changes, want)
	}
	for name, want := range map[string][2]bool{
		"news.acme.example": {false, false}, "made.acme.example": {true, false}, "down.acme.example": {false, true}, "unasked.acme.example": {false, true},
	} {
		if gone, unsure := e.Nonexistent(name), e.Unsure(name); gone != want[0] || unsure != want[1] {
			t.Errorf("%s does not exist: %v, unsure: %v; want %v", name, gone, unsure, want)
		}
	}
	found, err := a.service.adviser.advise(ctx, "acme.example", dmarc.PolicyReject, lastDays(now, 90))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(found.Reasons, func(r advice.Reason) bool { return r.ID == "recent_change" }) {
		t.Errorf("%+v", found.Reasons)
	}
}

// A domain that cannot be judged holds up no other, and is tried again later.
func TestADomainThatCannotBeJudgedHoldsUpNoOther(t *testing.T) {
	url := pgtest.URL(t)
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error"}}
	if got := w.run(t, "migrate"); got.status != exitDone {
		t.Fatal(got.stderr)
	}
	db, err := store.Open(t.Context(), url, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const fill = `
		WITH new AS (INSERT INTO domains (name) VALUES ('bad.example'), ('good.example') RETURNING id, name),
			days AS (
				INSERT INTO domain_days (day, domain_id, dated, rows, messages, dmarc_pass, dkim_aligned, spf_aligned, none, quarantine, reject, pass, unstated, estimated, reports, changes, reduced)
				SELECT current_date - 1, id, true, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1 FROM new WHERE name = 'bad.example'
			)
		INSERT INTO fact_lists (domain_id, day, reduced, facts)
		SELECT id, current_date - 1, 1, '\xffffffff' FROM new WHERE name = 'bad.example'`
	if _, err := db.Exec(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	s := store.New(db, slog.New(slog.DiscardHandler))
	a := &adviser{store: s, overrules: &overruler{store: s}, log: slog.New(slog.DiscardHandler)}
	if a.senders, err = sources.Builtin(); err != nil {
		t.Fatal(err)
	}
	if err := a.pass(t.Context()); err == nil || !strings.Contains(err.Error(), "bad.example") {
		t.Errorf("the pass says %v", err)
	}
	list, _, err := s.Attention(t.Context(), dmarc.AttentionQuery{Scope: dmarc.Everything, Page: dmarc.Page{Limit: 10}})
	if err != nil || len(list) != 1 || list[0].Domain != "good.example" || list[0].Verdict != "not_enough_evidence" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := a.pass(t.Context()); err != nil {
		t.Errorf("it is tried again at once: %v", err)
	}
}
