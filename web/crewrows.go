package web

import (
	"html/template"
	"strings"

	"github.com/dmarcd/dmarcd/advice"
	"github.com/dmarcd/dmarcd/dmarc"
)

// crewRows writes the lines of a table of senders. A page may have thousands of them, for
// which templates would take several times as long.
func (s *site) crewRows(p *crewPage) template.HTML {
	var b strings.Builder
	for i := range p.Items {
		s.crewRow(&b, p, &p.Items[i])
	}
	return template.HTML(b.String())
}

func (s *site) crewRow(b *strings.Builder, p *crewPage, x *sender) {
	write := func(parts ...string) {
		for _, part := range parts {
			b.WriteString(part)
		}
	}
	linked := func(key, name string, n int) {
		write(`<a href="`, text(s.senderLink(p.Domain, key, p.Span)), `">`, string(mono(name, n)), `</a>`)
	}
	t := &x.Tally
	write("\n" + `  <tr><th scope="row">`)
	linked(x.Key, x.Name, 36)
	if x.Place != "" {
		write(`<span class="line small">`, string(stranger(x.Place, 40)), `</span>`)
	}
	if x.Addresses > 1 {
		write(`<details class="addresses"><summary>`, plural(int64(x.Addresses), "address", "addresses"), `</summary><ul>`)
		for _, a := range x.Lines {
			write(`<li>`)
			linked(a.Source, a.Source, 39)
			write(` `)
			if a.Place != "" {
				write(`<span>`, string(stranger(a.Place, 40)), `</span> `)
			}
			write(`<span>`, plural(a.Tally.Messages, "message", "messages"), `, `, text(percent(a.Tally.DMARCPass, a.Tally.Messages)), ` passed</span></li>`)
		}
		if n := x.MoreLines(); n > 0 {
			write(`<li>and `, plural(int64(n), "more address", "more addresses"), `</li>`)
		}
		write(`</ul></details>`)
	}
	write(`</th>`+"\n"+`    <td class="long" data-label="Class">`, string(kindChip(x.Class)))
	if x.Confidence != advice.Sure && x.Class != dmarc.ClassUnknown {
		write(` <span class="small">`, x.Confidence.String(), `</span>`)
	}
	write(`</td>`+"\n"+`    <td class="n" data-label="Messages">`, string(numeral(t.Messages)), `</td>`)
	aligned := func(label string, n int64) {
		write("\n"+`    <td class="meter" data-label="`, label, `"><span>`, string(shareBar(n, t.Messages, "own")), `<b>`, text(percent(n, t.Messages)), `</b></span></td>`)
	}
	aligned("DKIM aligned", t.DKIMAligned)
	aligned("SPF aligned", t.SPFAligned)
	write("\n" + `    <td class="n" data-label="Passed">`)
	if n := failed(*t); n != 0 {
		write(`<span title="`, plural(n, "message", "messages"), ` failed">`, string(swatch(x.Trouble())), ` `, text(percent(t.DMARCPass, t.Messages)), `</span>`)
	} else {
		write(text(percent(t.DMARCPass, t.Messages)))
	}
	write(`</td>`+"\n"+`    <td class="n" data-label="Stopped">`, string(stoppedCount(*t)))
	write(`</td>`+"\n"+`    <td class="n long" data-label="Last seen">`, day(x.Last), `</td></tr>`)
}

// stoppedCount writes how many messages were stopped.
func stoppedCount(t dmarc.Tally) template.HTML {
	if stopped(t) == 0 {
		return `<span class="zero">0</span>`
	}
	return `<span title="` + template.HTML(count(t.Quarantine)) + ` quarantined, ` + template.HTML(count(t.Reject)) + ` rejected">` + numeral(stopped(t)) + `</span>`
}

// kindChip writes a class beside its colour.
func kindChip(c dmarc.Class) template.HTML {
	return `<span class="kind">` + swatch(kinds[kindOf(c)].Fill) + ` ` + template.HTML(c.String()) + `</span>`
}
