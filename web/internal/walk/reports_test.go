package walk

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// planted is what a stranger writes into a field: markup, text that turns the
// direction of writing, and characters that are none. Its begin names the field.
func planted(field string) string {
	return `<b id=p>` + field + `</b>` + "\u202e\u2066\u200f\x07\x1b[31m\u009b\u0000" + `"'><script>alert(1)</script><img src=x onerror=alert(2)>{{.}}</title></script>`
}

// inXML is such a text as a reporter without scruples writes it: markup is
// escaped, and characters that XML does not allow are not.
func inXML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "\x00", "").Replace(s)
}

const (
	owner = "acme.example"
	odd   = "odd.example" // of whom strangers write
)

// reports writes two months of mail of a domain with all that pages show, and
// one report of each kind in whose every field a stranger planted something.
func reports(t *testing.T, dir string, now time.Time) {
	t.Helper()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	today := now.UTC().Truncate(24 * time.Hour)
	for ago := 60; ago > 0; ago-- {
		day := today.AddDate(0, 0, -ago)
		for _, reporter := range []string{"alpha.test", "beta.test", "gamma.test"} {
			if reporter == "gamma.test" && ago < 20 {
				continue // it went silent
			}
			policy := "none"
			if ago < 25 {
				policy = "quarantine"
			}
			var b strings.Builder
			row := func(ip string, n int, dkim, spf bool, disposition, from, d, mailFrom string) {
				word := map[bool]string{true: "pass", false: "fail"}
				sig := ""
				if d != "" {
					sig = "<dkim><domain>" + d + "</domain><selector>k1</selector><result>pass</result></dkim>"
				}
				fmt.Fprintf(&b, `<record><row><source_ip>%s</source_ip><count>%d</count><policy_evaluated><disposition>%s</disposition><dkim>%s</dkim><spf>%s</spf></policy_evaluated></row>
<identifiers><header_from>%s</header_from></identifiers><auth_results>%s<spf><domain>%s</domain><result>%s</result></spf></auth_results></record>`+"\n",
					ip, n, disposition, word[dkim], word[spf], from, sig, mailFrom, map[bool]string{true: "pass", false: map[bool]string{true: "fail", false: "pass"}[mailFrom == owner]}[spf])
			}
			held := policy
			row("192.0.2.1", 200+ago, true, true, "none", owner, owner, owner)
			row("192.0.2.2", 40, false, true, "none", owner, "", owner)
			if ago > 8 {
				row("203.0.113.5", 90, true, false, "none", owner, owner, "bounce.news.example")
			} else {
				row("203.0.113.5", 90, false, false, held, owner, "news.example", "bounce.news.example")
			}
			row("203.0.113.6", 30, true, false, "none", "shop."+owner, owner, "bounce.news.example")
			row("198.51.100.7", 7, true, false, "none", owner, owner, "list.example")
			for i := range 8 {
				row(fmt.Sprintf("198.51.100.%d", 100+i), 1+i, false, false, held, owner, "", owner)
			}
			write(fmt.Sprintf("%s-%03d.xml", reporter, ago), fmt.Sprintf(`<feedback><report_metadata><org_name>%s</org_name><email>dmarc@%s</email><report_id>%d</report_id>
<date_range><begin>%d</begin><end>%d</end></date_range></report_metadata>
<policy_published><domain>%s</domain><adkim>r</adkim><aspf>r</aspf><p>%s</p></policy_published>
%s</feedback>`, reporter, reporter, ago, day.Unix(), day.Unix()+86399, owner, policy, b.String()))
		}
	}
	p := func(field string) string { return inXML(planted(field)) }
	for i, domain := range []string{odd, owner} {
		day := today.AddDate(0, 0, -2)
		write(fmt.Sprintf("hostile-%d.xml", i), fmt.Sprintf(`<feedback><version>%s</version><report_metadata><org_name>%s</org_name><email>%s</email><extra_contact_info>%s</extra_contact_info><report_id>%s</report_id>
<date_range><begin>%d</begin><end>%d</end></date_range><error>%s</error><generator>%s</generator></report_metadata>
<policy_published><domain>%s</domain><adkim>%s</adkim><aspf>%s</aspf><p>none</p><sp>%s</sp><fo>%s</fo><discovery_method>%s</discovery_method></policy_published>
<record><row><source_ip>192.0.2.66</source_ip><count>9000</count><policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>fail</spf><reason><type>%s</type><comment>%s</comment></reason></policy_evaluated></row>
<identifiers><header_from>%s</header_from><envelope_from>%s</envelope_from><envelope_to>%s</envelope_to></identifiers>
<auth_results><dkim><domain>%s</domain><selector>%s</selector><result>pass</result><human_result>%s</human_result></dkim>
<spf><domain>%s</domain><scope>mfrom</scope><result>pass</result><human_result>%s</human_result></spf></auth_results></record>
<record><row><source_ip>%s</source_ip><count>5</count><policy_evaluated><disposition>%s</disposition><dkim>pass</dkim><spf>%s</spf></policy_evaluated></row>
<identifiers><header_from>%s</header_from></identifiers><auth_results/></record></feedback>`,
			p("version"), p("org"), p("email"), p("contact"), p("id"), day.Unix(), day.Unix()+86399, p("error"), p("generator"),
			domain, p("adkim"), p("aspf"), p("sp"), p("fo"), p("discovery"), p("reason"), p("comment"), domain, p("from"), p("to"),
			p("signer"), p("key"), p("dkimhuman"), p("spfdomain"), p("spfhuman"), p("ip"), p("disposition"), p("spf"), p("author")+"."+domain))
	}

	quoted := func(field string) string {
		b, err := json.Marshal(planted(field))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	write("hostile.json", fmt.Sprintf(`{"organization-name": %s, "date-range": {"start-datetime": "%s", "end-datetime": "%s"}, "contact-info": %s, "report-id": %s,
"policies": [{"policy": {"policy-type": "sts", "policy-string": [%s], "policy-domain": "%s", "mx-host": [%s]}, "summary": {"total-successful-session-count": 41, "total-failure-session-count": 2},
"failure-details": [{"result-type": "certificate-expired", "sending-mta-ip": "192.0.2.9", "receiving-mx-hostname": %s, "receiving-mx-helo": %s, "receiving-ip": %s, "failure-reason-code": %s, "additional-information": %s, "failed-session-count": 1},
{"result-type": %s, "failed-session-count": 1}]}]}`,
		quoted("tlsorg"), today.AddDate(0, 0, -2).Format(time.RFC3339), today.AddDate(0, 0, -1).Add(-time.Second).Format(time.RFC3339), quoted("tlscontact"), quoted("tlsid"),
		quoted("tlspolicy"), owner, quoted("tlsmx"), quoted("tlshost"), quoted("tlshelo"), quoted("tlsip"), quoted("tlsreason"), quoted("tlsmore"), quoted("tlsresult")))

	// Headers hold no line breaks and no NUL; the rest may stand in them.
	h := func(field string) string { return strings.ReplaceAll(planted(field), "\x00", "") }
	write("hostile.eml", strings.ReplaceAll(fmt.Sprintf(`From: %s <x@receiver.example>
To: ruf@%s
Subject: %s
Date: %s
Message-ID: <%s@receiver.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain; name="%s"

%s
--b
Content-Type: message/feedback-report

Feedback-Type: auth-failure
User-Agent: %s
Version: 1
Auth-Failure: dmarc
Arrival-Date: %s
Source-IP: 198.51.100.7
Reported-Domain: %s
Original-Mail-From: %s
Original-Rcpt-To: %s
Authentication-Results: %s
DKIM-Domain: %s
DKIM-Identity: %s
DKIM-Selector: %s
SPF-DNS: %s
Delivery-Result: reject
Identity-Alignment: %s

--b
Content-Type: text/rfc822-headers

From: %s <boss@%s>
Subject: %s
Date: %s
Message-ID: <%s@attacker.example>
--b--
`, h("mailfrom"), owner, h("subject"), now.AddDate(0, 0, -2).Format(time.RFC1123Z), h("mailid"), h("name"), h("text"), h("agent"), now.AddDate(0, 0, -2).Format(time.RFC1123Z), owner,
		h("fmailfrom"), h("frcpt"), h("fresults"), h("fdomain"), h("fidentity"), h("fselector"), h("fspf"), h("falignment"), h("ffrom"), owner, h("fsubject"), now.AddDate(0, 0, -2).Format(time.RFC1123Z), h("fid")), "\n", "\r\n"))
	write("broken.eml", "From: "+h("brokenfrom")+"\r\nSubject: "+h("brokensubject")+"\r\nContent-Type: text/xml; name=\""+h("brokenname")+"\"\r\n\r\n<feedback><report_metadata><org_name>x</"+h("brokentag")+"\r\n")
	if err := xml.Unmarshal([]byte("<a>"+strings.NewReplacer("\x07", "", "\x1b", "", "\u009b", "").Replace(p("x"))+"</a>"), new(string)); err != nil {
		t.Fatalf("the planted text is no XML beside its characters: %v", err)
	}
}
