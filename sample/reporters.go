package sample

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// A reporter is somebody who receives mail and reports on it, in a style of
// its own.
type reporter struct {
	dmarc.Reporter
	submitter  string        // in subjects and file names
	share      float64       // of a domain's mail that it receives
	every      time.Duration // length of its periods; 0 means a day
	zone       time.Duration // when its day begins, after midnight UTC
	delay      time.Duration // at least so long after the period comes the mail, and at most twice as long
	inclusive  bool          // the end of the period is its last second
	rfc9990    bool          // knows testing, and no pct
	saysPass   bool          // disposition pass (RFC 9990)
	about      []string      // the stories whose mail reaches it; nil for all
	heartbeat  bool          // reports even when there was nothing, with a row of nothing
	recipients []string      // recipient domains that it tells apart
	overrides  map[way]dmarc.Reason
	id         func(*report) string
	layout     layout
	wrapping   wrapping
}

func words(s string) []string { return strings.Fields(s) }

// reporters are all who report. Google and Microsoft see most of the mail, and
// many see little.
var reporters = []*reporter{
	google(), outlook(), enterpriseOutlook(), yahoo(), comcast(), gmx(), webde(), mimecast(),
	amazon(), mailru(), fastmail(), gardenClub(), meadow(), inland(), pebble(), tidewater(), lakeside(), brook(),
}

// google sends a zip file and nothing else, and tells whom it trusted.
func google() *reporter {
	arc := dmarc.Reason{Type: "local_policy", Comment: "arc=pass"}
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "google.com", Email: "noreply-dmarc-support@google.com", ExtraContact: "https://support.google.com/a/answer/2466580"},
		submitter: "google.com", share: 0.38, delay: 4 * time.Hour, inclusive: true,
		overrides: map[way]dmarc.Reason{forwarded: arc, listed: arc},
		id:        func(r *report) string { return strconv.FormatUint(r.rnd.Uint64()|1<<63, 10) },
		layout: layout{
			prolog: `<?xml version="1.0" encoding="UTF-8" ?>`, indent: "  ", eol: "\n",
			policy: words("domain adkim aspf p sp pct np"), effective: true, identifiers: words("header_from"),
			dkim: words("domain result selector"), spf: words("domain result"),
		},
		wrapping: wrapping{
			alone: true, packed: inZip, mediaType: "application/zip", suffix: ".zip",
			subject: func(r *report) string {
				return "Report domain: " + r.domain.name + " Submitter: google.com Report-ID: " + r.id
			},
		},
	}
}

// outlook writes a row for each domain of its recipients, an encoded subject
// and a body in HTML, and ends its days with the next one's midnight.
func outlook() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "Outlook.com", Email: "dmarcreport@microsoft.com"},
		submitter: "protection.outlook.com", share: 0.17, delay: 6 * time.Hour,
		recipients: words("outlook.com hotmail.com live.com"),
		overrides:  map[way]dmarc.Reason{listed: {Type: "trusted_forwarder", Comment: "arc=pass"}},
		id:         hexID,
		layout: layout{
			prolog:     `<?xml version="1.0"?>`,
			attributes: ` xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"`,
			indent:     "  ", eol: "\r\n", version: "1.0",
			policy: words("domain adkim aspf p sp pct fo"), effective: true, identifiers: words("envelope_to envelope_from header_from"),
			dkim: words("domain selector result"), spf: words("domain scope result"),
			empty: words("envelope_from"),
		},
		wrapping: wrapping{
			text: "<div style=\"font-family:sans-serif\">This is a DMARC aggregate report from Microsoft Corporation.</div>\r\n", html: true, untyped: true,
			mediaType: "application/gzip", suffix: ".xml.gz",
			subject: func(r *report) string {
				return encodedWords("[Preview] Report Domain: " + r.domain.name + " Submitter: protection.outlook.com Report-ID: " + r.id)
			},
		},
	}
}

