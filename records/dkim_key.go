package records

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// A DKIMKey is a key record (RFC 6376, section 3.6.1), as far as it can be
// read.
type DKIMKey struct {
	Type     string   // k=: "rsa" if it is not given
	Bits     int      // of an RSA modulus; 256 for ed25519; 0 if the key cannot be read
	Key      []byte   // p=, decoded; nil if it is revoked or cannot be decoded
	Revoked  bool     // p= is empty
	PKCS1    bool     // the key is a bare RSAPublicKey
	Hashes   []string // h=; nil: any
	Services []string // s=; nil: any
	Flags    []string // t=
	Others   []string // tags without effect, as they stand

	problems []keyProblem
}

// A keyProblem is something wrong with a key record: a finding without what
// only its surroundings tell.
type keyProblem struct {
	id     string
	values []string // names and texts in turn
}

// valid reports whether receivers can use the key for mail.
func (k *DKIMKey) valid() bool {
	return !k.Revoked && !slices.ContainsFunc(k.problems, func(p keyProblem) bool { return catalogue[p.id].Severity == Error })
}

// fingerprint returns the SHA-256 of the decoded key in hexadecimal, or "".
func (k *DKIMKey) fingerprint() string {
	if len(k.Key) == 0 {
		return ""
	}
	sum := sha256.Sum256(k.Key)
	return hex.EncodeToString(sum[:])
}

// parseDKIMKey reads a key record. It never fails: what is wrong with the
// record becomes its problems.
func parseDKIMKey(text string) DKIMKey {
	k := DKIMKey{Type: "rsa"}
	say := func(id string, values ...string) { k.problems = append(k.problems, keyProblem{id, values}) }
	tags, errs := parseTagList(text)
	for i, t := range tags {
		if t.name == "v" && i > 0 {
			errs = append(errs, tagError{t.at, "v= does not stand first"})
		} else if t.name == "v" && t.value != "DKIM1" {
			errs = append(errs, tagError{t.at, "v= is not DKIM1"})
		}
		k.read(t, say)
	}
	p, ok := tagOf(tags, "p")
	if !ok {
		errs = append(errs, tagError{len(text) + 1, "there is no p="})
	}
	if len(errs) > 0 {
		// Only the first one: the others are mostly its consequences.
		slices.SortStableFunc(errs, func(a, b tagError) int { return a.at - b.at })
		say("dkim.syntax", "pos", fmt.Sprint(errs[0].at), "why", errs[0].why, "fixed", fixedKey(tags))
	}
	if k.Type != "rsa" && k.Type != "ed25519" {
		say("dkim.key_type", "k", excerpt(k.Type))
	} else if ok {
		k.decode(p, say)
	}
	return k
}

// read takes in one tag, except p.
func (k *DKIMKey) read(t tagValue, say func(id string, values ...string)) {
	switch t.name {
	case "v", "p", "n":
	case "k":
		k.Type = t.value
	case "h":
		k.Hashes = splitTag(t.value)
		if !slices.Contains(k.Hashes, "sha256") {
			say("dkim.sha1", "h", excerpt(t.value))
		}
	case "s":
		k.Services = splitTag(t.value)
		if !slices.Contains(k.Services, "*") && !slices.Contains(k.Services, "email") {
			say("dkim.service", "s", excerpt(t.value))
		}
	case "t":
		k.Flags = splitTag(t.value)
		for _, flag := range k.Flags {
			switch flag {
			case "y":
				say("dkim.testing")
			case "s":
				say("dkim.flags", "tag", "t=s", "effect", "the identity that signs (i=) must be in the domain d= itself, not below it")
			}
		}
	default:
		const most = 5
		if k.Others = append(k.Others, excerpt(t.name+"="+t.value)); len(k.Others) <= most {
			say("dkim.flags", "tag", excerpt(t.name+"="+t.value), "effect", "no receiver knows the tag")
		}
	}
}

// splitTag splits a list with colons.
func splitTag(value string) []string {
	var all []string
	for part := range strings.SplitSeq(value, ":") {
		all = append(all, strings.Trim(part, foldingSpace))
	}
	return all
}

// decode reads p=.
func (k *DKIMKey) decode(p string, say func(id string, values ...string)) {
	p = strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(p)
	if p == "" {
		k.Revoked = true
		return
	}
	key, err := base64.StdEncoding.Strict().DecodeString(p)
	if err != nil {
		why := "its end is missing"
		if strings.ContainsFunc(strings.TrimRight(p, "="), notBase64) {
			why = "it is not base64"
		}
		say("dkim.bad_key", "why", why)
		return
	}
	k.Key = key
	if k.Type == "ed25519" {
		k.decodeEd25519(say)
		return
	}
	k.decodeRSA(say)
}

// notBase64 reports whether a character is none of base64.
func notBase64(r rune) bool {
	return r != '+' && r != '/' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

func (k *DKIMKey) decodeEd25519(say func(id string, values ...string)) {
	if len(k.Key) == ed25519.PublicKeySize {
		k.Bits = 256
		return
	}
	if isRSA(k.Key) {
		say("dkim.key_type", "k", "ed25519")
		return
	}
	say("dkim.ed25519_length", "n", fmt.Sprint(len(k.Key)))
}

func isRSA(der []byte) bool {
	if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		_, ok := key.(*rsa.PublicKey)
		return ok
	}
	_, err := x509.ParsePKCS1PublicKey(der)
	return err == nil
}

func (k *DKIMKey) decodeRSA(say func(id string, values ...string)) {
	key, err := x509.ParsePKIXPublicKey(k.Key)
	if err != nil {
		bare, err := x509.ParsePKCS1PublicKey(k.Key)
		if err != nil && len(k.Key) == ed25519.PublicKeySize {
			say("dkim.key_type", "k", "rsa")
			return
		}
		if err != nil {
			say("dkim.bad_key", "why", "it is not the DER form of an RSA key")
			return
		}
		k.PKCS1 = true
		key = bare
		say("dkim.pkcs1")
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		k.Bits = key.N.BitLen()
	case ed25519.PublicKey, *ecdsa.PublicKey:
		say("dkim.key_type", "k", "rsa")
		return
	default:
		say("dkim.key_type", "k", "rsa")
		return
	}
	bits := fmt.Sprint(k.Bits)
	switch {
	case k.Bits < 1024:
		say("dkim.rsa_short", "n", bits)
	case k.Bits < 2048:
		say("dkim.rsa_1024", "n", bits)
	case k.Bits > 2048:
		say("dkim.rsa_large", "n", bits)
	}
}

// fixedKey returns the record as it had to be written, from the tags that
// could be read; "" if the key is not among them.
func fixedKey(tags []tagValue) string {
	unfold := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "")
	p, ok := tagOf(tags, "p")
	p = unfold.Replace(p)
	if _, err := base64.StdEncoding.DecodeString(p); !ok || err != nil {
		return ""
	}
	fixed := "v=DKIM1"
	for _, name := range []string{"h", "k", "s", "t"} {
		value, _ := tagOf(tags, name)
		if value = unfold.Replace(value); strings.ContainsFunc(value, func(r rune) bool { return r < '!' || r > '~' }) {
			return ""
		} else if value != "" {
			fixed += "; " + name + "=" + value
		}
	}
	return fixed + "; p=" + p
}
