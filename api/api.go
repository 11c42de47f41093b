// Package api speaks HTTP and JSON: what the reports tell, for dashboards and
// scripts, described by OpenAPI 3.1.
package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/records"
)

// A Store answers what the API asks. Lists return the cursor of the next page,
// or "".
type Store interface {
	Domains(ctx context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error)
	Summary(ctx context.Context, q dmarc.TrafficQuery) (dmarc.DomainSummary, error)
	Sources(ctx context.Context, q dmarc.TrafficQuery) (dmarc.SourceList, dmarc.Cursor, error)
	Reporters(ctx context.Context, q dmarc.TrafficQuery) ([]dmarc.ReporterTraffic, dmarc.Cursor, error)
	Selectors(ctx context.Context, q dmarc.TrafficQuery) (dmarc.SelectorList, dmarc.Cursor, error)
	Reports(ctx context.Context, q dmarc.ReportQuery) ([]dmarc.ReportSummary, dmarc.Cursor, error)
	Report(ctx context.Context, id string) (dmarc.ReportSummary, error)
	// ReportRows returns rows of a report.
	ReportRows(ctx context.Context, q dmarc.RowQuery) (dmarc.RowList, dmarc.Cursor, error)
	// Alternatives returns the other contents that came under the identity of
	// a report.
	Alternatives(ctx context.Context, id string, page dmarc.Page) ([]dmarc.ReportSummary, dmarc.Cursor, error)
	Raw(ctx context.Context, reportID string) (io.ReadCloser, dmarc.LedgerEntry, error)
	Failures(ctx context.Context, q dmarc.FailureQuery) ([]dmarc.StoredFailure, dmarc.Cursor, error)
	TLS(ctx context.Context, q dmarc.TLSQuery) ([]dmarc.StoredTLS, dmarc.Cursor, error)
	TLSReport(ctx context.Context, id string) (dmarc.StoredTLS, error)
	Messages(ctx context.Context, q dmarc.MessageQuery) ([]dmarc.LedgerEntry, dmarc.Cursor, error)
	// Look returns what the last look at the records of a domain found, and
	// RecordChanges how they changed; dmarc.ErrNotFound if there was no look.
	Look(ctx context.Context, domain string) (*records.Result, error)
	RecordChanges(ctx context.Context, domain string, q dmarc.ChangeQuery) ([]dmarc.RecordChange, dmarc.Cursor, error)
	// Notifications returns what people were told, latest first.
	Notifications(ctx context.Context, q dmarc.NotificationQuery) ([]dmarc.Notification, dmarc.Cursor, error)
	// Attention returns the verdicts about all domains, the most urgent first.
	Attention(ctx context.Context, q dmarc.AttentionQuery) ([]dmarc.DomainVerdict, dmarc.Cursor, error)
	// Ready returns nil if the database answers and has today's schema.
	Ready(ctx context.Context) error
}

// An Intake takes in uploads, decides between contents that it took in, and tells how
// reports come in. It returns dmarc.ErrForbidden to those who may not know.
type Intake interface {
	Mailboxes(ctx context.Context, now time.Time) ([]dmarc.Mailbox, error)
	Passes(ctx context.Context) ([]dmarc.Pass, error)
	// Activate makes a report the one of its identity that counts, and
	// returns it; a dmarc.Refusal says why that cannot be.
	Activate(ctx context.Context, id string) (dmarc.ReportSummary, error)
	Take(ctx context.Context, mailbox, name string, body io.Reader) (dmarc.Fate, error)
}

// Overrules keep what operators say about whose a source is.
type Overrules interface {
	// Overrules returns what is said for a domain, and for all domains; for ""
	// the latter alone.
	Overrules(ctx context.Context, domain string) ([]dmarc.Overrule, error)
	// PutOverrule reports whether nothing was said about the network before; a
	// dmarc.Refusal says that it is not to be said here.
	PutOverrule(ctx context.Context, o *dmarc.Overrule) (added bool, err error)
	DropOverrule(ctx context.Context, domain string, network netip.Prefix) error
}

