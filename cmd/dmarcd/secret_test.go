package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

func TestSecretsAreInNoOutput(t *testing.T) {
	const s = "hunter2"
	never := func(what, text string) {
		t.Helper()
		if strings.Contains(text, s) {
			t.Errorf("%s shows the secret: %s", what, text)
		}
	}
	good := "database_url = \"postgres://u:" + s + "@db/x\"\n[[mailbox]]\nurl = \"imaps://a@b\"\npassword = \"" + s + "\"\n"
	path := writeFile(t, "dmarcd.toml", good)
	for _, w := range []struct {
		world world
		args  []string
	}{
		{world{}, []string{"config", "--config", path}},
		{world{}, []string{"config", "--check", "--config", path}},
		{world{vars: []string{"DMARCD_IMAP_URL=imaps://a@b", "DMARCD_IMAP_PASSWORD=" + s, "DMARCD_DATABASE_URL=postgres://u:" + s + "@db"}}, []string{"config"}},
	} {
		got := w.world.run(t, w.args...)
		if got.status != exitDone {
			t.Errorf("%q: %+v", w.args, got)
		}
		never(strings.Join(w.args, " "), got.stdout+got.stderr)
	}
	for _, text := range []string{
		"password = " + s, "[[mailbox]]\npassword = " + s, "[[mailbox]]\npassword = [\"" + s + "\"]", "[[mailbox]]\npassword = \"" + s, "[[mailbox]]\npassword = \"" + s + "\\q\"",
		"[[mailbox]]\npassword = 1979-" + s, "[[mailbox]]\npassword = +" + s, "[[mailbox]]\npassword = '''" + s, "[[mailbox]]\nurl = \"imaps://a:" + s + "@b\"", "[[mailbox]]\nurl = \"" + s + "\"",
		"database_url = \"" + s + "\"", "database_url = \"postgres://u:" + s + "@db:port/x\"", "database_url = \"postgres://u:" + s + "%zz@db/x\"", "database_url = { password = \"" + s + "\" }",
		"database_url = " + s, "passwort = \"" + s + "\"", "[[mailbox]]\nmailbox.password = \"" + s + "\"",
	} {
		got := world{}.run(t, "config", "--config", writeFile(t, "dmarcd.toml", text))
		if got.status != exitUsage {
			t.Errorf("%s: %+v", text, got)
		}
		never(text, got.stdout+got.stderr)
	}

	c, err := loadFile(t, path)
	if err != nil {
		t.Fatal(err)
	}
	if c.DatabaseURL.reveal() != "postgres://u:"+s+"@db/x" || c.Mailboxes[0].Password.reveal() != s {
		t.Error("the secrets are not those of the file")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		for _, v := range []any{*c, *c.Mailboxes[0], c.DatabaseURL, &c.DatabaseURL, []secret{newSecret(s)}, map[secret]secret{newSecret(s): newSecret(s)}, struct{ s any }{newSecret(s)}} {
			never(verb, fmt.Sprintf(verb, v))
		}
	}
	text, err := json.Marshal(map[string]any{"a": c.Mailboxes[0], "b": map[secret]string{newSecret(s): ""}})
	if err != nil {
		t.Fatal(err)
	}
	never("JSON", string(text))
	var b strings.Builder
	if err := toml.NewEncoder(&b).Encode(map[string]any{"a": c.DatabaseURL, "b": c.Mailboxes[0].Password}); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("text", "config", c, "url", c.DatabaseURL, "mailbox", *c.Mailboxes[0])
	slog.New(slog.NewJSONHandler(&b, nil)).Info("JSON", "config", c, "url", c.DatabaseURL, "mailbox", *c.Mailboxes[0])
	never("TOML and logs", b.String())
	if !strings.Contains(b.String(), hidden) {
		t.Error("the logs show nothing at all")
	}
}
