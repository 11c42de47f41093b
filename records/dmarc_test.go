package records

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

var long = strings.Repeat("a-very-long-label-of-a-very-long-name-of-a-domain-with-x.", 4) + "deep.test" // 9 labels or less

var ours = Options{ReportAddresses: []string{"reports@ours.test"}}

// mailHost is a zone of a host that takes mail.
const mailHost = "@ MX 10 mx\nmx A 192.0.2.25\n"

var _ = addCases(
	zoneCase{name: "dmarc: protected", domain: "d-ok.test", zone: mailHost + txt("_dmarc", "v=DMARC1; p=reject; np=reject; rua=mailto:d@d-ok.test"),
		want: []string{"dmarc.ok"},
		not: []string{"dmarc.missing", "dmarc.inherited", "dmarc.several", "dmarc.misplaced", "dmarc.near_miss", "dmarc.unrelated_txt", "dmarc.syntax", "dmarc.p_missing",
			"dmarc.policy_invalid", "dmarc.p_none", "dmarc.test_mode", "dmarc.sp_weaker", "dmarc.np_absent", "dmarc.sp_useless", "dmarc.psd_wrong", "dmarc.psd_parent",
			"dmarc.old_new_differ", "dmarc.too_deep", "dmarc.removed_tag", "dmarc.unknown_tag", "dmarc.value_invalid", "dmarc.strict", "dmarc.rua_missing",
			"dmarc.rua_not_ours", "dmarc.uri_invalid", "dmarc.uri_scheme", "dmarc.uri_legacy", "dmarc.uri_undeliverable", "dmarc.ruf", "dmarc.reject_without_dkim",
			"rauth.missing", "rauth.wildcard_hidden", "rauth.foreign_override", "rauth.too_long", "rauth.ours_missing"}},
	zoneCase{name: "dmarc: none", domain: "d-none.test", want: []string{"dmarc.missing"}, not: []string{"dmarc.ok", "dmarc.p_none"}},
	zoneCase{name: "dmarc: inherited", domain: "hr.d-inherit.test", others: map[string]string{"d-inherit.test": txt("_dmarc", "v=DMARC1; p=none; sp=none")},
		want: []string{"dmarc.inherited", "dmarc.p_none", "dmarc.rua_missing", "dmarc.np_absent"}, not: []string{"dmarc.missing", "dmarc.sp_useless", "dmarc.sp_weaker"}},
	zoneCase{name: "dmarc: two records", domain: "d-two.test", zone: txt("_dmarc", "v=DMARC1; p=none") + txt("_dmarc", "v=DMARC1; p=reject"),
		want: []string{"dmarc.several"}, not: []string{"dmarc.missing", "dmarc.p_none"}},
	zoneCase{name: "dmarc: at the domain itself", domain: "d-misplaced.test", zone: txt("@", "v=DMARC1; p=none"), want: []string{"dmarc.misplaced", "dmarc.missing"}},
	zoneCase{name: "dmarc: quoted", domain: "d-quoted.test", zone: txt("_dmarc", `"v=DMARC1; p=none"`), want: []string{"dmarc.near_miss"}, not: []string{"dmarc.missing"}},
	zoneCase{name: "dmarc: blank first", domain: "d-blank.test", zone: txt("_dmarc", " v=DMARC1; p=none"), want: []string{"dmarc.near_miss"}},
	zoneCase{name: "dmarc: no-break space first", domain: "d-nbsp.test", zone: txt("_dmarc", "\u00a0v=DMARC1; p=none"), want: []string{"dmarc.near_miss"}},
	zoneCase{name: "dmarc: lower case", domain: "d-lower.test", zone: txt("_dmarc", "v=dmarc1; p=none"), want: []string{"dmarc.near_miss"}},
	zoneCase{name: "dmarc: escaped", domain: "d-escaped.test", zone: txt("_dmarc", `v=DMARC1\; p=none`), want: []string{"dmarc.near_miss"}},
	zoneCase{name: "dmarc: v last", domain: "d-last.test", zone: txt("_dmarc", "p=none; v=DMARC1"), want: []string{"dmarc.near_miss"}},
	zoneCase{name: "dmarc: beside another text", domain: "d-beside.test", zone: txt("_dmarc", "v=DMARC1; p=none") + txt("_dmarc", "verify=12345"),
		want: []string{"dmarc.unrelated_txt", "dmarc.p_none"}, not: []string{"dmarc.several", "dmarc.near_miss"}},
	zoneCase{name: "dmarc: parts that are no tags", domain: "d-syntax.test", zone: txt("_dmarc", "v=DMARC1; p=reject; hello; p=none"), want: []string{"dmarc.syntax"}, not: []string{"dmarc.p_none"}},
	zoneCase{name: "dmarc: a comma for a semicolon", domain: "d-comma.test", zone: txt("_dmarc", "v=DMARC1; p=reject, sp=none; rua=mailto:d@d-comma.test"), want: []string{"dmarc.syntax", "dmarc.policy_invalid"}},
	zoneCase{name: "dmarc: no semicolon", domain: "d-nosemi.test", zone: txt("_dmarc", "v=DMARC1 p=reject"), want: []string{"dmarc.near_miss"}, not: []string{"dmarc.missing"}},
	zoneCase{name: "dmarc: no p", domain: "d-nop.test", zone: txt("_dmarc", "v=DMARC1; rua=mailto:d@d-nop.test"), want: []string{"dmarc.p_missing"}, not: []string{"dmarc.policy_invalid", "dmarc.ok"}},
	zoneCase{name: "dmarc: bad sp", domain: "d-badsp.test", zone: txt("_dmarc", "v=DMARC1; p=reject; sp=rejected"), want: []string{"dmarc.policy_invalid"}, not: []string{"dmarc.ok", "dmarc.p_missing"}},
	zoneCase{name: "dmarc: test mode", domain: "d-testing.test", zone: txt("_dmarc", "v=DMARC1; p=reject; t=y"), want: []string{"dmarc.test_mode"}, not: []string{"dmarc.p_none", "dmarc.old_new_differ"}},
	zoneCase{name: "dmarc: weak sub-domains", domain: "d-weak.test", zone: txt("_dmarc", "v=DMARC1; p=reject; sp=none; np=quarantine"), want: []string{"dmarc.sp_weaker"}, not: []string{"dmarc.np_absent"}},
	zoneCase{name: "dmarc: sp below the organization", domain: "eu.d-useless.test", zone: txt("_dmarc", "v=DMARC1; p=reject; sp=none"),
		others: map[string]string{"d-useless.test": txt("_dmarc", "v=DMARC1; p=none")}, want: []string{"dmarc.sp_useless"}, not: []string{"dmarc.sp_weaker", "dmarc.inherited"}},
	zoneCase{name: "dmarc: psd=y", domain: "d-psd.test", zone: txt("_dmarc", "v=DMARC1; p=reject; psd=y"), want: []string{"dmarc.psd_wrong"}},
	zoneCase{name: "dmarc: a suffix captures", domain: "d-captured.co.uk", unsigned: true, others: map[string]string{"co.uk": txt("_dmarc", "v=DMARC1; p=none")},
		want: []string{"dmarc.psd_parent", "dmarc.old_new_differ", "dmarc.inherited"}, not: []string{"dmarc.psd_wrong"}},
	zoneCase{name: "dmarc: psd=n frees", domain: "d-free.co.uk", unsigned: true, zone: txt("_dmarc", "v=DMARC1; p=none; psd=n"), others: map[string]string{"co.uk": txt("_dmarc", "v=DMARC1; p=none")},
		not: []string{"dmarc.psd_parent", "dmarc.old_new_differ", "dmarc.inherited"}},
	zoneCase{name: "dmarc: only a sub-domain publishes", domain: "eu.d-sibling.test", zone: txt("_dmarc", "v=DMARC1; p=reject"), others: map[string]string{"d-sibling.test": ""}, want: []string{"dmarc.old_new_differ"}},
	zoneCase{name: "dmarc: nine labels", domain: "a.b.c.d.e.f.g.d-deep.test", zone: "@ A 192.0.2.1", others: map[string]string{"d-deep.test": txt("_dmarc", "v=DMARC1; p=reject") + txt("_dmarc.b.c.d.e.f.g", "v=DMARC1; p=none")},
		want: []string{"dmarc.too_deep"}},
	zoneCase{name: "dmarc: removed tags", domain: "d-removed.test", zone: txt("_dmarc", "v=DMARC1; p=reject; pct=0; ri=3600; rf=afrf"), want: []string{"dmarc.removed_tag"}, not: []string{"dmarc.unknown_tag"}},
	zoneCase{name: "dmarc: unknown tags", domain: "d-unknown.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rau=mailto:d@d-unknown.test"), want: []string{"dmarc.unknown_tag", "dmarc.rua_missing"}, not: []string{"dmarc.removed_tag"}},
	zoneCase{name: "dmarc: bad values", domain: "d-values.test", zone: txt("_dmarc", "v=DMARC1; p=reject; adkim=strict; fo=1"), want: []string{"dmarc.value_invalid"}, not: []string{"dmarc.strict"}},
	zoneCase{name: "dmarc: strict", domain: "d-strict.test", zone: txt("_dmarc", "v=DMARC1; p=reject; adkim=s"), want: []string{"dmarc.strict"}, not: []string{"dmarc.value_invalid"}},
	zoneCase{name: "dmarc: reports elsewhere", domain: "d-notours.test", zone: mailHost + txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:d@d-notours.test"), o: ours, want: []string{"dmarc.rua_not_ours"}, not: []string{"dmarc.rua_missing"}},
	zoneCase{name: "dmarc: bad addresses", domain: "d-uris.test", zone: mailHost + txt("_dmarc", "v=DMARC1; p=reject; rua=d@d-uris.test, https://d-uris.test/x, mailto:d@d-uris.test!10m"),
		want: []string{"dmarc.uri_invalid", "dmarc.uri_scheme", "dmarc.uri_legacy"}, not: []string{"dmarc.uri_undeliverable", "dmarc.ok"}},
	zoneCase{name: "dmarc: reports to nowhere", domain: "d-deaf.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:d@d-deaf.test, mailto:d@null.d-deaf.test") + "null MX 0 .\nnull A 192.0.2.1\n", want: []string{"dmarc.uri_undeliverable"}},
	zoneCase{name: "dmarc: failure reports", domain: "d-ruf.test", zone: mailHost + txt("_dmarc", "v=DMARC1; p=reject; ruf=mailto:d@d-ruf.test; fo=1"), want: []string{"dmarc.ruf"}, not: []string{"dmarc.value_invalid"}},
	zoneCase{name: "dmarc: sources without DKIM", domain: "d-spfonly.test", zone: txt("_dmarc", "v=DMARC1; p=reject; adkim=s"),
		o: Options{Reported: &Reported{SPFOnly: []string{"192.0.2.7"}, RelaxedOnly: []string{"192.0.2.8"}}}, want: []string{"dmarc.reject_without_dkim", "dmarc.strict"}},

	zoneCase{name: "rauth: authorised", domain: "r-ok.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:r@r-host.test"),
		others: map[string]string{"r-host.test": mailHost + txt("r-ok.test._report._dmarc", "v=DMARC1") + txt("r-ok.test._report._dmarc", "unrelated")},
		want:   []string{"dmarc.ok"}, not: []string{"rauth.missing", "rauth.wildcard_hidden", "dmarc.uri_undeliverable"}},
	zoneCase{name: "rauth: by wildcard", domain: "r-wild.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:r@r-wildhost.test"),
		others: map[string]string{"r-wildhost.test": mailHost + txt("*._report._dmarc", "v=DMARC1;")}, want: []string{"dmarc.ok"}, not: []string{"rauth.missing", "rauth.wildcard_hidden"}},
	zoneCase{name: "rauth: same organization", domain: "r-same.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:r@reports.r-same.test") + "reports MX 10 mx\nmx A 192.0.2.25\n",
		want: []string{"dmarc.ok"}, not: []string{"rauth.missing"}},
	zoneCase{name: "rauth: missing", domain: "r-missing.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:r@r-nohost.test"), others: map[string]string{"r-nohost.test": mailHost + txt("r-missing.test._report._dmarc", "unrelated")},
		want: []string{"rauth.missing"}, not: []string{"dmarc.ok", "rauth.ours_missing", "rauth.wildcard_hidden", "rauth.foreign_override", "rauth.too_long"}},
	zoneCase{name: "rauth: the wildcard is hidden", domain: "b.r-hidden.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:r@r-hidehost.test"), others: map[string]string{
		"r-hidden.test": "", "r-hidehost.test": mailHost + txt("*._report._dmarc", "v=DMARC1") + txt("a.r-hidden.test._report._dmarc", "v=DMARC1")},
		want: []string{"rauth.wildcard_hidden"}, not: []string{"rauth.missing"}},
	zoneCase{name: "rauth: sent on", domain: "r-on.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:r@r-onhost.test"),
		others: map[string]string{"r-onhost.test": mailHost + txt("r-on.test._report._dmarc", "v=DMARC1; rua=mailto:x@r-elsewhere.test")}, want: []string{"rauth.foreign_override"}, not: []string{"rauth.missing"}},
	zoneCase{name: "rauth: sent on within the host", domain: "r-in.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:r@r-inhost.test"),
		others: map[string]string{"r-inhost.test": mailHost + txt("r-in.test._report._dmarc", "v=DMARC1; rua=mailto:other@r-inhost.test")}, want: []string{"dmarc.ok"}, not: []string{"rauth.foreign_override"}},
	zoneCase{name: "rauth: too long", domain: long, zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:r@reports.of-a-host-with-a-long-name.test"), others: map[string]string{"deep.test": ""},
		want: []string{"rauth.too_long"}, not: []string{"rauth.missing"}},
	zoneCase{name: "rauth: ours", domain: "r-ours.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:Reports@ours.test"), others: map[string]string{"ours.test": mailHost},
		o: ours, want: []string{"rauth.ours_missing"}, not: []string{"rauth.missing", "dmarc.rua_not_ours"}},
	zoneCase{name: "dmarc: a lookup fails", domain: "d-fails.test", zone: "@ A 192.0.2.1", fails: []string{"_dmarc.d-fails.test"}, want: []string{"dns.lookup_failed"}, not: []string{"dmarc.missing", "dmarc.inherited"}},
	zoneCase{name: "rauth: a lookup fails", domain: "r-fails.test", zone: txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:r@r-failhost.test"), fails: []string{"r-failhost.test"},
		want: []string{"dns.lookup_failed"}, not: []string{"rauth.missing", "dmarc.uri_undeliverable"}},
)