// Options say how the API runs. The zero value of each is fine.
type Options struct {
	Log       *slog.Logger
	Version   string
	MaxUpload int64                // bytes; 0 for 64 MiB
	Metrics   *prometheus.Registry // what else /metrics shows
	// Advise judges a policy for a domain by the reports of a period; an
	// unknown policy stands for the next step. dmarc.ErrNotFound if nothing was
	// ever reported about the domain.
	Advise func(ctx context.Context, domain string, policy dmarc.Policy, period dmarc.Period) (*advice.Advice, error)
	Now    func() time.Time
	Ready  func() string // what /readyz says besides; lines of text
	Keeper Keeper        // of tokens and the audit log; nil for none
	// Evidence returns what advice about a domain rests on.
	Evidence  func(ctx context.Context, domain string, period dmarc.Period) (*advice.Evidence, error)
	Overrules Overrules // nil if nothing can be overruled
	// Arrangements are nil if nothing can be arranged.
	Arrangements Arrangements
}

// API answers requests.
type API struct {
	store  Store
	intake Intake
	opts   Options
}

// queryTime bounds a question to the store; answers that stream are not bounded.
const queryTime = 30 * time.Second

// New returns a handler for /api, /healthz, /readyz and /metrics.
func New(store Store, intake Intake, opts Options) http.Handler {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.MaxUpload == 0 {
		opts.MaxUpload = 64 << 20
	}
	if opts.Metrics == nil {
		opts.Metrics = prometheus.NewRegistry()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	a := &API{store: store, intake: intake, opts: opts}

	r := chi.NewRouter()
	r.Use(a.recover, secure, a.measure(), compressed(), middleware.GetHead, conditional)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, http.StatusNotFound, "there is nothing at "+strconv.Quote(r.URL.Path)+"; /api/docs lists what there is")
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, http.StatusMethodNotAllowed, r.Method+" is not possible here")
	})
	document := a.routes(r)
	r.Get("/api/docs", docsPage(document))
	r.Get("/api/docs.css", serveDocsStyle)
	r.Get("/healthz", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "alive\n") })
	r.Get("/readyz", a.ready)
	r.Handle("/metrics", promhttp.HandlerFor(opts.Metrics, promhttp.HandlerOpts{}))
	return r
}

// OpenAPI returns the document of the API as JSON.
func OpenAPI(version string) ([]byte, error) {
	a := &API{opts: Options{Version: version, MaxUpload: 64 << 20, Now: time.Now}}
	return a.routes(chi.NewRouter()).MarshalJSON()
}