// enterpriseOutlook is Microsoft for firms: another name, and an entry without
// a domain for mail that was not signed.
func enterpriseOutlook() *reporter {
	r := outlook()
	r.OrgName, r.submitter, r.share = "Enterprise Outlook", "enterprise.protection.outlook.com", 0.09
	r.recipients = nil
	r.layout.emptyDKIM = true
	r.layout.identifiers = words("envelope_from header_from")
	r.wrapping.subject = func(r *report) string {
		return encodedWords("Report Domain: " + r.domain.name + " Submitter: enterprise.protection.outlook.com Report-ID: " + r.id)
	}
	return r
}

// yahoo leaves sp and scope out, and a blank behind the end of the period.
func yahoo() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "Yahoo", Email: "dmarchelp@yahooinc.com"},
		submitter: "yahoo.com", share: 0.11, delay: 3 * time.Hour, inclusive: true,
		overrides: map[way]dmarc.Reason{listed: {Type: "mailing_list"}, forwarded: {Type: "local_policy", Comment: "arc=pass as.1.gardenclub.example=pass"}},
		id: func(r *report) string {
			return fmt.Sprintf("%d.%06d", r.period.End.Add(r.by.delay).Unix(), r.rnd.IntN(1e6))
		},
		layout: layout{
			prolog: `<?xml version="1.0"?>`, indent: "  ", eol: "\n",
			policy: words("domain adkim aspf p pct"), identifiers: words("header_from"),
			dkim: words("domain selector result"), spf: words("domain result"),
			say: func(element, value string) string {
				if element == "end" {
					return value + " "
				}
				return value
			},
		},
		wrapping: wrapping{
			text: "This is an aggregate report from Yahoo.\r\n", mediaType: "application/x-gzip", suffix: ".xml.gz",
			subject: func(r *report) string {
				return "Report Domain: " + r.domain.name + " Submitter: yahoo.com Report-ID: <" + r.id + ">"
			},
		},
	}
}

// comcast writes by the book of RFC 7489, with its namespace.
func comcast() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "comcast.net", Email: "dmarc_reports@alerts.comcast.net", ExtraContact: "https://postmaster.comcast.net"},
		submitter: "comcast.net", about: words("acme north river harbor"), share: 0.03, delay: 5 * time.Hour,
		overrides: map[way]dmarc.Reason{forwarded: {Type: "forwarded"}},
		id:        func(r *report) string { return r.domain.name + "-" + strconv.FormatInt(r.period.Begin.Unix(), 10) },
		layout: layout{
			prolog: `<?xml version="1.0" encoding="UTF-8"?>`, attributes: ` xmlns="http://dmarc.org/dmarc-xml/0.1"`,
			indent: "\t", eol: "\n", version: "1.0",
			policy: words("domain adkim aspf p sp pct fo"), effective: true, identifiers: words("envelope_from header_from"),
			dkim: words("domain selector result human_result"), spf: words("domain scope result"),
		},
		wrapping: wrapping{text: "A DMARC aggregate report is attached.\r\n", mediaType: "application/gzip", suffix: ".xml.gz", subject: plainSubject},
	}
}

// gmx has used the namespace of RFC 9990 since long before there was one.
func gmx() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "GMX", Email: "noreply-dmarc@sicher.gmx.net", ExtraContact: "https://postmaster.gmx.net/en/case?c=r2002"},
		submitter: "gmx.net", share: 0.03, delay: 2 * time.Hour, inclusive: true, rfc9990: true,
		overrides: map[way]dmarc.Reason{listed: {Type: "mailing_list", Comment: "List-Id of gardenclub.example"}},
		id:        hexID,
		layout: layout{
			prolog: `<?xml version="1.0" encoding="UTF-8"?>`, attributes: ` xmlns="urn:ietf:params:xml:ns:dmarc-2.0"`,
			indent: "   ", eol: "\n", version: "1.0",
			policy: words("domain discovery_method adkim aspf p sp np fo testing"), effective: true, identifiers: words("envelope_from header_from"),
			dkim: words("domain selector result human_result"), spf: words("domain scope result"),
		},
		wrapping: wrapping{text: "This is a DMARC aggregate report.\r\n", mediaType: "application/gzip", suffix: ".xml.gz", subject: plainSubject},
	}
}

