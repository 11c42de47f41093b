package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/internal/porttest"
	"github.com/dmarcd/dmarcd/records/knottest"
)

// elsewhere answers for everything that is not in the zones of the CI.
func elsewhere(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	name, data := q.Question[0].Name, ""
	switch qtype := q.Question[0].Qtype; {
	case qtype == dns.TypeSOA && strings.Count(name, ".") < 2:
		data = "SOA a. b. 1 7200 3600 1209600 3600"
	case qtype == dns.TypeA && name == "ns2.dns.example.":
		data = "A 8.8.8.8"
	case qtype == dns.TypeA && strings.HasSuffix(name, ".dns.example."):
		data = "A 9.9.9.9" // nobody is asked there
	case qtype == dns.TypeTXT && name == "_spf.mailer.example.":
		data = `TXT "v=spf1 ip4:9.9.9.0/24 -all"`
	case !strings.HasSuffix("dns.example.", name) && !strings.HasSuffix(name, "dns.example.") && strings.Count(name, ".") > 1:
		m.Rcode = dns.RcodeNameError
	}
	if data != "" {
		rr, err := dns.NewRR(name + " 3600 IN " + data)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	w.WriteMsg(m)
}

// zoneChecks are the examples of docs/zones.md, by how they begin.
var zoneChecks = []string{"dmarcd check --level", "dmarcd check --format json", "check-zones.sh"}

// The examples of docs/zones.md do what the page says.
func TestTheExamplesOfCheckingZonesWork(t *testing.T) {
	t.Parallel()
	knottest.Require(t)
	dir := t.TempDir()
	all := examples(t, "docs/zones.md")
	var examples []string
	for i, x := range all {
		if i == len(zoneChecks) || !strings.HasPrefix(x.text, zoneChecks[i]) {
			x.forgotten(t)
		}
		examples = append(examples, x.text)
	}
	if len(examples) != len(zoneChecks) || t.Failed() {
		t.Fatalf("%d examples", len(examples))
	}
	script, err := filepath.Abs("../../deploy/check-zones.sh")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(filepath.Join(dir, "zones"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"dmarcd": build(t), "check-zones.sh": script} {
		if err := os.Symlink(to, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	upstream := knottest.Serve(t, elsewhere)
	published := resolving(t, `
. SOA a. b. 1 7200 3600 1209600 3600
shop.example. SOA ns.shop.example. hostmaster.shop.example. 1 7200 3600 1209600 3600
shop.example. MX 10 mx.shop.example.
shop.example. TXT "v=spf1 mx -all"
mx.shop.example. A 9.9.9.9
9.9.9.9.in-addr.arpa. PTR mx.shop.example.
_dmarc.shop.example. TXT "v=DMARC1; p=reject; rua=mailto:d@shop.example"
blog.example. SOA ns.blog.example. hostmaster.blog.example. 1 7200 3600 1209600 3600
blog.example. MX 0 .
blog.example. TXT "v=spf1 -all"
_dmarc.blog.example. TXT "v=DMARC1; p=reject; rua=mailto:d@shop.example"
blog.example._report._dmarc.shop.example. TXT "v=DMARC1"
*._domainkey.blog.example. TXT "v=DKIM1; p="
`)
	run := func(example string) (string, int) {
		t.Helper()
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "sh", "-c", example)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "DMARCD_RESOLVER="+published, "CHECK=--all", "UPSTREAM="+strings.Replace(upstream, ":", "@", 1),
			"KNOT_PORT="+porttest.Free(t), "RESOLVER_PORT="+porttest.Free(t))
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return out.String(), cmd.ProcessState.ExitCode()
	}
	if out, code := run(examples[0]); code != exitDone || !strings.HasPrefix(out, "shop.example  ") || strings.Contains(out, "mtasts.missing") {
		t.Errorf("%s: status %d\n%s", examples[0], code, out)
	}
	if _, err := exec.LookPath("jq"); err != nil {
		if os.Getenv("DMARCD_TEST_REQUIRE") != "" {
			t.Error("jq is not installed: apt-get install jq")
		}
	} else if out, code := run(examples[1]); code > 1 || strings.TrimSpace(out) != "true" && strings.TrimSpace(out) != "false" {
		t.Errorf("%s: status %d\n%s", examples[1], code, out)
	}

	zone := func(name, records string) {
		t.Helper()
		text := "$TTL 3600\n@ SOA ns1.dns.example. hostmaster 1 7200 3600 1209600 3600\n@ NS ns1.dns.example.\n@ NS ns2.dns.example.\n@ MX 10 mx.dns.example.\n" + records
		if err := os.WriteFile(filepath.Join(dir, "zones", name+".zone"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	zone("shop.example", `@ TXT "v=spf1 include:_spf.mailer.example -all"`+"\n_dmarc TXT \"v=DMARC1; p=reject; rua=mailto:d@shop.example\"\n")
	zone("blog.example", `@ TXT "v=spf1 mx -all"`+"\n_dmarc TXT \"v=DMARC1; p=rejct; rua=mailto:d@blog.example\"\n")
	out, code := run(examples[2])
	blog, shop, _ := strings.Cut(out, "\nshop.example  ")
	if code != exitFailed || !strings.Contains(blog, "dmarc.policy_invalid") || !strings.Contains(blog, "_dmarc.blog.example. IN TXT") ||
		!strings.Contains(shop, "1/10, 0 void") || strings.Contains(shop, "error ") {
		t.Errorf("%s: status %d\n%s", examples[2], code, out)
	}
	zone("blog.example", `@ TXT "v=spf1 mx -all"`+"\n_dmarc TXT \"v=DMARC1; p=reject; rua=mailto:d@blog.example\"\n")
	if out, code := run(examples[2]); code != exitDone {
		t.Errorf("%s, mended: status %d\n%s", examples[2], code, out)
	}
}