// routes registers every operation.
func (a *API) routes(r chi.Router) *huma.OpenAPI {
	config := huma.DefaultConfig("dmarcd", a.opts.Version)
	config.Info.Description = "What DMARC and SMTP TLS reports tell about your domains. Counts are messages. Times are RFC 3339 in UTC, days are days in UTC, periods are half-open: from is in, to is not. Lists are pages: pass next as after to go on."
	config.OpenAPIPath = "/api/v1/openapi"
	config.DocsPath, config.SchemasPath = "", ""
	config.CreateHooks, config.Transformers = nil, nil
	config.RejectUnknownQueryParameters = true
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {
		Type: "http", Scheme: "bearer", Description: "A token made with dmarcd token create. Where dmarcd asks nobody who they are, none is needed.",
	}}
	config.Security = []map[string][]string{{"token": {}}, {}}
	h := humachi.New(r, config)

	list(a, h, sumsAtOnce, "/domains", "list-domains", "Domains", "Every domain that reports were stored for, busiest first, with totals of the period and the policy as last reported.", a.domains)
	get(h, "/domains/{domain}/summary", "get-summary", "Summary of a domain", "Totals of a period, and a series by day, week (by its Monday) or month (by its first day).", a.summary)
	list(a, h, sumsAtOnce, "/domains/{domain}/sources", "list-sources", "Sources of a domain", "The addresses that sent mail as the domain, busiest first. Only the busiest of each day are kept by name; others is the exact sum of the rest.", a.sources)
	list(a, h, sumsAtOnce, "/domains/{domain}/reporters", "list-reporters", "Reporters of a domain", "Who sent reports about the domain, busiest first.", a.reporters)
	get(h, "/domains/{domain}/checks", "get-checks", "Checks of what a domain publishes", "What the last look at the DNS records of the domain found: the records, what is wrong with them, why it matters and what to publish. Domains are looked at again and again, at least once a day. 404 before the first look.", a.checks)
	list(a, h, itemsAtOnce, "/domains/{domain}/checks/history", "list-record-changes", "How the records of a domain changed", "Sets of DNS records that were seen to have changed, latest first.", a.recordChanges)
	list(a, h, sumsAtOnce, "/domains/{domain}/selectors", "list-selectors", "DKIM keys of a domain", "The DKIM keys that signed mail of the domain, by their domain and selector, busiest first. Only the busiest of each day are kept by name; others counts the messages with the rest.", a.selectors)
	get(h, "/domains/{domain}/advice", "get-advice", "Whether a stricter policy is safe", "Judges the next step of the DMARC policy, or the policy that is asked for, by the reports of a period: the verdict with its reasons, what would be lost and whose mail that is, what to mend first, and the record to publish.", a.advice)
	get(h, "/domains/{domain}/simulation", "simulate-policy", "What a policy would have done", "Replays a policy over the reports of a period: the messages that would have been quarantined or rejected, by class, source, reporter, subdomain and day. Tags that are not given are those in force. Sources can be taken for repaired, so that all of their mail passes.", a.simulation)
	list(a, h, sumsAtOnce, "/domains/{domain}/classes", "list-classes", "Whose the sources of a domain are", "Every source of the period with its class, how sure that is, and what speaks for it; busiest first.", a.classes)
	list(a, h, itemsAtOnce, "/attention", "list-attention", "What deserves attention today", "Every domain with the verdict about it in short: those whose own mail has begun to fail first, then those whose policy stops own mail, that are ready for the next step, from which reports have stopped, and so on. Verdicts are computed again as reports come, and at least once a day.", a.attention)
	a.overruleRoutes(h)
	a.arrangedRoutes(h)
	list(a, h, itemsAtOnce, "/reports", "list-reports", "Aggregate reports", "Aggregate reports whose period begins in the period asked for, newest first.", a.reports)
	streamed(h, "/reports/{id}", "get-report", "One aggregate report", "A report with all of its rows. The rows are streamed, however many there are.",
		map[string]*huma.MediaType{mediaJSON: {Schema: huma.SchemaFromType(h.OpenAPI().Components.Schemas, reflect.TypeFor[WholeReport]())}}, a.report)
	streamed(h, "/reports/{id}/raw", "get-raw-report", "The message a report came in", "The message or file that the report came in, byte for byte.",
		map[string]*huma.MediaType{"message/rfc822": binary(), "application/octet-stream": binary()}, a.raw)
	list(a, h, reportRowsAtOnce, "/reports/{id}/rows", "list-rows", "Rows of a report", "The rows of an aggregate report that counts, with most messages first.", a.reportRows)
	list(a, h, itemsAtOnce, "/reports/{id}/alternatives", "list-alternatives", "What else came under the identity of a report", "Reports of the same domain, reporter, report_id and period with other content, newest arrival first. One of all counts: the one with the most messages, unless another was chosen.", a.alternatives)
	register(h, huma.Operation{
		OperationID: "activate-report", Method: http.MethodPost, Path: "/api/v1/reports/{id}/activate", Summary: "Let a report count",
		Description: "Of several contents under one identity, makes this the one that counts, and answers with it. All totals follow at once, and later arrivals leave it so. 409 if the message that holds its rows is not kept any more.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, a.activate)
	list(a, h, itemsAtOnce, "/failures", "list-failures", "Failure reports", "Failure reports (RFC 9991), newest first by arrival. Keeping them is off unless it is configured. Local parts of addresses are masked.", a.failures)
	list(a, h, itemsAtOnce, "/tls", "list-tls", "SMTP TLS reports", "SMTP TLS reports (RFC 8460) whose period begins in the period asked for, newest first. Counts are sessions; do not add up policies.", a.tls)
	get(h, "/tls/{id}", "get-tls", "One SMTP TLS report", "A TLS report with its policies and what failed under each.", a.tlsReport)
	list(a, h, itemsAtOnce, "/messages", "list-messages", "Messages", "The ledger, newest first: every message that was taken in, its outcome and the reason.", a.messages)
	list(a, h, itemsAtOnce, "/mailboxes", "list-mailboxes", "Mailboxes", "The mailboxes that reports are read from, how that goes, and what waits in them; for those who may read about every domain.", a.mailboxes)
	list(a, h, itemsAtOnce, "/passes", "list-passes", "Passes", "The work that is done by itself again and again, in the order in which it follows each other, and how it goes; for those who may read about every domain.", a.passes)
	list(a, h, itemsAtOnce, "/notifications", "list-notifications", "Notifications", "What people were told, latest first: what began, what is over and what happened once, with the deliveries to each target. Kept for 400 days.", a.notifications)
	register(h, huma.Operation{
		OperationID: "upload-report", Method: http.MethodPost, Path: "/api/v1/reports", Summary: "Upload a report",
		Description:      "Takes in what dmarcd import reads, as the body of the request: a message, XML, JSON, gzip or zip. 201 if something was added, 200 if everything was known, 413 over a limit, 422 with the outcome if there was no report that could be read.",
		DefaultStatus:    http.StatusCreated,
		MaxBodyBytes:     -1,
		BodyReadTimeout:  -1,
		SkipValidateBody: true,
		RequestBody:      &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/octet-stream": binary()}},
		Errors:           []int{http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity},
	}, a.upload)
	a.accessRoutes(h)
	orNullEverywhere(h.OpenAPI().Components.Schemas)
	return h.OpenAPI()
}

// get registers a question.
func get[I, O any](h huma.API, path, id, summary, description string, handler func(context.Context, *I) (*O, error)) {
	streamed(h, path, id, summary, description, nil, handler)
}

// streamed registers a question whose answer huma does not know the type of.
func streamed[I, O any](h huma.API, path, id, summary, description string, content map[string]*huma.MediaType, handler func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: "/api/v1" + path, Summary: summary, Description: description,
		Errors: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity},
	}
	if content != nil {
		op.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: content}}
	}
	register(h, op, handler)
}

