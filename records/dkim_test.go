package records

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestKeyRecordsTellTypeBitsAndWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // type, bits, and the problems
	}{
		{"v=DKIM1; k=rsa; p=" + rsa2048, "rsa 2048"},
		{"v=DKIM1;k=rsa;p=" + rsa2048 + ";", "rsa 2048"},
		{" v = DKIM1 ; p = " + rsa2048 + " ; ", "rsa 2048"},
		{"v=DKIM1; p=" + strings.Join(strings.SplitAfter(rsa2048, "A"), "\t "), "rsa 2048"},
		{"p=" + rsa2048, "rsa 2048"},
		{"v=DKIM1; k=ed25519; p=" + bareEd, "ed25519 256"},
		{"v=DKIM1; p=", "rsa 0"},
		{"v=DKIM1; p", `rsa 0 dkim.syntax[pos=10 why="p" has no = fixed=]`},
		{"v=DKIM1; p=; p=", "rsa 0 dkim.syntax[pos=14 why=the tag p stands twice fixed=v=DKIM1; p=]"},
		{"v=DKIM1;; p=", "rsa 0 dkim.syntax[pos=9 why=nothing stands between two semicolons fixed=v=DKIM1; p=]"},
		{"", "rsa 0 dkim.syntax[pos=1 why=nothing stands between two semicolons fixed=]"},
		{"v=dkim1; p=", "rsa 0 dkim.syntax[pos=1 why=v= is not DKIM1 fixed=v=DKIM1; p=]"},
		{"V=DKIM1; p=", "rsa 0 dkim.flags[tag=V=DKIM1 effect=no receiver knows the tag]"},
		{"v=DKIM1; k=RSA; p=", "rsa 0 dkim.key_type[k=RSA]"},
		{"v=spf1 -all", "rsa 0 dkim.syntax[pos=1 why=v= is not DKIM1 fixed=]"},
		{"v=DKIM1; 1a=b; p=", `rsa 0 dkim.syntax[pos=10 why="1a" is not a name of a tag fixed=v=DKIM1; p=]`},
		{"v=DKIM1; n=caf\xc3\xa9; p=", "rsa 0 dkim.syntax[pos=10 why=the value of n holds a character that is not allowed fixed=v=DKIM1; p=]"},
		{"v=DKIM1; h=sha1; p=", "rsa 0 dkim.sha1[h=sha1]"},
		{"v=DKIM1; h=sha256:sha1; s=email:x; t=s:y; p=", "rsa 0 dkim.flags[tag=t=s effect=the identity that signs (i=) must be in the domain d= itself, not below it] dkim.testing[]"},
		{"v=DKIM1; p=" + rsa2048[:len(rsa2048)-1], "rsa 0 dkim.bad_key[why=its end is missing]"},
		{"v=DKIM1; p=!" + rsa2048, "rsa 0 dkim.bad_key[why=it is not base64]"},
		{"v=DKIM1; p=AAAA", "rsa 0 dkim.bad_key[why=it is not the DER form of an RSA key]"},
		{"v=DKIM1; p=" + spki(ed25519Key), "rsa 0 dkim.key_type[k=rsa]"},
		{"v=DKIM1; k=ed25519; p=AAAA", "ed25519 0 dkim.ed25519_length[n=3]"},
		{"v=DKIM1; k=ed25519; p=" + barePKCS1, "ed25519 0 dkim.key_type[k=ed25519]"},
		{"v=DKIM1; p=" + barePKCS1, "rsa 2048 dkim.pkcs1[]"},
		{"v=DKIM1; p=" + spki(rsaKey(1023)), "rsa 1023 dkim.rsa_short[n=1023]"},
		{"v=DKIM1; p=" + spki(rsaKey(1024)), "rsa 1024 dkim.rsa_1024[n=1024]"},
		{"v=DKIM1; p=" + spki(rsaKey(2047)), "rsa 2047 dkim.rsa_1024[n=2047]"},
		{"v=DKIM1; p=" + spki(rsaKey(2049)), "rsa 2049 dkim.rsa_large[n=2049]"},
	} {
		k := parseDKIMKey(c.text)
		got := fmt.Sprintf("%s %d", k.Type, k.Bits)
		for _, p := range k.problems {
			var values []string
			for i := 0; i < len(p.values); i += 2 {
				values = append(values, p.values[i]+"="+p.values[i+1])
			}
			got += " " + p.id + "[" + strings.Join(values, " ") + "]"
		}
		if k.Type == "RSA" {
			got = "rsa" + strings.TrimPrefix(got, "RSA")
		}
		if got != c.want {
			t.Errorf("%.60q:\n got %s\nwant %s", c.text, got, c.want)
		}
	}
}

