package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
	"github.com/dmarcd/dmarcd/records"
	"github.com/dmarcd/dmarcd/sample"
)

// A contract is a server that knows what reporters of a sample wrote, and the OpenAPI
// document that it serves. kin-openapi reads OpenAPI 3.1, and hands schemas that use
// what is new in it to a validator of JSON Schema 2020-12 (santhosh-tekuri/jsonschema).
type contract struct {
	*service
	server  *httptest.Server
	strict  routers.Router
	partial routers.Router // of the document without required fields, for answers in part
	all     []operation
	seen    *statements

	root, reader, uploader string // tokens
	domain, id, tlsID      string
}

// An operation is one of the document.
type operation struct {
	method, path string
	*openapi3.Operation
}

func (o operation) String() string { return o.method + " " + o.path }

func init() {
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.PlainBodyDecoder)
	openapi3filter.RegisterBodyDecoder("text/csv", openapi3filter.PlainBodyDecoder)
}

func newContract(t *testing.T, more ...func(*config)) *contract {
	t.Helper()
	c := &contract{service: openAccess(t, pgtest.URL(t), more...)}
	c.traced(t)
	mails := sample.Options{Seed: 3, Now: time.Now(), Domains: 3, Days: 12}
	for mail := range sample.Mailbox(mails, nil) {
		c.take(t, mail.Raw)
	}
	day := mails.Now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -2)
	x := &customer{name: "alpha", address: "198.51.100.77", n: 1000}
	for _, text := range []string{x.aggregate("conflict", x.domain(), 5, day), x.aggregate("conflict", x.domain(), 6, day), x.aggregate("sub", "www."+x.domain(), 7, day), x.failure(), aTLSReport("tls", x.domain())} {
		c.take(t, []byte(text))
	}
	cfg := defaultConfig(newEnviron(nil, nil, io.Discard, nil))
	tell, err := c.newTeller(cfg)
	if err == nil {
		cfg.Resolver, err = sample.ServeDNS(t.Context(), mails)
	}
	if err == nil {
		c.watcher, err = c.newWatcher(cfg, sample.PoliciesOf(mails))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, pass := range []func(context.Context) error{c.store.SummariseSources, c.store.SummariseFacts, c.watcher.Pass, c.adviser.pass,
		func(ctx context.Context) error { return tell.notifier.Pass(ctx, dmarc.Lease{}) }} {
		if err := pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	look, err := c.store.Look(t.Context(), x.domain())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"before", "after"} {
		err := c.store.SaveLook(t.Context(), &records.Look{Domain: x.domain(), At: time.Now(), Next: time.Now().Add(time.Hour), Result: look, Records: []records.RecordSet{{Name: x.domain(), Type: "TXT", Values: []string{text}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.db.Exec(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	c.root = c.token(t, "root", dmarc.Everything, dmarc.Roles...)
	c.reader = c.token(t, "reader", dmarc.Everything, dmarc.RoleRead)
	c.uploader = c.token(t, "uploader", dmarc.Everything, dmarc.RoleUpload)
	c.server = httptest.NewServer(c.handler())
	t.Cleanup(c.server.Close)
	c.domain = x.domain()
	var list struct{ Items []struct{ ID string } }
	if a := c.ask(t, question{method: "GET", path: "/api/v1/reports?inactive=true&domain=" + c.domain}, c.root); json.Unmarshal(a.body, &list) != nil || len(list.Items) != 1 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	c.id = list.Items[0].ID
	if a := c.ask(t, question{method: "GET", path: "/api/v1/tls?limit=1"}, c.root); json.Unmarshal(a.body, &list) != nil || len(list.Items) != 1 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	c.tlsID = list.Items[0].ID
	c.readDocument(t)
	return c
}

func (c *contract) take(t *testing.T, raw []byte) {
	t.Helper()
	if _, err := c.ingester.Take(t.Context(), dmarc.MailboxUpload, "", bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
}

// readDocument reads the document that is served, and checks it.
func (c *contract) readDocument(t *testing.T) {
	t.Helper()
	text := c.ask(t, question{method: "GET", path: "/api/v1/openapi.json"}, c.root).body
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	dropRequired(tree)
	relaxed, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		text []byte
		into *routers.Router
	}{{text, &c.strict}, {relaxed, &c.partial}} {
		doc, err := openapi3.NewLoader().LoadFromData(d.text)
		if err == nil {
			err = doc.Validate(t.Context())
		}
		if err != nil {
			t.Fatalf("the document is not valid: %v", err)
		}
		if !doc.IsOpenAPI31OrLater() {
			t.Fatalf("the document is of OpenAPI %s", doc.OpenAPI)
		}
		doc.Servers = nil
		if *d.into, err = gorillamux.NewRouter(doc); err != nil {
			t.Fatal(err)
		}
		if d.into != &c.strict {
			continue
		}
		for path, item := range doc.Paths.Map() {
			for method, op := range item.Operations() {
				c.all = append(c.all, operation{method, path, op})
			}
		}
	}
	// What is made is read, and then deleted.
	order := []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodGet, http.MethodDelete}
	slices.SortFunc(c.all, func(a, b operation) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.method), slices.Index(order, b.method)), cmp.Compare(a.path, b.path))
	})
	if len(c.all) < 30 {
		t.Fatalf("only %d operations", len(c.all))
	}
}

// dropRequired removes the lists of required fields from schemas.
func dropRequired(tree any) {
	switch n := tree.(type) {
	case map[string]any:
		if _, ok := n["required"].([]any); ok {
			delete(n, "required")
		}
		for _, v := range n {
			dropRequired(v)
		}
	case []any:
		for _, v := range n {
			dropRequired(v)
		}
	}
}

// An answer is what a server said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask asks the server with a token.
func (c *contract) ask(t testing.TB, q question, secret string) (a answer) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), q.method, c.server.URL+q.path, strings.NewReader(q.body+q.form))
	if err != nil {
		t.Fatalf("%s %q: %v", q.method, q.path, err)
	}
	if secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	if q.body+q.form != "" {
		r.Header.Set("Content-Type", q.media())
	}
	resp, err := c.server.Client().Do(r)
	if err != nil {
		t.Fatalf("%s %q: %v", q.method, q.path, err)
	}
	defer resp.Body.Close()
	a = answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatalf("%s %q: %v", q.method, q.path, err)
	}
	return a
}

