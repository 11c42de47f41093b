package records

import (
	"net/netip"
	"slices"
	"strings"
)

// zoneTXT writes a TXT record as a line of a zone file. A long text becomes
// several strings, parted before a blank where there is one.
func zoneTXT(name, text string) string {
	var b strings.Builder
	b.WriteString(name + ". IN TXT")
	for first := true; first || text != ""; first = false {
		end := len(text)
		if end > 255 {
			if end = strings.LastIndexByte(text[:256], ' '); end <= 0 {
				end = 255
			}
		}
		b.WriteString(` "`)
		for _, c := range []byte(text[:end]) {
			if c == '"' || c == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
		b.WriteByte('"')
		text = text[end:]
	}
	return b.String()
}

// rewritten returns the text of a record with its errors corrected as their
// hints say, and terms changed: change returns what stands for a term, "" for
// nothing. An error without a hint is left out.
func (r *SPFRecord) rewritten(change func(t *SPFTerm) string) string {
	out := []string{"v=spf1"}
	next, problem, skip := 0, 0, 0
	for i, tok := range spfTokens(r.Text) {
		var t *SPFTerm
		if next < len(r.Terms) && r.Terms[next].Pos == tok.pos {
			t = &r.Terms[next]
			next++
		}
		if problem < len(r.Problems) && r.Problems[problem].token == i {
			p := &r.Problems[problem]
			problem++
			skip = p.takes
			if p.Hint != "" && skip > 0 {
				out = append(out, p.Hint)
			}
		}
		switch {
		case skip > 0:
			skip--
		case t != nil:
			if text := change(t); text != "" {
				out = append(out, text)
			}
		}
	}
	return strings.Join(out, " ")
}

func unchanged(t *SPFTerm) string { return t.Text }

// without leaves out terms of the given texts.
func (r *SPFRecord) without(texts ...string) string {
	return r.rewritten(func(t *SPFTerm) string {
		if slices.Contains(texts, t.Text) {
			return ""
		}
		return t.Text
	})
}

// with puts terms in front of all or redirect.
func (r *SPFRecord) with(terms ...string) string {
	done := false
	text := r.rewritten(func(t *SPFTerm) string {
		if !done && (t.Name == "all" || t.Name == "redirect") {
			done = true
			return strings.Join(append(slices.Clone(terms), t.Text), " ")
		}
		return t.Text
	})
	if !done {
		text += " " + strings.Join(terms, " ")
	}
	return text
}

// merged returns one record that says what several say: who passes by one of
// them passes, and the others softly fail unless all records agree on more.
func mergedSPF(records []*SPFRecord) string {
	out := []string{"v=spf1"}
	seen := map[string]bool{}
	end := ""
	for _, r := range records {
		own := "~all"
		tidy := parseSPF([]string{r.rewritten(unchanged)})
		for i := range tidy.Terms {
			t := &tidy.Terms[i]
			text := strings.TrimPrefix(t.Text, "+")
			switch {
			case t.Name == "all":
				if t.Qualifier == '-' {
					own = "-all"
				}
				continue
			case t.Name == "redirect":
				text = "include:" + t.Domain
				own = "-all" // as the other record says
			case t.Qualifier != '+':
				continue
			}
			if key := strings.ToLower(text); !seen[key] {
				seen[key] = true
				out = append(out, text)
			}
		}
		if end == "" || own == "~all" {
			end = own
		}
	}
	return strings.Join(append(out, end), " ")
}

// hosted are mail hosts of large providers by the end of their names, and what
// the providers say to include.
var hosted = []struct{ hosts, include string }{
	{".google.com", "_spf.google.com"},
	{".googlemail.com", "_spf.google.com"},
	{".mail.protection.outlook.com", "spf.protection.outlook.com"},
	{".messagingengine.com", "spf.messagingengine.com"},
	{".protonmail.ch", "_spf.protonmail.ch"},
	{".yandex.net", "_spf.yandex.net"},
	{".mail.icloud.com", "icloud.com"},
	{".mail.gandi.net", "_mailcust.gandi.net"},
	{".mail.ovh.net", "mx.ovh.com"},
}

// suggestedSPF returns a first record for a domain without one: from its mail
// hosts, and from the addresses that are known to send for it.
func suggestedSPF(p *Published) string {
	f := &p.SPF
	hosts := mxHosts(&f.MX)
	if p.Sends == SendingNo || f.MX.State == Found && len(hosts) == 0 && p.Sends == SendingUnknown && len(f.Senders) == 0 { // a null MX
		return "v=spf1 -all"
	}
	var terms []string
	add := func(term string) {
		if !slices.Contains(terms, term) {
			terms = append(terms, term)
		}
	}
	own := false
	for _, host := range hosts {
		include := ""
		for _, h := range hosted {
			if strings.HasSuffix("."+host, h.hosts) {
				include = h.include
			}
		}
		if include != "" {
			add("include:" + include)
		} else {
			own = true
		}
	}
	if own {
		terms = append([]string{"mx"}, terms...)
	}
	if len(terms) == 0 {
		terms = append(terms, "a")
	}
	for _, s := range f.Senders {
		add(addressTerm(s.Sender.Addr))
	}
	return "v=spf1 " + strings.Join(append(terms, "~all"), " ")
}

// addressTerm writes an address as a term.
func addressTerm(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return "ip4:" + addr.String()
	}
	return "ip6:" + addr.String()
}
