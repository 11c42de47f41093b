package records

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/miekg/dns"
)

func itoa(n int) string { return strconv.Itoa(n) }

// An SPFLine is a line of the tree as people see it: a term, with its cost and
// what it leads to.
type SPFLine struct {
	Depth  int    // 0 for the terms of the domain's own record
	Number string // "3.1"
	Text   string // the term; what a stranger wrote, without control characters
	Own    int    // lookups of the term itself
	Cost   int    // with all below it
	Total  int    // of the tree up to and with it
	Result string // in words: "finds nothing (NXDOMAIN)"; "" if there is nothing to say
	// Stands for: mail hosts, addresses and networks. Nothing is said about
	// terms that include others; their lines follow.
	Names []string
	Nets  []netip.Prefix
	Over  bool // it is the term that crosses the limit of ten
	Void  int  // it is the first, second, ... term that finds nothing; 0 if it is none
	Free  bool // it and all beside it in its record cost nothing
}

// lines returns the tree, a line a term, in the order in which receivers look
// terms up.
func (f *SPFFound) lines() []SPFLine {
	if f.Root == nil {
		return nil
	}
	return f.Root.lines(nil, 0)
}

func (n *SPFNode) lines(to []SPFLine, depth int) []SPFLine {
	free := true
	for i := range n.Branches {
		free = free && n.Branches[i].Own == 0
	}
	for i := range n.Branches {
		b := &n.Branches[i]
		to = append(to, SPFLine{
			Depth: depth, Number: b.Number, Text: shown(b.Term.Text), Own: b.Own, Cost: b.Cost, Total: b.Total,
			Result: b.result(), Names: b.Hosts, Nets: b.Nets, Over: b.Over, Void: b.Voids, Free: free,
		})
		if b.Node != nil {
			to = b.Node.lines(to, depth+1)
		}
	}
	return to
}

// What came of a term, in words that who reads a look again knows.
const (
	resultUnread      = "never read"
	resultLoop        = "LOOP: leads back to "
	resultTooLarge    = "not looked up: the tree is too large"
	resultPerMessage  = "per message"
	resultNoQuestion  = "no question can be asked for it"
	resultNotLookedUp = "could not be looked up"
)

// result says what came of a term.
func (b *SPFBranch) result() string {
	var parts []string
	say := func(text string) { parts = append(parts, text) }
	switch {
	case b.Unread:
		return resultUnread
	case b.Loop:
		return resultLoop + b.Target
	case b.Cut:
		return resultTooLarge
	case b.PerMessage:
		return resultPerMessage
	case b.Own > 0 && b.Target == "":
		return resultNoQuestion
	case b.Void4 && b.Void6:
		state := "NXDOMAIN"
		for i := range b.Answers {
			if b.Answers[i].State == NoData {
				state = "no records"
			}
		}
		if b.Node != nil && b.Node.Answer.State == NoData {
			state = "no records"
		}
		say("finds nothing (" + state + ")")
	case b.Void4:
		say("finds nothing for senders with IPv4")
	case b.Void6:
		say("finds nothing for senders with IPv6")
	}
	for i := range b.Answers {
		if a := &b.Answers[i]; a.State == Failed {
			say(fmt.Sprintf("%s %s "+resultNotLookedUp+" (%s)", a.Name, dns.TypeToString[a.Type], a.why()))
		}
	}
	if b.Node != nil {
		if why := b.Node.broken(); why != "" {
			say(why)
		}
	}
	switch {
	case b.Term.Name == "mx" && len(b.Hosts) > spfHosts:
		say(fmt.Sprintf("%d mail hosts, more than %d", len(b.Hosts), spfHosts))
	case b.Term.Name == "all":
		say("all others: " + qualified(b.Term.Qualifier).String())
	case b.Term.Name == "exists" && len(b.Answers) > 0 && b.Answers[0].State == Found:
		say("every sender: " + qualified(b.Term.Qualifier).String())
	}
	return strings.Join(parts, "; ")
}

// broken says why the record of a node cannot be used itself, or "".
func (n *SPFNode) broken() string {
	switch {
	case n.Answer.State == Failed:
		return fmt.Sprintf("%s TXT "+resultNotLookedUp+" (%s)", n.Domain, n.Answer.why())
	case len(n.Texts) == 0:
		return "no SPF record"
	case len(n.Texts) > 1:
		return fmt.Sprintf("%d SPF records", len(n.Texts))
	case n.Record == nil || n.Record.valid():
		return ""
	}
	for _, p := range n.Record.Problems {
		if !p.Harmless {
			return fmt.Sprintf("%s at position %d: %s", shown(p.Term), p.Pos, p.Why)
		}
	}
	return ""
}

