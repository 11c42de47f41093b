package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/mail"
	"strings"
	"time"

	"github.com/emersion/go-msgauth/authres"
	"github.com/emersion/go-msgauth/dkim"

	"github.com/dmarcd/dmarcd/dmarc"
)

// Bounds of what a message may cost.
const (
	maxHeader     = 256 << 10 // bytes
	maxSignatures = 5         // that are verified
	lookupTime    = 20 * time.Second
)

// A LookupError means that a key could not be looked up for now.
type LookupError struct{ err error }

// Error says what could not be looked up.
func (e *LookupError) Error() string { return e.err.Error() }

// Check tells whether a message is authentic: whether a valid DKIM signature
// is aligned with the domain of From, or a trusted server has found that it passes.
// A *LookupError means that it should be asked again later; any other error is the
// reader's.
func Check(ctx context.Context, message io.Reader, resolver Resolver, trusted []string) (dmarc.TransportVerdict, error) {
	unknown := func(format string, args ...any) (dmarc.TransportVerdict, error) {
		return dmarc.TransportVerdict{Auth: dmarc.TransportUnknown, Reason: fmt.Sprintf(format, args...)}, nil
	}
	b := bufio.NewReaderSize(&lines{r: bufio.NewReaderSize(message, 32<<10)}, 32<<10)
	head, err := readHeader(b)
	if errors.Is(err, errLongHeader) {
		return unknown("the header is longer than %d KiB", maxHeader>>10)
	}
	if err != nil {
		return dmarc.TransportVerdict{}, err
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(head))
	if err != nil {
		return unknown("it came without a mail around it, or the header of the mail cannot be read")
	}
	from, err := author(parsed.Header)
	if err != nil {
		return unknown("%v", err)
	}
	said := trustedResult(parsed.Header["Authentication-Results"], from, trusted)
	if said.Auth == dmarc.TransportPass {
		return said, nil
	}

	var lookupErr error // of the last lookup that failed for now
	lookup := func(name string) ([]string, error) {
		ctx, cancel := context.WithTimeout(ctx, lookupTime)
		defer cancel()
		texts, err := resolver.LookupTXT(ctx, strings.TrimSuffix(name, ".")+".")
		var dnsErr *net.DNSError
		if err != nil && !(errors.As(err, &dnsErr) && dnsErr.IsNotFound) {
			lookupErr = err
			return nil, &net.DNSError{Err: err.Error(), Name: name, IsTemporary: true}
		}
		if err != nil {
			return nil, dnsErr
		}
		return texts, nil
	}
	var found []*dkim.Verification
	// One after the other, so that lookup is not called from several places.
	signatures, rest := aligned(parsed.Header, from)
	if len(signatures) > 0 {
		found, err = dkim.VerifyWithOptions(io.MultiReader(bytes.NewReader(head), b), &dkim.VerifyOptions{LookupTXT: serial(lookup), MaxVerifications: maxSignatures})
		if err != nil && !errors.Is(err, dkim.ErrTooManySignatures) {
			return dmarc.TransportVerdict{}, err
		}
	}
	var failed error
	for _, s := range found {
		if !isAligned(s.Domain, from) {
			continue
		}
		if s.Err == nil {
			return dmarc.TransportVerdict{Auth: dmarc.TransportPass, Domain: strings.ToLower(s.Domain), Reason: "DKIM signature of " + printable(s.Domain)}, nil
		}
		if !undecided(s.Err) {
			failed = s.Err
		}
	}
	switch {
	case lookupErr != nil:
		return dmarc.TransportVerdict{}, &LookupError{lookupErr}
	case said.Auth == dmarc.TransportFail:
		return said, nil
	case failed != nil:
		return dmarc.TransportVerdict{Auth: dmarc.TransportFail, Reason: "the DKIM signature of " + from + " does not verify: " + printable(strings.TrimPrefix(failed.Error(), "dkim: "))}, nil
	case len(signatures) > 0:
		return unknown("the key that signed it is gone from DNS, or the signature has expired")
	case rest > 0:
		return unknown("it is signed, but not by %s", from)
	}
	return unknown("it is not signed")
}

