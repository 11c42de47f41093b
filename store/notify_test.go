package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/store"
)

// began is a step that begins an episode.
func began(domain string) dmarc.Step {
	e := dmarc.Event{At: received, Rule: dmarc.RuleSPFLimit, Domain: domain, Phase: dmarc.EventBegan, Problem: true, Title: "SPF of " + domain, Text: "a \x00 b"}
	return dmarc.Step{Event: e, Episode: dmarc.Episode{Memory: map[string]string{"lookups": "9"}}}
}

func over(domain string, quiet bool) dmarc.Step {
	return dmarc.Step{Event: dmarc.Event{At: received, Rule: dmarc.RuleSPFLimit, Domain: domain, Phase: dmarc.EventOver, Title: "over"}, Quiet: quiet}
}

// toOps composes a message to one target.
func toOps(key string) func([]dmarc.Event) ([]dmarc.OutgoingMessage, error) {
	return func(events []dmarc.Event) ([]dmarc.OutgoingMessage, error) {
		m := dmarc.OutgoingMessage{Key: key, Target: "ops", Kind: "events", Body: []byte(fmt.Sprint(len(events)))}
		for _, e := range events {
			m.Events = append(m.Events, e.ID)
		}
		return []dmarc.OutgoingMessage{m}, nil
	}
}

func TestAnEpisodeIsToldOnceByWhicheverProcess(t *testing.T) {
	a, db := open(t)
	b := store.New(db, slog.New(slog.DiscardHandler))
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for i := range 8 { // all saw the same
		s := []*store.Store{a, b}[i%2]
		wg.Go(func() {
			told, err := s.Tell(t.Context(), dmarc.Lease{}, &dmarc.Transition{Steps: []dmarc.Step{began("a.example"), began("b.example")}, Compose: toOps(fmt.Sprint("key", i))})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			total += len(told)
			mu.Unlock()
		})
	}
	wg.Wait()
	var deliveries int
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM deliveries").Scan(&deliveries); err != nil || total != 2 || deliveries != 1 {
		t.Errorf("%d events in %d messages, want 2 in 1; %v", total, deliveries, err)
	}
	open, err := a.Episodes(t.Context())
	if err != nil || len(open) != 2 || !reflect.DeepEqual(open[0], dmarc.Episode{Rule: dmarc.RuleSPFLimit, Domain: "a.example", Began: received, Memory: map[string]string{"lookups": "9"}}) {
		t.Errorf("episodes %+v, %v", open, err)
	}

	// It ends once, and quietly if so said.
	for _, c := range []struct {
		step dmarc.Step
		told int
	}{{over("a.example", false), 1}, {over("a.example", false), 0}, {over("b.example", true), 0}, {began("b.example"), 1}} {
		told, err := b.Tell(t.Context(), dmarc.Lease{}, &dmarc.Transition{Steps: []dmarc.Step{c.step}})
		if err != nil || len(told) != c.told {
			t.Errorf("%s of %s: told %d times, want %d; %v", c.step.Event.Phase, c.step.Event.Domain, len(told), c.told, err)
		}
	}
	if _, err := a.Tell(t.Context(), dmarc.Lease{}, &dmarc.Transition{Forget: []dmarc.NotifyRule{dmarc.RuleSPFLimit}}); err != nil {
		t.Fatal(err)
	}
	if open, err = a.Episodes(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("after the rule was switched off: %+v, %v", open, err)
	}
}

