package sample

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// oddMails are what a mailbox of reports gets besides reports that can be
// read. They are spread over the days of a mailbox.
var oddMails = []struct {
	expect dmarc.Outcome
	write  func(w *writer, at time.Time) []byte
}{
	{dmarc.OutcomeNotAReport, newsletter},
	{dmarc.OutcomeCorruptArchive, brokenOffGzip},
	{dmarc.OutcomeNotAReport, autoReply},
	{dmarc.OutcomeEmptyReport, unusedGzip},
	{dmarc.OutcomeNotAReport, newsletter},
	{dmarc.OutcomeUnsupported, encryptedZip},
	{dmarc.OutcomeBadXML, brokenOffXML},
	{dmarc.OutcomeNotAReport, bounce},
	{dmarc.OutcomeHostileXML, entities},
	{dmarc.OutcomeNotAReport, newsletter},
	{dmarc.OutcomeUnsupported, outlookMessage},
	{dmarc.OutcomeBadJSON, brokenOffJSON},
	{dmarc.OutcomeComplaint, complaint},
	{dmarc.OutcomeBomb, bomb},
	{dmarc.OutcomeNotAReport, autoReply},
}

// oddMail returns the deliveries of odd mail on a day.
func (w *writer) oddMail(day time.Time) []delivery {
	var ds []delivery
	span := w.opts.Now.Sub(w.scene.first)
	for i, odd := range oddMails {
		at := w.scene.first.Add(span * time.Duration(i+1) / time.Duration(len(oddMails)+1)).Truncate(time.Second)
		if at.Before(day) || !at.Before(day.Add(aDay)) {
			continue
		}
		ds = append(ds, delivery{at, func() (Mail, bool) { return Mail{Raw: odd.write(w, at), Expect: odd.expect}, true }})
	}
	return ds
}

// attached writes a mail with one attachment.
func (w *writer) attached(at time.Time, from, subject, mediaType, file string, payload []byte) []byte {
	h := heading{from: from, name: from, subject: subject, at: at, key: seed(w.opts.Seed, subject, at.Format(time.DateTime))}
	b := h.write(nil)
	b = fmt.Appendf(b, "Content-Type: multipart/mixed; boundary=\"=_odd\"\r\n\r\n--=_odd\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nThe report is attached.\r\n\r\n"+
		"--=_odd\r\nContent-Type: %s; name=\"%s\"\r\nContent-Disposition: attachment; filename=\"%s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n", mediaType, file, file)
	b = appendBase64(b, payload, 0)
	return append(b, "\r\n--=_odd--\r\n"...)
}

// fileName returns the name of a report about the day before.
func fileName(submitter string, at time.Time, suffix string) string {
	end := at.Truncate(aDay)
	return fmt.Sprintf("%s!acme.example!%d!%d%s", submitter, end.Add(-aDay).Unix(), end.Unix(), suffix)
}

const (
	millSubject = "Report Domain: acme.example Submitter: mill.example Report-ID: <mill-7>"
	millXML     = `<?xml version="1.0"?>
<feedback>
  <report_metadata>
    <org_name>mill.example</org_name><email>postmaster@mill.example</email><report_id>mill-7</report_id>
    <date_range><begin>1700000000</begin><end>1700086400</end></date_range>
  </report_metadata>
  <policy_published><domain>acme.example</domain><p>none</p></policy_published>
  <record>
    <row>
      <source_ip>192.0.2.10</source_ip><count>4</count>
      <policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>pass</spf></policy_evaluated>
    </row>
    <identifiers><header_from>acme.example</header_from></identifiers>
    <auth_results><spf><domain>acme.example</domain><result>pass</result></spf></auth_results>
  </record>
</feedback>
`
)

func brokenOffGzip(w *writer, at time.Time) []byte {
	packed := w.gzip([]byte(millXML))
	return w.attached(at, "postmaster@mill.example", millSubject, "application/gzip", fileName("mill.example", at, ".xml.gz"), packed[:len(packed)/2])
}

func brokenOffXML(w *writer, at time.Time) []byte {
	text := millXML[:strings.Index(millXML, "<identifiers>")]
	return w.attached(at, "postmaster@mill.example", millSubject, "application/gzip", fileName("mill.example", at, ".xml.gz"), w.gzip([]byte(text)))
}

// unusedGzip is what Yahoo sent in the place of reports in May 2023.
func unusedGzip(w *writer, at time.Time) []byte {
	return w.attached(at, "dmarchelp@yahooinc.com", "Report Domain: acme.example Submitter: yahoo.com Report-ID: <unused>",
		"application/gzip", fileName("yahoo.com", at, ".xml.gz"), w.gzip([]byte("unused")))
}

// entities is the attack of a billion laughs.
func entities(w *writer, at time.Time) []byte {
	var b bytes.Buffer
	b.WriteString("<?xml version=\"1.0\"?>\n<!DOCTYPE feedback [\n  <!ENTITY a0 \"report\">\n")
	for i := range 9 {
		fmt.Fprintf(&b, "  <!ENTITY a%d \"%s\">\n", i+1, strings.Repeat(fmt.Sprintf("&a%d;", i), 10))
	}
	b.WriteString("]>\n")
	b.WriteString(strings.Replace(strings.TrimPrefix(millXML, "<?xml version=\"1.0\"?>\n"), "mill-7", "&a9;", 1))
	return w.attached(at, "reports@grinder.example", "Report Domain: acme.example Submitter: grinder.example Report-ID: <laugh>",
		"text/xml", fileName("grinder.example", at, ".xml"), b.Bytes())
}

