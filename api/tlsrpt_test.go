package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/api"
	"github.com/dmarcd/dmarcd/dmarc"
)

// intakeFunc is an intake that finds the same in every body.
type intakeFunc func(wanted func(*dmarc.Delivery) error) error

func (f intakeFunc) TakeIf(_ context.Context, _, _ string, body io.Reader, wanted func(*dmarc.Delivery) error) (dmarc.Fate, error) {
	if _, err := io.ReadAll(body); err != nil {
		return dmarc.Fate{}, err
	}
	return dmarc.Fate{}, f(wanted)
}

func TestOnlyTLSReportsAreTakenFromStrangers(t *testing.T) {
	tlsPart, aggregate, failure := dmarc.Part{TLS: &dmarc.TLSReport{}}, dmarc.Part{Aggregate: &dmarc.AggregateReport{}}, dmarc.Part{Failure: &dmarc.FailureReport{}}
	other := func(o dmarc.Outcome) dmarc.Part { return dmarc.Part{Outcome: o, Reason: "so"} }
	for _, c := range []struct {
		name  string
		parts []dmarc.Part
		store error
		want  int
		kept  int // parts that are reports
	}{
		{"a TLS report", []dmarc.Part{tlsPart}, nil, 201, 1},
		{"beside others", []dmarc.Part{aggregate, tlsPart, failure}, nil, 201, 1},
		{"an aggregate report", []dmarc.Part{aggregate}, nil, 422, 0},
		{"nothing", nil, nil, 422, 0},
		{"a failure report that is not kept", []dmarc.Part{other(dmarc.OutcomeNotKept)}, nil, 422, 0},
		{"a bomb", []dmarc.Part{other(dmarc.OutcomeNotAReport), other(dmarc.OutcomeBomb)}, nil, 413, 0},
		{"an unknown domain", []dmarc.Part{other(dmarc.OutcomeUnknownDomain)}, nil, 403, 0},
		{"a broken one", []dmarc.Part{other(dmarc.OutcomeBadJSON)}, nil, 422, 0},
		{"the store fails", []dmarc.Part{tlsPart}, errors.New("no disk"), 503, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &dmarc.Delivery{Parts: c.parts}
			h := api.TLSReports(intakeFunc(func(wanted func(*dmarc.Delivery) error) error {
				return errors.Join(wanted(d), c.store)
			}), api.TLSOptions{Log: slog.New(slog.DiscardHandler), Limit: 100, AtOnce: 1})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x")))
			if w.Code != c.want || strings.Contains(w.Body.String(), "disk") {
				t.Errorf("status %d, want %d: %s", w.Code, c.want, w.Body)
			}
			kept := 0
			for _, p := range d.Parts {
				if p.TLS != nil || p.Aggregate != nil && c.want == 201 || p.Failure != nil && c.want == 201 {
					kept++
				}
			}
			if kept != c.kept {
				t.Errorf("%d reports are kept, want %d", kept, c.kept)
			}
		})
	}
}

func TestABodyOfUnknownLengthIsBoundedAsWell(t *testing.T) {
	h := api.TLSReports(intakeFunc(func(func(*dmarc.Delivery) error) error { return nil }), api.TLSOptions{Log: slog.New(slog.DiscardHandler), Limit: 100, AtOnce: 1})
	r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader(strings.Repeat("x", 101))))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", w.Code)
	}
}