// undecided tells whether an error says nothing about the message: the key
// cannot be had any more, or the signature was good for a while only.
func undecided(err error) bool {
	text := err.Error()
	for _, part := range []string{"no key for signature", "no valid key found", "signature has expired", "key revoked", "key unavailable"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// author returns the domain of From, a lower-case A-label as mails have it.
func author(h mail.Header) (string, error) {
	if n := len(h["From"]); n != 1 {
		return "", fmt.Errorf("the mail has %d From fields", n)
	}
	list, err := (&mail.AddressParser{}).ParseList(h.Get("From"))
	if err != nil || len(list) == 0 {
		// A broken name is common, and the address can still be told.
		domain := dmarc.AddressDomain(h.Get("From"))
		if domain == "" || strings.ContainsAny(domain, " \t<>()\",;") {
			return "", errors.New("the From field of the mail cannot be read")
		}
		return domain, nil
	}
	domain := dmarc.AddressDomain(list[0].Address)
	for _, a := range list {
		if dmarc.AddressDomain(a.Address) != domain {
			return "", errors.New("the mail has authors of several domains")
		}
	}
	if domain == "" {
		return "", errors.New("the From field of the mail names no domain")
	}
	return domain, nil
}

// aligned counts the signatures that are aligned with a domain, and the
// others.
func aligned(h mail.Header, from string) (domains []string, others int) {
	for _, field := range h["Dkim-Signature"] {
		for tag := range strings.SplitSeq(field, ";") {
			name, value, _ := strings.Cut(tag, "=")
			if strings.TrimSpace(name) != "d" {
				continue
			}
			if d := strings.Join(strings.Fields(value), ""); isAligned(d, from) {
				domains = append(domains, d)
			} else {
				others++
			}
		}
	}
	return domains, others
}

// isAligned tells whether a domain is aligned with the author domain, relaxed.
func isAligned(domain, from string) bool {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	return domain != "" && (domain == from || dmarc.OrganizationalDomain(domain) == dmarc.OrganizationalDomain(from))
}

// trustedResult reads what servers that are believed have found. The first
// field of such a server counts: it was added last.
func trustedResult(fields []string, from string, trusted []string) dmarc.TransportVerdict {
	for _, field := range fields {
		server, results, err := authres.Parse(withoutComments(field))
		if server == "" || !named(server, trusted) {
			continue
		}
		if err != nil && len(results) == 0 {
			continue
		}
		say := func(auth dmarc.TransportAuth, domain, what string) dmarc.TransportVerdict {
			return dmarc.TransportVerdict{Auth: auth, Domain: domain, Reason: printable(server) + " says " + what}
		}
		failed := ""
		for _, r := range results {
			switch r := r.(type) {
			case *authres.DMARCResult:
				if domain := strings.ToLower(r.From); domain != "" && domain != from {
					continue
				}
				switch r.Value {
				case authres.ResultPass:
					return say(dmarc.TransportPass, from, "dmarc=pass")
				case authres.ResultFail:
					failed = "dmarc=fail"
				}
			case *authres.DKIMResult:
				if r.Value == authres.ResultPass && isAligned(r.Domain, from) {
					return say(dmarc.TransportPass, strings.ToLower(r.Domain), "dkim=pass for "+printable(r.Domain))
				}
			}
		}
		if failed != "" {
			return say(dmarc.TransportFail, "", failed)
		}
		return dmarc.TransportVerdict{}
	}
	return dmarc.TransportVerdict{}
}

func named(server string, trusted []string) bool {
	for _, t := range trusted {
		if strings.EqualFold(t, server) {
			return true
		}
	}
	return false
}

// withoutComments removes what stands in parentheses (RFC 5322, section 3.2.2),
// but not from within quotes.
func withoutComments(s string) string {
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && (quoted || depth > 0) && i+1 < len(s):
			if depth == 0 {
				b.WriteString(s[i : i+2])
			}
			i++
			continue
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
			continue
		case c == ')' && !quoted && depth > 0:
			depth--
			b.WriteByte(' ')
			continue
		}
		if depth == 0 {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// printable makes a word of a stranger fit for a sentence.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return s
}
