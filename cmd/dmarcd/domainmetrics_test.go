package main

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dmarcd/dmarcd/dmarc"
)

// However many domains there are, and however they change places, the metrics
// name as many as they may, and their sum is that of all.
func TestMetricsNameTheBusiestDomainsAndSumTheOthers(t *testing.T) {
	m := (&meters{registry: prometheus.NewRegistry()}).watchDomains(2)
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.messages, m.own)
	read := func(all []dmarc.DomainTraffic, err error) map[string]float64 {
		t.Helper()
		domains := func(_ context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error) {
			if want := (dmarc.Period{Begin: time.Date(2026, 11, 13, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)}); q.Period != want || !q.Scope.All() {
				t.Errorf("asked for %+v", q)
			}
			if q.After == "" {
				return all[:3], "more", err
			}
			return all[3:], "", err
		}
		if got := m.read(t.Context(), domains, time.Date(2026, 11, 20, 15, 0, 0, 0, time.UTC)); got != err {
			t.Fatalf("%v, want %v", got, err)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, x := range f.GetMetric() {
				got[f.GetName()[len("dmarcd_domain_"):]+" "+x.GetLabel()[0].GetValue()] = x.GetGauge().GetValue()
			}
		}
		return got
	}
	domain := func(name string, n int64) dmarc.DomainTraffic {
		return dmarc.DomainTraffic{Domain: name, Tally: dmarc.Tally{Messages: n, DMARCPass: n / 2}, Verdict: &dmarc.DomainVerdict{Own: n / 5}}
	}
	first := []dmarc.DomainTraffic{domain("a.example", 1000), domain("b.example", 500), domain("c.example", 100), domain("d.example", 10), {Domain: "e.example"}}
	want := map[string]float64{"messages a.example": 1000, "messages b.example": 500, "messages other": 110, "own_messages a.example": 200, "own_messages b.example": 100, "own_messages other": 22}
	if got := read(first, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := read(first, fmt.Errorf("the database is away")); !reflect.DeepEqual(got, want) {
		t.Errorf("after a failure: %v, want what was known", got)
	}
	second := []dmarc.DomainTraffic{domain("d.example", 5000), domain("a.example", 1000), domain("b.example", 500), domain("c.example", 100)}
	want = map[string]float64{"messages d.example": 5000, "messages a.example": 1000, "messages other": 600, "own_messages d.example": 1000, "own_messages a.example": 200, "own_messages other": 120}
	if got := read(second, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("when others are busiest: %v, want %v", got, want)
	}
	m.reset()
	m.most = 0
	if got := read(second, nil); got["messages other"] != 6600 || len(got) != 2 {
		t.Errorf("with no names: %v", got)
	}
}