func TestRecordsThatAreNearlyDMARCSayWhyNot(t *testing.T) {
	for _, c := range []struct{ text, reason, fixed string }{
		{"v=DMARC1; p=none", "", ""},
		{"google-site-verification=abc", "", ""},
		{"see https://dmarc.example/?id=5", "", ""},
		{" v=DMARC1; p=none", "it begins with a blank", "v=DMARC1; p=none"},
		{"\ufeffv=DMARC1; p=none", "it begins with a byte order mark", "v=DMARC1; p=none"},
		{`"v=DMARC1; p=none"`, "it holds the quotation marks of a zone file as text", "v=DMARC1; p=none"},
		{"\u201cv=DMARC1; p=none\u201d", "it holds the quotation marks of a zone file as text", "v=DMARC1; p=none"},
		{`v=DMARC1\; p=none\; rua=mailto:a@b.test`, `its semicolons are written as \;`, "v=DMARC1; p=none; rua=mailto:a@b.test"},
		{"V=Dmarc1; p=none", "DMARC1 must be in capitals", "v=DMARC1; p=none"},
		{"p=none; v=DMARC1; rua=mailto:a@b.test", "v=DMARC1 must come first", "v=DMARC1; p=none; rua=mailto:a@b.test"},
		{"v=DMARC1, p=none, sp=none", "v=DMARC1 must have a semicolon behind it", "v=DMARC1; p=none; sp=none"},
		{"v=DMARC1 p=none rua=mailto:a@b.test,mailto:c@d.test", "v=DMARC1 must have a semicolon behind it", "v=DMARC1; p=none; rua=mailto:a@b.test,mailto:c@d.test"},
		{"v=dmarc1: p=none; sp=none", "v=DMARC1 must have a semicolon behind it", "v=DMARC1; p=none; sp=none"},
		{"v=DMARC1.0; p=none", "v=DMARC1 must have a semicolon behind it", "v=DMARC1; p=none"},
		{"v=DMARC10; p=none", "", ""},
		{"DMARC1; p=none", "v=DMARC1 must come first", "v=DMARC1; p=none"},
	} {
		if reason, fixed := nearMiss(c.text); reason != c.reason || fixed != c.fixed {
			t.Errorf("%q: %q, %q; want %q, %q", c.text, reason, fixed, c.reason, c.fixed)
		}
	}
}

