package sources

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

func builtin(t testing.TB) *Catalogue {
	t.Helper()
	c, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryEntryOfTheCatalogueIsComplete(t *testing.T) {
	c := builtin(t)
	byKind := make(map[dmarc.SenderKind]int)
	names := make(map[string]string)
	for _, s := range c.senders {
		byKind[s.Kind]++
		if other, ok := names[strings.ToLower(s.Name)]; ok {
			t.Errorf("%s and %s have the same name", s.ID, other)
		}
		names[strings.ToLower(s.Name)] = s.ID
		if s.Kind == dmarc.SenderHosting {
			continue
		}
		if s.DKIM == "" || s.ReturnPath == "" {
			t.Errorf("%s does not say whether it can sign and take bounces for its customers", s.ID)
		}
		if !strings.HasSuffix(s.Fix, ".") || strings.Contains(s.Fix, "://") || strings.Contains(s.Fix, "  ") || len(s.Fix) > 250 {
			t.Errorf("%s: the fix is no short plain sentence: %q", s.ID, s.Fix)
		}
		if rest := strings.ReplaceAll(s.Fix, "{domain}", ""); strings.ContainsAny(rest, "{}") {
			t.Errorf("%s: the fix has braces that nobody fills: %q", s.ID, s.Fix)
		}
		if s.DKIM == dmarc.SupportNo && len(s.Publish) > 0 {
			t.Errorf("%s cannot sign, but has records to publish", s.ID)
		}
		for _, p := range s.Publish {
			if !strings.HasSuffix(p.Name, ".{domain}") && p.Name != "{domain}" || p.Type != "CNAME" && p.Type != "TXT" ||
				!regexp.MustCompile(`^([a-zA-Z0-9._=:~ -]|\{[a-zA-Z0-9. -]+\})+$`).MatchString(p.Value) {
				t.Errorf("%s: %+v is no record to publish", s.ID, p)
			}
		}
	}
	if byKind[dmarc.SenderService] < 150 || byKind[dmarc.SenderMailbox] < 40 || byKind[dmarc.SenderGateway] < 20 ||
		byKind[dmarc.SenderForwarder] < 15 || byKind[dmarc.SenderList] < 15 {
		t.Errorf("senders by kind: %v", byKind)
	}
}

// within are names of one sender below a name of another, which the longest
// suffix tells apart.
var within = []string{"groups.google.com", "forwarding.secureserver.com"}

func TestNoNameSwallowsThatOfAnotherSender(t *testing.T) {
	c := builtin(t)
	for _, m := range []map[string]*dmarc.Sender{c.ptr, c.domains} {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			_, parent, _ := strings.Cut(name, ".")
			if other := longest(m, parent); other != nil && other != m[name] && !slices.Contains(within, name) {
				t.Errorf("%s of %s lies below a name of %s", name, m[name].ID, other.ID)
			}
		}
	}
}

// A name that two entries claim is recognised as the last one's: each claim
// must be found again.
func TestNoNameIsClaimedTwice(t *testing.T) {
	claims := make(map[string]string)
	files, err := filepath.Glob("catalogue/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		id := ""
		for _, line := range strings.Split(string(text), "\n") {
			key, value, _ := strings.Cut(line, " = ")
			switch key {
			case "id":
				id = strings.Trim(value, `"`)
				if claims["id "+id] != "" {
					t.Errorf("the id %s is taken twice", id)
				}
				claims["id "+id] = id
			case "ptr", "dkim", "mail_from", "spf", "asn":
				if key == "dkim" || key == "mail_from" {
					key = "domain"
				}
				for _, name := range strings.Split(strings.Trim(value, "[]"), ", ") {
					name = key + " " + strings.Trim(name, `"`)
					if other := claims[name]; other != "" && other != id {
						t.Errorf("%s is claimed by %s and by %s", name, other, id)
					}
					claims[name] = id
				}
			}
		}
	}
}

