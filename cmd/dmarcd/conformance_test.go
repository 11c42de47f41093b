package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/dmarcd/dmarcd/internal/racetest"
)

// One server, with what reporters of a sample wrote, is asked for everything.
func TestTheAPI(t *testing.T) {
	t.Parallel()
	racetest.Calm(t)
	c := newContract(t)
	t.Run("asks the database once for a summary", c.oneTrip)
	t.Run("tells 200 clients at once what it tells one", c.manyClients)
	t.Run("answers as its document says", c.everyOperation)
	t.Run("bears any parameter", c.anyParameter)
}

// everyOperation asks for every operation of the document with every parameter.
// All answers are such as the document says, whether what is asked can be done or not.
func (c *contract) everyOperation(t *testing.T) {
	asked := 0
	for _, o := range c.all {
		statuses := c.walk(t, o)
		for _, n := range statuses {
			asked += n
		}
		if statuses[http.StatusOK]+statuses[http.StatusCreated]+statuses[http.StatusNoContent] == 0 {
			t.Errorf("%s: no request was good: %v; give contract.values and contract.example what it takes", o, statuses)
		}
		if statuses[http.StatusUnauthorized] == 0 || statuses[http.StatusForbidden] == 0 {
			t.Errorf("%s was never refused: %v", o, statuses)
		}
	}
	t.Logf("%d operations, %d requests", len(c.all), asked)
}

// walk makes requests of an operation, and counts what they are answered with.
func (c *contract) walk(t *testing.T, o operation) map[int]int {
	t.Helper()
	statuses := map[int]int{}
	ask := func(q question, valid bool, secret string) answer {
		t.Helper()
		a := c.ask(t, q, secret)
		statuses[a.status]++
		if err := c.conforms(context.Background(), q, valid, a); err != nil {
			t.Errorf("%s %s %.80s: %v", q.method, q.path, q.body, err)
		}
		if a.status >= http.StatusInternalServerError {
			t.Errorf("%s %s %.80s is answered %d: %.300s", q.method, q.path, q.body, a.status, a.body)
		}
		return a
	}
	first := func(p *openapi3.Parameter) string { return c.values(o, p)[0] }
	good := question{method: o.method, path: c.filled(o, first), body: c.body(t, o, false)}
	cannot := c.uploader // who may not read
	if o.method != http.MethodGet {
		cannot = c.reader
	}
	ask(good, true, "")
	ask(good, true, cannot)

	// Things that are not there, and bodies that are wrong. They come first, since what is good
	// may delete something.
	for _, nothing := range []string{"999999", "nothing.test", "a\x00b", `"><script>`, strings.Repeat("x", 300)} {
		if q := (question{method: o.method, path: c.filled(o, func(*openapi3.Parameter) string { return nothing }), body: good.body}); q.path != good.path {
			ask(q, false, c.root)
		}
	}
	if o.RequestBody != nil {
		for _, body := range []string{"", "{", "[]", `{"nonsense":1}`, "null", `"x"`, "{}"} {
			ask(question{method: o.method, path: good.path, body: body}, false, c.root)
		}
	}

	// Every value of every parameter is taken once.
	full := good
	if o.RequestBody != nil {
		full.body = c.body(t, o, true)
		ask(full, true, c.root)
		ask(full, true, c.root) // once more, when it is there
	}
	for _, p := range o.Parameters {
		taken, values := 0, c.values(o, p.Value)
		for _, v := range values {
			q := good
			if p.Value.In == "path" {
				q.path = c.filled(o, func(other *openapi3.Parameter) string {
					if other.Name == p.Value.Name {
						return v
					}
					return first(other)
				})
			} else {
				q.path += "?" + url.Values{p.Value.Name: {v}}.Encode()
			}
			a := ask(q, true, c.root)
			if p.Value.Name == "limit" && v == "1" {
				c.follow(t, q, a, ask)
			}
			if a.status < 400 {
				taken++
			}
		}
		if taken == 0 && p.Value.Name != "after" {
			t.Errorf("%s: no value of %s was taken, of %q; give contract.values some", o, p.Value.Name, values)
		}
		if p.Value.In != "query" {
			continue
		}
		for _, v := range []string{"", "-1", "nonsense", "'", "2026-99-99"} {
			ask(question{method: o.method, path: good.path + "?" + url.Values{p.Value.Name: {v}}.Encode(), body: good.body}, false, c.root)
		}
	}
	if a := ask(question{method: o.method, path: good.path + "?nonsense=1", body: good.body}, false, c.root); a.status < 400 {
		t.Errorf("%s takes a parameter that it does not know", o)
	}
	if o.method != http.MethodDelete {
		ask(good, true, c.root)
	}
	return statuses
}

// follow asks for the second page of a list.
func (c *contract) follow(t *testing.T, q question, a answer, ask func(question, bool, string) answer) {
	t.Helper()
	type page struct {
		Items []json.RawMessage
		Next  *string
	}
	var first, second page
	if err := json.Unmarshal(a.body, &first); err != nil || len(first.Items) != 1 || first.Next == nil {
		return // there is no second page
	}
	q.path += "&after=" + url.QueryEscape(*first.Next)
	a = ask(q, true, c.root)
	if err := json.Unmarshal(a.body, &second); err != nil || len(second.Items) != 1 || string(first.Items[0]) == string(second.Items[0]) {
		t.Errorf("%s: %d, %v: not another item than on the first page: %s", q.path, a.status, err, a.body)
	}
}