// webde is gmx under another name, and calls its gzip files zip.
func webde() *reporter {
	r := gmx()
	r.Reporter = dmarc.Reporter{OrgName: "WEB.DE", Email: "noreply-dmarc@sicher.web.de", ExtraContact: "https://postmaster.web.de/en/case?c=r2002"}
	r.submitter, r.share = "web.de", 0.035
	r.wrapping.mediaType = "application/zip"
	return r
}

// mimecast uses an id again every day, and has an empty line after its gzip
// data.
func mimecast() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "mimecast.org", Email: "noreply@us-1.mimecastreport.com"},
		submitter: "mimecast.org", share: 0.03, delay: 7 * time.Hour, inclusive: true,
		overrides: map[way]dmarc.Reason{listed: {Type: "local_policy", Comment: "permitted sender"}},
		id:        func(r *report) string { return fmt.Sprintf("%x", seed(1, r.domain.name)) },
		layout: layout{
			prolog: `<?xml version="1.0" encoding="utf-8"?>`, indent: "  ", eol: "\r\n", version: "1.0",
			policy: words("domain adkim aspf p sp pct"), effective: true, identifiers: words("header_from envelope_from"),
			dkim: words("domain selector result"), spf: words("domain scope result"),
			empty: words("envelope_from"),
		},
		wrapping: wrapping{text: "DMARC aggregate report.\r\n", mediaType: "application/gzip", suffix: ".xml.gz", after: "\r\n", subject: plainSubject},
	}
}

// amazon has braces in its subjects, a version of its own and a file name
// without quotes.
func amazon() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "AMAZON-SES", Email: "postmaster@amazonses.com"},
		submitter: "amazonses.com", about: words("acme north river"), share: 0.02, delay: 2 * time.Hour,
		id: func(r *report) string {
			s := hexID(r)
			return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
		},
		layout: layout{
			prolog: `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>`, indent: "    ", eol: "\n", version: "0.1",
			policy: words("domain adkim aspf p sp pct fo"), effective: true, identifiers: words("envelope_from header_from"),
			dkim: words("domain result"), spf: words("domain result"),
		},
		wrapping: wrapping{
			text: "This MIME email was sent through Amazon SES.\r\n", mediaType: "application/octet-stream", suffix: ".xml.gz", unquoted: true,
			subject: func(r *report) string {
				return fmt.Sprintf("Dmarc Aggregate Report Domain: {%s} Submitter: {Amazon SES} Date: {%s} Report-ID: {%s}", r.domain.name, r.period.Begin.Format(time.DateOnly), r.id)
			},
		},
	}
}

// mailru writes all on one line, and semicolons into its subjects.
func mailru() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "Mail.Ru", Email: "dmarc_support@corp.mail.ru", ExtraContact: "http://help.mail.ru/mail-help"},
		submitter: "mail.ru", about: words("acme north river parked"), share: 0.015, delay: time.Hour,
		id: func(r *report) string {
			return fmt.Sprintf("%d%d", r.rnd.Uint64(), r.period.Begin.Unix())
		},
		layout: layout{
			prolog: `<?xml version='1.0' encoding='utf-8'?>`,
			policy: words("domain adkim aspf p sp pct"), effective: true, identifiers: words("header_from"),
			dkim: words("domain selector result"), spf: words("domain scope result"),
		},
		wrapping: wrapping{
			text: "This is a DMARC aggregate report from Mail.Ru.\r\n", mediaType: "application/gzip", suffix: ".xml.gz",
			subject: func(r *report) string {
				return "Report Domain: " + r.domain.name + "; Submitter: mail.ru; Report-ID: " + r.id
			},
		},
	}
}

