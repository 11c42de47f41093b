package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestEachMistakeAboutTargetsNamesItsFix(t *testing.T) {
	target := func(lines string) string { return "[[target]]\nname = \"ops\"\n" + lines }
	mail := "[mail]\nserver = \"smtps://a@mail.example.com\"\npassword = \"x\"\nfrom = \"dmarcd@example.com\"\n"
	for _, c := range []struct {
		file, want string
	}{
		{mail + target("url = \"mailto:a@example.com,b@example.org\"\nrules = [\"spf_limit\"]\ndomains = [\"example.com\"]"), ""},
		{target("url = \"https://hooks.example.com/s3cret\"\nsecret = \"s3cret\""), ""},
		{target("url = \"http://10.0.0.1/s3cret\"\nprivate = true"), ""},
		{target("url = \"ntfy://ntfy.example.com/s3cret\""), ""},
		{target("url_file = \"" + writeFile(t, "url", "https://hooks.example.com/s3cret") + "\""), ""},
		{"[[target]]\nurl = \"https://hooks.example.com/s3cret\"", `1: target.name: is missing; give each target a name`},
		{target("url = \"https://a.example/\"\n" + target("url = \"https://b.example/\"")), `5: target.name: another target has the name "ops" already; give each its own`},
		{"[[target]]\nname = \"a\\nb\"\nurl = \"https://a.example/\"", `2: target.name = "a\U0000000Ab": must be a name of letters, digits, spaces, -, _ and ., such as "ops"`},
		{target(""), `1: target.url: is missing; write mailto:ADDRESS, https://… or a URL of shoutrrr, or name a file with it as url_file`},
		{target("url = \"mailto:a@example.com\""), `3: target.url: needs a mail server; set mail.server and mail.from`},
		{mail + target("url = \"mailto:s3cret\""), `7: target.url: must hold mail addresses after mailto:, with commas between them`},
		{target("url = \"http://hooks.example.com/s3cret\""), `3: target.url: would be sent in plain text over the network; write https://, or set private = true`},
		{target("url = \"https://user:s3cret@hooks.example.com/\""), `3: target.url: must not hold a user and password; sign with secret instead`},
		{target("url = \"slack://s3cret\""), `3: target.url: is not what shoutrrr wants for slack; its documentation has examples`},
		{target("url = \"smtp://user:s3cret@host/?from=a@b\""), `3: target.url: is of a kind that is not used here; write mailto:ADDRESS, and give the server in [mail]`},
		{target("url = \"ntfy://ntfy.example.com/s3cret\"\nsecret = \"s3cret\""), `4: target.secret: has no use but for webhooks; remove it`},
		{target("url = \"https://a.example/\"\nrules = [\"record_broken\"]"), `4: target.rules = [record_broken]: must be rules; "record_broken" is none; did you mean record_broke?`},
		{target("url = \"https://a.example/\"\nprivat = true"), `4: target.privat: is no setting; did you mean private?`},
		{"[target]\nname = \"a\"", `1: target: must be a table in two brackets, [[target]], as there can be several`},
		{"[mail]\nserver = \"smtps://a:s3cret@mail.example.com\"", `2: mail.server: must not hold the password; give it as password_file, password or DMARCD_MAIL_PASSWORD_FILE`},
		{"[mail]\nserver = \"smtp://mail.example.com\"", ` mail.from (DMARCD_MAIL_FROM): is missing; name the address that mail is sent from`},
		{"[mail]\nserver = \"smtp://a@mail.example.com\"\npassword = \"s3cret\"\nfrom = \"a@example.com\"", `2: mail.server (DMARCD_MAIL_SERVER): smtp:// sends the password in plain text over the network; write smtps:// or smtp+starttls://`},
		{"[mail]\nserver = \"smtps://a@mail.example.com\"\nfrom = \"a@example.com\"", `2: mail.server (DMARCD_MAIL_SERVER): names a user, but there is no password; give mail.password_file or mail.password`},
		{"[mail]\nfrom = \"a@example.com\"", ` mail.server (DMARCD_MAIL_SERVER): is missing; write it as "smtps://user@host", "smtp+starttls://user@host" or "smtp://host"`},
		{mail + "[digest]\nevery = \"weekly\"\nto = [\"a@example.com\"]\nat = \"06:30\"\nzone = \"Europe/Berlin\"\nweekday = \"friday\"", ""},
		{mail + "[digest]\nevery = \"daily\"", ` digest.to (DMARCD_DIGEST_TO): is missing; name the addresses that digests are sent to`},
		{"[digest]\nevery = \"daily\"\nto = [\"a@example.com\"]", `2: digest.every (DMARCD_DIGEST_EVERY): needs a mail server; set mail.server and mail.from`},
		{mail + "[digest]\nto = [\"a@example.com\"]", `6: digest.to (DMARCD_DIGEST_TO): has no use without digest.every; set that to daily or weekly, or remove to`},
		{"[digest]\nevery = \"hourly\"\nat = \"7\"\nzone = \"Berlin\"\nweekday = \"Monday\"", `4 mistakes in the configuration:
  dmarcd.toml:2: digest.every = "hourly": must be one of "", "daily", "weekly"
  dmarcd.toml:3: digest.at = "7": must be a time of day, such as "07:00"
  dmarcd.toml:4: digest.zone = "Berlin": is no time zone that is known; write it as "Europe/Berlin"
  dmarcd.toml:5: digest.weekday = "Monday": must be one of "sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"; did you mean monday?`},
		{"[notify]\npass_rate = \"yes\"\npass_rate_drop = 0\nlink = \"dmarc.example.com\"", `3 mistakes in the configuration:
  dmarcd.toml:2: notify.pass_rate = "yes": must be true or false, without quotes
  dmarcd.toml:3: notify.pass_rate_drop = 0: must be at least 1
  dmarcd.toml:4: notify.link = "dmarc.example.com": must be an address such as "https://dmarc.example.com/"`},
	} {
		got := mistakes(t, c.file)
		got = strings.TrimPrefix(strings.TrimPrefix(got, "a mistake in the configuration:\n  "), "dmarcd.toml:")
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.file, got, c.want)
		}
		if strings.Contains(got, "s3cret") {
			t.Errorf("the secret is shown: %s", got)
		}
	}
}

func TestTheConfigurationIsPrintedWithoutSecretsOfTargets(t *testing.T) {
	path := writeFile(t, "dmarcd.toml", "[mail]\nserver = \"smtps://a@mail.example.com\"\npassword = \"s3cret\"\nfrom = \"dmarcd@example.com\"\n"+
		"[[target]]\nname = \"ops\"\nurl = \"https://hooks.example.com/s3cret\"\nsecret = \"s3cret\"\n")
	got := world{vars: []string{"DMARCD_DATA_DIR=" + t.TempDir()}}.run(t, "config", "--config", path)
	if got.status != exitDone || strings.Contains(got.stdout, "s3cret") || !strings.Contains(got.stdout, "\n[[target]]\nname = \"ops\" # file "+path+":6\nurl = \"(hidden)\"") {
		t.Errorf("%+v", got)
	}
	env := newEnviron(nil, nil, os.Stderr, []string{"XDG_STATE_HOME=" + t.TempDir()})
	cfg, err := env.loadConfig(path, everything)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{cfg, *cfg, cfg.Targets[0], *cfg.Targets[0], cfg.Mail} {
		if text := fmt.Sprintf("%v %+v %#v %d", v, v, v, v); strings.Contains(text, "s3cret") {
			t.Errorf("printed: %s", text)
		}
	}
}