func TestAKeyIsKnownAgainHoweverItIsWritten(t *testing.T) {
	a, b := parseDKIMKey("v=DKIM1; p="+rsa2048), parseDKIMKey("k=rsa; p="+rsa2048[:9]+" "+rsa2048[9:])
	if a.fingerprint() == "" || a.fingerprint() != b.fingerprint() {
		t.Errorf("%q and %q", a.fingerprint(), b.fingerprint())
	}
	if none := parseDKIMKey("v=DKIM1; p="); none.fingerprint() != "" || !none.Revoked || none.valid() {
		t.Errorf("a revoked key: %+v", none)
	}
}

func TestKeysOfOthersAreNamed(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": txt("s._domainkey", "v=DKIM1; p="+rsa2048)})
	key := parseDKIMKey("v=DKIM1; p=" + rsa2048)
	p := lookedUp(t, r, "corp.test", selectors("s"))
	p.DKIM.Elsewhere = map[string][]string{key.fingerprint(): {"s._domainkey.corp.test", "x._domainkey.other.test"}}
	var shared []Finding
	for _, f := range checkDKIM(p) {
		if f.ID == "dkim.key_shared" {
			shared = append(shared, f)
		}
	}
	if len(shared) != 1 || shared[0].Value("names") != "s._domainkey.corp.test, x._domainkey.other.test" {
		t.Errorf("findings: %+v", shared)
	}
}

func TestARevokedKeyIsAnErrorOnlyIfItSignedSince(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": txt("s._domainkey", "v=DKIM1; p=")})
	for _, c := range []struct {
		seen, signed, unchanged int // days ago; -1: never
		want                    Severity
	}{{1, -1, -1, Error}, {-1, 1, -1, Error}, {-1, -1, -1, Info}, {40, -1, -1, Info}, {5, -1, 2, Info}, {5, 1, 2, Error}} {
		o := selectors()
		s := Selector{Name: "s"}
		if c.seen >= 0 {
			s.LastSeen = dkimNow.AddDate(0, 0, -c.seen)
		}
		if c.signed >= 0 {
			s.LastSigned = dkimNow.AddDate(0, 0, -c.signed)
		}
		if c.unchanged >= 0 {
			s.Unchanged = dkimNow.AddDate(0, 0, -c.unchanged)
		}
		o.Selectors = []Selector{s}
		got := checkDKIM(lookedUp(t, r, "corp.test", o))
		if len(got) != 1 || got[0].ID != "dkim.revoked" || got[0].Severity != c.want {
			t.Errorf("%+v: %q", c, idsOf(got))
		}
	}
}

func TestMonthsAreWhole(t *testing.T) {
	for from, want := range map[string]int{"2025-05-12": 12, "2025-05-13": 11, "2026-05-12": 0, "2026-04-12": 1, "2026-04-13": 0, "2024-12-31": 16} {
		at, err := time.Parse(time.DateOnly, from)
		if err != nil {
			t.Fatal(err)
		}
		if got := months(at, dkimNow); got != want {
			t.Errorf("from %s: %d", from, got)
		}
	}
}

func TestDKIMLookupsThatFailAreUnknown(t *testing.T) {
	zones := map[string]string{"corp.test": txt("s._domainkey", "v=DKIM1; k=ed25519; p="+bareEd)}
	r := newZoneResolver(t, zones)
	r.broken["r._domainkey.corp.test"] = Answer{Rcode: dns.RcodeRefused}
	// Nor is it said that ed25519 signs alone: the other one may be RSA.
	want := []string{"ok dkim.ok s._domainkey.corp.test"}
	if got := idsOf(checkDKIM(lookedUp(t, r, "corp.test", selectors("s", "r")))); !slices.Equal(got, want) {
		t.Errorf("findings: %q", got)
	}
}

