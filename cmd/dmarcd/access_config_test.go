package main

import (
	"strings"
	"testing"
)

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
