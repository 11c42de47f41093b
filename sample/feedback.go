package sample

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A layout is how a reporter writes its XML. The lists name the elements in
// the order in which they stand; what has no value is left out, unless it is
// among empty.
type layout struct {
	prolog, attributes string
	indent, eol        string
	version            string
	generator          string
	policy             []string
	effective          bool // sp is written although it is not published
	identifiers        []string
	dkim, spf          []string
	emptyDKIM          bool // unsigned mail gets an entry without a domain
	textReasons        bool // the type of a reason stands there without an element
	empty              []string
	// say changes a value on its way to the text; nil for none.
	say func(element, value string) string
}

// An xmlText is XML on its way out.
type xmlText struct {
	*layout
	b     []byte
	depth int
}

func (x *xmlText) line(text ...string) {
	if len(x.b) > 0 {
		x.b = append(x.b, x.eol...)
	}
	for range x.depth {
		x.b = append(x.b, x.indent...)
	}
	for _, t := range text {
		x.b = append(x.b, t...)
	}
}

// element writes an element with others in it.
func (x *xmlText) element(name string, content func()) {
	x.line("<", name, ">")
	x.depth++
	content()
	x.depth--
	x.line("</", name, ">")
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// leaf writes an element with a value.
func (x *xmlText) leaf(name, value string) {
	if value == "" && !slices.Contains(x.empty, name) {
		return
	}
	if x.say != nil {
		value = x.say(name, value)
	}
	x.line("<", name, ">", escape.Replace(value), "</", name, ">")
}

func (x *xmlText) leaves(names []string, value func(name string) string) {
	for _, name := range names {
		x.leaf(name, value(name))
	}
}

// feedback writes a report as XML.
func (l *layout) feedback(b []byte, r *report) []byte {
	x := &xmlText{layout: l, b: append(b, l.prolog...)}
	x.line("<feedback", l.attributes, ">")
	x.depth++
	x.leaf("version", l.version)
	x.element("report_metadata", func() {
		x.leaf("org_name", r.by.OrgName)
		x.leaf("email", r.by.Email)
		x.leaf("extra_contact_info", r.by.ExtraContact)
		x.leaf("report_id", r.id)
		x.element("date_range", func() {
			p := r.written()
			x.leaf("begin", strconv.FormatInt(p.Begin.Unix(), 10))
			x.leaf("end", strconv.FormatInt(p.End.Unix(), 10))
		})
		x.leaf("generator", l.generator)
	})
	x.element("policy_published", func() {
		x.leaves(l.policy, func(name string) string { return x.published(r.policy, name) })
	})
	for i := range r.rows {
		x.element("record", func() { x.record(&r.rows[i]) })
	}
	x.depth--
	x.line("</feedback>")
	return append(x.b, l.eol...)
}

func (x *xmlText) published(p *dmarc.PolicyPublished, name string) string {
	switch name {
	case "domain":
		return p.Domain
	case "discovery_method":
		return "psl"
	case "adkim":
		return p.ADKIM.String()
	case "aspf":
		return p.ASPF.String()
	case "p":
		return p.P.String()
	case "sp":
		if p.SP == dmarc.PolicyUnknown && x.effective {
			return p.P.String()
		}
		return p.SP.String()
	case "np":
		return p.NP.String()
	case "pct":
		return strconv.Itoa(*p.Pct)
	case "fo":
		return p.FO
	case "testing":
		if p.Testing != nil && *p.Testing {
			return "y"
		}
		return "n"
	}
	panic("sample: no such element of policy_published: " + name)
}

func (x *xmlText) record(row *dmarc.Row) {
	x.element("row", func() {
		source := ""
		if row.Source != (netip.Addr{}) {
			source = row.Source.String()
		}
		x.leaf("source_ip", source)
		x.leaf("count", strconv.FormatInt(row.Count, 10))
		x.element("policy_evaluated", func() {
			x.leaf("disposition", row.Disposition.String())
			x.leaf("dkim", row.DKIM.String())
			x.leaf("spf", row.SPF.String())
			for _, reason := range row.Reasons {
				if x.textReasons {
					x.leaf("reason", reason.Type)
					continue
				}
				x.element("reason", func() {
					x.leaf("type", reason.Type)
					x.leaf("comment", reason.Comment)
				})
			}
		})
	})
	x.element("identifiers", func() {
		x.leaves(x.identifiers, func(name string) string {
			switch name {
			case "envelope_to":
				return row.EnvelopeTo
			case "envelope_from":
				return row.EnvelopeFrom
			}
			return row.HeaderFrom
		})
	})
	x.element("auth_results", func() {
		for i := range row.AuthDKIM {
			if len(x.dkim) > 0 {
				x.element("dkim", func() { x.signature(&row.AuthDKIM[i]) })
			}
		}
		if len(row.AuthDKIM) == 0 && x.emptyDKIM {
			x.line("<dkim><domain/><selector/><result>fail</result></dkim>")
		}
		for i := range row.AuthSPF {
			x.element("spf", func() { x.sender(&row.AuthSPF[i]) })
		}
	})
}

func (x *xmlText) signature(r *dmarc.DKIMResult) {
	x.leaves(x.dkim, func(name string) string {
		switch name {
		case "domain":
			return r.Domain
		case "selector":
			return r.Selector
		case "human_result":
			return r.Human
		}
		return r.Result.String()
	})
}

func (x *xmlText) sender(r *dmarc.SPFResult) {
	x.leaves(x.spf, func(name string) string {
		switch name {
		case "domain":
			return r.Domain
		case "scope":
			return r.Scope
		}
		return r.Result.String()
	})
}
