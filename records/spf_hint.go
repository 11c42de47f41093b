package records

import (
	"net/netip"
	"strings"
	"unicode/utf8"
)

// firstChar returns the first character of a text; of what is not UTF-8, the
// octet.
func firstChar(s string) string {
	if r, size := utf8.DecodeRuneInString(s); r != utf8.RuneError {
		return s[:size]
	}
	return s[:1]
}

// plainer replaces characters that word processors and web pages put in place of ASCII.
var plainer = strings.NewReplacer(
	"\u2010", "-", "\u2011", "-", "\u2012", "-", "\u2013", "-", "\u2014", "-", "\u2212", "-",
	"\u201c", "", "\u201d", "", "\u2018", "", "\u2019", "", "\u00ab", "", "\u00bb", "",
	"\u00a0", " ", "\u2002", " ", "\u2003", " ", "\u2009", " ", "\u202f", " ", "\u3000", " ", "\t", " ", "\r", " ", "\n", " ",
	"\ufeff", "", "\u200b", "", "\u200c", "", "\u200d", "", "\u00ad", "",
	"\uff1a", ":", "\uff0e", ".", "\u02dc", "~", "\u223c", "~",
	"%(", "%{", ")", "}",
)

// meant are mechanisms under the names of other systems.
var meant = map[string]string{
	"ip": "ip4", "ipv4": "ip4", "ip-4": "ip4", "ipv6": "ip6", "ip-6": "ip6", "ip4addr": "ip4", "host": "a", "aaaa": "a", "domain": "include", "spf": "include",
}

// spfHint tells what the first of some tokens was meant to be, and how many of
// them were meant with it. What it returns follows the grammar; "" if that
// cannot be told.
func spfHint(tokens []spfToken) (string, int) {
	text := tokens[0].text
	if len(text) > 512 {
		return "", 1
	}
	// A blank too many: "include: spf.example.net", "- all".
	if plain := plainer.Replace(text); len(tokens) > 1 && len(tokens[1].text) < 256 && (strings.HasSuffix(plain, ":") || strings.HasSuffix(plain, "=") || len(plain) == 1) {
		if both := plain + tokens[1].text; validSPF(both) {
			return both, 2
		}
	}
	for _, try := range []func(string) string{
		plainer.Replace,
		func(s string) string { return strings.Trim(s, "\"',;`<>()[]{}") },
		func(s string) string { return strings.Trim(s, "\"',;.`<>()[]{}/:") },
		nameHint, valueHint, listHint,
		func(s string) string { return listHint(strings.Trim(plainer.Replace(s), "\"',;.`")) },
	} {
		if hint := try(text); hint != text && validSPF(hint) {
			return hint, 1
		}
	}
	return "", 1
}

// validSPF reports whether a text is one or several terms that mean something.
func validSPF(text string) bool {
	terms := strings.Fields(text)
	for _, term := range terms {
		t, problem := parseSPFTerm(term)
		if problem != nil || t.modifier() && t.Name != "redirect" && t.Name != "exp" {
			return false
		}
	}
	return len(terms) > 0
}

// splitTerm parts a term at its first separator.
func splitTerm(text string) (qualifier, name, sep, value string) {
	if text != "" && strings.IndexByte("+-~?", text[0]) >= 0 {
		qualifier, text = text[:1], text[1:]
	}
	at := strings.IndexAny(text, ":=/")
	if at < 0 {
		return qualifier, strings.ToLower(text), "", ""
	}
	return qualifier, strings.ToLower(text[:at]), text[at : at+1], text[at+1:]
}

// nameHint corrects the name of a mechanism, and what stands behind it.
func nameHint(text string) string {
	qualifier, name, sep, value := splitTerm(text)
	if other, ok := meant[name]; ok {
		name = other
	} else if sep == "" || sep == "/" {
		name = nearestName(name, "all", "mx", "ptr", "a")
	} else {
		name = nearestName(name, "include", "redirect", "exists", "exp", "ip4", "ip6", "mx", "ptr", "a", "all")
	}
	switch name {
	case "all":
		return qualifier + name
	case "redirect", "exp":
		return name + "=" + value
	case "ip4", "ip6":
		if hint := addressHint(value); hint != "" {
			return qualifier + hint
		}
	}
	if sep != "" {
		if sep == "/" {
			return qualifier + name + "/" + value
		}
		return qualifier + name + ":" + value
	}
	return qualifier + name
}