func TestNamesThatAreDeniedThoughKeysAreBelow(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": txt("s._domainkey", "v=DKIM1; p="+rsa2048)})
	r.broken["_domainkey.corp.test"] = Answer{State: NXDomain, Rcode: dns.RcodeNameError}
	want := []string{"ok dkim.ok s._domainkey.corp.test", "warning dkim.ent_broken _domainkey.corp.test"}
	if got := idsOf(checkDKIM(lookedUp(t, r, "corp.test", selectors("s")))); !slices.Equal(got, want) {
		t.Errorf("findings: %q", got)
	}
}

func TestOnlySomeOfManySelectorsAreLookedAt(t *testing.T) {
	var names []string
	for i := range 500 {
		names = append(names, fmt.Sprintf("s%d", i))
	}
	o := selectors(append(names, "s1", "", "a b", "a/b", strings.Repeat("x", 64), "two.labels", "under_score")...)
	p := lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": ""}), "corp.test", o)
	if len(p.DKIM.Selectors) != maxSelectors || p.DKIM.Left != 502-maxSelectors {
		t.Errorf("%d selectors, %d left", len(p.DKIM.Selectors), p.DKIM.Left)
	}
	o = selectors("Two.Labels", "two.labels", "under_score", "a b")
	o.Selectors = append(o.Selectors, Selector{Name: "s", Domain: "Mail.corp.test."})
	p = lookedUp(t, newZoneResolver(t, map[string]string{"corp.test": ""}), "corp.test", o)
	var got []string
	for _, s := range p.DKIM.Selectors {
		got = append(got, s.Selected())
	}
	if want := []string{"two.labels._domainkey.corp.test", "under_score._domainkey.corp.test", "s._domainkey.mail.corp.test"}; !slices.Equal(got, want) {
		t.Errorf("looked at: %q", got)
	}
}

func TestASyntaxErrorSaysWhatToPublish(t *testing.T) {
	r := newZoneResolver(t, map[string]string{"corp.test": txt("s._domainkey", "v=DKIM1; rsa; p="+rsa2048)})
	got := checkDKIM(lookedUp(t, r, "corp.test", selectors("s")))
	rr, err := dns.NewRR(got[0].Publish())
	if err != nil {
		t.Fatal(err)
	}
	if text := texts(Answer{RRs: []dns.RR{rr}}); rr.Header().Name != "s._domainkey.corp.test." || text[0] != "v=DKIM1; p="+rsa2048 {
		t.Errorf("to publish: %s", got[0].Publish())
	}
}

func FuzzDKIMKey(f *testing.F) {
	for _, text := range []string{"", "v=DKIM1; k=rsa; p=" + rsa2048, "k=ed25519; p=" + bareEd, "p=;;", "v=DKIM1; h=sha1; s=x; t=y:s; g=; p=" + barePKCS1, "=;=", "v=DKIM1; p=\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k := parseDKIMKey(text)
		if k.Revoked && len(k.Key) > 0 {
			t.Errorf("%q: a revoked key of %d octets", text, len(k.Key))
		}
		if k.valid() && (k.Type == "rsa" && k.Bits < 1024 || k.Type == "ed25519" && len(k.Key) != ed25519.PublicKeySize) {
			t.Errorf("%q: a valid key of %d bits", text, k.Bits)
		}
		for _, p := range k.problems {
			if _, ok := catalogue[p.id]; !ok {
				t.Errorf("%q: no check %s", text, p.id)
			}
			// What is to be published must be right, and the same key.
			if fixed := valueOf(p.values, "fixed"); fixed != "" {
				again := parseDKIMKey(fixed)
				if slices.ContainsFunc(again.problems, func(p keyProblem) bool { return p.id == "dkim.syntax" }) || len(k.Key) > 0 && !slices.Equal(again.Key, k.Key) {
					t.Errorf("%q: to publish %q", text, fixed)
				}
			}
		}
	})
}
