package dmarc_test

import (
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestAScopeCoversDomainsAndTheirSubdomains(t *testing.T) {
	two := dmarc.ScopeOf("b.example", "a.test")
	for _, c := range []struct {
		scope  dmarc.Scope
		domain string
		want   bool
	}{
		{dmarc.Scope{}, "a.test", false},
		{dmarc.Scope{}, "", false},
		{dmarc.ScopeOf(), "a.test", false},
		{dmarc.Everything, "a.test", true},
		{dmarc.Everything, "", true},
		{two, "a.test", true},
		{two, "b.example", true},
		{two, "x.y.b.example", true},
		{two, "xb.example", false},
		{two, "example", false},
		{two, "test", false},
		{two, "", false},
		{two, ".", false},
		{two, "b.example.com", false},
	} {
		if got := c.scope.Covers(c.domain); got != c.want {
			t.Errorf("%v covers %q: %v", c.scope.Domains(), c.domain, got)
		}
	}
}
