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
	promql "github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

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
	file := writeFile(t, "dmarcd.toml", "[[target]]\nname = \"ops\"\nurl = \"https://hooks.example/\"\n[[stream]]\nname = \"siem\"\nto = \"-\"\n")
	r := serve(t, build(t), t.TempDir(), imap, "DMARCD_CONFIG="+file, "DMARCD_DATABASE_URL="+url, "DMARCD_DATABASE_READ_URL="+url).ready()
	source, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	// Some are there once something was counted, or a pass was made.
	families := r.families()
	missing := func() (names []string) {
		for _, m := range regexp.MustCompile(`"(dmarcd_[a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
			if families[m[1]] == nil {
				names = append(names, m[1])
			}
		}
		return names
	}
	for deadline := time.Now().Add(patience); len(missing()) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%q did not show up, and would be missing in the documentation\n%s", missing(), r.log)
			break
		}
		families = r.families()
	}
	for file, all := range expressions(t) {
		if len(all) == 0 {
			t.Errorf("%s asks for nothing", file)
		}
		for _, e := range all {
			for _, wrong := range checkExpression(e, families) {
				t.Errorf("%s: %s\n%s", file, wrong, e.expr)
			}
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

// An expression is what a panel or an alert asks for, and the texts beside it.
type expression struct {
	expr  string
	texts []string
}

// expressions returns those of dashboard and alerts, by file.
func expressions(t *testing.T) map[string][]expression {
	t.Helper()
	found := map[string][]expression{}
	for _, file := range []string{"../../deploy/grafana/dmarcd.json", "../../deploy/alerts.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var all any
		if err := yaml.Unmarshal(text, &all); err != nil { // JSON is YAML
			t.Fatalf("%s: %v", file, err)
		}
		var walk func(any)
		walk = func(v any) {
			switch v := v.(type) {
			case map[string]any:
				if expr, ok := v["expr"].(string); ok {
					e := expression{expr: expr}
					annotations, _ := v["annotations"].(map[string]any)
					for _, a := range annotations {
						e.texts = append(e.texts, fmt.Sprint(a))
					}
					e.texts = append(e.texts, fmt.Sprint(v["legendFormat"]))
					found[file] = append(found[file], e)
				}
				for _, child := range v {
					walk(child)
				}
			case []any:
				for _, child := range v {
					walk(child)
				}
			}
		}
		walk(all)
	}
	return found
}

var labelInText = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}`)

// An asker reads expressions, and notes what is wrong with them.
type asker struct {
	families map[string]*dto.MetricFamily
	wrong    []string
}

// checkExpression says what is wrong with an expression: syntax, metrics that are
// not there, labels that no metric in its place has, and texts that name labels it
// does not yield.
func checkExpression(e expression, families map[string]*dto.MetricFamily) []string {
	a := &asker{families: families}
	parsed, err := promql.ParseExpr(strings.ReplaceAll(e.expr, "$__rate_interval", "5m"))
	if err != nil {
		return []string{err.Error()}
	}
	yields := a.labels(parsed)
	for _, text := range e.texts {
		for _, m := range labelInText.FindAllStringSubmatch(text, -1) {
			a.has(yields, m[1], text)
		}
	}
	return a.wrong
}

func (a *asker) has(labels []string, label, where string) {
	if !slices.Contains(labels, label) && label != "job" && label != "instance" {
		a.wrong = append(a.wrong, fmt.Sprintf("%s: there is no label %s, only %q", where, label, labels))
	}
}

// labels returns those of what an expression yields.
func (a *asker) labels(e promql.Expr) (all []string) {
	switch e := e.(type) {
	case *promql.VectorSelector:
		all = a.metric(e.Name)
		for _, m := range e.LabelMatchers {
			if m.Name != "__name__" {
				a.has(all, m.Name, e.String())
			}
		}
	case *promql.AggregateExpr:
		inner := a.labels(e.Expr)
		for _, l := range e.Grouping {
			a.has(inner, l, e.String())
		}
		all = e.Grouping
	case *promql.BinaryExpr:
		all = a.labels(e.LHS)
		right := a.labels(e.RHS)
		if e.VectorMatching != nil {
			for _, l := range e.VectorMatching.MatchingLabels {
				a.has(all, l, e.String())
				a.has(right, l, e.String())
			}
		}
	case *promql.Call:
		for _, arg := range e.Args {
			all = append(all, a.labels(arg)...)
		}
	case *promql.MatrixSelector:
		all = a.labels(e.VectorSelector)
	case *promql.ParenExpr:
		all = a.labels(e.Expr)
	case *promql.NumberLiteral:
	default:
		a.wrong = append(a.wrong, fmt.Sprintf("%s: this test does not know %T", e, e))
	}
	return all
}

// metric returns the labels of a metric.
func (a *asker) metric(name string) (all []string) {
	f := a.families[name]
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		if base, cut := strings.CutSuffix(name, part); cut && f == nil && a.families[base].GetType() == dto.MetricType_HISTOGRAM {
			f = a.families[base]
			if part == "_bucket" {
				all = append(all, "le")
			}
		}
	}
	if f == nil {
		a.wrong = append(a.wrong, name+" is not there")
		return nil
	}
	for _, l := range f.GetMetric()[0].GetLabel() {
		all = append(all, l.GetName())
	}
	return all
}

// The check of expressions finds what it is for.
func TestWrongExpressionsAreFound(t *testing.T) {
	name, label, kind := "dmarcd_x_total", "pass", dto.MetricType_COUNTER
	families := map[string]*dto.MetricFamily{name: {Type: &kind, Metric: []*dto.Metric{{Label: []*dto.LabelPair{{Name: &label}}}}}}
	for expr, want := range map[string]string{
		`sum by (pass) (rate(dmarcd_x_total{pass=~"a.*"}[5m])) > 3`: "",
		`sum by (pas) (rate(dmarcd_x_total[5m]))`:                   "no label pas",
		`sum by (pass) (sum(dmarcd_x_total))`:                       "no label pass",
		`rate(dmarcd_x_total{pas="a"}[5m])`:                         "no label pas",
		`rate(dmarcd_y_total[5m])`:                                  "dmarcd_y_total is not there",
		`rate(dmarcd_x_total[5m]) / on (pass) dmarcd_y`:             "dmarcd_y is not there",
		`rat(dmarcd_x_total[5m])`:                                   "unknown function",
		`rate(dmarcd_x_total[5m)`:                                   "parse error",
	} {
		got := strings.Join(checkExpression(expression{expr: expr}, families), "; ")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
	if got := checkExpression(expression{`sum by (pass) (dmarcd_x_total)`, []string{"{{ $labels.mailbox }}"}}, families); len(got) != 1 {
		t.Errorf("%q", got)
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