// media is the type of the body of a request.
func (q question) media() string {
	if q.form != "" {
		return "application/x-www-form-urlencoded"
	}
	if strings.HasPrefix(q.body, "{") || strings.HasPrefix(q.body, "[") {
		return "application/json"
	}
	return "application/octet-stream"
}

// conforms compares a request, if it is meant to be valid, and its answer with the
// document.
func (c *contract) conforms(ctx context.Context, q question, valid bool, a answer) error {
	router := c.strict
	if strings.Contains(q.path, "fields=") {
		router = c.partial
	}
	r, err := http.NewRequestWithContext(ctx, q.method, q.path, strings.NewReader(q.body))
	if err != nil {
		return err
	}
	if q.body != "" {
		r.Header.Set("Content-Type", q.media())
	}
	route, params, err := router.FindRoute(r)
	if err != nil {
		return err
	}
	for name, v := range params { // kin-openapi leaves them as they are on the way
		if params[name], err = url.PathUnescape(v); err != nil {
			return err
		}
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true},
	}
	if valid {
		if err := openapi3filter.ValidateRequest(ctx, in); err != nil {
			return fmt.Errorf("the request: %w", err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: a.status, Header: a.header, Options: in.Options}
	out.SetBodyBytes(a.body)
	if err := openapi3filter.ValidateResponse(ctx, out); err != nil {
		return fmt.Errorf("the answer %d: %w\n%.600s", a.status, err, a.body)
	}
	// The validator passes over an answer whose type is not in the document.
	if media, _, _ := strings.Cut(a.header.Get("Content-Type"), ";"); len(a.body) > 0 {
		if content := route.Operation.Responses.Status(a.status).Value.Content; content.Get(media) == nil {
			return fmt.Errorf("the answer %d is of the type %q, which is not documented", a.status, media)
		}
	}
	return nil
}

// samples are texts that some parameter takes, whatever it is called.
func (c *contract) samples() []string {
	return []string{c.domain, "www." + c.domain, "198.51.100.77", "192.0.2.0/24", "192.0.2.77", "acme", "alpha-reporter.test", time.Now().UTC().Format(time.DateOnly), "ok", "1", "x"}
}

// values are texts that a parameter may have, by its schema and its name.
func (c *contract) values(o operation, p *openapi3.Parameter) (all []string) {
	s := p.Schema.Value
	today := time.Now().UTC()
	switch {
	case len(s.Enum) > 0:
		for _, v := range s.Enum {
			all = append(all, fmt.Sprint(v))
		}
	case s.Type.Is("boolean"):
		all = []string{"true", "false"}
	case s.Type.Is("integer") && p.In == "query":
		low, high := cmp.Or(s.Min, new(float64)), cmp.Or(s.Max, s.Min)
		all = []string{strconv.Itoa(int(*low)), strconv.Itoa(int(*high))}
	case s.Type.Is("array"):
		item := &openapi3.Parameter{Name: p.Name, In: p.In, Schema: s.Items}
		all = c.values(o, item)
	case p.Name == "domain":
		all = []string{c.domain, "acme.example", "www." + c.domain}
	case p.Name == "network":
		all = []string{"192.0.2.77", "198.51.100.0/24"}
	case p.Name == "id" && strings.HasPrefix(o.path, "/api/v1/tokens"):
		all = []string{"3"} // that of the uploader, deleted last
	case p.Name == "id" && strings.HasPrefix(o.path, "/api/v1/tls"):
		all = []string{c.tlsID}
	case p.Name == "id":
		all = []string{c.id}
	case p.Name == "from":
		all = []string{today.AddDate(0, 0, -10).Format(time.DateOnly), today.AddDate(0, 0, -400).Format(time.RFC3339)}
	case p.Name == "to":
		all = []string{today.Format(time.DateOnly), today.AddDate(1, 0, 0).Format(time.RFC3339)}
	case p.Name == "fields":
		all = c.fields(o)
	default:
		all = c.samples()
	}
	return all
}

// fields are names of what the items of a list have.
func (c *contract) fields(o operation) (all []string) {
	items := o.Responses.Status(http.StatusOK).Value.Content.Get("application/json").Schema.Value.Properties["items"].Value.Items.Value
	for name, p := range items.Properties {
		all = append(all, name)
		for inner := range p.Value.Properties {
			all = append(all, name+"."+inner)
		}
	}
	slices.Sort(all)
	return append(all[:1], strings.Join(all, ","))
}

// body is what an operation takes: JSON made from its schema, or a report.
func (c *contract) body(t *testing.T, o operation, full bool) string {
	t.Helper()
	if o.RequestBody == nil {
		return ""
	}
	media := o.RequestBody.Value.Content.Get("application/json")
	if media == nil {
		x := &customer{name: "alpha", address: "198.51.100.77", n: 1000}
		return x.aggregate(fmt.Sprint("upload", full), c.domain, 5, time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -3))
	}
	text, err := json.Marshal(c.example(media.Schema.Value, "", full))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// example is a value of a schema: with full all of it, else what it must have.
func (c *contract) example(s *openapi3.Schema, name string, full bool) any {
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Type.Includes("object"):
		object := map[string]any{}
		for name, p := range s.Properties {
			if full || slices.Contains(s.Required, name) {
				object[name] = c.example(p.Value, name, full)
			}
		}
		return object
	case s.Type.Includes("array"):
		return []any{c.example(s.Items.Value, name, full)}
	case s.Type.Includes("boolean"):
		return true
	case s.Type.Includes("integer"), s.Type.Includes("number"):
		return max(1, *cmp.Or(s.Min, new(float64)))
	case s.Format == "date-time":
		return time.Now().UTC().AddDate(1, 0, 0).Format(time.RFC3339)
	case strings.HasPrefix(name, "domain"):
		return c.domain
	case strings.HasPrefix(name, "group"):
		return "acme"
	}
	return fmt.Sprintf("a %s that is full %v", name, full)
}

// filled is the path of an operation with values of its parameters.
func (c *contract) filled(o operation, value func(*openapi3.Parameter) string) string {
	path := o.path
	for _, p := range o.Parameters {
		if p.Value.In == "path" {
			path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", url.PathEscape(value(p.Value)))
		}
	}
	return path
}
