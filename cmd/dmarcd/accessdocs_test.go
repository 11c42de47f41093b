package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/access"
	"github.com/dmarcd/dmarcd/postgres/pgtest"
)

// What docs/access.md shows can be done as it stands there.
func TestTheExamplesOfAccessWork(t *testing.T) {
	text, err := os.ReadFile("../../docs/access.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeCertificate(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err := os.WriteFile(filepath.Join(dir, "oidc_secret"), []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var blocks []string
	apart := true // the next line of an example begins another
	for line := range strings.SplitSeq(string(text), "\n") {
		code, ok := strings.CutPrefix(line, "    ")
		switch {
		case !ok:
			apart = apart || line != ""
		case apart:
			blocks, apart = append(blocks, code), false
		default:
			blocks[len(blocks)-1] += "\n" + code
		}
	}
	w := world{vars: []string{"DMARCD_DATABASE_URL=" + pgtest.URL(t), "DMARCD_LOG_LEVEL=error"}}
	configurations, commands := 0, 0
	for _, block := range blocks {
		if strings.HasPrefix(block, "[") {
			configurations++
			if got := mistakes(t, strings.ReplaceAll(block, "/etc/dmarcd", dir)); got != "" {
				t.Errorf("%s\n%s", block, got)
			}
			continue
		}
		for line := range strings.SplitSeq(block, "\n") {
			args := strings.Fields(line)
			if args[0] != "dmarcd" {
				continue
			}
			commands++
			got := w.run(t, args[1:]...)
			if got.status != exitDone {
				t.Errorf("%s: %+v", line, got)
			}
			if _, ok := access.DigestOf(got.stdout); args[2] == "create" && !ok {
				t.Errorf("%s prints no secret: %q", line, got.stdout)
			}
		}
	}
	if configurations != 4 || commands != 6 {
		t.Errorf("%d configurations and %d commands in %q", configurations, commands, blocks)
	}
}

func TestMistakesOfAccessNameTheirFix(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"[access]\ngroups = [\"it\"]", `must be a group, its roles and its domains`},
		{"[access]\ngroups = [\"it = root @ *\"]", `"root" is no role`},
		{"[access]\noidc_issuer = \"http://login.example.com\"", "must be the https:// URL of the provider"},
		{"[access]\noidc_issuer = \"https://login.example.com\"\ngroups = [\"* = read @ *\"]", "access.oidc_client_id (DMARCD_ACCESS_OIDC_CLIENT_ID): is missing"},
		{"[access]\noidc_issuer = \"https://login.example.com\"\noidc_client_id = \"x\"", "access.groups (DMARCD_ACCESS_GROUPS): is missing: nobody"},
		{"[access]\nuser_header = \"X-User\"\ngroups = [\"* = read @ *\"]", "http.proxies (DMARCD_HTTP_PROXIES): is missing"},
		{"[access]\nuser_header = \"X User\"", "must be the name of a header"},
		{"[access]\nmetrics = \"all\"", "must be one of"},
		{"[http]\nprefix = \"dmarc/\"", "must be a path"},
		{"[http]\nprefix = \"/dmarc/\"", "without a slash at its end"},
		{"[http]\nurl = \"https://x.example/dmarc\"", "the path belongs into http.prefix"},
		{"[http]\ncert_file = \"/nonexistent\"", "http.key_file; name the key as well"},
	} {
		if got := mistakes(t, c.text); !strings.Contains(got, c.want) {
			t.Errorf("%s\n got %s\nwant %s", c.text, got, c.want)
		}
	}
	// Secrets stay secret.
	path := writeFile(t, "dmarcd.toml", "[access]\noidc_issuer = \"https://login.example.com\"\noidc_client_id = \"x\"\noidc_client_secret = \"hush\"\ngroups = [\"* = read @ *\"]")
	if got := (world{}).run(t, "config", "--config", path); got.status != exitDone || strings.Contains(got.stdout, "hush") || !strings.Contains(got.stdout, "oidc_client_secret = \"(hidden)\"") {
		t.Errorf("%+v", got)
	}
}
