package records

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// looksDynamic reports whether the name of an address looks like that of a
// dial-up customer: it holds the address, or a word of access networks with a
// number. Receivers that refuse such names look at the same things. A name
// that says it is static is none of them.
func looksDynamic(name string, ip netip.Addr) bool {
	labels := hostLabels(name)
	for _, label := range labels {
		if slices.ContainsFunc(wordsOf(label), func(w string) bool { return w == "static" }) {
			return false
		}
	}
	return holdsAddress(labels, ip) || accessName(labels)
}

// hostLabels returns the labels of a name that stand before the registrable
// domain, so that a domain with a number or such a word in it is not taken
// for a customer's host.
func hostLabels(name string) []string {
	domain, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil || domain == name {
		return nil
	}
	return strings.Split(strings.TrimSuffix(name, "."+domain), ".")
}

// accessWords name access networks. The value says whether it is enough that
// the label before holds a number, and a host for mail may be called so.
var accessWords = map[string]struct{ mailToo bool }{
	"dyn": {}, "dynip": {}, "dynamic": {}, "dynamicip": {}, "dhcp": {}, "dsl": {}, "adsl": {}, "vdsl": {}, "xdsl": {}, "sdsl": {},
	"dialup": {}, "dial": {}, "dialin": {}, "dip": {}, "ppp": {}, "pppoe": {}, "cable": {}, "cablemodem": {}, "ftth": {}, "broadband": {},
	"pool": {true}, "pools": {true}, "client": {true}, "clients": {true}, "cust": {true}, "customer": {true}, "customers": {true},
}

// mailWords are what hosts for mail are called.
var mailWords = map[string]bool{"mail": true, "mx": true, "smtp": true, "mta": true, "relay": true, "out": true, "outbound": true, "mout": true}

// accessName reports whether a label holds a word of access networks, and a
// number stands in it or in the label before.
func accessName(labels []string) bool {
	forMail := len(labels) > 0 && slices.ContainsFunc(wordsOf(labels[0]), func(w string) bool { return mailWords[w] })
	for i, label := range labels {
		for _, w := range wordsOf(label) {
			kind, ok := accessWords[w]
			if !ok || kind.mailToo && forMail {
				continue
			}
			if hasDigit(label) || i > 0 && hasDigit(labels[i-1]) {
				return true
			}
		}
	}
	return false
}

func hasDigit(s string) bool { return strings.ContainsAny(s, "0123456789") }

// wordsOf returns the runs of letters of a label.
func wordsOf(label string) []string {
	return strings.FieldsFunc(strings.ToLower(label), func(r rune) bool { return r < 'a' || r > 'z' })
}

// holdsAddress reports whether labels hold an address.
func holdsAddress(labels []string, ip netip.Addr) bool {
	text := strings.ToLower(strings.Join(labels, "."))
	if ip.Is4() {
		return holds4(text, ip.As4())
	}
	return holds6(text, ip)
}

// holds4 finds the four octets in any order: as numbers with one character
// between them, padded to three digits, as hexadecimal, run together from
// either end, or as one number.
func holds4(text string, ip [4]byte) bool {
	octets := ip[:]
	for i := range len(text) {
		for _, form := range []struct {
			base, width int // of an octet; width 0: as many digits as there are
			between     int
		}{{10, 0, 1}, {10, 3, 0}, {16, 2, 0}, {16, 2, 1}, {16, 0, 1}} {
			if got, ok := fourOctets(text, i, form.base, form.width, form.between); ok && sameOctets(got, octets) {
				return true
			}
		}
	}
	number := uint64(ip[0])<<24 | uint64(ip[1])<<16 | uint64(ip[2])<<8 | uint64(ip[3])
	forward := fmt.Sprintf("%d%d%d%d", ip[0], ip[1], ip[2], ip[3])
	backward := fmt.Sprintf("%d%d%d%d", ip[3], ip[2], ip[1], ip[0])
	for run := range strings.FieldsFuncSeq(text, func(r rune) bool { return r < '0' || r > '9' }) {
		// Fewer digits are as likely something else: a serial number, a date.
		if len(run) >= 7 && (run == forward || run == backward || run == strconv.FormatUint(number, 10)) {
			return true
		}
	}
	return false
}

// fourOctets reads four numbers at a place of a text, which stand apart from
// other digits.
func fourOctets(text string, at, base, width, between int) (octets [4]byte, ok bool) {
	isDigit := func(i int) bool {
		if i < 0 || i >= len(text) {
			return false
		}
		_, err := strconv.ParseUint(text[i:i+1], base, 8)
		return err == nil
	}
	if base == 10 && isDigit(at-1) {
		return octets, false
	}
	for n := range octets {
		if n > 0 {
			if at += between; between > 0 && (at > len(text) || isDigit(at-1)) {
				return octets, false
			}
		}
		end := at
		for isDigit(end) && (width == 0 || end < at+width) {
			end++
		}
		if end == at || end-at > 3 || width > 0 && end-at != width {
			return octets, false
		}
		value, err := strconv.ParseUint(text[at:end], base, 16)
		if err != nil || value > 255 {
			return octets, false
		}
		octets[n], at = byte(value), end
	}
	return octets, base == 16 || !isDigit(at)
}

func sameOctets(got [4]byte, want []byte) bool {
	a, b := slices.Clone(got[:]), slices.Clone(want)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// holds6 finds an IPv6 address: all of it or its last 64 bits in hexadecimal,
// from either end and with any separators, or in its short form with hyphens.
func holds6(text string, ip netip.Addr) bool {
	short := strings.ReplaceAll(ip.String(), ":", "-")
	if strings.Contains("-"+strings.NewReplacer(".", "-", "_", "-").Replace(text)+"-", "-"+short+"-") || strings.HasSuffix(text, short) {
		return true
	}
	b := ip.As16()
	whole := hex.EncodeToString(b[:])
	plain := strings.NewReplacer("-", "", ".", "", "_", "").Replace(text)
	backward := []byte(whole)
	slices.Reverse(backward)
	for _, digits := range []string{whole, whole[16:], string(backward), string(backward[:16])} {
		if strings.Contains(plain, digits) {
			return true
		}
	}
	var hextets []string // not padded: 2001-db8-0-0-0-0-0-7
	for i := 0; i < 16; i += 2 {
		hextets = append(hextets, fmt.Sprintf("%x", uint16(b[i])<<8|uint16(b[i+1])))
	}
	return strings.Contains(text, strings.Join(hextets, "-"))
}
