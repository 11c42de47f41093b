package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/internal/racetest"
	"github.com/dmarcd/dmarcd/store"
)

// again makes a message that was read again: message 1 is the first in the ledger.
func again(message int64, reports ...report) dmarc.Reread {
	d := mail(uint32(message), reports...)
	return dmarc.Reread{MessageID: message, Delivery: d}
}

func reread(t *testing.T, s *store.Store, o dmarc.RereadOptions, all ...dmarc.Reread) []dmarc.Change {
	t.Helper()
	changes, err := s.Reread(context.Background(), all, o)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func kinds(changes []dmarc.Change) (all []string) {
	for _, c := range changes {
		all = append(all, fmt.Sprintf("%d/%s %s", c.Message, c.Part, c.Kind))
	}
	return all
}

func TestWhatIsReadOtherwiseIsReplacedWhole(t *testing.T) {
	s, db := open(t)
	one, two := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone), row("192.0.2.2", 2, fail, fail, dmarc.DispositionReject)
	unread := mail(3)
	unread.Parts = []dmarc.Part{{Path: "1", Outcome: dmarc.OutcomeBadXML, Reason: "it breaks off"}}
	add(t, s, mail(1, daily("a", one), daily("b", two)), mail(2, daily("a", one)), unread, mail(4, daily("d", one)))

	moved := daily("d", one)
	moved.org = "other.example"
	now := []dmarc.Reread{
		again(1, daily("a", one, two), daily("b", two)),
		again(2, daily("a", one, two)),
		again(3, daily("c", two)),
		again(4, moved, daily("e", one)),
	}
	want := []string{"1/1 changed", "1/2 unchanged", "2/1 unchanged", "3/1 now_readable", "4/1 changed", "4/2 added"}
	before := summary(t, s, "example.com")
	if got := kinds(reread(t, s, dmarc.RereadOptions{DryRun: true}, now...)); !reflect.DeepEqual(got, want) {
		t.Errorf("dry run: %q, want %q", got, want)
	}
	if sum := summary(t, s, "example.com"); !reflect.DeepEqual(sum, before) {
		t.Errorf("a dry run changed %+v into %+v", before, sum)
	}
	changes := reread(t, s, dmarc.RereadOptions{}, now...)
	if got := kinds(changes); !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if c := changes[0]; c.Before.Messages != 5 || c.After.Messages != 7 || !strings.Contains(c.Reason, "5 messages in 1 rows before, 7 in 2 now") {
		t.Errorf("%+v", c)
	}
	wantTally := dmarc.Tally{Rows: 6, Messages: 5 + 2 + 2 + 2 + 5 + 5, DMARCPass: 15, DKIMAligned: 15, None: 15, Reject: 6}
	if sum := summary(t, s, "example.com"); sum.Tally != wantTally || sum.Reports != 5 {
		t.Errorf("%+v, want %+v in 5 reports", sum, wantTally)
	}
	if _, found := verify(t, s, false); len(found) > 0 {
		t.Errorf("%q", found)
	}
	rows, _ := db.Query(context.Background(), "SELECT outcome || ' ' || reason FROM messages ORDER BY id")
	var line string
	var ledger []string
	for rows.Next() {
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		ledger = append(ledger, line)
	}
	for i, want := range []string{"ok ", "duplicate ", "ok read again on ", "ok "} {
		if !strings.HasPrefix(ledger[i], want) {
			t.Errorf("message %d: %q, want it to begin %q", i+1, ledger[i], want)
		}
	}
	if !strings.HasSuffix(ledger[2], ", before: bad_xml: it breaks off") || !strings.Contains(ledger[0], "5 messages in 1 rows before") {
		t.Errorf("the ledger forgot: %q", ledger)
	}
	// Once more changes nothing.
	for _, c := range reread(t, s, dmarc.RereadOptions{}, now...) {
		if c.Kind != dmarc.ChangeNone {
			t.Errorf("again: %+v", c)
		}
	}
}

func TestWhatCannotBeReadAnyMoreIsLeft(t *testing.T) {
	s, _ := open(t)
	one := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)
	add(t, s, mail(1, daily("a", one)), mail(2, daily("b", one)))
	refused, nothing := again(1), again(2)
	refused.Parts = []dmarc.Part{{Path: "1", Outcome: dmarc.OutcomeTooLarge, Reason: "limits.rows"}}
	nothing.Outcome = dmarc.OutcomeNotAReport
	before := summary(t, s, "example.com")
	got := reread(t, s, dmarc.RereadOptions{}, refused, nothing)
	if want := []string{"1/1 now_refused", "2/1 now_refused"}; !reflect.DeepEqual(kinds(got), want) || !strings.Contains(got[0].Reason, "too_large: limits.rows") {
		t.Errorf("%+v, want %q", got, want)
	}
	if sum := summary(t, s, "example.com"); !reflect.DeepEqual(sum, before) {
		t.Errorf("%+v became %+v", before, sum)
	}
}