func TestSendersAreRecognisedByNameAndNetwork(t *testing.T) {
	c := builtin(t)
	id := func(s *dmarc.Sender) string {
		if s == nil {
			return ""
		}
		return s.ID
	}
	for _, q := range []struct{ got, want string }{
		{id(c.byPTR("mail-ej1-f41.google.com")), "google-workspace"},
		{id(c.byPTR("mail-ej1-f41.google.com.")), "google-workspace"},
		{id(c.byPTR("mail.notgoogle.com")), ""},
		{id(c.byPTR("mail74.suw191.mcsv.net")), "mailchimp"},
		{id(c.byPTR("a8-31.smtp-out.amazonses.com")), "amazon-ses"},
		{id(c.byPTR("ec2-203-0-113-1.compute-1.amazonaws.com")), "aws"},
		{id(c.byPTR("com")), ""},
		{id(c.byPTR("")), ""},
		{id(c.ByDomain("acme.20230601.gappssmtp.com")), "google-workspace"},
		{id(c.ByDomain("acme.onmicrosoft.com")), "microsoft-365"},
		{id(c.ByDomain("bounce.em123.sendgrid.net")), "sendgrid"},
		{id(c.ByInclude("servers.mcsv.net")), "mailchimp"},
		{id(c.byASN(11377)), "sendgrid"},
		{id(c.byASN(64496)), ""},
	} {
		if q.got != q.want {
			t.Errorf("%q, want %q", q.got, q.want)
		}
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAnOperatorsFileAddsAndOverrides(t *testing.T) {
	path := write(t, "senders.toml", `
[[sender]]
id = "crm"
name = "Our CRM"
kind = "service"
ptr = ["out.crm.example"]
dkim = ["crm.example"]
fix = "Call Ann."
publish = [{ type = "CNAME", name = "crm._domainkey.{domain}", value = "dkim.crm.example" }]

[[sender]]
id = "sendgrid"
name = "SendGrid of the shop"
kind = "service"
ptr = ["sendgrid.net"]

[[sender]]
id = "newsletter"
name = "Newsletter"
kind = "service"
ptr = ["mcsv.net"]
`)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := &dmarc.Sender{
		ID: "crm", Name: "Our CRM", Kind: dmarc.SenderService, Fix: "Call Ann.",
		Publish: []dmarc.Template{{Type: "CNAME", Name: "crm._domainkey.{domain}", Value: "dkim.crm.example"}},
	}
	if got := c.byPTR("a.out.crm.example"); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if got := c.byPTR("x.sendgrid.net"); got.Name != "SendGrid of the shop" || c.ByDomain("sendgrid.net") != nil {
		t.Errorf("an entry of the same id does not replace: %+v", got)
	}
	if a, b := c.byPTR("mcsv.net"), c.byPTR("rsgsv.net"); a.ID != "newsletter" || b.ID != "mailchimp" {
		t.Errorf("a claimed name: %s, its neighbour: %s", a.ID, b.ID)
	}
	if builtin(t).byPTR("mcsv.net").ID != "mailchimp" {
		t.Error("the built-in catalogue has changed")
	}
}

func TestMistakesInAnOperatorsFileAreToldAtOnce(t *testing.T) {
	path := write(t, "senders.toml", `
[[sender]]
id = "Big"
name = "x"
kind = "service"
ptr = ["a.example"]
[[sender]]
id = "a"
name = "x"
kind = "thing"
ptr = ["a.example"]
[[sender]]
id = "b"
name = "x"
kind = "service"
ptr = ["co.uk"]
[[sender]]
id = "c"
name = "x"
kind = "service"
colour = "red"
[[sender]]
id = "d"
name = "x"
kind = "service"
dkim = ["*.example.com"]
`)
	_, err := Load(path, "senders.xls", filepath.Join(t.TempDir(), "none.toml"))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"(Big): id", `(a): kind "thing"`, `"co.uk" is a public suffix`, "(c): needs at least one", "colour is no key", `"*.example.com" is no domain name`, ".toml and .csv", "none.toml"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

func TestACSVFileAddsNames(t *testing.T) {
	path := write(t, "map.csv", "\ufeffbase_reverse_dns,name,type\nisp.example,Some ISP,ISP\nHost.example.,\"Host, Inc.\",Web Host\nhost2.example,\"Host, Inc.\",Web Host\nbakery.example,Bakery,Food\ngoogle.com,Other,ISP\n,Nothing,ISP\n")
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	host := c.byPTR("vps7.host.example")
	if want := (&dmarc.Sender{ID: "csv-host.example", Name: "Host, Inc.", Kind: dmarc.SenderHosting}); !reflect.DeepEqual(host, want) {
		t.Errorf("%+v", host)
	}
	if c.byPTR("host2.example") != host || c.byPTR("a.isp.example").Kind != dmarc.SenderISP || c.byPTR("bakery.example").Kind != dmarc.SenderOther ||
		c.byPTR("google.com").ID != "google-workspace" {
		t.Error("names of the file are not recognised as they should")
	}
	for text, want := range map[string]string{
		"a,b,c\n": "must name the columns", "base_reverse_dns,name,type\nbad name,x,ISP\nx.example\n": "line 2", "": "EOF",
	} {
		if _, err := Load(write(t, "map.csv", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestARealMapIsRead(t *testing.T) {
	const path = "../../shared/data/base_reverse_dns_map.csv"
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED: the map is not here: %v", err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.ptr) < 38_000 || c.byPTR("mail.012.net.il").Kind != dmarc.SenderISP {
		t.Errorf("%d names", len(c.ptr))
	}
	for name, s := range c.ptr {
		if s.Name == "" || s.Kind == "" {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func BenchmarkByPTR(b *testing.B) {
	c := builtin(b)
	for b.Loop() {
		c.byPTR("a.very.long.name.that.nobody.knows.example.com")
	}
}