// What is to be published can be pasted into a zone, and reads as it should.
func TestWhatToPublish(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": txt("_dmarc", "v=DMARC1; p=quarantine; pct=0; sp=rejct; adkim=x; rau=mailto:a@corp.test")})
	p, err := Lookup(t.Context(), "corp.test", Options{Resolver: r, ReportAddresses: []string{"in@reports.test"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, f := range Check(p) {
		if text := f.Publish(); strings.HasPrefix(f.ID, "dmarc.") && text != "" {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Errorf("%s: %q: %v", f.ID, text, err)
				continue
			}
			got[f.ID] = append(got[f.ID], texts(Answer{RRs: []dns.RR{rr}})...)
		}
	}
	for id, want := range map[string]string{
		"dmarc.policy_invalid": "v=DMARC1; p=quarantine; pct=0; sp=reject; adkim=x; rau=mailto:a@corp.test",
		"dmarc.removed_tag":    "v=DMARC1; p=quarantine; sp=rejct; adkim=x; rau=mailto:a@corp.test; t=y",
		"dmarc.value_invalid":  "v=DMARC1; p=quarantine; pct=0; sp=rejct; rau=mailto:a@corp.test",
		"dmarc.unknown_tag":    "v=DMARC1; p=quarantine; pct=0; sp=rejct; adkim=x; rua=mailto:a@corp.test",
		"dmarc.rua_missing":    "v=DMARC1; p=quarantine; pct=0; sp=rejct; adkim=x; rau=mailto:a@corp.test; rua=mailto:in@reports.test",
	} {
		if !slices.Equal(got[id], []string{want}) {
			t.Errorf("%s: %q, want %q", id, got[id], want)
		}
	}
}