// binary is what is handed out, or taken, byte for byte.
func binary() *huma.MediaType {
	return &huma.MediaType{Schema: &huma.Schema{Type: "string", Format: "binary"}}
}

// register registers an operation. Any may be refused to those who are not known,
// may not, or come too often, and may find the database away; what has a body may find it
// unreadable. What says its status itself answers 201 for what is new, else 200.
func register[I, O any](h huma.API, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	op.Errors = append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}, op.Errors...)
	if _, ok := reflect.TypeFor[I]().FieldByName("Body"); ok {
		op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	huma.Register(h, op, handler)
	if _, ok := reflect.TypeFor[O]().FieldByName("Status"); ok {
		known, made := op.Responses["200"], op.Responses["201"]
		if made == nil {
			op.Responses["201"] = &huma.Response{Description: http.StatusText(http.StatusCreated), Content: known.Content}
		} else {
			op.Responses["200"] = &huma.Response{Description: http.StatusText(http.StatusOK), Content: made.Content}
		}
	}
}

func (a *API) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := a.store.Ready(ctx); err != nil {
		a.opts.Log.Warn("not ready", "error", err)
		writeProblem(w, http.StatusServiceUnavailable, "the database cannot be used now; the log says why")
		return
	}
	io.WriteString(w, "ready\n")
	if a.opts.Ready != nil {
		io.WriteString(w, a.opts.Ready())
	}
}

// secure sets headers that keep browsers from making more of an answer than
// it is.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// recover turns a panic into a problem.
func (a *API) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				a.opts.Log.Error("a request failed", "method", r.Method, "path", r.URL.Path, "panic", v)
				writeProblem(w, http.StatusInternalServerError, "something went wrong; the log says what")
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// measure observes how long requests take, by route.
func (a *API) measure() func(http.Handler) http.Handler {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "dmarcd_http_request_seconds", Help: "Duration of API requests, by route, method and status.",
		Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
	}, []string{"route", "method", "status"})
	a.opts.Metrics.MustRegister(seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			began := time.Now()
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			next.ServeHTTP(ww, r)
			route := chi.RouteContext(r.Context()).RoutePattern()
			method := r.Method
			if route == "" || method != http.MethodGet && method != http.MethodHead && method != http.MethodPost && method != http.MethodPut && method != http.MethodDelete {
				route, method = "other", "other"
			}
			status := max(ww.Status(), http.StatusOK)
			seconds.WithLabelValues(route, method, strconv.Itoa(status)).Observe(time.Since(began).Seconds())
			a.opts.Log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", status, "seconds", time.Since(began).Seconds())
		})
	}
}
