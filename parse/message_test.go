package parse

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dmarcd/dmarcd/dmarc"
)

// report is an aggregate report with an id of its own.
func report(id string) string {
	return `<?xml version="1.0" encoding="UTF-8" ?>
<feedback>
  <report_metadata>
    <org_name>Reporter</org_name>
    <email>noreply@reporter.example</email>
    <report_id>` + id + `</report_id>
    <date_range><begin>1704067200</begin><end>1704153599</end></date_range>
  </report_metadata>
  <policy_published><domain>example.com</domain><adkim>r</adkim><aspf>r</aspf><p>none</p><sp>none</sp><pct>100</pct><fo>0</fo></policy_published>
  <record>
    <row>
      <source_ip>192.0.2.1</source_ip>
      <count>2</count>
      <policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated>
    </row>
    <identifiers><header_from>example.com</header_from><envelope_from>example.com</envelope_from></identifiers>
    <auth_results>
      <dkim><domain>example.com</domain><selector>s1</selector><result>pass</result></dkim>
      <spf><domain>example.com</domain><scope>mfrom</scope><result>fail</result></spf>
    </auth_results>
  </record>
</feedback>
`
}

const tlsReport = `{"organization-name":"Reporter","date-range":{"start-datetime":"2024-01-01T00:00:00Z","end-datetime":"2024-01-01T23:59:59Z"},
"contact-info":"tls@reporter.example","report-id":"t1","policies":[{"policy":{"policy-type":"sts","policy-string":["version: STSv1"],
"policy-domain":"example.com","mx-host":["mx.example.com"]},"summary":{"total-successful-session-count":3,"total-failure-session-count":0}}]}`

