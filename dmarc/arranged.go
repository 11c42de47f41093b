package dmarc

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Group is domains that belong together, such as those of a client or a brand.
// It holds their subdomains as well. A domain may be in several.
type Group struct {
	Name    string
	Note    string   // for people
	Domains []string // sorted
	File    bool     // it stands in the configuration, and is changed there
}

// Scope returns the domains of the group.
func (g *Group) Scope() Scope { return ScopeOf(g.Domains...) }

// MaxGroupDomains is how many domains a group may name.
const MaxGroupDomains = 10_000

var usualName = regexp.MustCompile(`^[\pL\pN][\pL\pN ._-]{0,63}$`)

// CheckName says what is wrong with the name of a group, or with a label.
func CheckName(name string) error {
	if !usualName.MatchString(name) || strings.HasSuffix(name, " ") {
		return fmt.Errorf("must have 1 to 64 letters, digits, spaces, -, _ and ., and begin with a letter or a digit")
	}
	return nil
}

// OfGroup begins what stands for the domains of a group where domains are named: its
// name follows.
const OfGroup = "group:"

// GroupsAmong returns the names of the groups among what names domains.
func GroupsAmong(domains []string) (names []string) {
	for _, d := range domains {
		if name, ok := strings.CutPrefix(d, OfGroup); ok {
			names = append(names, name)
		}
	}
	return names
}

// A GroupQuery asks for groups by name, with what reports tell about their
// domains in a period of whole days. Ignored domains are left out.
type GroupQuery struct {
	Scope  Scope  // only groups with a domain in it, and only such domains
	Name   string // of one group; "" for all
	Period Period
	Page
}

// GroupTraffic is what reports tell about the domains of a group.
type GroupTraffic struct {
	Group
	Members int   // domains that there are reports about
	Tally   Tally // of the period
	// Own counts the messages of own sources and services, and Passing those of
	// them that pass DMARC, of the periods that verdicts are about.
	Own, Passing int64
	Verdicts     map[string]int // domains by verdict; "" counts those without
}

// OwnPassRate returns the share of the owners' mail that passes DMARC, and false
// if there is none.
func (g *GroupTraffic) OwnPassRate() (float64, bool) {
	if g.Own == 0 {
		return 0, false
	}
	return float64(g.Passing) / float64(g.Own), true
}

// An Origin tells who said something.
type Origin uint8

// The origins. What stands in the configuration file wins.
const (
	OriginDefault Origin = iota // nobody
	OriginAPI
	OriginFile
)

// String returns the word for an origin.
func (o Origin) String() string { return name(originWords[:], int(o)) }

var originWords = [...]string{"default", "api", "file"}

// DomainWords are what somebody says about a domain, without its subdomains. What
// is nil is not said.
type DomainWords struct {
	Labels  []string
	Ignored *bool // it is in no list and no sum, and told of by nobody
	// How long rows of aggregate reports, messages as they came and failure
	// reports are kept, rather than as long as those of other domains; 0 is for ever.
	Rows, Raw, Failures *time.Duration
}

// DomainSettings are what holds for a domain, and who said so.
type DomainSettings struct {
	Domain       string
	Groups       []string // that it is in, by name
	Labels       []string
	LabelsFrom   Origin
	Ignored      bool
	IgnoredFrom  Origin
	Rows         time.Duration
	RowsFrom     Origin
	Raw          time.Duration
	RawFrom      Origin
	Failures     time.Duration
	FailuresFrom Origin
}

// SettleDomain returns what holds for a domain by what the configuration file and
// the API say about it. What nobody says is zero.
func SettleDomain(domain string, file, api DomainWords) DomainSettings {
	s := DomainSettings{Domain: domain, Labels: []string{}, Groups: []string{}}
	for _, said := range []struct {
		DomainWords
		Origin
	}{{api, OriginAPI}, {file, OriginFile}} {
		if said.Labels != nil {
			s.Labels, s.LabelsFrom = said.Labels, said.Origin
		}
		if said.Ignored != nil {
			s.Ignored, s.IgnoredFrom = *said.Ignored, said.Origin
		}
		for _, k := range []struct {
			from *time.Duration
			to   *time.Duration
			by   *Origin
		}{{said.Rows, &s.Rows, &s.RowsFrom}, {said.Raw, &s.Raw, &s.RawFrom}, {said.DomainWords.Failures, &s.Failures, &s.FailuresFrom}} {
			if k.from != nil {
				*k.to, *k.by = *k.from, said.Origin
			}
		}
	}
	return s
}

// Contradicts returns what of some words stands in the configuration file
// otherwise, by name, and so has no effect.
func (w *DomainWords) Contradicts(file DomainWords) []string {
	var all []string
	if w.Labels != nil && file.Labels != nil && !slices.Equal(w.Labels, file.Labels) {
		all = append(all, "labels")
	}
	if w.Ignored != nil && file.Ignored != nil && *w.Ignored != *file.Ignored {
		all = append(all, "ignored")
	}
	for _, k := range []struct {
		name      string
		said, has *time.Duration
	}{{"retention_rows", w.Rows, file.Rows}, {"retention_raw", w.Raw, file.Raw}, {"retention_failures", w.Failures, file.Failures}} {
		if k.said != nil && k.has != nil && *k.said != *k.has {
			all = append(all, k.name)
		}
	}
	return all
}

// A NetworkLabel names an address or a network that sends.
type NetworkLabel struct {
	Domain  string // whose sources are meant, without its subdomains; "" for those of all
	Network netip.Prefix
	Labels  []string
	File    bool // it stands in the configuration, and is changed there
}

// Arrangements are what the configuration file says about domains and networks.
type Arrangements struct {
	Groups   []Group
	Domains  map[string]DomainWords
	Networks []NetworkLabel
}
