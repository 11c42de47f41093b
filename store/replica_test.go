package store_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/store"
)

func TestQuestionsGoToTheReplicaWhileItIsFresh(t *testing.T) {
	servers := pgtest.Replicate(t)
	ctx := context.Background()
	primary, err := store.Open(ctx, servers.Primary.URL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer primary.Close()
	replica, err := store.Open(ctx, servers.Replica.URL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer replica.Close()
	if _, err := migrations.Apply(ctx, primary); err != nil {
		t.Fatal(err)
	}
	s := store.New(primary, slog.New(slog.DiscardHandler))
	r := store.NewReplica(s, replica, 2*time.Second)

	one := row("192.0.2.1", 5, pass, fail, dmarc.DispositionNone)
	weekly := daily("week", one)
	weekly.length = 7 * days
	uid := uint32(0)
	addOne := func(rep report) {
		uid++
		add(t, s, mail(uid, rep))
	}
	// await looks again and again until the replica is in a state.
	await := func(what string, ok func(store.ReplicaState) bool) store.ReplicaState {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
			state := r.Check(ctx)
			if ok(state) {
				return state
			}
			if time.Now().After(deadline) {
				t.Fatalf("never %s: %+v", what, state)
			}
		}
	}
	used := func(s store.ReplicaState) bool { return s.Used }
	messages := func() int64 {
		t.Helper()
		sum, err := r.Summary(ctx, dmarc.TrafficQuery{Domain: "example.com", Period: february})
		if err != nil {
			t.Fatal(err)
		}
		return sum.Tally.Messages
	}
	replay := func(what string) {
		t.Helper()
		if _, err := replica.Exec(ctx, "SELECT pg_wal_replay_"+what+"()"); err != nil {
			t.Fatal(err)
		}
	}
	addOne(daily("1", one))
	await("fresh", used)
	if n := messages(); n != 5 {
		t.Errorf("%d messages, want 5", n)
	}

	// A little behind, and used: it is the replica that answers.
	await("fresh", used)
	replay("pause")
	for paused := ""; paused != "paused"; {
		if err := replica.QueryRow(ctx, "SELECT pg_get_wal_replay_pause_state()").Scan(&paused); err != nil {
			t.Fatal(err)
		}
	}
	before := messages()
	addOne(daily("2", one))
	if n := messages(); n != before {
		t.Errorf("%d messages, want those of the replica, %d", n, before)
	}
	// What it does not know yet, the primary knows.
	other := daily("3", one)
	other.domain = "other.example"
	addOne(other)
	if sum, err := r.Summary(ctx, dmarc.TrafficQuery{Domain: "other.example", Period: february}); err != nil || sum.Tally.Messages != 5 {
		t.Errorf("%+v, %v", sum, err)
	}

	// Too far behind: the primary answers.
	late := await("late", func(s store.ReplicaState) bool { return !s.Used })
	if late.Lag < 2*time.Second || !strings.Contains(late.Reason, "behind") {
		t.Errorf("%+v", late)
	}
	if n := messages(); n != 10 {
		t.Errorf("%d messages, want those of the primary, 10", n)
	}
	replay("resume")
	if state := await("fresh again", used); state.Lag > 2*time.Second {
		t.Errorf("%+v", state)
	}
	if n := messages(); n != 10 {
		t.Errorf("%d messages, want 10", n)
	}

	// What has to write for its answer goes to the primary, and the replica stays in use.
	addOne(weekly)
	await("fresh", used)
	for {
		if sum, err := store.New(replica, slog.New(slog.DiscardHandler)).Summary(ctx, dmarc.TrafficQuery{Domain: "example.com", Period: february}); err != nil {
			t.Fatal(err)
		} else if sum.Tally.Messages == 15 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	list, _, err := r.Sources(ctx, dmarc.TrafficQuery{Domain: "example.com", Period: february, Exact: true, Page: dmarc.Page{Limit: 10}})
	if err != nil || len(list.Items) != 1 || list.Items[0].Tally.Messages != 15 || !r.State().Used {
		t.Errorf("%+v, %v, %+v", list, err, r.State())
	}

	// It fails in the middle: nobody notices.
	servers.Replica.Stop()
	if n := messages(); n != 15 || r.State().Used {
		t.Errorf("%d messages, %+v", n, r.State())
	}
	if state := r.Check(ctx); state.Used || state.Reason == "" {
		t.Errorf("%+v", state)
	}
	servers.Replica.Start()
	await("back", used)

	// A database that is no replica is never used.
	wrong := store.NewReplica(s, primary, time.Hour)
	if state := wrong.Check(ctx); state.Used || !strings.Contains(state.Reason, "not in recovery") {
		t.Errorf("%+v", state)
	}
}
