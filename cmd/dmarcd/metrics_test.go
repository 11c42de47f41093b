package main

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// families reads /metrics.
func (r *running) families() map[string]*dto.MetricFamily {
	r.t.Helper()
	resp, err := http.Get(r.base + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return families
}

// What dashboard and alerts ask for exists while dmarcd serves, and
// docs/metrics.md lists all there is.
func TestMetricsAreThoseThatDashboardAndAlertsName(t *testing.T) {
	imap := dovecottest.Start(t)
	imap.Deliver(t, "1.M1P1.host", []byte("From: a@example.com\nSubject: hello\n\nNot a report.\n"))
	url := pgtest.URL(t)
	file := writeFile(t, "dmarcd.toml", "[[target]]\nname = \"ops\"\nurl = \"https://hooks.example/\"\n")
	r := serve(t, build(t), t.TempDir(), imap, "DMARCD_CONFIG="+file, "DMARCD_DATABASE_URL="+url, "DMARCD_DATABASE_READ_URL="+url)
	var families map[string]*dto.MetricFamily
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		var any struct{}
		if r.ask("/api/v1/domains", &any) {
			families = r.families()
		}
		if families["dmarcd_messages_total"] != nil && families["dmarcd_pass_timestamp_seconds"] != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing was counted\n%s", r.log)
		}
	}
	named := regexp.MustCompile(`\b(?:dmarcd|process)_[a-z_]+`)
	for _, file := range []string{"../../deploy/grafana/dmarcd.json", "../../deploy/alerts.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := named.FindAllString(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, name := range found {
			if families[name] != nil {
				continue
			}
			base := name
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, part)
			}
			if families[base].GetType() != dto.MetricType_HISTOGRAM {
				t.Errorf("%s names %s, which is not there", file, name)
			}
		}
	}

	source, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"(dmarcd_[a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
		if families[m[1]] == nil {
			t.Errorf("%s did not show up, and would be missing in the documentation", m[1])
		}
	}

	const path = "../../docs/metrics.md"
	got := metricsDoc(families)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s is not what dmarcd tells; run go test ./cmd/dmarcd -run Metrics -update; %v\n%s", path, err, got)
	}
}

// metricsDoc lists metrics for people. Those of the Go runtime and of the process
// are not ours.
func metricsDoc(families map[string]*dto.MetricFamily) string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n`/metrics` tells these in the format of Prometheus, besides those of the Go runtime (`go_…`) and of the process (`process_…`).\n" +
		"[`deploy/grafana/dmarcd.json`](../deploy/grafana/dmarcd.json) shows them, and [`deploy/alerts.yaml`](../deploy/alerts.yaml) has rules for alerts.\n" +
		"Metrics of the replica are there if one is configured, those of a mailbox once it is read by IMAP.\n\n" +
		"| metric | kind | labels | what it tells |\n|---|---|---|---|\n")
	var names []string
	for name := range families {
		if strings.HasPrefix(name, "dmarcd_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		f := families[name]
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	return b.String()
}
