package main

import (
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

func TestMistakesOfStreamsAndCertificatesAreNamed(t *testing.T) {
	ca := writeFile(t, "ca.pem", "nothing")
	stream := func(lines string) string { return "[[stream]]\nname = \"siem\"\n" + lines }
	for _, c := range []struct{ text, want string }{
		{stream(`to = "/var/lib/dmarcd/out.ndjson"`), ""},
		{stream(`to = "-"`), ""},
		{stream("to = \"kafkas://a.example:9093,b.example/dmarc.rows\"\nuser = \"u\"\npassword = \"s3cret\"\nsasl = \"plain\""), ""},
		{"[[stream]]\nto = \"-\"", "stream.name: is missing"},
		{stream(""), "stream.to: is missing"},
		{stream(`to = "out.ndjson"`), "must be the whole path of a file"},
		{stream(`to = "http://example.com/"`), "must be the path of a file, -, kafka://"},
		{stream(`to = "kafka://a.example:9092/"`), "must end in the name of a topic"},
		{stream(`to = "kafka://user:s3cret@a.example:9092/dmarc"`), "user and password have settings of their own"},
		{stream(`to = "kafka://a.example:99999/dmarc"`), "must name brokers"},
		{stream("to = \"kafka://a.example/dmarc\"\nuser = \"u\"\npassword = \"s3cret\"\nsasl = \"plain\""), "sends the password in plain text"},
		{stream("to = \"kafka://a.example/dmarc\"\nuser = \"u\""), "there is no password"},
		{stream("to = \"kafka://a.example/dmarc\"\npassword = \"s3cret\""), "has no use without user"},
		{stream("to = \"kafka://a.example/dmarc\"\nca_file = \"" + ca + "\""), "has no use but with kafkas://"},
		{stream("to = \"kafkas://a.example/dmarc\"\nca_file = \"" + ca + "\""), "holds no certificate in PEM format"},
		{stream("to = \"kafkas://a.example/dmarc\"\ncert_file = \"" + ca + "\""), "need each other"},
		{stream("to = \"/x\"\nuser = \"u\""), "has no use but for Kafka"},
		{stream("to = \"-\"") + "\n" + stream(`to = "/x"`), "another stream has the name"},
		{stream("to = \"/x\"") + "\n[[stream]]\nname = \"other\"\nto = \"/x\"", "another stream goes there already"},
		{"[acme]\nhosts = [\"dmarc.example.com\"]\nhttp_listen = \":80\"", ""},
		{"[acme]\nemail = \"a@example.com\"", "has no use without acme.hosts"},
		{"[acme]\nhosts = [\"dmarc.example.com\"]\nca_file = \"" + ca + "\"", "holds no certificate in PEM format"},
		{"[acme]\nhosts = [\"dmarc.example.com\"]\ndirectory = \"http://ca.example/\"", "must be the https:// URL"},
		{"[acme]\nhosts = [\"dmarc.example.com\"]\n[http]\ncert_file = \"" + ca + "\"", "there is a certificate in http.cert_file already"},
		{"[outgoing]\nallow = [\"inside\"]", "outgoing.allow"},
	} {
		env := newEnviron(nil, nil, os.Stderr, []string{"XDG_STATE_HOME=" + t.TempDir()})
		_, err := env.loadConfig(writeFile(t, "dmarcd.toml", c.text), everything)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s\n%v", c.text, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret")):
			t.Errorf("%s\n%v, want %s", c.text, err, c.want)
		}
	}
}

func TestPeopleAreSentOnToHTTPS(t *testing.T) {
	h := toHTTPS([]string{"dmarc.example.com"})
	for target, want := range map[string]string{
		"http://dmarc.example.com/a?b=c": "https://dmarc.example.com/a?b=c", "http://DMARC.example.com:80/": "https://dmarc.example.com/",
		"http://evil.example/": "", "http://192.0.2.1/": "",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		if got := w.Header().Get("Location"); got != want || want == "" && w.Code != 404 {
			t.Errorf("%s: %d %q, want %q", target, w.Code, got, want)
		}
	}
}
