package records

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.yaml.in/yaml/v3"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A suiteScenario is a document of a published test suite: tests, and the
// zone that they run in.
type suiteScenario struct {
	Description string
	Comment     string
	Tests       map[string]struct {
		Helo        string
		Host        string
		MailFrom    string `yaml:"mailfrom"`
		Receiver    string
		Result      words
		Explanation string
	}
	ZoneData map[string][]map[string]yaml.Node
}

// words are one word or several.
type words []string

func (w *words) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode {
		return n.Decode((*[]string)(w))
	}
	*w = words{n.Value}
	return nil
}

func readSuite(t *testing.T, name string) []suiteScenario {
	t.Helper()
	text, err := os.ReadFile("testdata/spf/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var all []suiteScenario
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		var s suiteScenario
		for range 2 { // the second time with full names
			s = suiteScenario{}
			if err := yaml.Unmarshal([]byte(doc), &s); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if name == "blitirispf-tests.yml" {
				doc = fullNames(doc, &s)
			}
		}
		if len(s.Tests) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// fullNames puts single labels below a domain: one suite uses them as names of
// domains, for which there is no SPF (RFC 7208, sections 4.3 and 7.1).
func fullNames(doc string, s *suiteScenario) string {
	single := map[string]bool{}
	for owner := range s.ZoneData {
		single[owner] = !strings.Contains(owner, ".")
	}
	for _, m := range regexp.MustCompile(`\b(?:include|a|mx|ptr|exists):(\w+)\b[^.]`).FindAllStringSubmatch(doc, -1) {
		single[m[1]] = true
	}
	return regexp.MustCompile(`[\w.-]+`).ReplaceAllStringFunc(doc, func(word string) string {
		if single[word] {
			return word + ".test"
		}
		return word
	})
}

// A suiteResolver answers from the zone of a scenario.
type suiteResolver map[string]*suiteName

type suiteName struct {
	rrs    []dns.RR
	noTXT  bool // records of type SPF are not doubled as TXT
	fails  bool // for the types that have no records
	cname  string
	spfRRs []dns.RR
}

func newSuiteResolver(t *testing.T, s *suiteScenario) suiteResolver {
	t.Helper()
	r := suiteResolver{}
	for owner, entries := range s.ZoneData {
		name := &suiteName{}
		r[strings.ToLower(owner)] = name
		for _, entry := range entries {
			for kind, value := range entry {
				var list words
				if err := value.Decode(&list); err != nil {
					t.Fatalf("%s: %v", owner, err)
				}
				hdr := dns.RR_Header{Name: dns.Fqdn(owner), Rrtype: dns.StringToType[kind], Class: dns.ClassINET, Ttl: 3600}
				switch kind {
				case "TIMEOUT", "SERVFAIL", "CNAMELOOP":
					name.fails = true
				case "CNAME":
					name.cname = list[0]
				case "A":
					name.rrs = append(name.rrs, &dns.A{Hdr: hdr, A: net.ParseIP(list[0])})
				case "AAAA":
					name.rrs = append(name.rrs, &dns.AAAA{Hdr: hdr, AAAA: net.ParseIP(list[0])})
				case "MX":
					name.rrs = append(name.rrs, &dns.MX{Hdr: hdr, Mx: dns.Fqdn(list[1])})
				case "PTR":
					name.rrs = append(name.rrs, &dns.PTR{Hdr: hdr, Ptr: dns.Fqdn(list[0])})
				case "TXT", "SPF":
					if kind == "TXT" && list[0] == "NONE" {
						name.noTXT = true
						continue
					}
					var strs []string
					for _, s := range list {
						strs = append(strs, strings.Trim(quoted(s), `"`))
					}
					rr := &dns.TXT{Hdr: hdr, Txt: strs}
					rr.Hdr.Rrtype = dns.TypeTXT
					if kind == "SPF" {
						name.spfRRs = append(name.spfRRs, rr)
						continue
					}
					name.noTXT = true
					name.rrs = append(name.rrs, rr)
				default:
					t.Fatalf("%s: %s is not known", owner, kind)
				}
			}
		}
		if !name.noTXT {
			name.rrs = append(name.rrs, name.spfRRs...)
		}
	}
	return r
}

func (r suiteResolver) Lookup(_ context.Context, name string, qtype uint16) Answer {
	a := Answer{Name: name, Type: qtype}
	at := name
	for range 9 {
		n := r[at]
		switch {
		case n == nil:
			a.State = NXDomain
			return a
		case n.cname != "":
			at = strings.ToLower(strings.TrimSuffix(n.cname, "."))
			continue
		}
		for _, rr := range n.rrs {
			if rr.Header().Rrtype == qtype {
				a.RRs = append(a.RRs, rr)
			}
		}
		switch {
		case len(a.RRs) > 0:
			a.State = Found
		case n.fails:
			a.Err = "timeout"
		default:
			a.State = NoData
		}
		return a
	}
	a.Loop = true
	return a
}

// differs are the cases in which what is right differs from what a suite
// says, with the reason.
var differs = map[string]struct {
	result dmarc.Result
	why    string
}{
	"pyspf/4/default-modifier":       {dmarc.ResultNeutral, "a modifier that RFC 7208 does not know has no effect (section 6); pyspf heeds it when told to be lax"},
	"pyspf/4/default-modifier-harsh": {dmarc.ResultNeutral, "the same; ambiguous is a word of pyspf, and no result"},
}

func TestSPFAgreesWithThePublishedSuites(t *testing.T) {
	for _, suite := range []struct {
		file             string
		scenarios, tests int
	}{
		{"rfc7208-tests.yml", 16, 203},
		{"rfc4408-tests.yml", 15, 191},
		{"pyspf-tests.yml", 4, 16},
		{"blitirispf-tests.yml", 24, 83},
	} {
		t.Run(suite.file, func(t *testing.T) {
			scenarios, tests := readSuite(t, suite.file), 0
			for i := range scenarios {
				s := &scenarios[i]
				r := newSuiteResolver(t, s)
				for name, c := range s.Tests {
					tests++
					key := fmt.Sprintf("%s/%d/%s", strings.TrimSuffix(suite.file, "-tests.yml"), i+1, name)
					ip, err := netip.ParseAddr(c.Host)
					if err != nil {
						t.Fatalf("%s: %v", key, err)
					}
					v := checkHost(t.Context(), r, ip, c.Helo, c.MailFrom, SPFOptions{Receiver: c.Receiver, Now: time.Unix(0, 0)})
					if d, ok := differs[key]; ok {
						if v.Result != d.result {
							t.Errorf("%s: %s (%s), want %s: %s", key, v.Result, v.Reason, d.result, d.why)
						}
						continue
					}
					if !slices.Contains(c.Result, v.Result.String()) {
						t.Errorf("%s: %s (%s), want %v", key, v.Result, v.Reason, c.Result)
					}
					want := c.Explanation
					if want == "DEFAULT" { // what a receiver says if the domain says nothing
						want = ""
					}
					// The nibbles of an address are written in lower case here,
					// in upper case there; names do not tell them apart.
					if c.Explanation != "" && !strings.EqualFold(v.Explanation, want) {
						t.Errorf("%s: explanation %q, want %q", key, v.Explanation, want)
					}
				}
			}
			if len(scenarios) != suite.scenarios || tests != suite.tests {
				t.Errorf("%d scenarios, %d tests; want %d, %d", len(scenarios), tests, suite.scenarios, suite.tests)
			}
		})
	}
}
