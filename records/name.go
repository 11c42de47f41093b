package records

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// NameFound is what was found.
type NameFound struct {
	Invalid string // why the domain is no name; nothing was looked up then
	SOA     Answer // of the domain
}

func gatherName(ctx context.Context, g *gatherer) {
	g.p.Name.SOA = g.ask(ctx, g.p.Domain, dns.TypeSOA)
}

func checkName(p *Published) []Finding { return nil }

// domainName returns a domain in lower-case A-labels without the final dot, or
// says why it is no name of a host.
func domainName(text string) (string, error) {
	name := strings.TrimSuffix(strings.TrimSpace(text), ".")
	if strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", errors.New("it is not a valid internationalized name")
		}
		name = ascii
	}
	name = strings.ToLower(name)
	if name == "" {
		return "", errors.New("it is empty")
	}
	if len(name) > 253 {
		return "", fmt.Errorf("it has %d octets, and a name may have 253", len(name))
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", errors.New("it is an address")
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		switch {
		case label == "":
			return "", errors.New("a label is empty")
		case len(label) > 63:
			return "", fmt.Errorf("a label has %d octets, and may have 63", len(label))
		case label[0] == '-' || label[len(label)-1] == '-':
			return "", errors.New("a label begins or ends with a hyphen")
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return "", errors.New("it holds what is neither letter, digit nor hyphen")
			}
		}
		if strings.HasPrefix(label, "xn--") {
			if _, err := idna.Lookup.ToUnicode(label); err != nil {
				return "", errors.New("a label that begins with xn-- stands for no text")
			}
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return "", errors.New("the last label is a number")
	}
	return name, nil
}