func TestWhoLostTheLeaseTellsNothing(t *testing.T) {
	a, b := pair(t, time.Minute)
	var stale dmarc.Lease
	err := a.Hold(t.Context(), "pass notify", func(_ context.Context, l dmarc.Lease) error { stale = l; return nil })
	if err != nil {
		t.Fatal(err)
	}
	err = b.Hold(t.Context(), "pass notify", func(ctx context.Context, l dmarc.Lease) error {
		told, err := b.Tell(ctx, l, &dmarc.Transition{Steps: []dmarc.Step{began("a.example")}, Compose: toOps("b")})
		if err != nil || len(told) != 1 {
			t.Errorf("the holder told %d, %v", len(told), err)
		}
		if _, err = b.Tell(ctx, l, &dmarc.Transition{Steps: []dmarc.Step{over("a.example", false)}}); err != nil {
			return err
		}
		// The first process wakes up and believes that nobody was told.
		if _, err := a.Tell(ctx, stale, &dmarc.Transition{Steps: []dmarc.Step{began("a.example")}, Compose: toOps("a")}); !errors.Is(err, dmarc.ErrLeaseLost) {
			t.Errorf("without the lease: %v, want %v", err, dmarc.ErrLeaseLost)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := a.Notifications(t.Context(), dmarc.NotificationQuery{Scope: dmarc.Everything, Page: dmarc.Page{Limit: 10}})
	if err != nil || len(list) != 2 || list[0].Phase != dmarc.EventOver || list[1].Text != "a  b" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestADeliveryIsAttemptedByOneAndEndsSentOrGivenUp(t *testing.T) {
	a, db := open(t)
	b := store.New(db, slog.New(slog.DiscardHandler))
	ctx := t.Context()
	if _, err := a.Tell(ctx, dmarc.Lease{}, &dmarc.Transition{Steps: []dmarc.Step{began("a.example")}, Compose: toOps("key")}); err != nil {
		t.Fatal(err)
	}
	claim := func(s *store.Store, hold time.Duration) *dmarc.OutgoingMessage {
		t.Helper()
		m, err := s.ClaimDelivery(ctx, "ops", hold)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	status := func() dmarc.DeliveryStatus {
		t.Helper()
		list, _, err := a.Notifications(ctx, dmarc.NotificationQuery{Scope: dmarc.Everything, Domain: "a.example", Page: dmarc.Page{Limit: 10}})
		if err != nil || len(list) != 1 || len(list[0].Deliveries) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[0].Deliveries[0]
	}
	first := claim(a, time.Hour)
	if first == nil || first.Key != "key" || string(first.Body) != "1" || first.Attempts != 1 {
		t.Fatalf("claimed %+v", first)
	}
	if m := claim(b, time.Hour); m != nil {
		t.Errorf("claimed twice: %+v", m)
	}
	// The first process dies in the attempt, and its claim runs out.
	if _, err := db.Exec(ctx, "UPDATE deliveries SET next_at = clock_timestamp() - interval '1 second'"); err != nil {
		t.Fatal(err)
	}
	second := claim(b, time.Hour)
	if second == nil || second.Key != "key" || second.Attempts != 2 {
		t.Fatalf("after the claim ran out: %+v", second)
	}
	// It was not dead after all, but its failure is no news any more.
	if err := a.NotDelivered(ctx, first, "too late", 0); err != nil {
		t.Fatal(err)
	}
	if m := claim(a, time.Hour); m != nil {
		t.Errorf("claimed twice: %+v", m)
	}
	if err := b.NotDelivered(ctx, second, "it answers 500", 0); err != nil {
		t.Fatal(err)
	}
	if s := status(); s.State != dmarc.DeliveryWaiting || s.Error != "it answers 500" || s.Attempts != 2 {
		t.Errorf("%+v", s)
	}
	if gone, err := a.GiveUp(ctx, time.Hour); err != nil || len(gone) != 0 {
		t.Errorf("given up at once: %+v, %v", gone, err)
	}
	if gone, err := a.GiveUp(ctx, 0); err != nil || len(gone) != 1 || gone[0].Key != "key" {
		t.Errorf("given up: %+v, %v", gone, err)
	}
	if s := status(); s.State != dmarc.DeliveryGivenUp || s.DoneAt.IsZero() || !s.NextAt.IsZero() {
		t.Errorf("%+v", s)
	}
	if m := claim(b, 0); m != nil {
		t.Errorf("claimed after it was given up: %+v", m)
	}
	// The one thought dead has sent it nevertheless: that is what counts.
	if err := a.Delivered(ctx, first); err != nil {
		t.Fatal(err)
	}
	if s := status(); s.State != dmarc.DeliverySent || s.Error != "" {
		t.Errorf("%+v", s)
	}
	if n, err := a.WaitingDeliveries(ctx); n != 0 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
}

func TestAPostIsKeptOnce(t *testing.T) {
	s, _ := open(t)
	m := []dmarc.OutgoingMessage{{Key: "digest 2026-03-01", Target: "ops", Kind: "digest", Body: []byte("x")}}
	for range 2 {
		if err := s.Post(t.Context(), dmarc.Lease{}, m); err != nil {
			t.Fatal(err)
		}
	}
	known, err := s.Posted(t.Context(), m[0].Key)
	n, err2 := s.WaitingDeliveries(t.Context())
	if !known || n != 1 || err != nil || err2 != nil {
		t.Errorf("known %v, %d wait, %v, %v", known, n, err, err2)
	}
}

func TestDevelopmentsCompareLatelyWithBefore(t *testing.T) {
	s, _ := open(t)
	today := day1.AddDate(0, 0, 60)
	at := func(id, org string, daysAgo int, rows ...dmarc.Row) report {
		return report{"example.com", org, id, today.AddDate(0, 0, -daysAgo), 24*time.Hour - time.Second, rows}
	}
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	d := mail(1,
		at("a", "reporter.example", 40, row("192.0.2.1", 1000, pass, pass, dmarc.DispositionNone)), // before all that is compared
		at("b", "reporter.example", 20, row("192.0.2.1", 100, pass, pass, dmarc.DispositionNone), row("192.0.2.1", 10, fail, fail, dmarc.DispositionNone)),
		at("c", "reporter.example", 5, row("192.0.2.1", 50, pass, pass, dmarc.DispositionNone), row("192.0.2.2", 7, fail, fail, dmarc.DispositionNone)),
		at("d", "other.example", 2, row("192.0.2.1", 5, fail, fail, dmarc.DispositionNone), row("192.0.2.3", 1, fail, fail, dmarc.DispositionNone)))
	d.ReceivedAt = today
	if fates := add(t, s, d); fates[0].Added != 4 {
		t.Fatalf("%+v", fates)
	}
	if err := s.SummariseSources(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := s.Developments(t.Context(), "example.com", today, 2)
	want := &dmarc.Developments{
		Domain: "example.com", First: today.AddDate(0, 0, -40),
		Sources: []dmarc.SourceDevelopment{
			{Source: one, First: today.AddDate(0, 0, -40), Week: dmarc.Passing{Messages: 55, Passed: 50}, Recent: dmarc.Passing{Messages: 5}, Before: dmarc.Passing{Messages: 160, Passed: 150}},
			{Source: two, First: today.AddDate(0, 0, -5), Week: dmarc.Passing{Messages: 7}, Before: dmarc.Passing{Messages: 7}},
		},
		Reporters: []dmarc.ReporterDevelopment{{Name: "other.example", Last: today.AddDate(0, 0, -2), Days: 1}, {Name: "reporter.example", Last: today.AddDate(0, 0, -5), Days: 2}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
	for daysAgo, want := range map[int]int{2: 1, 1: 0} {
		if active, err := s.ActiveDomains(t.Context(), today.AddDate(0, 0, -daysAgo)); err != nil || len(active) != want {
			t.Errorf("active since %d days: %q, %v", daysAgo, active, err)
		}
	}
}

func TestLooksAndChangesAreHandedOutUntilTheyAreTold(t *testing.T) {
	s, _ := open(t)
	ctx := t.Context()
	add(t, s, mail(1, daily("1", row("192.0.2.1", 1, pass, pass, dmarc.DispositionNone))))
	look := func(at time.Time, value string) {
		t.Helper()
		r := &records.Result{Domain: "example.com", CheckedAt: at, LookupFailed: []string{"x TXT"}, Findings: []records.ResultFinding{
			{ID: "spf.missing", Severity: "error", Subject: "example.com", What: "what", Fix: "fix"}, {ID: "mx.none", Severity: "warning"}}}
		r.Records.SPF = &records.ResultSPF{Lookups: 9}
		sets := []records.RecordSet{{Name: "_dmarc.example.com", Type: "TXT", Values: []string{value}}}
		if err := s.SaveLook(ctx, &records.Look{Domain: "example.com", At: at, Next: at, Result: r, Records: sets}); err != nil {
			t.Fatal(err)
		}
	}
	look(received, "a")
	look(received.Add(time.Hour), "b")
	looks, err := s.LookDevelopments(ctx)
	want := []dmarc.LookDevelopment{{Domain: "example.com", At: received.Add(time.Hour), Failed: true, Lookups: 9, Errors: []dmarc.LookError{{Check: "spf.missing", Subject: "example.com", What: "what", Fix: "fix"}}}}
	if err != nil || !reflect.DeepEqual(looks, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, looks, want)
	}
	changes, err := s.ChangedRecords(ctx, 10)
	if err != nil || len(changes) != 1 || changes[0].Domain != "example.com" || changes[0].After[0] != "b" {
		t.Fatalf("%+v, %v", changes, err)
	}
	for i, want := range []int{1, 0} {
		e := dmarc.Event{At: received, Rule: dmarc.RuleRecordChanged, Domain: "example.com", Phase: dmarc.EventOnce, Title: "changed"}
		told, err := s.Tell(ctx, dmarc.Lease{}, &dmarc.Transition{Steps: []dmarc.Step{{Event: e, Change: &changes[0]}}, LooksUntil: received.Add(time.Hour)})
		if err != nil || len(told) != want {
			t.Errorf("time %d: told %d, %v", i, len(told), err)
		}
	}
	if changes, err = s.ChangedRecords(ctx, 10); err != nil || len(changes) != 0 {
		t.Errorf("after it was told: %+v, %v", changes, err)
	}
	// What was committed a little late is handed out again; what is old is not.
	if looks, err = s.LookDevelopments(ctx); err != nil || len(looks) != 1 {
		t.Errorf("%d looks, %v", len(looks), err)
	}
	if _, err := s.Tell(ctx, dmarc.Lease{}, &dmarc.Transition{LooksUntil: received.Add(2 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if looks, err = s.LookDevelopments(ctx); err != nil || len(looks) != 0 {
		t.Errorf("%d looks, %v", len(looks), err)
	}
}

func TestHowAMailboxIsAndWhatIsRefused(t *testing.T) {
	s, _ := open(t)
	ctx := t.Context()
	at := func(minutes int) time.Time { return received.Add(time.Duration(minutes) * time.Minute) }
	try := func(minutes int, err error) {
		t.Helper()
		fix := ""
		if err != nil {
			fix = "do something"
		}
		if err := s.MailboxTried(ctx, "inbox", at(minutes), time.Duration(minutes)*time.Second, err, fix); err != nil {
			t.Fatal(err)
		}
	}
	health := func() dmarc.MailboxHealth {
		t.Helper()
		list, err := s.MailboxHealth(ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		return list[0]
	}
	try(0, errors.New("refused"))
	try(1, errors.New("timeout"))
	if got, want := health(), (dmarc.MailboxHealth{Mailbox: "inbox", Failing: at(0), Error: "timeout", Seen: at(1), Fix: "do something", Failures: 2, Took: time.Second}); got != want {
		t.Errorf("failing: %+v, want %+v", got, want)
	}
	try(2, nil)
	if got, want := health(), (dmarc.MailboxHealth{Mailbox: "inbox", OK: at(2), Seen: at(2), Failures: 2, Took: 2 * time.Second}); got != want {
		t.Errorf("mended: %+v, want %+v", got, want)
	}
	try(3, errors.New("refused"))
	if got, want := health(), (dmarc.MailboxHealth{Mailbox: "inbox", OK: at(2), Failing: at(3), Error: "refused", Seen: at(3), Fix: "do something", Failures: 3, Took: 3 * time.Second}); got != want {
		t.Errorf("failing again: %+v, want %+v", got, want)
	}
	for _, waiting := range []int{7, 0} {
		want := health()
		if want.Waiting = waiting; waiting > 0 {
			want.Oldest = at(-90)
		} else {
			want.Oldest = time.Time{}
		}
		if err := s.MailboxBacklog(ctx, "inbox", waiting, want.Oldest, at(4)); err != nil {
			t.Fatal(err)
		}
		if got := health(); got != want {
			t.Errorf("%d wait: %+v, want %+v", waiting, got, want)
		}
	}

	bad := mail(1)
	bad.Parts = []dmarc.Part{{Path: "1", Outcome: dmarc.OutcomeBadXML, Reason: "x"}}
	none := mail(2)
	none.Parts = []dmarc.Part{{Path: "1", Outcome: dmarc.OutcomeNotAReport, Reason: "x"}}
	add(t, s, bad, none, mail(3, daily("1", row("192.0.2.1", 1, pass, pass, dmarc.DispositionNone))))
	for since, want := range map[time.Time]map[dmarc.Outcome]int64{received: {dmarc.OutcomeBadXML: 1}, received.Add(time.Second): {}} {
		if got, err := s.Refused(ctx, since); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("refused since %v: %v, %v", since, got, err)
		}
	}
}

// Every outcome is either harmless, or among those that are counted as refused.
func TestTheIndexOfRefusedMessagesKnowsEveryHarmlessOutcome(t *testing.T) {
	_, db := open(t)
	var where string
	if err := db.QueryRow(t.Context(), "SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = 'messages_refused'::regclass").Scan(&where); err != nil {
		t.Fatal(err)
	}
	for _, o := range dmarc.OutcomeDocs {
		var counted bool
		if err := db.QueryRow(t.Context(), "SELECT "+where+" FROM (SELECT $1::text AS outcome) AS m", o.Outcome).Scan(&counted); err != nil || counted == o.Outcome.Harmless() {
			t.Errorf("%s is counted as refused: %v, %v", o.Outcome, counted, err)
		}
	}
}
