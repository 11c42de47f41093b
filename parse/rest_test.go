package parse

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// Rows that are recognised by what stands behind the count are the same rows
// as those that are read value by value, whatever is odd about them.
func TestRowsThatRepeatAreReadLikeAnyOther(t *testing.T) {
	dispositions := []string{"none", "reject", " Quarantine ", "softfail", "nonsense", ""}
	tails := []string{
		"<auth_results><spf><domain>example.com</domain><result>pass</result></spf></auth_results>",
		"<auth_results><dkim><domain>Example.COM.</domain><selector>s1</selector><result>PASS</result></dkim><dkim><domain>b.example</domain><result>unknown</result></dkim></auth_results>",
		"<auth_results><dkim><domain>not.evaluated</domain></dkim></auth_results>",
		"<auth_results><!-- </record> --><spf><domain>a.example</domain><result>hardfail</result></spf></auth_results>",
		"<auth_results><spf><domain><![CDATA[a.example]]></domain><result>pass</result></spf></auth_results>",
		"<auth_results><spf><domain>&#97;.example</domain><scope>helo</scope></spf></auth_results>",
		"<auth_results>stray<dkim/><spf/></auth_results>",
		"<extra><record>within</record></extra><auth_results/>",
		"<row><count>7</count><source_ip>192.0.2.99</source_ip></row>",
		"<auth_results>" + strings.Repeat("<dkim><domain>d.example</domain><result>fail</result></dkim>", 6) + "</auth_results>",
		"<auth_results>" + strings.Repeat("<spf><domain>long.example</domain><result>fail</result></spf>\n", 30) + "</auth_results>",
	}
	hits := 0
	for seed := range uint64(11) {
		r := rand.New(rand.NewPCG(seed, 1))
		var b bytes.Buffer
		b.WriteString(report("x")[:strings.Index(report("x"), "  <record>")])
		for range 4000 {
			source := fmt.Sprintf("10.0.%d.%d", r.IntN(256), r.IntN(256))
			if r.IntN(20) == 0 {
				source = []string{"", "x", "2001:db8::1", "010.1.1.1", "::ffff:10.0.0.1"}[r.IntN(5)]
			}
			count := []string{"1", "20", "0", "", "-3", "4.0"}[r.IntN(6)]
			reason := []string{"", "<reason><type>forwarded</type></reason>", "<reason>sampled_out</reason>"}[r.IntN(3)]
			fmt.Fprintf(&b, "<record><row><source_ip>%s</source_ip><count>%s</count><policy_evaluated><disposition>%s</disposition><dkim>%s</dkim><spf>fail</spf>%s</policy_evaluated></row><identifiers><header_from>%s</header_from></identifiers>%s</record>\n",
				source, count, dispositions[r.IntN(1+int(seed)%len(dispositions))], []string{"pass", "fail", "odd"}[r.IntN(1+int(seed)%3)], reason,
				[]string{"example.com", "other.example", "ex_ample..com"}[r.IntN(3)], tails[r.IntN(1+int(seed)%len(tails))])
		}
		b.WriteString("</feedback>\n")

		read := func(rests bool) string {
			a := newAggregateReader(bytes.NewReader(b.Bytes()), DefaultLimits, false)
			*a.memory = memory{}
			a.shapes.forget()
			a.rests.forget()
			if !rests {
				a.rests.resume = math.MaxInt64
			}
			m := a.memory
			text, err := everything(a)
			if err != nil {
				t.Fatal(err)
			}
			if rests {
				hits += m.rests.hits
			}
			return text
		}
		if got, want := read(true), read(false); got != want {
			t.Errorf("seed %d: the rows differ:\n%s", seed, firstDifference(got, want))
		}
	}
	if hits < 50 { // of the last 256 of each seed
		t.Errorf("only %d of the last rows were recognised", hits)
	}
}

// firstDifference returns the first line that two texts do not share.
func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return as[i] + "\n" + bs[i]
		}
	}
	return fmt.Sprintf("%d and %d lines", len(as), len(bs))
}
