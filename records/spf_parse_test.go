package records

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestSPFTermsAreReadWithTheirPlaces(t *testing.T) {
	r := parseSPF([]string{"V=spf1  A/24//64 -Include:_spf.%{d2} ip6:2001:db8::1/32 ", "redirect=x.test exp=why.test moo=1"})
	var got []string
	for _, term := range r.Terms {
		text := fmt.Sprintf("%d %c %s", term.Pos, term.Qualifier, term.Name)
		if term.Qualifier == 0 {
			text = fmt.Sprintf("%d %s=", term.Pos, term.Name)
		}
		if term.Domain != "" {
			text += " " + term.Domain
		}
		if term.Net.IsValid() {
			text += " " + term.Net.String()
		}
		if term.Bits4+term.Bits6 > 0 {
			text += fmt.Sprintf(" /%d //%d", term.Bits4, term.Bits6)
		}
		got = append(got, text)
	}
	want := []string{
		"9 + a /24 //64", "18 - include _spf.%{d2}", "38 + ip6 2001:db8::1/32", "57 redirect= x.test", "73 exp= why.test", "86 moo=",
	}
	if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(r.Seams, []int{56}) || len(r.Problems) > 0 {
		t.Errorf("terms %q\nwant  %q\nseams %v, problems %v", got, want, r.Seams, r.Problems)
	}
}