// fastmail leaves adkim, aspf and null senders out, and tells the domains of
// its customers.
func fastmail() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "Fastmail Pty Ltd", Email: "reports@fastmaildmarc.com", ExtraContact: "https://fastmail.com/"},
		submitter: "fastmaildmarc.com", share: 0.02, delay: 90 * time.Minute, inclusive: true,
		recipients: words("fastmail.com bakery.example"),
		overrides:  map[way]dmarc.Reason{listed: {Type: "mailing_list", Comment: "arc=pass"}},
		id:         func(r *report) string { return strconv.FormatUint(r.rnd.Uint64()>>32, 10) },
		layout: layout{
			prolog: `<?xml version="1.0"?>`, indent: "\t", eol: "\n", version: "1.0",
			policy: words("domain p pct sp"), identifiers: words("envelope_to envelope_from header_from"),
			dkim: words("domain human_result result selector"), spf: words("domain result scope"),
		},
		wrapping: wrapping{text: "This is a DMARC aggregate report for your domain.\r\n", mediaType: "application/gzip", suffix: ".xml.gz", subject: foldedSubject},
	}
}

// gardenClub runs an old rspamd: ids of domain and times, no selectors, a
// blank before quarantine, and reasons without an element for their type.
func gardenClub() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "Garden Club", Email: "postmaster@gardenclub.example"},
		submitter: "gardenclub.example", about: words("acme north river"), share: 0.004, delay: 30 * time.Minute,
		id: timesID,
		layout: layout{
			prolog: `<?xml version="1.0" encoding="utf-8"?>`, indent: "", eol: "\n",
			policy: words("domain adkim aspf p sp pct"), effective: true, identifiers: words("header_from"),
			dkim: words("domain result"), spf: words("domain result"), textReasons: true,
			say: func(element, value string) string {
				if element == "disposition" && value == "quarantine" {
					return " " + value
				}
				return value
			},
		},
		wrapping: wrapping{text: "This is an aggregate report from Garden Club.\r\n", mediaType: "application/gzip", suffix: ".xml.gz", width: 998, subject: plainSubject},
	}
}

// meadow runs OpenDMARC in a zone an hour east of UTC: it lists no signatures,
// and writes unknown for what it did not look up.
func meadow() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "meadow.example", Email: "postmaster@meadow.example"},
		submitter: "meadow.example", about: words("acme river parked"), share: 0.005, zone: -time.Hour, delay: time.Hour, inclusive: true,
		id: func(r *report) string { return r.domain.name + ":" + strconv.FormatInt(r.period.End.Unix(), 10) },
		layout: layout{
			prolog: `<?xml version="1.0" encoding="UTF-8"?>`, indent: " ", eol: "\n",
			policy: words("domain adkim aspf p sp pct"), effective: true, identifiers: words("header_from"),
			spf: words("domain result"),
			say: func(element, value string) string {
				if element == "adkim" || element == "aspf" {
					return "unknown"
				}
				return value
			},
		},
		wrapping: wrapping{text: "This is a DMARC aggregate report for meadow.example.\r\n", packed: inZip, mediaType: "application/x-zip-compressed", suffix: ".zip", subject: foldedSubject},
	}
}

// inland lies six hours west of UTC, and begins its words with capitals.
func inland() *reporter {
	capital := func(element, value string) string {
		switch element {
		case "disposition", "dkim", "spf", "result":
			return strings.ToUpper(value[:1]) + value[1:]
		}
		return value
	}
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "Inland Library & Archive", Email: "dmarc@inland.example", ExtraContact: "https://inland.example/postmaster?a=1&b=2"},
		submitter: "inland.example", about: words("acme north harbor"), share: 0.005, zone: 6 * time.Hour, delay: 2 * time.Hour,
		id: hexID,
		layout: layout{
			prolog: `<?xml version="1.0" encoding="UTF-8"?>`, indent: "  ", eol: "\n", version: "1.0",
			policy: words("domain adkim aspf p sp pct"), effective: true, identifiers: words("header_from envelope_from"),
			dkim: words("domain selector result"), spf: words("domain scope result"), say: capital,
		},
		wrapping: wrapping{packed: asText, mediaType: "text/xml", suffix: ".xml", subject: plainSubject},
	}
}

