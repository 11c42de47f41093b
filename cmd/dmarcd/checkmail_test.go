package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/records"
)

const mailZone = `
. SOA a. b. 1 7200 3600 1209600 3600
9.9.9.9.in-addr.arpa. PTR mx.mail.test.
1.1.1.1.in-addr.arpa. PTR other.mail.test.
mail.test. SOA ns.mail.test. hostmaster.mail.test. 1 7200 3600 1209600 3600
mail.test. MX 10 mx.mail.test.
mail.test. MX 20 gone.mail.test.
mail.test. MX 30 shaky.mail.test.
mail.test. TXT "v=spf1 ip4:1.1.1.1 ip4:8.8.8.8 ip4:8.8.4.4 -all"
mail.test. CAA 0 issue "letsencrypt.org"
mx.mail.test. A 9.9.9.9
other.mail.test. A 9.9.9.9
_25._tcp.mx.mail.test. TLSA 3 1 1 abababababababababababababababababababababababababababababababab
s1._domainkey.mail.test. TXT "v=DKIM1; k=ed25519; p=YW4gZWQyNTUxOSBrZXkgaXMgMzIgb2N0ZXRzIGxvbmc="
_mta-sts.mail.test. TXT "v=STSv1; id=1"
_smtp._tls.mail.test. TXT "v=TLSRPTv1; rua=mailto:tls@mail.test"
default._bimi.mail.test. TXT "v=BIMI1; l=https://mail.test/logo.svg"
null.test. SOA ns.null.test. hostmaster.null.test. 1 7200 3600 1209600 3600
null.test. MX 0 .
`

func TestCheckTellsWhatIsPublishedForMail(t *testing.T) {
	resolver := resolving(t, mailZone, "shaky.mail.test.", "8.8.8.8.in-addr.arpa.", "_mta-sts.null.test.", "default._bimi.null.test.")
	for domain, want := range map[string]string{
		"mail.test": `{"mx":[{"host":"mx.mail.test","preference":10,"addresses":["9.9.9.9"]},{"host":"gone.mail.test","preference":20,"addresses":[]},` +
			`{"host":"shaky.mail.test","preference":30,"addresses":null}],` +
			`"hosts":[{"address":"1.1.1.1","mx":[],"sends":true,"ptr":["other.mail.test"],"fcrdns":false},{"address":"8.8.8.8","mx":[],"sends":true,"ptr":null,"fcrdns":null},` +
			`{"address":"8.8.4.4","mx":[],"sends":true,"ptr":[],"fcrdns":false},{"address":"9.9.9.9","mx":["mx.mail.test"],"sends":false,"ptr":["mx.mail.test"],"fcrdns":true}],` +
			`"dkim":[{"selector":"s1","name":"s1._domainkey.mail.test","record":"v=DKIM1; k=ed25519; p=YW4gZWQyNTUxOSBrZXkgaXMgMzIgb2N0ZXRzIGxvbmc=","type":"ed25519","bits":256,"revoked":false}],` +
			`"mta_sts":{"id":"1","mode":null,"max_age":null,"mx":[]},"tls_rpt":["mailto:tls@mail.test"],` +
			`"tlsa":[{"host":"mx.mail.test","records":["3 1 1 abababababababababababababababababababababababababababababababab"],"secure":true}],` +
			`"bimi":{"found_at":"default._bimi.mail.test","logo":"https://mail.test/logo.svg","evidence":null},` +
			`"caa":{"found_at":"mail.test","records":["0 issue \"letsencrypt.org\""]}}`,
		"null.test": `{"mx":[{"host":".","preference":0,"addresses":[]}],"hosts":[],` +
			`"dkim":[{"selector":"s1","name":"s1._domainkey.null.test","record":null,"type":null,"bits":null,"revoked":false}],` +
			`"mta_sts":null,"tls_rpt":[],"tlsa":[],"bimi":null,"caa":{"found_at":null,"records":[]}}`,
	} {
		got := world{}.run(t, "check", "--resolver", resolver, "--selector", "s1", "--format", "json", domain)
		var out struct{ Records records.ResultMail }
		if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
			t.Fatalf("%v: %s", err, got.stdout)
		}
		text, err := json.Marshal(out.Records)
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != want {
			t.Errorf("%s:\n got %s\nwant %s", domain, text, want)
		}
	}
}

// A policy is fetched from where the configuration lets dmarcd connect to, as serve does.
func TestCheckConnectsToWhatIsAllowed(t *testing.T) {
	resolver := resolving(t, `
corp.test. SOA ns.corp.test. hostmaster.corp.test. 1 7200 3600 1209600 3600
_mta-sts.corp.test. TXT "v=STSv1; id=1"
mta-sts.corp.test. A 127.0.0.2
`)
	for allowed, refused := range map[string]bool{"": true, "10.0.0.0/8": true, "127.0.0.2": false} {
		got := world{vars: []string{"DMARCD_OUTGOING_ALLOW=" + allowed}}.run(t, "check", "--resolver", resolver, "--format", "json", "corp.test")
		if strings.Contains(got.stdout, "127.0.0.2 is not a public address") != refused || !strings.Contains(got.stdout, `"subject":"mta-sts.corp.test"`) {
			t.Errorf("with %q allowed:\n%s%s", allowed, got.stdout, got.stderr)
		}
	}
}