// valueHint corrects what stands behind the name.
func valueHint(text string) string {
	qualifier, name, sep, value := splitTerm(text)
	if hint := addressHint(text); hint != "" {
		return hint
	}
	if hint := addressHint(strings.TrimLeft(text, "+-~?")); hint != "" {
		return qualifier + hint
	}
	switch name {
	case "ip4", "ip6", "a", "mx", "include", "exists", "ptr":
		if hint := addressHint(value); hint != "" {
			return qualifier + hint
		}
	}
	switch name {
	case "ip4", "ip6":
		if validSPF("a:" + value) {
			return qualifier + "a:" + value
		}
	case "include", "exists", "ptr":
		spec, _ := cutCIDR(sep + value)
		return qualifier + name + spec
	}
	if sep == "" && strings.Contains(name, ".") {
		if strings.Contains(name, "spf") {
			return qualifier + "include:" + name
		}
		return qualifier + "a:" + name
	}
	return text
}

// listHint parts a list at commas and semicolons.
func listHint(text string) string {
	if !strings.ContainsAny(text, ",;|") {
		return text
	}
	qualifier, name, sep, _ := splitTerm(text)
	var terms []string
	for i, part := range strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(",;|", c) }) {
		switch {
		case validSPF(part):
		case i > 0 && validSPF(qualifier+name+sep+part):
			part = qualifier + name + sep + part
		default:
			part = valueHint(nameHint(part))
		}
		terms = append(terms, part)
	}
	return strings.Join(terms, " ")
}

// addressHint writes an address or network as a term, or returns "".
func addressHint(s string) string {
	s = strings.Trim(s, "[]:")
	if strings.Contains(s, "*") { // 192.0.2.*
		parts := strings.Split(s, ".")
		bits := 0
		for i := range parts {
			if parts[i] == "*" {
				parts[i] = "0"
			} else if bits == 8*i {
				bits += 8
			}
		}
		if addr, err := netip.ParseAddr(strings.Join(parts, ".")); err == nil && bits > 0 {
			return "ip4:" + netip.PrefixFrom(addr, bits).Masked().String()
		}
		return ""
	}
	text, length, sized := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return ""
	}
	name := "ip4:"
	if addr.Is6() {
		name = "ip6:"
	}
	if !sized {
		return name + addr.String()
	}
	length = strings.TrimLeft(length, "/")
	if mask, err := netip.ParseAddr(length); err == nil && mask.Is4() { // 192.0.2.0/255.255.255.0
		bits := 0
		for b := mask.As4(); bits < 32 && b[bits/8]&(0x80>>(bits%8)) != 0; bits++ {
		}
		if netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), bits).Masked().Addr() != mask {
			return ""
		}
		return name + netip.PrefixFrom(addr, bits).String()
	}
	if len(length) > 1 {
		length = strings.TrimLeft(length, "0")
	}
	bits, ok := prefixLength(length, addr.BitLen())
	if !ok {
		return ""
	}
	return name + netip.PrefixFrom(addr, bits).String()
}

// nearestName returns the name that differs least: by one letter, or by two of
// a long name; else the name itself.
func nearestName(name string, names ...string) string {
	best, least := name, 3
	for _, n := range names {
		if d := distance(name, n); d < least && d < len(name) && (d < 2 && len(n) > 1 || len(n) > 3) {
			best, least = n, d
		}
	}
	return best
}

// distance is how many letters must be added, dropped, replaced or swapped to
// make one short word of another.
func distance(a, b string) int {
	if len(a) > 20 || len(b) > 20 {
		return 20
	}
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
