package records

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
)

// Whether a subdomain exists is told by what it has, by NXDOMAIN, and not at
// all where a lookup fails.
func TestSubdomainsThatMailNamesExistOrNot(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": apex + "www A 192.0.2.1\nsix AAAA 2001:db8::1\nnews MX 10 mx.corp.test.\nmx A 192.0.2.2\n" + txt("text", "hello") + "up.mid A 192.0.2.3\n"})
	r.broken["down.corp.test"] = Answer{State: Failed, Rcode: 2}
	o := Options{Resolver: r, Authors: []string{
		"www.corp.test", "six.corp.test", "news.corp.test", "text.corp.test", "mid.corp.test", "never.corp.test", "down.corp.test", "corp.test", "other.test", "a b.corp.test", "www.corp.test",
	}}
	p, err := Lookup(t.Context(), "corp.test", o)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range p.Records {
		if set.Name == "www.corp.test" || set.Name == "never.corp.test" {
			t.Errorf("%s is watched", set.Name)
		}
	}
	text, err := json.Marshal(NewResult(p, nil))
	if err != nil {
		t.Fatal(err)
	}
	var look Result
	if err := json.Unmarshal(text, &look); err != nil {
		t.Fatal(err)
	}
	tell := look.Existence()
	for name, want := range map[string][2]bool{
		"www.corp.test": {true, true}, "six.corp.test": {true, true}, "news.corp.test": {true, true}, "text.corp.test": {false, true}, "mid.corp.test": {false, true},
		"never.corp.test": {false, true}, "down.corp.test": {false, false}, "other.test": {false, false}, "unasked.corp.test": {false, false},
	} {
		if exists, known := tell(name); exists != want[0] || known != want[1] {
			t.Errorf("%s exists: %v, known: %v; want %v", name, exists, known, want)
		}
	}
}

// Whoever makes up subdomains does not have us ask without end.
func TestFewSubdomainsAreAskedFor(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": apex})
	var names []string
	for i := range 500 {
		names = append(names, fmt.Sprintf("n%d.corp.test", i))
	}
	g := newGatherer("corp.test", Options{Resolver: r, Authors: names})
	gatherAuthors(context.Background(), g)
	if len(g.p.Authors) != maxAuthors || len(r.asked) > maxAuthors {
		t.Errorf("%d names, %d questions", len(g.p.Authors), len(r.asked))
	}
	g = newGatherer("corp.test", Options{Resolver: r, Authors: names})
	g.resolver = maxQuestions
	gatherAuthors(context.Background(), g)
	if !g.p.Authors[0].Unknown {
		t.Error("a name that was not asked for is known")
	}
}
