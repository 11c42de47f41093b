package records

import (
	"net/netip"
	"slices"
	"strings"
)

// zoneSPF writes a TXT record as a line of a zone file. A long text becomes
// several strings, parted before a blank where there is one. Of a text that is
// far too long for a record it returns "".
func zoneSPF(name, text string) string {
	if len(text) > maxRewritten || text == "" {
		return ""
	}
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

// maxRewritten is how long a record can be to be mended; no receiver reads longer ones.
const maxRewritten = 4096

// rewritten returns the text of a record with its errors corrected as their
// hints say, and terms changed: change returns what stands for a term, "" for
// nothing. An error without a hint is left out. It returns "" for a record
// that is far too long to be published.
func (r *SPFRecord) rewritten(change func(t *SPFTerm) string) string {
	if len(r.Text) > maxRewritten {
		return ""
	}
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

// without leaves out terms of the given texts. A record that loses its redirect ends in
// ~all.
func (r *SPFRecord) without(texts ...string) string {
	ends := false
	text := r.rewritten(func(t *SPFTerm) string {
		if slices.Contains(texts, t.Text) {
			return ""
		}
		ends = ends || t.Name == "all" || t.Name == "redirect"
		return t.Text
	})
	if t := r.term("redirect"); t != nil && !ends && text != "" {
		text += " ~all"
	}
	return text
}

// slimmer is the record of a node with what can be had for fewer lookups: the addresses in
// place of own names, and nothing in place of ptr and of terms that find
// nothing or stand twice. It returns "" if nothing can be saved.
func (n *SPFNode) slimmer(own func(name string) bool) string {
	instead := map[int]string{} // by position
	seen := map[string]bool{}
	for i := range n.Branches {
		b := &n.Branches[i]
		key := strings.ToLower(strings.TrimPrefix(b.Term.Text, "+"))
		switch {
		case b.Own == 0 || b.Loop:
		case b.Void4 && b.Void6, b.Term.Name == "ptr", seen[key]:
			instead[b.Term.Pos] = ""
		case (b.Term.Name == "a" || b.Term.Name == "mx") && own(b.Target) && len(b.Nets) > 0 && len(b.Nets) <= 4 && !b.failed():
			var terms []string
			for _, net := range b.Nets {
				name := "ip4:"
				if net.Addr().Is6() {
					name = "ip6:"
				}
				terms = append(terms, strings.TrimPrefix(string(b.Term.Qualifier), "+")+name+netText(net))
			}
			instead[b.Term.Pos] = strings.Join(terms, " ")
		}
		seen[key] = true
	}
	if len(instead) == 0 {
		return ""
	}
	return n.Record.rewritten(func(t *SPFTerm) string {
		if text, ok := instead[t.Pos]; ok {
			return text
		}
		return t.Text
	})
}

func (b *SPFBranch) failed() bool {
	return slices.ContainsFunc(b.Answers, func(a Answer) bool { return a.State == Failed })
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
	if !done && text != "" {
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
		tidy := r
		if text := r.rewritten(unchanged); text != "" {
			tidy = parseSPF([]string{text})
		}
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
// hosts, and from the addresses that are known to send for it. A domain that
// has neither gets a record that nobody passes.
func suggestedSPF(p *Published) string {
	f := &p.SPF
	hosts := mxHosts(&f.MX)
	known := len(hosts) > 0 || len(f.Senders) > 0 || f.MX.State == Failed
	if p.Sends == SendingNo || p.Sends == SendingUnknown && !known {
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
