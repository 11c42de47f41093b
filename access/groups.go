package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Groups say what the members of groups may do. A group is what a provider or a
// proxy calls so.
type Groups map[string][]Grant

// anyGroup stands for everybody whom the provider or proxy lets in.
const anyGroup = "*"

// of returns the grants of somebody who is in some groups.
func (g Groups) of(groups []string) []Grant {
	all := slices.Clone(g[anyGroup])
	for _, name := range groups {
		if name != anyGroup {
			all = append(all, g[name]...)
		}
	}
	return all
}

// ParseGroup reads what a group may do: its name, its roles and its domains, as
// in "acme-it = read+failures @ acme.example+acme.org". The domains may be "*" for
// all, and "group:" with the name of a group of domains stands for what that has
// whenever it matters. readDomain brings a domain into the form in which it is stored.
func ParseGroup(text string, readDomain func(string) (string, error)) (name string, grant Grant, err error) {
	bad := errors.New(`must be a group, its roles and its domains, such as "acme-it = read+failures @ acme.example+acme.org" or "postmasters = admin @ *"`)
	i := strings.LastIndexByte(text, '=')
	if i < 0 {
		return "", grant, bad
	}
	name = strings.TrimSpace(text[:i])
	roles, domains, ok := strings.Cut(text[i+1:], "@")
	if name == "" || !ok {
		return "", grant, bad
	}
	for role := range strings.SplitSeq(roles, "+") {
		r := dmarc.Role(strings.TrimSpace(role))
		if !slices.Contains(dmarc.Roles, r) {
			return "", grant, fmt.Errorf("%w; %q is no role: write read, upload, admin or failures", bad, r)
		}
		grant.Roles = append(grant.Roles, r)
	}
	if strings.TrimSpace(domains) == "*" {
		grant.Scope = dmarc.Everything
		return name, grant, nil
	}
	var names []string
	for domain := range strings.SplitSeq(domains, "+") {
		if of, ok := strings.CutPrefix(strings.TrimSpace(domain), dmarc.OfGroup); ok {
			of = strings.TrimSpace(of)
			if err := dmarc.CheckName(of); err != nil {
				return "", grant, fmt.Errorf("%w; the name of the group of domains %q %w", bad, of, err)
			}
			grant.Groups = append(grant.Groups, of)
			continue
		}
		d, err := readDomain(domain)
		if err != nil {
			return "", grant, fmt.Errorf("%w; %q is no domain", bad, strings.TrimSpace(domain))
		}
		names = append(names, d)
	}
	grant.Scope = dmarc.ScopeOf(names...)
	return name, grant, nil
}
