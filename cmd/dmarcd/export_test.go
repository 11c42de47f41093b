package main

import (
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// told is what is left of a stream once it is read by the rule of docs/streams.md: messages by
// report, of those that count.
func told(t *testing.T, text string) map[string]int64 {
	t.Helper()
	messages, revisions := map[string]int64{}, map[string]int64{}
	for line := range strings.Lines(text) {
		var e struct {
			Event, Report string
			Revision      int64
			Removed       bool
			Count         int64
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		switch {
		case e.Revision < revisions[e.Report]:
		case e.Event == "row":
			messages[e.Report] += e.Count
		default:
			revisions[e.Report], messages[e.Report] = e.Revision, 0
			if e.Removed {
				delete(messages, e.Report)
			}
		}
	}
	return messages
}

var ticked = regexp.MustCompile("(?m)^\\| `([a-z_0-9.]+)`")

// jsonFields lists the names of fields, those within objects after a full stop.
func jsonFields(prefix string, v any, into map[string]bool) {
	object, _ := v.(map[string]any)
	for name, inner := range object {
		if _, nested := inner.(map[string]any); nested {
			jsonFields(prefix+name+".", inner, into)
			continue
		}
		into[prefix+name] = true
	}
}

func TestReportsAreExportedOnceAndAsAStream(t *testing.T) {
	url := pgtest.URL(t)
	dir := t.TempDir()
	cluster, err := kfake.NewCluster(kfake.SeedTopics(1, "dmarc"), kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	config := writeFile(t, "dmarcd.toml", `
log_level = "error"
[[stream]]
name = "lake"
to = "kafka://`+cluster.ListenAddrs()[0]+`/dmarc"
[[stream]]
name = "siem"
to = "`+dir+`/siem.ndjson"
from = "now"
`)
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + url, "DMARCD_CONFIG=" + config}}
	run := func(args ...string) string {
		t.Helper()
		got := w.run(t, args...)
		if got.status != exitDone {
			t.Fatalf("%q: %+v", args, got)
		}
		return got.stdout
	}
	const deviations = "../../parse/testdata/deviations/"
	small, large := deviations+"093-two-files-small.xml", deviations+"093-two-files-large.xml"
	run("import", small, "testdata/aggregate.xml")

	once := run("export")
	if again := run("export", "--to", "-"); again != once || len(told(t, once)) != 2 {
		t.Errorf("once:\n%s\nand again:\n%s", once, again)
	}
	if only := run("export", "--domains", "example.net"); len(told(t, only)) != 0 {
		t.Errorf("of a domain without reports:\n%s", only)
	}
	path := filepath.Join(dir, "out.ndjson")
	holds := func() string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	run("export", "--name", "file", "--to", path)
	first := holds()
	run("export", "--name", "file", "--to", path)
	if holds() != first || !maps.Equal(told(t, first), told(t, once)) {
		t.Errorf("the stream begins with\n%s", first)
	}
	// Another content of the same report counts in its place: the stream says so.
	run("import", large)
	run("export", "--name", "file", "--to", path)
	if all := holds(); !strings.Contains(all[len(first):], `"removed":true`) || !maps.Equal(told(t, all), told(t, run("export"))) {
		t.Errorf("then comes\n%s", all[len(first):])
	}
	run("export", "--name", "file", "--restart", "--to", path+".2")
	run("export", "--name", "file", "--forget")
	if got := w.run(t, "export", "--name", "file", "--forget"); got.status != exitFailed || !strings.Contains(got.stderr, "there is no stream") {
		t.Errorf("%+v", got)
	}
	for _, args := range [][]string{{"--follow"}, {"--name", "x", "--forget", "--follow"}, {"--to", "http://example.com/"}, {"--to", "kafka://host/"}} {
		if got := w.run(t, append([]string{"export"}, args...)...); got.status != exitUsage {
			t.Errorf("%q: %+v", args, got)
		}
	}

	// What serve does of the configuration.
	env := newEnviron(nil, nil, os.Stderr, w.vars)
	cfg, err := env.loadConfig("", everything)
	if err != nil {
		t.Fatal(err)
	}
	s := openTest(t, url)
	if s.streams, err = s.newStreams(cfg, os.Stdout); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, st := range s.streams {
		wg.Go(func() { s.stream(ctx, st) })
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("dmarc"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	want := told(t, run("export"))
	var lake strings.Builder
	for deadline := time.Now().Add(patience); !maps.Equal(told(t, lake.String()), want) && time.Now().Before(deadline); {
		client.PollFetches(t.Context()).EachRecord(func(r *kgo.Record) { lake.Write(append(r.Value, '\n')) })
	}
	if got := told(t, lake.String()); !maps.Equal(got, want) {
		t.Errorf("Kafka has %v, want %v", got, want)
	}
	cancel()
	wg.Wait()
	if text, err := os.ReadFile(dir + "/siem.ndjson"); err == nil {
		t.Errorf("a stream that begins now tells of what was there:\n%s", text)
	}

	// Every field stands in the documentation, and every one that stands there exists.
	has := map[string]bool{}
	for line := range strings.Lines(once + holds()) {
		var v any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		jsonFields("", v, has)
	}
	page, err := os.ReadFile("../../docs/streams.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{"cut": true, "source_text": true} // where a report is odd
	for _, m := range ticked.FindAllStringSubmatch(string(page), -1) {
		documented[m[1]] = true
	}
	maps.DeleteFunc(documented, func(name string, _ bool) bool {
		return !has[name] && (name == "cut" || name == "source_text")
	})
	if !maps.Equal(documented, has) {
		t.Errorf("docs/streams.md has\n%q\nand events\n%q", slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(has)))
	}
}

// Whatever is killed while a stream is written, nothing is missing in the end, and nothing
// counts twice.
func TestAStreamThatIsKilledAgainAndAgainTellsAll(t *testing.T) {
	t.Parallel()
	url := sampled(t)
	path := filepath.Join(t.TempDir(), "out.ndjson")
	start := func(args ...string) *exec.Cmd {
		cmd := exec.Command(build(t), append([]string{"export"}, args...)...)
		cmd.Env = []string{"DMARCD_CONFIG=" + os.DevNull, "DMARCD_DATABASE_URL=" + url, "DMARCD_LOG_LEVEL=error", "HOME=" + t.TempDir()}
		return cmd
	}
	once, err := start().Output()
	if err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	db := openTest(t, url).db
	rnd := rand.New(rand.NewPCG(11, 11))
	midway := 0
	// A process that died holds the stream for 20 seconds more: they are over.
	free := func() {
		if _, err := db.Exec(t.Context(), "UPDATE leases SET expires_at = now() - interval '1 second'"); err != nil {
			t.Fatal(err)
		}
	}
	for range 6 {
		free()
		cmd := start("--name", "killed", "--to", path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		// It is killed once it has written so much more.
		for until := size() + 1 + rnd.Int64N(int64(len(once))/8); size() < until; {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
				ended <- nil
				until = 0
			case <-time.After(time.Millisecond):
			}
		}
		cmd.Process.Kill()
		if err := <-ended; err != nil {
			midway++
		}
	}
	free()
	if out, err := start("--name", "killed", "--to", path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := told(t, string(once))
	if got := told(t, string(all)); !maps.Equal(got, want) || len(want) < 100 {
		t.Errorf("the stream tells of %d reports, and %d are stored", len(got), len(want))
	}
	if midway == 0 {
		t.Error("it was never killed midway")
	}
	t.Logf("killed %d times midway; %d bytes of lines for %d bytes", midway, len(all), len(once))
}