func TestDetailsThatTheHashDoesNotCoverAreReplacedToo(t *testing.T) {
	s, _ := open(t)
	one := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)
	add(t, s, mail(1, daily("a", one)))
	one.Ours, one.Flags = dmarc.Alignment{DKIM: true}, dmarc.RowForeignAuthor
	got := reread(t, s, dmarc.RereadOptions{}, again(1, daily("a", one)))
	if want := []string{"1/1 changed"}; !reflect.DeepEqual(kinds(got), want) {
		t.Fatalf("%+v, want %q", got, want)
	}
	rep, err := s.Report(context.Background(), got[0].Report)
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range rep.Report.Rows {
		if err != nil || r.Ours != one.Ours || r.Flags != one.Flags {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if _, found := verify(t, s, false); len(found) > 0 {
		t.Errorf("%q", found)
	}
}

// A report that gets another identity leaves its conflict to the other content.
func TestAReportThatIsMovedNeedsAnotherInItsPlace(t *testing.T) {
	s, _ := open(t)
	small, large := daily("a", row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)), daily("a", row("192.0.2.2", 9, fail, fail, dmarc.DispositionNone))
	add(t, s, mail(1, small), mail(2, large))
	moved := large
	moved.id = "b"
	got := reread(t, s, dmarc.RereadOptions{}, again(2, moved))
	if got[0].Kind != dmarc.ChangeLeft || got[0].Needs == "" {
		t.Fatalf("%+v", got)
	}
	if err := s.Activate(context.Background(), got[0].Needs, small.aggregate(), false); err != nil {
		t.Fatal(err)
	}
	if got := reread(t, s, dmarc.RereadOptions{}, again(2, moved)); got[0].Kind != dmarc.ChangeContent {
		t.Errorf("%+v", got)
	}
	if sum := summary(t, s, "example.com"); sum.Tally.Messages != 14 || sum.Reports != 2 {
		t.Errorf("%+v", sum)
	}
	if _, found := verify(t, s, false); len(found) > 0 {
		t.Errorf("%q", found)
	}
}

func TestProgressIsCommittedWithWhatWasReadAgain(t *testing.T) {
	s, _ := open(t)
	one := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)
	add(t, s, mail(1, daily("a", one)), mail(2, daily("b", one)))
	ctx := context.Background()
	broken := again(2, daily("b", one, one))
	broken.Parts[0].Aggregate.Rows = func(yield func(*dmarc.Row, error) bool) {
		yield(nil, &dmarc.Error{Outcome: dmarc.OutcomeBadXML, Reason: "it breaks off"})
	}
	reread(t, s, dmarc.RereadOptions{Pass: "p", Reached: 1}, again(1, daily("a", one, one)))
	_, err := s.Reread(ctx, []dmarc.Reread{broken}, dmarc.RereadOptions{Pass: "p", Reached: 2})
	var refused *dmarc.Error
	if !errors.As(err, &refused) {
		t.Errorf("err = %v", err)
	}
	if at, err := s.Progress(ctx, "p"); at != 1 || err != nil {
		t.Errorf("progress %d, %v", at, err)
	}
	if err := s.Forget(ctx, "p"); err != nil {
		t.Fatal(err)
	}
	if at, err := s.Progress(ctx, "p"); at != 0 || err != nil {
		t.Errorf("progress %d, %v", at, err)
	}
	if sum := summary(t, s, "example.com"); sum.Tally.Messages != 15 {
		t.Errorf("%+v", sum)
	}
}

func TestReadingAgainWhateverChangedKeepsTotalsExact(t *testing.T) {
	racetest.Calm(t)
	s, _ := open(t)
	rnd := rand.New(rand.NewPCG(11, 12))
	reports := random(rnd, 200)
	for i, r := range reports {
		add(t, s, mail(uint32(i+1), r))
	}
	for range 3 {
		var batch []dmarc.Reread
		for i := range reports {
			r := &reports[i]
			switch rnd.IntN(4) {
			case 0:
				r.rows = append(r.rows[:len(r.rows):len(r.rows)], row("192.0.2.77", rnd.Int64N(50), pass, pass, dmarc.DispositionNone))
			case 1:
				r.begin = r.begin.Add(time.Duration(rnd.IntN(40)) * time.Hour)
			}
			batch = append(batch, again(int64(i+1), *r))
			if len(batch) == 20 {
				reread(t, s, dmarc.RereadOptions{}, batch...)
				batch = nil
			}
		}
		if err := s.SummariseSources(context.Background()); err != nil {
			t.Fatal(err)
		}
		if v, found := verify(t, s, false); len(found) > 0 || v.Pending > 0 {
			t.Fatalf("%+v %q", v, found)
		}
	}
}