// pebble runs mox, and reports every six hours.
func pebble() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "pebble.example", Email: "postmaster@mx.pebble.example", ExtraContact: "https://pebble.example/postmaster"},
		submitter: "mx.pebble.example", about: words("acme"), share: 0.01, every: 6 * time.Hour, delay: 5 * time.Minute, inclusive: true,
		overrides: map[way]dmarc.Reason{listed: {Type: "mailing_list"}},
		id:        timesID,
		layout: layout{
			prolog: `<?xml version="1.0" encoding="UTF-8"?>`, indent: "\t", eol: "\n", version: "1.0",
			policy: words("domain adkim aspf p sp pct fo"), identifiers: words("envelope_to envelope_from header_from"),
			dkim: words("domain selector result human_result"), spf: words("domain scope result"),
			empty: words("sp envelope_from"),
		},
		wrapping: wrapping{text: "Attached is an aggregate DMARC report with results of evaluations of the DMARC\r\npolicy of your domain for messages received by us.\r\n", mediaType: "application/gzip", suffix: ".xml.gz", subject: plainSubject},
	}
}

// tidewater runs a new server that writes RFC 9990 as it stands.
func tidewater() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "Tidewater Schools", Email: "reports@tidewater.example"},
		submitter: "tidewater.example", about: words("north river"), share: 0.006, delay: 20 * time.Minute, rfc9990: true, saysPass: true,
		id: timesID,
		layout: layout{
			prolog: `<?xml version="1.0" encoding="UTF-8"?>`, attributes: ` xmlns="urn:ietf:params:xml:ns:dmarc-2.0"`,
			indent: "  ", eol: "\n", version: "1.0", generator: "tidemail 1.4",
			policy: words("domain discovery_method p sp np adkim aspf fo testing"), identifiers: words("header_from envelope_from"),
			dkim: words("domain selector result human_result"), spf: words("domain scope result"),
		},
		wrapping: wrapping{text: "Aggregate report, RFC 9990.\r\n", mediaType: "application/gzip", suffix: ".xml.gz", subject: plainSubject},
	}
}

// lakeside is a mail gateway that reports once a week, and misspells a field.
func lakeside() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "Lakeside Gateway", Email: "gateway@lakeside.example"},
		submitter: "lakeside.example", share: 0.01, every: 7 * aDay, delay: 8 * time.Hour,
		id: hexID,
		layout: layout{
			prolog: `<?xml version="1.0"?>`, indent: "  ", eol: "\r\n", version: "1.0",
			policy: words("domain adkim aspf p sp pct"), effective: true, identifiers: words("header_from"),
			dkim: words("domain selector result"), spf: words("domain scope result"),
		},
		wrapping: wrapping{text: "DMARC report.\r\n", mediaType: "application/gzip", suffix: ".xml.gz", misspelt: true, subject: plainSubject},
	}
}

// brook writes even when it has received nothing: a row without anything.
func brook() *reporter {
	return &reporter{
		Reporter:  dmarc.Reporter{OrgName: "brook.example", Email: "abuse@brook.example"},
		submitter: "brook.example", about: words("acme north parked"), share: 0.0004, delay: 3 * time.Hour, inclusive: true, heartbeat: true,
		id: timesID,
		layout: layout{
			prolog: `<?xml version="1.0" encoding="UTF-8"?>`, indent: "  ", eol: "\n",
			policy: words("domain adkim aspf p sp pct"), effective: true, identifiers: words("header_from"),
			dkim: words("domain selector result"), spf: words("domain scope result"),
			empty: words("source_ip disposition dkim spf header_from"),
		},
		wrapping: wrapping{text: "DMARC.\r\n", mediaType: "application/gzip", suffix: ".xml.gz", subject: plainSubject},
	}
}

// hexID is 32 random digits.
func hexID(r *report) string {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.rnd.Uint32())
	}
	return hex.EncodeToString(b[:])
}

// timesID is made of the domain and the period, so several reporters arrive at
// the same.
func timesID(r *report) string {
	return fmt.Sprintf("%s.%d.%d", r.domain.name, r.period.Begin.Unix(), r.period.End.Unix())
}

func plainSubject(r *report) string {
	return "Report Domain: " + r.domain.name + " Submitter: " + r.by.submitter + " Report-ID: <" + r.id + ">"
}

func foldedSubject(r *report) string {
	return "Report Domain: " + r.domain.name + "\r\n Submitter: " + r.by.submitter + "\r\n Report-ID: <" + r.id + ">"
}