// bomb is 16 MiB of blanks in some KiB.
func bomb(w *writer, at time.Time) []byte {
	text := append([]byte(`<?xml version="1.0"?><feedback>`), bytes.Repeat([]byte(" "), 16<<20)...)
	return w.attached(at, "reports@grinder.example", "Report Domain: acme.example Submitter: grinder.example Report-ID: <large>",
		"application/gzip", fileName("grinder.example", at, ".xml.gz"), w.gzip(text))
}

// encryptedZip is an archive with bit 0 set in its header and directory.
func encryptedZip(w *writer, at time.Time) []byte {
	packed := bytes.Clone(w.zip("report.xml", at, []byte(millXML)))
	packed[6] |= 1
	packed[bytes.LastIndex(packed, []byte("PK\x01\x02"))+8] |= 1
	return w.attached(at, "reports@vault.example", "Report Domain: acme.example Submitter: vault.example Report-ID: <v-1>",
		"application/zip", fileName("vault.example", at, ".zip"), packed)
}

// outlookMessage is a mail that was forwarded as an Outlook message.
func outlookMessage(w *writer, at time.Time) []byte {
	file := make([]byte, 1536)
	copy(file, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	return w.attached(at, "helpdesk@acme.example", "FW: Report domain: acme.example Submitter: google.com", "application/vnd.ms-outlook", "Report domain.msg", file)
}

func brokenOffJSON(w *writer, at time.Time) []byte {
	text := `{"organization-name": "mill.example", "date-range": {"start-datetime": "` + at.Truncate(aDay).Format(time.RFC3339)
	return w.attached(at, "tls@mill.example", "Report Domain: acme.example Submitter: mill.example Report-ID: <tls-1>",
		"application/tlsrpt+json", fileName("mill.example", at, ".json"), []byte(text))
}

func newsletter(w *writer, at time.Time) []byte {
	h := heading{from: "news@bulk-offers.example", name: "Deals of the Week", subject: "Ten offers you have waited for", at: at,
		key: seed(w.opts.Seed, "newsletter", at.Format(time.DateTime)), more: "List-Unsubscribe: <https://bulk-offers.example/leave>\r\nPrecedence: bulk\r\n"}
	b := h.write(nil)
	return append(b, "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"+
		"<!DOCTYPE html><html><head><title>Offers</title></head><body><h1>Ten offers</h1><p>Everything must go, and most of it has gone.</p></body></html>\r\n"...)
}

func autoReply(w *writer, at time.Time) []byte {
	h := heading{from: "abuse@brook.example", name: "brook.example Abuse Desk", subject: "Automatic reply: Report Domain: brook.example", at: at,
		key: seed(w.opts.Seed, "reply", at.Format(time.DateTime)), more: "Auto-Submitted: auto-replied\r\n"}
	b := h.write(nil)
	return append(b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nThank you for your message. We read everything, and answer some of it.\r\n"...)
}

// bounce tells that a report of our own could not be delivered.
func bounce(w *writer, at time.Time) []byte {
	h := heading{from: "mailer-daemon@mill.example", name: "Mail Delivery System", subject: "Undelivered Mail Returned to Sender", at: at,
		key: seed(w.opts.Seed, "bounce", at.Format(time.DateTime)), more: "Auto-Submitted: auto-replied\r\n"}
	b := h.write(nil)
	return append(b, "Content-Type: multipart/report; report-type=delivery-status; boundary=\"=_dsn\"\r\n\r\n"+
		"--=_dsn\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nYour message could not be delivered.\r\n\r\n"+
		"--=_dsn\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.mill.example\r\n\r\nFinal-Recipient: rfc822; reports@mill.example\r\nAction: failed\r\nStatus: 5.2.2\r\nDiagnostic-Code: smtp; 552 5.2.2 mailbox full\r\n\r\n"+
		"--=_dsn\r\nContent-Type: text/rfc822-headers\r\n\r\nFrom: <dmarc-reports@acme.example>\r\nTo: <reports@mill.example>\r\nSubject: Report Domain: mill.example Submitter: acme.example\r\n\r\n--=_dsn--\r\n"...)
}

// complaint is feedback about abuse, not about DMARC.
func complaint(w *writer, at time.Time) []byte {
	h := heading{from: "feedback@lakeside.example", name: "Lakeside Feedback", subject: "Abuse report for 192.0.2.11", at: at,
		key: seed(w.opts.Seed, "complaint", at.Format(time.DateTime))}
	b := h.write(nil)
	return append(b, "Content-Type: multipart/report; report-type=feedback-report; boundary=\"=_fbl\"\r\n\r\n"+
		"--=_fbl\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nA customer has marked a message as spam.\r\n\r\n"+
		"--=_fbl\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: lakeside-fbl/1\r\nVersion: 1\r\nSource-IP: 192.0.2.11\r\n\r\n"+
		"--=_fbl\r\nContent-Type: message/rfc822\r\n\r\nFrom: <news@acme.example>\r\nTo: <somebody@lakeside.example>\r\nSubject: Spring sale\r\nMessage-ID: <spring@acme.example>\r\n\r\nBuy now.\r\n\r\n--=_fbl--\r\n"...)
}
