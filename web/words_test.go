package web

import (
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestFlagsOfAMessageAreSaidInWords(t *testing.T) {
	for _, c := range []struct {
		outcome      dmarc.Outcome
		reason, want string
	}{
		{dmarc.OutcomeOKWithFlags, "trailing_data, no_rows", "bytes after the end of the compressed data were ignored; the report has no rows"},
		{dmarc.OutcomeOKWithFlags, "a_flag_of_tomorrow, no_rows", "a_flag_of_tomorrow; the report has no rows"},
		{dmarc.OutcomeBadXML, "no_rows, it says", "no_rows, it says"},
		{dmarc.OutcomeOKWithFlags, "", ""},
	} {
		if got := reasonText(c.outcome, c.reason); got != c.want {
			t.Errorf("%s of %s is %q, want %q", c.reason, c.outcome, got, c.want)
		}
	}
}

func TestWhatStandsBetweenBackticksIsCode(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"`mx` finds nothing, `a:x.example` neither.", "<bdi><code>mx</code> finds nothing, <code>a:x.example</code> neither.</bdi>"},
		{"`<b>` & co", "<bdi><code>&lt;b&gt;</code> &amp; co</bdi>"},
		{"one ` alone", "<bdi>one ` alone</bdi>"},
		{"`a\u202eb`", "<bdi><code>a�b</code></bdi>"},
		{"none", "<bdi>none</bdi>"},
	} {
		if got := string(marked(c.in, 100)); got != c.want {
			t.Errorf("%q is %q, want %q", c.in, got, c.want)
		}
	}
	if got, want := string(marked("`a name that is long` and more", 10)), "<bdi title=\"`a name that is long` and more\">`a n… more</bdi>"; got != want {
		t.Errorf("cut it is %q, want %q", got, want)
	}
}