func gzipped(t testing.TB, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zlibbed(t testing.TB, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// zipped makes an archive of names and contents in turn.
func zipped(t testing.TB, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		f, err := w.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if files[i+1] == "" {
			continue
		}
		if _, err := f.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func stored(t testing.TB, name, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func tarred(t testing.TB, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o600, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// encoded is base64 in lines of 76.
func encoded(content string) string {
	text := base64.StdEncoding.EncodeToString([]byte(content))
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	return b.String() + text + "\n"
}

// attached is a part in base64.
func attached(typ, content string) string {
	return "Content-Type: " + typ + "\nContent-Transfer-Encoding: base64\n\n" + encoded(content)
}

const (
	plain     = "Content-Type: text/plain\n\nSee the attachment.\n"
	envelope  = "From: Reporter <noreply@reporter.example>\nTo: rua@example.com\nSubject: Report Domain: example.com Submitter: reporter.example Report-ID: 1\nDate: Tue, 02 Jan 2024 03:04:05 +0000\nMessage-ID: <1@reporter.example>\nMIME-Version: 1.0\n"
	octets    = "application/octet-stream"
	gzipType  = "application/gzip"
	reportXML = "report.xml"
)

// mixed is a mail of several parts.
func mixed(parts ...string) string { return multi("multipart/mixed", "=_b1", parts...) }

func multi(typ, boundary string, parts ...string) string {
	return envelope + multipart(typ, boundary, parts...)
}

// multipart is the fields and the body of a multipart.
func multipart(typ, boundary string, parts ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: %s; boundary=%q\n\nThis is a message in MIME format.\n", typ, boundary)
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\n%s\n", boundary, p)
	}
	fmt.Fprintf(&b, "--%s--\n", boundary)
	return b.String()
}

// summary tells in a line each what was found.
func summary(f *Found) []string {
	var lines []string
	for _, p := range f.Parts {
		line := fmt.Sprintf("%s: ", p.Path)
		switch {
		case p.Aggregate != nil:
			line += fmt.Sprintf("aggregate %s %d %v", p.Aggregate.ID, p.Aggregate.Tally.Messages, p.Aggregate.Flags.Names())
		case p.Failure != nil:
			line += fmt.Sprintf("failure %s %s %v", p.Failure.ReportedDomain, p.Failure.SourceIP, p.Failure.Flags.Names())
		case p.TLS != nil:
			ok, failed := p.TLS.Sessions()
			line += fmt.Sprintf("tls %s %d/%d %v", p.TLS.ID, ok, failed, p.TLS.Flags.Names())
		default:
			line += fmt.Sprintf("%s: %s", p.Outcome, p.Reason)
		}
		lines = append(lines, line)
	}
	if len(f.Parts) == 0 {
		lines = append(lines, fmt.Sprintf("%s: %s", f.Outcome, f.Reason))
	}
	return lines
}

// read reads a message in memory and lets it go at the end of the test.
func read(t testing.TB, raw, name string, limits Limits) *Found {
	t.Helper()
	found, err := Message(context.Background(), bytes.NewReader([]byte(raw)), name, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := found.Close(); err != nil {
			t.Error(err)
		}
	})
	return found
}

func check(t *testing.T, found *Found, want ...string) {
	t.Helper()
	if got := summary(found); !slices.Equal(got, want) {
		t.Errorf("found\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestMailIsReadHoweverItIsBuilt(t *testing.T) {
	xml := report("1")
	gz, zp := gzipped(t, xml), zipped(t, "reporter.example!example.com!1704067200!1704153599.xml", xml)
	qp := strings.ReplaceAll(strings.ReplaceAll(xml, "=", "=3D"), "<row>", "<r=\now>")
	for name, test := range map[string]struct{ raw, want string }{
		"the whole mail is a zip": {
			envelope + attached("application/zip; name=r.zip", zp), "1/reporter.example!example.com!1704067200!1704153599.xml: aggregate 1 2 []"},
		"HTML and a part without type before the attachment": {
			mixed("Content-Type: text/html\n\n<html><body><feedback>no</feedback></body></html>", "\nno type\n", attached(gzipType, gz)), "3: aggregate 1 2 []"},
		"encoded words in the subject":   {strings.Replace(mixed(attached(gzipType, gz)), "Report Domain:", "[Preview] =?utf-8?B?UmVwb3J0IERvbWFpbjo=?=", 1), "1: aggregate 1 2 []"},
		"octet-stream and unquoted name": {mixed(plain, attached(octets+"; name=a b.xml.gz", gz)), "2: aggregate 1 2 []"},
		"a name in pieces":               {mixed(attached(gzipType+`; name*0="report.xm"; name*1="l.gz"`, gz)), "1: aggregate 1 2 []"},
		"application/x-gzip":             {mixed(attached("application/x-gzip; name=r.xml.gz", gz)), "1: aggregate 1 2 []"},
		"application/x-zip-compressed":   {mixed(attached("application/x-zip-compressed", zp)), "1/reporter.example!example.com!1704067200!1704153599.xml: aggregate 1 2 []"},
		"gzip declared as zip":           {mixed(attached("application/zip", gz)), "1: aggregate 1 2 [mislabelled]"},
		"gzip in a file named zip":       {mixed(attached(octets+"; name=r.zip", gz)), "1: aggregate 1 2 [mislabelled]"},
		"gzip declared as text":          {mixed(attached("text/plain", gz)), "1: aggregate 1 2 [mislabelled]"},
		"plain XML":                      {mixed(plain, "Content-Type: text/xml\n\n"+xml), "2: aggregate 1 2 []"},
		"plain XML as octet-stream":      {mixed(plain, attached(octets, xml)), "2: aggregate 1 2 []"},
		"XML as a part without type":     {mixed(plain, "\n"+xml), "2: aggregate 1 2 []"},
		"XML as quoted-printable":        {mixed(plain, "Content-Type: text/xml\nContent-Transfer-Encoding: Quoted-Printable\n\n"+qp), "2: aggregate 1 2 []"},
		"XML labelled as base64":         {mixed(plain, "Content-Type: text/xml\nContent-Transfer-Encoding: base64\n\n"+xml), "2: aggregate 1 2 []"},
		"multipart/alternative":          {multi("multipart/alternative", "x", plain, "Content-Type: text/xml\n\n"+xml), "2: aggregate 1 2 []"},
		"base64 in one line":             {mixed("Content-Type: " + gzipType + "\nContent-Transfer-Encoding: BASE64\n\n" + base64.StdEncoding.EncodeToString([]byte(gz))), "1: aggregate 1 2 []"},
		"base64 without padding":         {mixed("Content-Type: " + gzipType + "\nContent-Transfer-Encoding: base64\n\n" + base64.RawStdEncoding.EncodeToString([]byte(gzipped(t, xml)))), "1: aggregate 1 2 []"},
		"base64 that nothing declares":   {mixed("Content-Type: " + gzipType + "\n\n" + encoded(gz)), "1: aggregate 1 2 []"},
		"base64 in base64":               {mixed(attached(gzipType, encoded(gz))), "1: aggregate 1 2 []"},
		"ContentType without a hyphen":   {mixed("ContentType: application/gzip; name=r.xml.gz\nContentTransferEncoding: base64\n\n" + encoded(gz)), "1: aggregate 1 2 []"},
		"CRLF after the gzip data":       {mixed(attached(gzipType, gz+"\r\n")), "1: aggregate 1 2 [trailing_data]"},
		"gzip in gzip":                   {mixed(attached(gzipType, gzipped(t, gz))), "1: aggregate 1 2 [nested_compression]"},
		"gzip in zip":                    {mixed(attached("application/zip", zipped(t, "r.xml.gz", gz))), "1/r.xml.gz: aggregate 1 2 [nested_compression]"},
		"a folder in the zip":            {mixed(attached("application/zip", zipped(t, "a/", "", "a/b/r.xml", xml))), "1/r.xml: aggregate 1 2 []"},
		"what macOS adds to a zip":       {mixed(attached("application/zip", zipped(t, "__MACOSX/._r.xml", "x", "r.xml", xml, "empty.xml", ""))), "1/r.xml: aggregate 1 2 []"},
		"a stored member":                {mixed(attached("application/zip", stored(t, "r.xml", xml))), "1/r.xml: aggregate 1 2 []"},
		"bytes after a zip":              {mixed(attached("application/zip", zp+"\r\n")), "1/reporter.example!example.com!1704067200!1704153599.xml: aggregate 1 2 [trailing_data]"},
		"zlib":                           {mixed(attached(octets, zlibbed(t, xml))), "1: aggregate 1 2 []"},
		"tar":                            {mixed(attached("application/x-tar", tarred(t, "d/r.xml", xml))), "1/r.xml: aggregate 1 2 []"},
		"tar in gzip":                    {mixed(attached(gzipType, gzipped(t, tarred(t, "r.xml", xml)))), "1/r.xml: aggregate 1 2 []"},
		"the attachment first":           {mixed(attached(gzipType, gz), "Content-Type: text/plain; charset=utf8\n\nScanned.\n"), "1: aggregate 1 2 []"},
		"parts renamed":                  {mixed(plain, attached("application/octet-stream; name=ATT00001", gz)), "2: aggregate 1 2 []"},
		"the word unused in gzip":        {mixed(attached(gzipType, gzipped(t, "unused"))), `1: empty_report: the packed file holds nothing but the word "unused"`},
		"nothing in gzip":                {mixed(attached(gzipType, gzipped(t, ""))), "1: empty_report: an empty file"},
		"no member in a zip":             {mixed(attached("application/zip", zipped(t))), "1: empty_report: a zip archive with nothing in it"},
		"an attachment without content":  {mixed(plain, "Content-Type: application/gzip\n\n"), "2: empty_report: an empty file"},
		"inline and without a name":      {mixed("Content-Type: application/gzip\nContent-Disposition: inline\nContent-Transfer-Encoding: base64\n\n" + encoded(gz)), "1: aggregate 1 2 []"},
		"signed by S/MIME":               {multi("multipart/signed; protocol=\"application/pkcs7-signature\"", "s", attached(gzipType, gz), attached("application/pkcs7-signature; name=smime.p7s", "\x30\x82\x01\x02abcdefgh")), "1: aggregate 1 2 []"},
		"multiparts in each other":       {mixed(plain, multipart("multipart/mixed", "=_b1_inner", plain, attached(gzipType, gz))), "2.2: aggregate 1 2 []"},
		"a mail in a mail":               {mixed(plain, "Content-Type: message/rfc822\n\n"+multi("multipart/mixed", "in", plain, attached(gzipType, gz))), "2.2: aggregate 1 2 []"},
		"the same boundary within":       {mixed(plain, "Content-Type: message/rfc822\n\n"+mixed(plain, attached(gzipType, gz))), "4: aggregate 1 2 []"},
		"a mail in a mail in base64":     {mixed(plain, attached("message/rfc822", multi("multipart/mixed", "in", plain, attached(gzipType, gz)))), "2.2: aggregate 1 2 []"},
		"a mail in an attached file":     {mixed(plain, attached(octets+"; name=report.eml", envelope+attached(gzipType, gz))), "2.1: aggregate 1 2 []"},
		"an mbox line before the header": {"From reporter@example Tue Jan  2 03:04:05 2024\n" + mixed(attached(gzipType, gz)), "1: aggregate 1 2 []"},
		"blank lines before the header":  {"\n\n" + mixed(attached(gzipType, gz)), "1: aggregate 1 2 []"},
		"CRLF":                           {strings.ReplaceAll(mixed(plain, attached(gzipType, gz)), "\n", "\r\n"), "2: aggregate 1 2 []"},
		"bare CR":                        {strings.ReplaceAll(mixed(plain, attached(gzipType, gz)), "\n", "\r"), "2: aggregate 1 2 []"},
		"CRCRLF":                         {strings.ReplaceAll(mixed(plain, attached(gzipType, gz)), "\n", "\r\r\n"), "2: aggregate 1 2 []"},
		"no boundary declared":           {strings.Replace(mixed(plain, attached(gzipType, gz)), "; boundary=\"=_b1\"", "", 1), "2: aggregate 1 2 []"},
		"another boundary declared":      {strings.Replace(mixed(plain, attached(gzipType, gz)), "boundary=\"=_b1\"", "boundary=other", 1), "2: aggregate 1 2 []"},
		"two boundaries declared":        {strings.Replace(mixed(plain, attached(gzipType, gz)), "boundary=", "boundary=\"first\"; boundary=", 1), "2: aggregate 1 2 []"},
		"an unquoted boundary":           {strings.Replace(mixed(plain, attached(gzipType, gz)), "boundary=\"=_b1\"", "boundary==_b1", 1), "2: aggregate 1 2 []"},
		"no last delimiter":              {strings.Replace(mixed(plain, attached(gzipType, gz)), "--=_b1--", "", 1), "2: aggregate 1 2 []"},
		"a part after the last":          {mixed(plain) + "--=_b1\n" + attached(gzipType, gz), "2: aggregate 1 2 []"},
		"a multipart nobody declared":    {envelope + "\n--x\n" + attached(gzipType, gz) + "--x--\n", "1: aggregate 1 2 []"},
		"two types declared":             {strings.Replace(mixed(plain, attached(gzipType, gz)), "Content-Type: multipart", "Content-Type: text/plain\nContent-Type: multipart", 1), "2: aggregate 1 2 []"},
		"junk among the fields":          {strings.Replace(mixed(attached(gzipType, gz)), "Subject:", "this is no field\nSubject:", 1), "1: aggregate 1 2 []"},
		"a continuation of nothing":      {mixed(" lost=\"words\"\n\tmore\n" + attached(gzipType, gz)), "1: aggregate 1 2 []"},
		"no blank line after the header": {envelope + "Content-Type: text/xml\n" + xml, "1: aggregate 1 2 []"},
		"an unknown charset":             {mixed("Content-Type: text/xml; charset=x-nobody-knows\nContent-Disposition: attachment; filename=\"=?x-nobody?Q?r.xml?=\"\n\n" + xml), "1: aggregate 1 2 []"},
		"UTF-8 with a mark":              {mixed(attached("text/xml", "\xef\xbb\xbf"+xml)), "1: aggregate 1 2 []"},
		"white space before gzip":        {mixed(attached(gzipType, "\r\n"+gz)), "1: aggregate 1 2 []"},
		"XML in HTML clothes":            {mixed(attached("text/html; name=r.html", xml)), "1: aggregate 1 2 [mislabelled]"},
		"an encrypted message":           {mixed(plain, attached("application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", "\x30\x80")), "2: unsupported_container: opaque S/MIME is not opened"},
		"winmail.dat":                    {mixed(plain, attached("application/ms-tnef", "\x78\x9f\x3e\x22rest")), "2: unsupported_container: a TNEF container (winmail.dat) is not opened"},
		"an Outlook message":             {mixed(plain, attached(octets+"; name=Report.MSG", magicOLE+"rest")), "2: unsupported_container: an Outlook message (.msg) is not opened; export it as .eml, or send the attachment itself"},
		"an Outlook message by content":  {mixed(plain, attached(octets, magicOLE+strings.Repeat(" ", 70_000)+"_\x00_\x00p\x00r\x00o\x00p\x00e\x00r\x00t\x00i\x00e\x00s\x00_\x00v\x00e\x00r\x00s\x00i\x00o\x00n\x001\x00.\x000\x00")), "2: unsupported_container: an Outlook message (.msg) is not opened; export it as .eml, or send the attachment itself"},
		"a document of Word":             {mixed(plain, attached(octets+"; name=a.doc", magicOLE+"rest")), "not_a_report: a document, no report"},
		"a RAR archive":                  {mixed(plain, attached(octets, "Rar!\x1a\x07\x00")), "2: unsupported_container: a RAR archive is not opened"},
		"gzip that breaks off":           {mixed(plain, attached(gzipType, gz[:len(gz)/2])), "2: corrupt_archive: the gzip data breaks off"},
		"gzip with a wrong checksum":     {mixed(plain, attached(gzipType, gz[:len(gz)-8]+"\x00\x00\x00\x00"+gz[len(gz)-4:])), "2: corrupt_archive: the gzip data cannot be unpacked: gzip: invalid checksum"},
		"a zip that breaks off":          {mixed(plain, attached("application/zip", zp[:len(zp)-30])), "2: corrupt_archive: the zip archive cannot be unpacked: zip: not a valid zip file"},
		"XML in a wrapper":               {mixed(plain, "Content-Type: text/xml\n\n<xs:schema a=\""+strings.Repeat("x", 9000)+"\">\n"+strings.TrimPrefix(xml, `<?xml version="1.0" encoding="UTF-8" ?>`)), "2: aggregate 1 2 [text_outside_root]"},
		"a letter in angle brackets":     {mixed("Content-Type: text/plain\n\n<feedback-team> your feedback> counts\n"), "not_a_report: no report in it"},
		"XML of something else":          {mixed(plain, "Content-Type: text/xml\n\n<rss><channel/></rss>"), "not_a_report: XML with the root <rss>, no report"},
		"JSON of something else":         {mixed(plain, "Content-Type: application/json\n\n{\"a\":1}"), "not_a_report: JSON, no report"},
		"a letter":                       {envelope + "\nDear all,\nhello.\n", "not_a_report: no report in it"},
		"a letter that begins with x^":   {mixed(plain, "Content-Type: text/plain\n\nx^2 is a square\n"), "not_a_report: no report in it"},
	} {
		t.Run(name, func(t *testing.T) { check(t, read(t, test.raw, "", DefaultLimits), test.want) })
	}
}

// The files are mails as they come from reporters, gateways and mail programs
// that do it their way.
func TestMailsAsTheyCome(t *testing.T) {
	for name, want := range map[string]string{
		"whole-zip.eml": "1/reporter.example!example.com!1704067200!1704153599.xml: aggregate whole 2 []",
		"rewrapped.eml": "2/reporter.example!example.com!1704067200!1704153599.xml: aggregate rewrapped 2 []",
		"typo.eml":      "1: aggregate typo 2 []",
		"pieces.eml":    "3: aggregate pieces 2 [trailing_data]",
		"cr-only.eml":   "2: aggregate cr 2 []",
	} {
		t.Run(name, func(t *testing.T) { check(t, read(t, file(t, "messages", name), name, DefaultLimits), want) })
	}
}

func TestEveryReportOfAMailIsRead(t *testing.T) {
	broken := gzipped(t, report("broken"))
	found := read(t, mixed(
		plain,
		attached(gzipType, gzipped(t, report("a"))),
		attached(gzipType, broken[:len(broken)/2]),
		attached("application/zip", zipped(t, "x/r.xml", report("b"), "y/r.xml", report("c"), "t.json", tlsReport)),
		"Content-Type: message/rfc822\n\n"+multi("multipart/mixed", "inner", plain, "Content-Type: text/xml\n\n"+report("d")),
		"Content-Type: application/tlsrpt+json\n\n"+tlsReport,
		attached(gzipType, gzipped(t, report("e"))+gzipped(t, report("f"))),
	), "", DefaultLimits)
	check(t, found,
		"2: aggregate a 2 []",
		"3: corrupt_archive: the gzip data breaks off",
		"4/r.xml: aggregate b 2 []",
		"4/r.xml (2): aggregate c 2 []",
		"4/t.json: tls t1 3/0 []",
		"5.2: aggregate d 2 []",
		"6: tls t1 3/0 []",
		"7: aggregate e 2 []",
		"7 (2): aggregate f 2 []",
	)
}

func TestAFileOfItsOwnIsRead(t *testing.T) {
	xml := report("1")
	for name, test := range map[string]struct{ file, raw, want string }{
		"XML":                    {"r.xml", xml, ": aggregate 1 2 []"},
		"XML after blanks":       {"r.xml", " \r\n\t\n" + xml, ": aggregate 1 2 []"},
		"XML after many blanks":  {"r.xml", strings.Repeat(" \n", 9000) + xml, ": aggregate 1 2 []"},
		"a mail after blanks":    {"r.eml", strings.Repeat(" \n", 9000) + mixed(attached(gzipType, gzipped(t, xml))), "1: aggregate 1 2 []"},
		"gzip":                   {"r.xml.gz", gzipped(t, xml), ": aggregate 1 2 []"},
		"gzip in two members":    {"r.xml.gz", gzipped(t, xml[:300]) + gzipped(t, xml[300:]), ": aggregate 1 2 []"},
		"a name that lies":       {"r.json", gzipped(t, xml), ": aggregate 1 2 [mislabelled]"},
		"zip":                    {"r.zip", zipped(t, "r.xml", xml), "r.xml: aggregate 1 2 []"},
		"zip behind a program":   {"r.zip", "PK00" + zipped(t, "r.xml", xml), "r.xml: aggregate 1 2 []"},
		"tar in gzip":            {"r.tgz", gzipped(t, tarred(t, "r.xml", xml)), "r.xml: aggregate 1 2 []"},
		"base64":                 {"r.b64", encoded(gzipped(t, xml)), ": aggregate 1 2 []"},
		"JSON":                   {"r.json", tlsReport, ": tls t1 3/0 []"},
		"JSON that is not gzip":  {"r.json.gz", tlsReport, ": tls t1 3/0 [mislabelled]"},
		"a field block":          {"arf", "Feedback-Type: auth-failure\nVersion: 1\nAuth-Failure: dmarc\nSource-IP: 192.0.2.1\nMessage-ID: <x@y>\nReported-Domain: example.com\n", ": failure example.com 192.0.2.1 []"},
		"a mail in a zip":        {"m.zip", zipped(t, "m.eml", mixed(plain, "Content-Type: text/xml\n\n"+xml)), "m.eml.2: aggregate 1 2 []"},
		"nothing":                {"x", "", "empty_report: an empty file"},
		"blanks":                 {"x", " \r\n ", "empty_report: an empty file"},
		"a word":                 {"x", "hello", "not_a_report: no report in it"},
		"zeros":                  {"x", strings.Repeat("\x00", 10_000), "not_a_report: no report in it"},
		"an Outlook message":     {"x.msg", magicOLE + "rest", ": unsupported_container: an Outlook message (.msg) is not opened; export it as .eml, or send the attachment itself"},
		"gzip of text":           {"x.gz", gzipped(t, "some text"), "not_a_report: a packed file without a report"},
		"zip of text":            {"x.zip", zipped(t, "x.txt", "some text"), "not_a_report: a packed file without a report"},
		"a header of gzip alone": {"x.gz", "\x1f\x8b\x08", ": corrupt_archive: the gzip data breaks off"},
	} {
		t.Run(name, func(t *testing.T) { check(t, read(t, test.raw, test.file, DefaultLimits), test.want) })
	}
}

func TestAMessageWithoutAReportSaysWhatItIs(t *testing.T) {
	head := "From: someone <someone@example.net>\nTo: rua@example.com\n"
	for name, test := range map[string]struct{ raw, want string }{
		"an automatic reply":   {head + "Auto-Submitted: auto-replied\nSubject: hello\n\nI am away.\n", "not_a_report: an automatic reply"},
		"an absence":           {head + "Subject: =?utf-8?Q?Out_of_office?=: Report\n\nI am away.\n", "not_a_report: an automatic reply"},
		"a bounce":             {multi("multipart/report; report-type=delivery-status", "b", plain, "Content-Type: message/delivery-status\n\nAction: failed\n", "Content-Type: message/rfc822\n\n"+mixed(plain, attached(gzipType, gzipped(t, report("1"))))), "not_a_report: a delivery status notification"},
		"a bounce as text":     {head + "X-Failed-Recipients: a@example.com\nSubject: Mail failed\n\nSorry.\n", "not_a_report: a delivery status notification"},
		"a receipt":            {multi("multipart/report; report-type=disposition-notification", "b", plain, "Content-Type: message/disposition-notification\n\nDisposition: displayed\n"), "not_a_report: a receipt"},
		"an unsubscription":    {head + "Subject: unsubscribe\nAuto-Submitted: auto-replied\n\nplease\n", "not_a_report: a request to unsubscribe"},
		"a complaint":          {head + "Subject: complaint about message from 192.0.2.1\n\nbad\n", "complaint: a complaint about a message, not a DMARC failure report"},
		"an abuse report":      {multi("multipart/report; report-type=feedback-report", "b", plain, "Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: x\nVersion: 1\n", "Content-Type: message/rfc822\n\n"+mixed(attached(gzipType, gzipped(t, report("1"))))), `2: complaint: feedback of the type "abuse", not a DMARC failure report`},
		"an abuse report else": {multi("multipart/mixed", "b", "Content-Type: message/rfc822\n\n"+mixed(attached(gzipType, gzipped(t, report("1")))), "Content-Type: text/plain\n\nFeedback-Type: abuse\nUser-Agent: x\nVersion: 1\n"), `2: complaint: feedback of the type "abuse", not a DMARC failure report`},
	} {
		t.Run(name, func(t *testing.T) { check(t, read(t, test.raw, "", DefaultLimits), test.want) })
	}
}

func TestTheEnvelopeIsReadableText(t *testing.T) {
	raw := "From: =?utf-8?Q?J=C3=BCrgen?= <j@example.net>\nSubject: a\n  folded\n\tsubject\x1b[31m\x07\nDate: Fri, May 09 2017 16:30:41 -0800 (PST)\nMessage-ID:  <x@example.net> \n\nhello\n"
	found := read(t, raw, "", DefaultLimits)
	got := []string{found.From, found.Subject, found.MessageID, found.Date.Format("2006-01-02T15:04:05Z07:00")}
	want := []string{"Jürgen <j@example.net>", "a folded subject[31m", "<x@example.net>", "2017-05-10T00:30:41Z"}
	if !slices.Equal(got, want) {
		t.Errorf("envelope %q, want %q", got, want)
	}
}

func TestACancelledContextIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	found, err := Message(ctx, bytes.NewReader([]byte(mixed(plain))), "", DefaultLimits)
	if found != nil || err != context.Canceled {
		t.Errorf("found %v, err %v, want nil and %v", found, err, context.Canceled)
	}
}

// An ending blob ends a context as it is read for the nth time.
type ending struct {
	dmarc.Blob
	reads *int
	end   func()
}

func (e ending) ReadAt(p []byte, off int64) (int, error) {
	if *e.reads--; *e.reads == 0 {
		e.end()
	}
	return e.Blob.ReadAt(p, off)
}

// A dmarcd that is told to stop says nothing of the message that it reads at that moment.
func TestWhoIsToldToStopBlamesNoMessage(t *testing.T) {
	told := errors.New("terminated signal received")
	for name, raw := range map[string]string{
		"mail": mixed(plain, plain), "bare": report("1"), "gzip": gzipped(t, report("1")), "zip": zipped(t, "r.xml", report("1")), "tar": gzipped(t, tarred(t, "r.xml", report("1"))),
		"gzip in a mail": mixed(plain, attached(octets, gzipped(t, report("1")))), "zip in a mail": mixed(plain, attached(octets, zipped(t, "r.xml", report("1")))),
	} {
		for at := 1; ; at++ {
			ctx, cancel := context.WithCancelCause(context.Background())
			left := at
			found, err := Message(ctx, ending{bytes.NewReader([]byte(raw)), &left, func() { cancel(told) }}, "", DefaultLimits)
			cancel(nil)
			if left > 0 { // it was read before that
				if err != nil || at < 2 {
					t.Errorf("%s: %v, after %d reads", name, err, at)
				}
				found.Close()
				break
			}
			if found != nil || !errors.Is(err, told) {
				t.Errorf("%s, at read %d: found %v, err %v, want nil and %v", name, at, found, err, told)
			}
		}
	}
}

// A failing blob cannot be read beyond its first bytes.
type failing struct{ dmarc.Blob }

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off > 0 {
		return 0, errDisk
	}
	return f.Blob.ReadAt(p[:min(len(p), 100)], off)
}

var errDisk = fmt.Errorf("the disk is gone")

func TestBytesThatCannotBeHadAreAnError(t *testing.T) {
	for name, raw := range map[string]string{"mail": mixed(plain, plain), "gzip": gzipped(t, strings.Repeat(report("1"), 10)), "zip": zipped(t, "r.xml", report("1"))} {
		found, err := Message(context.Background(), failing{bytes.NewReader([]byte(raw))}, "", DefaultLimits)
		if found != nil || err == nil || !strings.Contains(err.Error(), errDisk.Error()) {
			t.Errorf("%s: found %v, err %v, want nil and %v", name, found, err, errDisk)
		}
	}
}

func TestRowsCanBeReadAfterTheMessage(t *testing.T) {
	var xml strings.Builder
	head, rest, _ := strings.Cut(report("large"), "<record>")
	record, tail, _ := strings.Cut(rest, "</record>")
	xml.WriteString(head)
	const rows = 20_000
	for range rows {
		xml.WriteString("<record>" + record + "</record>\n")
	}
	xml.WriteString(tail)
	for name, content := range map[string]string{
		"gzip": gzipped(t, xml.String()), "zip": zipped(t, "r.xml", xml.String()), "tar": gzipped(t, tarred(t, "r.xml", xml.String())),
	} {
		ctx, cancel := context.WithCancel(context.Background())
		limits := DefaultLimits
		limits.Ratio = 2000 // the rows are all alike
		found, err := Message(ctx, bytes.NewReader([]byte(mixed(plain, attached(octets, content)))), "", limits)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		aggregate, _, _, _ := reports(found)
		if len(aggregate) != 1 {
			t.Fatalf("%s: found %v", name, summary(found))
		}
		for range 2 {
			n := 0
			for _, err := range aggregate[0].Rows {
				if err != nil {
					t.Fatalf("%s: row %d: %v", name, n, err)
				}
				n++
			}
			if n != rows {
				t.Errorf("%s: %d rows, want %d", name, n, rows)
			}
		}
		if err := found.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A blob that makes reading panic stands for a defect that is not known.
type defective struct{ dmarc.Blob }

func (defective) ReadAt([]byte, int64) (int, error) { panic("not thought of") }

func TestADefectCostsOneMessageOnly(t *testing.T) {
	found, err := Message(context.Background(), defective{bytes.NewReader([]byte("x"))}, "", DefaultLimits)
	if err != nil || found.Outcome != dmarc.OutcomeDefect || found.Outcome.Harmless() || !strings.Contains(found.Reason, "please report it") {
		t.Errorf("%+v, %v", found, err)
	}
}

// What one message leaves to the next, to be used again, must not show.
func TestReportsWithoutRowsAndBrokenOnesLeaveTheNextAsItIs(t *testing.T) {
	head, rest, _ := strings.Cut(report("empty"), "<record>")
	_, foot, _ := strings.Cut(rest, "</record>")
	broken := gzipped(t, report("broken"))
	for range 10 {
		read(t, head+foot, "", DefaultLimits)
		check(t, read(t, report("whole"), "", DefaultLimits), ": aggregate whole 2 []")
		read(t, gzipped(t, head+foot), "", DefaultLimits)
		read(t, broken[:len(broken)-20], "", DefaultLimits)
		check(t, read(t, gzipped(t, report("packed")), "", DefaultLimits), ": aggregate packed 2 []")
	}
}
