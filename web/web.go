// Package web is the dashboard: HTML and SVG, made on the server. Pages need
// nothing from any other host, and work without scripts.
//
// Everything that reports say was written by strangers: it reaches a page only
// through html/template, or escaped by the charts.
package web

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A Store answers the questions of the pages. Lists are busiest or newest
// first; a cursor is empty at the end of a list.
type Store interface {
	Domains(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error)
	// DomainsWithTotal sums all domains of the query as well, whatever page it asks for.
	DomainsWithTotal(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, dmarc.DomainsTotal, error)
	// Summary, Sources and Reporters return dmarc.ErrNotFound for a domain
	// that no report was ever about.
	Summary(ctx context.Context, q dmarc.TrafficQuery) (dmarc.DomainSummary, error)
	Sources(ctx context.Context, q dmarc.TrafficQuery) (dmarc.SourceList, dmarc.Cursor, error)
	Reporters(ctx context.Context, q dmarc.TrafficQuery) ([]dmarc.ReporterTraffic, dmarc.Cursor, error)
	Selectors(ctx context.Context, q dmarc.TrafficQuery) (dmarc.SelectorList, dmarc.Cursor, error)
	Messages(ctx context.Context, q dmarc.MessageQuery) ([]dmarc.LedgerEntry, dmarc.Cursor, error)
	Reports(ctx context.Context, q dmarc.ReportQuery) ([]dmarc.ReportSummary, dmarc.Cursor, error)
	reporter
	looker
	// Attention returns verdicts, the most urgent first.
	Attention(ctx context.Context, q dmarc.AttentionQuery) ([]dmarc.DomainVerdict, dmarc.Cursor, error)
}

// Options are what the dashboard is given besides its store.
type Options struct {
	Log     *slog.Logger     // slog.Default if nil
	Version string           // shown at the foot of each page
	Now     func() time.Time // time.Now if nil
	// Adviser gathers what advice rests on; without one there is no page of it.
	Adviser Adviser
	// Overrules keep what operators say about sources; without them, and without
	// an Adviser, nothing can be said.
	Overrules Overruler
	// Texts opens reports as they came; without it they are not shown.
	Texts Texter
	// Arranged knows groups and labels of domains; without it none are shown.
	Arranged Arranger
	// Intake answers what is of the installation; without one there are no pages
	// of intake and settings.
	Intake Intake
	// Keeper keeps tokens and the audit log; without one there are none.
	Keeper Keeper
	// Live tells pages of what is new; without one they are not told.
	Live *Live
	// Included names the service whose customers include a domain in their SPF
	// record; "" for none that is known. Without it none is named.
	Included func(domain string) string
	// Gate lets people in; without one there is no login.
	Gate Gate
	// Base is the path that the dashboard is reached under, such as
	// "/dmarc"; empty for the root. Links begin with it. Whoever serves the
	// handler there strips it from requests.
	Base string
}

// A site is the dashboard with all that it needs.
type site struct {
	store   Store
	log     *slog.Logger
	version string
	now     func() time.Time
	adviser Adviser // nil for none
	// overruler is nil where nothing can be said about sources.
	overruler Overruler
	arranger  Arranger // nil for none
	origins   *http.CrossOriginProtection
	texts     Texter // nil for none
	intake    Intake // nil for none
	keeper    Keeper // nil for none
	live      *Live  // nil for none
	gate      Gate   // nil for none
	included  func(domain string) string
	form      string // stands in pages where the forms of who asks are bound to them
	base      string
	assets    assets
	pages     pages
}

// New returns the dashboard. It serves /, /domains/…, /messages, /intake, /settings and /static/….
func New(store Store, opts Options) http.Handler {
	s := &site{store: store, log: opts.Log, version: opts.Version, now: opts.Now, adviser: opts.Adviser, overruler: opts.Overrules, arranger: opts.Arranged, origins: http.NewCrossOriginProtection(), texts: opts.Texts, gate: opts.Gate, form: rand.Text(), base: strings.TrimRight(opts.Base, "/")}
	s.intake, s.keeper, s.live, s.included = opts.Intake, opts.Keeper, opts.Live, opts.Included
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.assets = readAssets(static)
	s.pages = s.parsePages()

	r := chi.NewRouter()
	r.Use(guard, s.recoverer, middleware.GetHead, middleware.Compress(5, "text/html", "text/css", "text/javascript", "image/svg+xml"))
	r.Get("/", s.page(s.domains))
	r.Route("/domains/{domain}", func(r chi.Router) {
		r.Get("/", s.page(s.domain))
		r.Get("/senders", s.page(s.senders))
		r.Get("/reporters", s.page(s.reporters))
		r.Get("/selectors", s.page(s.selectors))
		r.Get("/reports", s.page(s.reports))
		r.Get("/failures", s.page(s.failures))
		r.Get("/tls", s.page(s.tls))
		r.Get("/dns", s.page(s.dns))
		if s.adviser != nil {
			r.Get("/policy", s.page(s.policy))
			r.Get("/sources", s.page(s.whose))
			r.Get("/source", s.page(s.oneSender))
			if s.overruler != nil {
				r.Post("/overrules", s.overrule)
			}
		}
	})
	s.routeReports(r)
	r.Get("/messages", s.page(s.messages))
	if s.intake != nil {
		s.operating(r)
	}
	if s.live != nil {
		r.Get("/live", s.listen)
	}
	r.Get("/static/{name}", s.assets.serve)
	if s.gate != nil {
		r.Get("/login", s.page(s.login))
		r.Post("/login", s.enter)
		r.Post("/logout", s.post(s.leave))
	}
	r.NotFound(s.page(func(*http.Request) (*view, error) { return nil, dmarc.ErrNotFound }))
	return r
}

// operating routes the pages of intake and settings.
func (s *site) operating(r chi.Router) {
	r.Get("/start", s.page(s.start))
	r.Post("/start/mailbox", s.tryMailbox)
	r.Get("/intake", s.page(s.intakeOverview))
	r.Post("/intake/upload", s.upload)
	r.Post("/messages/retry", s.post(s.retryAll))
	r.Get("/messages/{id}", s.page(s.message))
	r.Get("/messages/{id}/raw", s.rawMessage)
	r.Post("/messages/{id}/retry", s.post(s.retry))
	r.Get("/settings", s.page(s.accessSettings))
	r.Get("/settings/notifications", s.page(s.notifySettings))
	r.Post("/settings/notifications/test", s.testTarget)
	r.Post("/settings/notifications/rules", s.post(s.switchRule))
	r.Get("/settings/senders", s.page(s.ownership))
	r.Get("/settings/configuration", s.page(s.configuration))
	r.Get("/settings/audit", s.page(s.audit))
	if s.overruler != nil {
		r.Post("/settings/senders", s.post(s.sayOwner))
	}
	if s.keeper != nil {
		r.Post("/settings/tokens", s.createToken)
		r.Post("/settings/tokens/{id}/revoke", s.post(s.revokeToken))
	}
}

// guard sets the headers that keep what strangers wrote from doing anything in
// the browser, even if it should get into a page unescaped.
func guard(next http.Handler) http.Handler {
	const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// recoverer turns a panic into the page of an internal error.
func (s *site) recoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				s.fail(w, r, fmt.Errorf("panic: %v", v))
			}
		}()
		next.ServeHTTP(w, r)
	})
}