// shown makes a text fit to be shown: what is no printable ASCII is escaped,
// and the end of a long text is left out.
func shown(s string) string {
	const most = 200
	plain := len(s) <= most
	for _, c := range []byte(s) {
		plain = plain && c >= ' ' && c <= '~'
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if b.Len() >= most {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && s[i] != 0xef:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strconv.IsPrint(r) && r != ' ' || r == ' ':
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// maxNetsShown is how many addresses a line of text tells.
const maxNetsShown = 4

// Tree renders the tree as text: a line a term, with its own cost, the cost
// with all below it, the running total and what it stands for. Records that
// cost nothing are told on the line of the term that includes them.
func (f *SPFFound) Tree() string {
	if f.Root == nil {
		return ""
	}
	var head strings.Builder
	head.WriteString(f.Root.Domain + "  ")
	switch {
	case f.Root.Record != nil:
		head.WriteString(shown(f.Root.Record.Text))
	default:
		head.WriteString(f.Root.broken())
	}
	fmt.Fprintf(&head, "  %d/%d, %d void", f.Lookups, spfLookups, f.Voids)
	if f.Cut {
		head.WriteString(", too large to be looked at whole")
	}
	if f.Root.Record != nil {
		if why := f.Root.broken(); why != "" {
			head.WriteString(", " + why)
		}
	}
	rows := [][]string{}
	all := f.lines()
	for i := 0; i < len(all); i++ {
		line := all[i]
		end := i + 1
		for end < len(all) && all[end].Depth > line.Depth {
			end++
		}
		rest := line.stands()
		if below := all[i+1 : end]; len(below) > 0 && below[0].Free {
			rest = append(rest, summary(below)...)
			i = end - 1
		}
		rows = append(rows, line.columns(strings.Join(rest, "; ")))
	}
	width := 0
	for _, row := range rows {
		width = max(width, min(utf8.RuneCountInString(row[0]), 60))
	}
	var b strings.Builder
	b.WriteString(head.String() + "\n")
	for _, row := range rows {
		pad := strings.Repeat(" ", max(width-utf8.RuneCountInString(row[0]), 0))
		b.WriteString(strings.TrimRight(row[0]+pad+"  "+row[1], " ") + "\n")
	}
	return b.String()
}

// columns are the term, and what is said about it.
func (l *SPFLine) columns(rest string) []string {
	cost := strings.Repeat(" ", len("+1  =2   total 10"))
	switch {
	case l.Cost > l.Own:
		cost = fmt.Sprintf("+%-2d =%-3d total %-2d", l.Own, l.Cost, l.Total)
	case l.Cost > 0:
		cost = fmt.Sprintf("+%-2d      total %-2d", l.Cost, l.Total)
	}
	mark := "  "
	if l.Over {
		mark = "! "
	}
	var notes []string
	if l.Over {
		notes = append(notes, fmt.Sprintf("OVER THE LIMIT OF %d", spfLookups))
	}
	if rest != "" {
		notes = append(notes, rest)
	}
	return []string{mark + strings.Repeat("    ", l.Depth) + l.Number + " " + l.Text, strings.TrimRight(cost+"  "+strings.Join(notes, "; "), " ")}
}

// stands says what a line stands for.
func (l *SPFLine) stands() []string {
	var parts []string
	if l.Result != "" {
		parts = append(parts, l.Result)
	}
	addresses := len(l.Nets) > 0 && l.Own > 0 // those of ip4 and ip6 are in the term
	switch text := ""; {
	case len(l.Names) > 0:
		text = someOf(l.Names)
		if addresses {
			text += " " + someNets(l.Nets)
		}
		parts = append(parts, text)
	case addresses:
		parts = append(parts, someNets(l.Nets))
	}
	return parts
}

// summary tells a record that costs nothing: its networks, then its other
// terms.
func summary(lines []SPFLine) []string {
	var nets []netip.Prefix
	var others []string
	for i := range lines {
		switch l := &lines[i]; {
		case len(l.Nets) > 0 && l.Result == "" && !strings.ContainsAny(l.Text[:1], "-~?"):
			nets = append(nets, l.Nets...)
		case l.Result != "" && !strings.HasPrefix(l.Result, "all others"):
			others = append(others, l.Text+" "+l.Result)
		default:
			others = append(others, l.Text)
		}
	}
	var parts []string
	if len(nets) > 0 {
		parts = append(parts, someNets(nets))
	}
	if len(others) > 0 {
		parts = append(parts, someOf(others))
	}
	return parts
}

func someOf(words []string) string {
	if over := len(words) - maxNetsShown; over > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:maxNetsShown], ", "), over)
	}
	return strings.Join(words, ", ")
}

func someNets(nets []netip.Prefix) string {
	words := make([]string, len(nets))
	for i, n := range nets {
		words[i] = netText(n)
	}
	return someOf(words)
}

// netText writes a network; a single address without its length.
func netText(n netip.Prefix) string {
	if n.IsSingleIP() {
		return n.Addr().String()
	}
	return n.String()
}

// An SPFAllowed is a network from which mail passes, as far as that does not
// depend on the message.
type SPFAllowed struct {
	Net netip.Prefix
	// Path is the terms that lead to it, from the domain's own record down:
	// "include:_spf.mailer.example", "ip4:198.51.100.0/24".
	Path []string
	// Saves is how many lookups are saved by removing the first term of Path.
	Saves int
}

// allowed returns the networks that pass, in the order of the tree. A network
// that several terms pass stands there once for each. Terms that make
// exceptions ("-ip4:192.0.2.7") are not taken off.
func (f *SPFFound) allowed() []SPFAllowed {
	var all []SPFAllowed
	if f.Root != nil {
		f.Root.allowed(nil, -1, func(b *SPFBranch, path []string, saves int) {
			nets := b.Nets
			if b.Term.Name == "all" {
				nets = []netip.Prefix{everyIPv4, everyIPv6}
			}
			for _, n := range nets {
				all = append(all, SPFAllowed{n, path, saves})
			}
		})
	}
	return all
}

var everyIPv4, everyIPv6 = netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")

// allowed calls f for the terms that make mail pass.
func (n *SPFNode) allowed(path []string, saves int, f func(b *SPFBranch, path []string, saves int)) {
	for i := range n.Branches {
		b := &n.Branches[i]
		if b.Unread || b.Term.Name != "redirect" && b.Term.Qualifier != '+' {
			continue
		}
		below, cost := append(path[:len(path):len(path)], b.Term.Text), saves
		if len(path) == 0 {
			cost = b.Cost
		}
		f(b, below, cost)
		if b.Node != nil {
			b.Node.allowed(below, cost, f)
		}
	}
}
