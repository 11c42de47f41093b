package store_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

func TestRecordsAreKeptWithWhatChanged(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	add(t, s, mail(1, daily("1", row("192.0.2.1", 1, pass, pass, dmarc.DispositionNone))))
	at := received
	due := func(now time.Time) []string {
		t.Helper()
		list, err := s.DueDomains(ctx, now, 10)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := due(at); !reflect.DeepEqual(got, []string{"example.com"}) {
		t.Fatalf("%q are due, want the domain that was never looked at", got)
	}
	if _, err := s.Look(ctx, "example.com"); !errors.Is(err, dmarc.ErrNotFound) {
		t.Errorf("before the first look: %v", err)
	}
	set := func(name string, values ...string) records.RecordSet {
		return records.RecordSet{Name: name, Type: "TXT", Values: append([]string{}, values...)}
	}
	look := func(failed bool, findings []string, sets ...records.RecordSet) {
		t.Helper()
		r := &records.Result{Domain: "example.com", CheckedAt: at, Findings: []records.ResultFinding{}}
		for _, severity := range findings {
			r.Findings = append(r.Findings, records.ResultFinding{ID: "spf.missing", Severity: severity, What: "a \x00 b"})
		}
		if err := s.SaveLook(ctx, &records.Look{Domain: "example.com", At: at, Next: at.Add(time.Hour), Result: r, Records: sets, Failed: failed}); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Hour)
	}
	look(false, []string{"error", "warning", "ok"}, set("example.com", "v=spf1 -all"), set("_dmarc.example.com"))
	look(false, nil, set("example.com", "v=spf1 -all"), set("_dmarc.example.com", "v=DMARC1; p=none"), set("s1._domainkey.example.com", "p=x"))
	look(true, nil, set("example.com", "v=spf1 ~all"))                                                                                            // the others failed
	look(false, nil, set("example.com", "v=spf1 ~all"), set("_dmarc.example.com", "v=DMARC1; p=reject"), set("s1._domainkey.example.com", "p=x")) // and are back
	look(false, []string{"error"}, set("example.com", "v=spf1 ~all"), set("_dmarc.example.com"))                                                  // nobody asks for the key any more

	changes, next, err := s.RecordChanges(ctx, "example.com", dmarc.ChangeQuery{Page: dmarc.Page{Limit: 3}})
	if err != nil || next == "" {
		t.Fatalf("%v, next %q", err, next)
	}
	rest, next, err := s.RecordChanges(ctx, "example.com", dmarc.ChangeQuery{Page: dmarc.Page{Limit: 3, After: next}})
	if err != nil || next != "" {
		t.Fatalf("%v, next %q", err, next)
	}
	seen := func(hours int) time.Time { return received.Add(time.Duration(hours) * time.Hour) }
	want := []dmarc.RecordChange{
		{SeenAt: seen(4), Name: "_dmarc.example.com", Type: "TXT", Before: []string{"v=DMARC1; p=reject"}, After: []string{}},
		{SeenAt: seen(3), Name: "_dmarc.example.com", Type: "TXT", Before: []string{"v=DMARC1; p=none"}, After: []string{"v=DMARC1; p=reject"}},
		{SeenAt: seen(2), Name: "example.com", Type: "TXT", Before: []string{"v=spf1 -all"}, After: []string{"v=spf1 ~all"}},
		{SeenAt: seen(1), Name: "_dmarc.example.com", Type: "TXT", Before: []string{}, After: []string{"v=DMARC1; p=none"}},
	}
	if got := append(changes, rest...); !reflect.DeepEqual(got, want) {
		t.Errorf("changes\n%+v, want\n%+v", got, want)
	}
	since, err := s.Unchanged(ctx, "example.com")
	if wantSince := map[string]time.Time{"example.com TXT": seen(2), "_dmarc.example.com TXT": seen(4)}; err != nil || !reflect.DeepEqual(since, wantSince) {
		t.Errorf("unchanged since %v, %v; want %v", since, err, wantSince)
	}
	r, err := s.Look(ctx, "example.com")
	if err != nil || len(r.Findings) != 1 || r.Findings[0].What != "a  b" && r.Findings[0].What != "a \u0000 b" || !r.CheckedAt.Equal(seen(4)) {
		t.Errorf("%+v, %v", r, err)
	}
	if got := due(seen(4)); len(got) != 0 {
		t.Errorf("%q are due before their time", got)
	}
	if got := due(seen(5)); len(got) != 1 {
		t.Errorf("%q are due at their time", got)
	}
}

// A look leaves a memory for the next, and keys are found again under whatever
// names hold them.
func TestLooksRememberKeysAndWhatOnlyTimeTells(t *testing.T) {
	s, _ := open(t)
	ctx := context.Background()
	other := daily("2", row("192.0.2.1", 1, pass, pass, dmarc.DispositionNone))
	other.domain = "example.org"
	add(t, s, mail(1, daily("1", row("192.0.2.1", 1, pass, pass, dmarc.DispositionNone))), mail(2, other))
	if m, err := s.LookMemory(ctx, "example.com"); err != nil || !reflect.DeepEqual(m, &records.Memory{}) {
		t.Errorf("before the first look: %+v, %v", m, err)
	}
	look := func(domain string, failed bool, memory records.Memory, keys map[string]string) {
		t.Helper()
		r := &records.Result{Domain: domain, Findings: []records.ResultFinding{}}
		if err := s.SaveLook(ctx, &records.Look{Domain: domain, At: received, Next: received, Result: r, Failed: failed, Memory: memory, Keys: keys}); err != nil {
			t.Fatal(err)
		}
	}
	m := records.Memory{
		LowTTL: map[string]time.Time{"example.com MX": received},
		Behind: map[string]records.Lag{"ns1.example.com (192.0.2.53)": {Serial: 1<<32 - 1, Since: received}},
	}
	look("example.com", false, m, map[string]string{"a._domainkey.example.com": "one", "b._domainkey.example.com": "two", "c._domainkey.example.com": ""})
	look("example.org", false, records.Memory{}, map[string]string{"s._domainkey.example.org": "one", "t._domainkey.example.org": "three"})
	if got, err := s.LookMemory(ctx, "example.com"); err != nil || !reflect.DeepEqual(got, &m) {
		t.Errorf("memory %+v, %v; want %+v", got, err, m)
	}
	names := func(want map[string][]string) {
		t.Helper()
		if got, err := s.KeyNames(ctx, []string{"one", "two", "four"}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("names %v, %v; want %v", got, err, want)
		}
	}
	names(map[string][]string{"one": {"a._domainkey.example.com", "s._domainkey.example.org"}, "two": {"b._domainkey.example.com"}})
	look("example.com", true, m, map[string]string{"a._domainkey.example.com": ""}) // revoked; b failed
	names(map[string][]string{"one": {"s._domainkey.example.org"}, "two": {"b._domainkey.example.com"}})
	look("example.com", false, m, map[string]string{"a._domainkey.example.com": "two"}) // nobody asks for b any more
	names(map[string][]string{"one": {"s._domainkey.example.org"}, "two": {"a._domainkey.example.com"}})
	look("example.com", false, m, nil)
	names(map[string][]string{"one": {"s._domainkey.example.org"}})
}