func TestSPFErrorsAreAllFoundAndNamed(t *testing.T) {
	for _, c := range []struct{ record, want string }{
		{"a mx -all", ""},
		{"a:%{d}.x.test/24//64 exists:%{ir}.%{v}._spf.%{d2} include:%{d}", ""},
		{"unknown.Mod-1_=%{s}x//y=z", ""},
		{"ip4:192.0.2.1/0 ip6:::/0 ip6:::ffff:192.0.2.1", ""},
		{"a:1-2 a:x.1-2", "spf.syntax 8 a:1-2 -> "},
		{"foo bar", "spf.syntax 8 foo -> ; spf.syntax 12 bar -> "},
		{"inlcude:x.test", "spf.syntax 8 inlcude:x.test -> include:x.test"},
		{"ipv4:192.0.2.1", "spf.syntax 8 ipv4:192.0.2.1 -> ip4:192.0.2.1"},
		{"ip:2001:db8::1", "spf.syntax 8 ip:2001:db8::1 -> ip6:2001:db8::1"},
		{"192.0.2.0/24", "spf.syntax 8 192.0.2.0/24 -> ip4:192.0.2.0/24"},
		{"_spf.x.test", "spf.syntax 8 _spf.x.test -> include:_spf.x.test"},
		{"include: x.test mx", "spf.syntax 8 include: -> include:x.test"},
		{"mx - all", "spf.syntax 11 - -> -all"},
		{"-all.", "spf.syntax 8 -all. -> -all"},
		{"~all;", "spf.syntax 8 ~all; -> ~all"},
		{"-al", "spf.syntax 8 -al -> -all"},
		{"all:x", "spf.syntax 8 all:x -> all"},
		{"redirect:x.test", "spf.syntax 8 redirect:x.test -> redirect=x.test"},
		{"-redirect=x.test", "spf.syntax 8 -redirect=x.test -> redirect=x.test"},
		{"redirect=", "spf.syntax 8 redirect= -> "},
		{"include", "spf.syntax 8 include -> "},
		{"include:x.test/24", "spf.syntax 8 include:x.test/24 -> include:x.test"},
		{"ptr/24", "spf.syntax 8 ptr/24 -> ptr"},
		{"a:192.0.2.1", "spf.syntax 8 a:192.0.2.1 -> ip4:192.0.2.1"},
		{"a/33", "spf.syntax 8 a/33 -> "},
		{"mx//129", "spf.syntax 8 mx//129 -> "},
		{"a:x..test", "spf.syntax 8 a:x..test -> "},
		{"a:museum", "spf.syntax 8 a:museum -> "},
		{"1up=x", "spf.syntax 8 1up=x -> "},
		{"ip4:192.0.2.1,192.0.2.2", "spf.bad_address 8 ip4:192.0.2.1,192.0.2.2 -> ip4:192.0.2.1 ip4:192.0.2.2"},
		{"ip4:192.0.2", "spf.bad_address 8 ip4:192.0.2 -> "},
		{"ip4:192.0.2.*", "spf.bad_address 8 ip4:192.0.2.* -> ip4:192.0.2.0/24"},
		{"ip4:192.0.2.0/255.255.255.128", "spf.bad_address 8 ip4:192.0.2.0/255.255.255.128 -> ip4:192.0.2.0/25"},
		{"ip4:192.0.2.0/33", "spf.bad_address 8 ip4:192.0.2.0/33 -> "},
		{"ip4:192.0.2.0/024", "spf.bad_address 8 ip4:192.0.2.0/024 -> ip4:192.0.2.0/24"},
		{"ip4:192.0.2.0//24", "spf.bad_address 8 ip4:192.0.2.0//24 -> ip4:192.0.2.0/24"},
		{"ip4:2001:db8::1", "spf.bad_address 8 ip4:2001:db8::1 -> ip6:2001:db8::1"},
		{"~ip6:192.0.2.1", "spf.bad_address 8 ~ip6:192.0.2.1 -> ~ip4:192.0.2.1"},
		{"ip6:2001:db8::1%eth0", "spf.bad_address 8 ip6:2001:db8::1%eth0 -> "},
		{"ip4:mail.x.test", "spf.bad_address 8 ip4:mail.x.test -> a:mail.x.test"},
		{"ip4=192.0.2.1", "spf.syntax 8 ip4=192.0.2.1 -> ip4:192.0.2.1 (harmless)"},
		{"a -all v=spf1 mx", "spf.syntax 15 v=spf1 ->  (harmless)"},
		{"exists:%(ir).x.test", "spf.macro_bad 8 exists:%(ir).x.test -> exists:%{ir}.x.test"},
		{"exists:%{x}.x.test", "spf.macro_bad 8 exists:%{x}.x.test -> "},
		{"exists:%{d0}", "spf.macro_bad 8 exists:%{d0} -> "},
		{"exists:%{i.x.test", "spf.macro_bad 8 exists:%{i.x.test -> "},
		{"exists:%{t}.x.test", "spf.macro_bad 8 exists:%{t}.x.test -> "},
		{"a:x%.test", "spf.macro_bad 8 a:x%.test -> "},
		{"moo=%", "spf.macro_bad 8 moo=% -> "},
		{"a –all", "spf.non_ascii 10 – -> -all"},
		{"a\u00a0mx -all", "spf.non_ascii 9 \u00a0 -> a mx"},
		{"a\tmx", "spf.syntax 8 a\tmx -> a mx"},
		{"a \x96all", "spf.non_ascii 10 \x96 -> "},
		{"redirect=x.test redirect=y.test", "spf.modifier_twice 24 redirect=y.test -> "},
		{"exp=x.test -all EXP=y.test", "spf.modifier_twice 24 EXP=y.test -> "},
	} {
		var got []string
		for _, p := range parseSPF([]string{"v=spf1 " + c.record}).Problems {
			text := fmt.Sprintf("%s %d %s -> %s", p.ID, p.Pos, p.Term, p.Hint)
			if p.Harmless {
				text += " (harmless)"
			}
			got = append(got, text)
			if p.Why == "" {
				t.Errorf("%q: no reason", c.record)
			}
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%q:\n got %q\nwant %q", c.record, text, c.want)
		}
	}
}

func FuzzSPF(f *testing.F) {
	for _, s := range []string{
		"v=spf1 a mx ip4:192.0.2.1/24 include:%{ir}.x.test -all", "v=spf1 a:%{d2r-}/24//64 exp=%{l}.x.test moo=%%%_%-",
		"v=spf1 include: x.test – all ip4:192.0.2.*,x", "v=spf1 redirect=redirect= %(i) %{", "v=spf1\x00\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = "v=spf1 " + text
		r := parseSPF([]string{text[:len(text)/2], text[len(text)/2:]})
		if r.Text != text || len(r.Problems) > maxProblems {
			t.Fatalf("text %q, %d problems", r.Text, len(r.Problems))
		}
		for _, term := range r.Terms {
			if !strings.HasPrefix(text[term.Pos-1:], term.Text) {
				t.Errorf("%q does not stand at %d of %q", term.Text, term.Pos, text)
			}
		}
		for _, p := range r.Problems {
			if !strings.HasPrefix(text[p.Pos-1:], p.Term) {
				t.Errorf("%q does not stand at %d of %q", p.Term, p.Pos, text)
			}
			if p.Hint != "" && !validSPF(p.Hint) {
				t.Errorf("the hint %q for %q is not valid", p.Hint, p.Term)
			}
		}
	})
}
