package main

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/dmarcd/dmarcd/parse"
	"github.com/dmarcd/dmarcd/postgres"
)

// networksFile writes a database in the layout of IPinfo that knows one network.
func networksFile(t *testing.T, network string, record mmdbtype.Map) string {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "ipinfo lite", RecordSize: 24, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	_, n, err := net.ParseCIDR(network)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Insert(n, record); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "lite.mmdb")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What an operator's files say of senders and of networks stands in the list of
// classes and on the page of a sender: a file adds to the catalogue, and wins
// over what is built in.
func TestAnOperatorsFilesTellWhoSends(t *testing.T) {
	a := adviseSample(t)
	const paperplane, newsbird, rolodeck = "198.51.100.64", "198.51.100.80", "198.51.100.40"
	cfg := &config{DatabaseURL: newSecret(strings.TrimPrefix(a.w.vars[0], "DMARCD_DATABASE_URL=")), Limits: parse.DefaultLimits}
	cfg.Sources.PerSecond = 100_000
	cfg.Resolver = resolving(t, `
80.100.51.198.in-addr.arpa. PTR out7.newsbird.example.
out7.newsbird.example. A 198.51.100.80
64.100.51.198.in-addr.arpa. PTR out1.paperplane.example.
out1.paperplane.example. A 198.51.100.64
`)
	classes := func() (http.Handler, map[string]string) {
		t.Helper()
		s, err := openService(t.Context(), cfg, slog.New(slog.DiscardHandler), postgres.Options{}, true)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.close() })
		if s.identifier, err = s.newIdentifier(cfg); err != nil {
			t.Fatal(err)
		}
		if err := s.adviser.pass(t.Context()); err != nil { // tells which addresses there are
			t.Fatal(err)
		}
		if err := s.identifier.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		h := s.handler()
		var list struct {
			Items []struct{ Source, Name, Class string }
		}
		if code := call(t, h, "GET", "/api/v1/domains/acme.example/classes?limit=1000", &list); code != http.StatusOK {
			t.Fatal(code)
		}
		names := make(map[string]string)
		for _, i := range list.Items {
			names[i.Source] = i.Name + ", " + i.Class
		}
		return h, names
	}
	page := func(h http.Handler, source string) string {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/domains/acme.example/source?of="+source, nil))
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d", source, w.Code)
		}
		return w.Body.String()
	}

	// The network of a service of the built-in catalogue, and nothing of an operator's.
	cfg.Sources.Networks = []string{networksFile(t, rolodeck+"/29", mmdbtype.Map{
		"asn": mmdbtype.String("AS11377"), "as_name": mmdbtype.String("Rack & Row"), "country_code": mmdbtype.String("NL"),
	})}
	h, names := classes()
	for source, want := range map[string]string{paperplane: "out1.paperplane.example, unknown", newsbird: "newsbird.example, service", rolodeck: "SendGrid, service"} {
		if names[source] != want {
			t.Errorf("without files %s is %q, want %q", source, names[source], want)
		}
	}
	for _, want := range []string{"AS11377", "Rack &amp; Row", "NL"} {
		if !strings.Contains(page(h, rolodeck), want) {
			t.Errorf("the page of %s does not say %q", rolodeck, want)
		}
	}
	if strings.Contains(page(h, newsbird), "AS11377") {
		t.Errorf("%s is in a network that is not its own", newsbird)
	}

	cfg.Sources.Catalogue = []string{writeFile(t, "senders.toml", `
[[sender]]
id = "paperplane"
name = "Paperplane of accounting"
kind = "service"
ptr = ["paperplane.example"]
fix = "Call Ann, and ask for a key for {domain}."

[[sender]]
id = "sendgrid"
name = "SendGrid of the shop"
kind = "service"
asn = [11377]
`), writeFile(t, "names.csv", "base_reverse_dns,name,type\nnewsbird.example,Newsbird by CSV,Marketing\npaperplane.example,Not this one,Marketing\n")}
	h, names = classes()
	for source, want := range map[string]string{paperplane: "Paperplane of accounting, service", newsbird: "Newsbird by CSV, service", rolodeck: "SendGrid of the shop, service"} {
		if names[source] != want {
			t.Errorf("with files %s is %q, want %q", source, names[source], want)
		}
	}
	for source, want := range map[string]string{paperplane: "Call Ann, and ask for a key for acme.example.", newsbird: "Newsbird by CSV", rolodeck: "SendGrid of the shop"} {
		if !strings.Contains(page(h, source), want) {
			t.Errorf("the page of %s does not say %q", source, want)
		}
	}
}
