package records

import (
	"slices"
	"strings"
	"testing"
)

// Each part of a record is judged for itself, and what is right is not told of.
func TestRecordsOfDMARCAreJudgedTagByTag(t *testing.T) {
	for _, c := range []struct {
		record   string
		reported *Reported
		want     []string // id, tag, and what is said of it
	}{
		{"p=reject; np=reject; rua=mailto:d@corp.test", nil, []string{"dmarc.ok"}},
		{"p=reject; np=reject; psd=u; t=n; fo=1:d; ruf=mailto:d@corp.test; rua=mailto:d@corp.test", nil, []string{"dmarc.ruf", "dmarc.ok"}},
		{"p=reject; rua=mailto:d@corp.test", nil, []string{"dmarc.ok"}},
		{"p=quarantine; rua=mailto:d@corp.test", nil, []string{"dmarc.np_absent", "dmarc.ok"}},
		{"p=reject; sp=none; rua=mailto:d@corp.test", nil, []string{"dmarc.sp_weaker sp", "dmarc.np_absent", "dmarc.ok"}},
		{"p=quarantine; sp=reject; np=none; rua=mailto:d@corp.test", nil, []string{"dmarc.sp_weaker np", "dmarc.ok"}},
		{"p=none; np=reject; rua=mailto:d@corp.test", nil, []string{"dmarc.p_none p"}},
		{"p=reject; np=reject; adkim=s; rua=mailto:d@corp.test", nil, []string{"dmarc.strict info adkim=s", "dmarc.ok"}},
		{"p=reject; np=reject; aspf=S; rua=mailto:d@corp.test", nil, []string{"dmarc.strict info aspf=s", "dmarc.ok"}},
		{"p=reject; np=reject; adkim=s; aspf=s; rua=mailto:d@corp.test", &Reported{RelaxedOnly: []string{"192.0.2.7"}}, []string{"dmarc.strict warning adkim=s and aspf=s", "dmarc.ok"}},
		{"rua=mailto:d@corp.test", nil, []string{"dmarc.p_missing as p=none"}},
		{"sp=none", nil, []string{"dmarc.p_missing as if it were not there", "dmarc.rua_missing"}},
		{"p=nonsense; t=y; sp=none; rua=mailto:d@corp.test", nil, []string{"dmarc.policy_invalid p as p=none"}},
		{"p=reject; np=reject; psd=x; rua=mailto:d@corp.test", nil, []string{"dmarc.value_invalid psd it must be y, n or u", "dmarc.ok"}},
		{"p=reject; np=reject; t=maybe; rua=mailto:d@corp.test", nil, []string{"dmarc.value_invalid t it must be y or n", "dmarc.ok"}},
		{"p=reject; np=reject; fo=9; ruf=mailto:d@corp.test; rua=mailto:d@corp.test", nil,
			[]string{"dmarc.value_invalid fo it must be a list of 0, 1, d and s with colons between them, with 0 or 1 but not both", "dmarc.ruf", "dmarc.ok"}},
		{"p=reject; np=reject; fo=1; rua=mailto:d@corp.test", nil, []string{"dmarc.value_invalid fo it has no effect without ruf", "dmarc.ok"}},
		{"p=reject; np=reject; pct=0; rua=mailto:d@corp.test", nil, []string{"dmarc.removed_tag pct Receivers of today ignore it and apply the policy in full; t=y says what pct=0 said.", "dmarc.ok"}},
		{"p=reject; np=reject; pct=100; rua=mailto:d@corp.test", nil, []string{"dmarc.removed_tag pct *", "dmarc.ok"}},
		{"p=reject; np=reject; rau=1; quite=2; rua=mailto:d@corp.test", nil, []string{"dmarc.unknown_tag rau Was rua meant?", "dmarc.unknown_tag quite", "dmarc.ok"}},
		{"p=reject; np=reject; a1=1; a2=2; a3=3; a4=4; a5=5; a6=6; a7=7; rua=mailto:d@corp.test", nil,
			[]string{"dmarc.unknown_tag a1", "dmarc.unknown_tag a2", "dmarc.unknown_tag a3", "dmarc.unknown_tag a4", "dmarc.unknown_tag a5", "dmarc.ok"}},
		{"p=reject; np=reject; rua=mailto:d@corp.test!10m", nil, []string{"dmarc.uri_legacy rua the size limit !10m is ignored", "dmarc.ok"}},
		{"p=reject; np=reject; rua=mailto:d@corp.test,mailto:D@corp.test", nil, []string{"dmarc.uri_legacy rua it stands there twice", "dmarc.ok"}},
		{"p=reject; np=reject; rua=mailto:a@corp.test,mailto:b@corp.test,mailto:c@corp.test", nil,
			[]string{"dmarc.uri_legacy rua it is one of 3 addresses, and older receivers use the first two only", "dmarc.ok"}},
		{"p=reject; np=reject; rua=a,b,c,d,e,f,g", nil, []string{
			"dmarc.uri_invalid rua it has no scheme such as mailto:", "dmarc.uri_invalid rua it has no scheme such as mailto:", "dmarc.uri_invalid rua it has no scheme such as mailto:",
			"dmarc.uri_invalid rua it has no scheme such as mailto:", "dmarc.uri_invalid rua it has no scheme such as mailto:",
			"dmarc.uri_legacy rua it is one of 7 addresses, and older receivers use the first two only"}},
	} {
		t.Run(c.record, func(t *testing.T) {
			r := newZoneResolver(t, map[string]string{"test": apex, "corp.test": apex + mailHost + txt("_dmarc", "v=DMARC1; "+c.record)})
			var got []string
			for _, f := range checkDMARC(lookedUp(t, r, "corp.test", Options{Reported: c.reported})) {
				words := []string{f.ID}
				if f.ID == "dmarc.strict" {
					words = append(words, f.Severity.String())
				}
				for _, name := range []string{"tag", "tags", "why", "effect", "hint", "note"} {
					words = append(words, strings.TrimSpace(f.Value(name)))
				}
				got = append(got, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
			}
			matches := len(got) == len(c.want)
			for i := 0; matches && i < len(got); i++ {
				prefix, open := strings.CutSuffix(c.want[i], "*")
				matches = got[i] == c.want[i] || open && strings.HasPrefix(got[i], prefix) && !strings.Contains(got[i], "t=y")
			}
			if !matches {
				t.Errorf("\n got %q\nwant %q", got, c.want)
			}
		})
	}
}

// Texts of others at the domain, names far down and records of tops are not
// taken for what they are not.
func TestWhatIsNoRecordOfDMARCIsLeftAlone(t *testing.T) {
	policy := txt("_dmarc", "v=DMARC1; p=reject; np=reject; rua=mailto:d@corp.test")
	for name, c := range map[string]struct {
		domain string
		zones  map[string]string
		not    []string
		want   []string
	}{
		"other texts at the domain":           {"corp.test", map[string]string{"corp.test": apex + mailHost + policy + txt("@", "verify=1")}, []string{"dmarc.misplaced"}, nil},
		"texts and no record":                 {"corp.test", map[string]string{"corp.test": apex + txt("_dmarc", "verify=1")}, []string{"dmarc.unrelated_txt"}, []string{"dmarc.missing"}},
		"texts and records of a top":          {"corp.test", map[string]string{"test": apex + txt("_dmarc", "verify=1") + txt("_dmarc", "v=DMARC1; p=none") + txt("_dmarc", "v=DMARC1; p=reject"), "corp.test": apex + policy + mailHost}, []string{"dmarc.unrelated_txt", "dmarc.several"}, nil},
		"eight labels without a record":       {"a.b.c.d.e.f.corp.test", map[string]string{"corp.test": apex + policy + mailHost + "a.b.c.d.e.f A 192.0.2.1\n"}, []string{"dmarc.too_deep"}, nil},
		"nine labels with a record":           {"z.a.b.c.d.e.f.corp.test", map[string]string{"corp.test": apex + policy + mailHost + txt("_dmarc.z.a.b.c.d.e.f", "v=DMARC1; p=reject")}, []string{"dmarc.too_deep"}, nil},
		"nine labels, and a record passed by": {"z.a.b.c.d.e.f.corp.test", map[string]string{"corp.test": apex + policy + mailHost + txt("_dmarc.z.a.b.c.d.e.f", "v=DMARC1; p=reject") + txt("_dmarc.a.b.c.d.e.f", "v=DMARC1; p=none")}, nil, []string{"dmarc.too_deep"}},
		"nothing anywhere is no difference":   {"corp.test", map[string]string{"corp.test": apex}, []string{"dmarc.old_new_differ"}, []string{"dmarc.missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			ids := found(checkDMARC(lookedUp(t, newZoneResolver(t, c.zones), c.domain, Options{})))
			for _, id := range c.not {
				if ids[id] {
					t.Errorf("%s is found", id)
				}
			}
			for _, id := range c.want {
				if !ids[id] {
					t.Errorf("%s is not found", id)
				}
			}
		})
	}
}
