package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/dmarcd/dmarcd/dmarc"
)

// manyClients has 200 clients ask at once what one has asked before, each on behalf
// of one of three, and compares. Then all of them bring the same report.
func (c *contract) manyClients(t *testing.T) {
	const clients, each = 200, 6
	tokens := []string{c.root, c.token(t, "one domain", dmarc.ScopeOf(c.domain), dmarc.RoleRead), c.token(t, "another domain", dmarc.ScopeOf("acme.example"), dmarc.RoleRead, dmarc.RoleFailures)}
	var all []question
	for _, o := range c.all {
		if o.method != http.MethodGet || strings.HasPrefix(o.path, "/api/v1/audit") { // which says what was read
			continue
		}
		for i := range 2 {
			q := question{method: o.method, path: c.filled(o, func(p *openapi3.Parameter) string { v := c.values(o, p); return v[i%len(v)] })}
			for _, p := range o.Parameters {
				if v := c.values(o, p.Value); p.Value.In == "query" && p.Value.Name != "after" && len(all)%3 == 0 {
					q.path += map[bool]string{true: "&", false: "?"}[strings.Contains(q.path, "?")] + url.Values{p.Value.Name: {v[i%len(v)]}}.Encode()
				}
			}
			all = append(all, q)
		}
	}
	for _, path := range []string{"/", "/?days=90", "/messages", "/domains/" + c.domain, "/domains/acme.example", "/domains/acme.example/sources", "/domains/acme.example/policy"} {
		all = append(all, question{method: http.MethodGet, path: path})
	}
	said := func(a answer) string { return fmt.Sprintf("%d %s\n%s", a.status, a.header.Get("Etag"), a.body) }
	alone := map[string]string{}
	statuses := map[int]int{}
	for _, q := range all {
		for _, secret := range tokens {
			a := c.ask(t, q, secret)
			statuses[a.status]++
			alone[secret+q.path] = said(a)
		}
	}
	if statuses[http.StatusOK] < len(all) || statuses[http.StatusNotFound] < 10 {
		t.Errorf("%d questions are not mixed: %v", len(all), statuses)
	}
	type other struct {
		question
		secret, got string
	}
	var mu sync.Mutex
	var others []other // answers than before
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range each {
				q, secret := all[random.IntN(len(all))], tokens[random.IntN(len(tokens))]
				if got := said(c.ask(t, q, secret)); got != alone[secret+q.path] {
					mu.Lock()
					others = append(others, other{q, secret, got})
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	// Pages say how long ago something was, and tokens in which hour they were used.
	for _, o := range others {
		if now := said(c.ask(t, o.question, o.secret)); o.got != now {
			t.Errorf("%s: to many at once it is another answer:\n%s", o.path, firstDifference(o.got, now))
		}
	}

	x := &customer{name: "race", address: "198.51.100.99", n: 1}
	report := x.aggregate("one", x.domain(), 77, time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -2))
	taken := map[int]int{}
	for range clients {
		wg.Go(func() {
			a := c.ask(t, question{method: http.MethodPost, path: "/api/v1/reports", body: report}, c.uploader)
			mu.Lock()
			taken[a.status]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if taken[http.StatusCreated] != 1 || taken[http.StatusOK] != clients-1 {
		t.Errorf("of %d who bring the same report: %v", clients, taken)
	}
	if a := c.ask(t, question{method: http.MethodGet, path: "/api/v1/domains/race.example/summary"}, c.root); !strings.Contains(string(a.body), `"messages":77,`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}
