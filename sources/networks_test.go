package sources

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// writeMMDB writes a database that says the same of every address of a network.
func writeMMDB(t *testing.T, path, kind, network string, record mmdbtype.Map) {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, RecordSize: 24, IncludeReservedNetworks: true})
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
	temporary := path + ".new"
	if err := os.WriteFile(temporary, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, path); err != nil {
		t.Fatal(err)
	}
}

type network struct {
	ASN          uint32
	Org, Country string
}

func lookup(n *Networks, address string) network {
	var r network
	r.ASN, r.Org, r.Country = n.Lookup(netip.MustParseAddr(address))
	return r
}

func TestNetworksOfMaxMindAndIPinfo(t *testing.T) {
	dir := t.TempDir()
	asn, country, ipinfo := filepath.Join(dir, "asn.mmdb"), filepath.Join(dir, "country.mmdb"), filepath.Join(dir, "ipinfo.mmdb")
	writeMMDB(t, asn, "GeoLite2-ASN", "203.0.113.0/24", mmdbtype.Map{
		"autonomous_system_number": mmdbtype.Uint32(64496), "autonomous_system_organization": mmdbtype.String("Example Net"),
	})
	writeMMDB(t, country, "GeoLite2-Country", "203.0.113.0/24", mmdbtype.Map{
		"country": mmdbtype.Map{"iso_code": mmdbtype.String("NZ"), "names": mmdbtype.Map{"en": mmdbtype.String("New Zealand")}},
	})
	writeMMDB(t, ipinfo, "ipinfo lite", "2001:db8::/32", mmdbtype.Map{
		"asn": mmdbtype.String("AS64497"), "as_name": mmdbtype.String("Other Net"), "country": mmdbtype.String("Iceland"), "country_code": mmdbtype.String("is"),
	})
	log := slog.New(slog.DiscardHandler)
	n := OpenNetworks(log, asn, country, ipinfo)
	for address, want := range map[string]network{
		"203.0.113.9":  {64496, "Example Net", "NZ"},
		"2001:db8::1":  {64497, "Other Net", "IS"},
		"198.51.100.1": {},
	} {
		if got := lookup(n, address); got != want {
			t.Errorf("%s: %+v, want %+v", address, got, want)
		}
	}
	old := filepath.Join(dir, "old.mmdb")
	writeMMDB(t, old, "ipinfo standard_location", "203.0.113.0/24", mmdbtype.Map{"country": mmdbtype.String("NL")})
	if got, want := lookup(OpenNetworks(log, old), "203.0.113.1"), (network{Country: "NL"}); got != want {
		t.Errorf("country as a code: %+v", got)
	}
}

func TestAReplacedDatabaseIsReadAgainAndABrokenOneIsNot(t *testing.T) {
	var told bytes.Buffer
	log := slog.New(slog.NewTextHandler(&told, nil))
	path := filepath.Join(t.TempDir(), "asn.mmdb")
	n := OpenNetworks(log, path)
	if got := lookup(n, "203.0.113.9"); got != (network{}) {
		t.Errorf("without a file: %+v", got)
	}
	n.refresh(log)
	if c := strings.Count(told.String(), "is not there"); c != 1 {
		t.Errorf("told %d times that it is not there", c)
	}
	record := func(asn uint32) mmdbtype.Map {
		return mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(asn)}
	}
	writeMMDB(t, path, "GeoLite2-ASN", "203.0.113.0/24", record(1))
	n.refresh(log)
	if got := lookup(n, "203.0.113.9"); got.ASN != 1 {
		t.Errorf("%+v", got)
	}
	writeMMDB(t, path, "GeoLite2-ASN", "203.0.113.0/24", record(2))
	n.refresh(log)
	if got := lookup(n, "203.0.113.9"); got.ASN != 2 {
		t.Errorf("after it was replaced: %+v", got)
	}
	if err := os.WriteFile(path, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	n.refresh(log)
	n.refresh(log)
	if got := lookup(n, "203.0.113.9"); got.ASN != 2 {
		t.Errorf("after it was broken: %+v", got)
	}
	if c := strings.Count(told.String(), "cannot be read"); c != 1 {
		t.Errorf("told %d times that it cannot be read", c)
	}
}

func TestASenderIsRecognisedByItsNetwork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "asn.mmdb")
	writeMMDB(t, path, "GeoLite2-ASN", "203.0.113.0/24", mmdbtype.Map{"autonomous_system_number": mmdbtype.Uint32(11377)})
	log := slog.New(slog.DiscardHandler)
	store := newMemory("203.0.113.15")
	id := &Identifier{Store: store, Resolver: serveDNS(t), Catalogue: builtin(t), Networks: OpenNetworks(log, path), Log: log, Rate: 1000}
	if err := id.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := store.known[store.order[0]]; got.Sender == nil || got.Sender.ID != "sendgrid" || got.By != "asn" || got.ASN != 11377 {
		t.Errorf("%+v", got)
	}
}
