package main

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/internal/porttest"
)

// txtServer answers with one TXT record for each name, and NXDOMAIN for others.
func txtServer(t *testing.T, records map[string]string) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if text, ok := records[strings.ToLower(q.Question[0].Name)]; ok {
			m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{text}}}
		} else {
			m.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(m)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return conn.LocalAddr().String()
}

// reportMail is a mail with a report about messages of one domain.
func reportMail(t *testing.T, id string, messages int, fields string) string {
	t.Helper()
	text := fmt.Sprintf(`<?xml version="1.0"?><feedback><report_metadata><org_name>Reporter</org_name><email>noreply@reporter.example</email>
<report_id>%s</report_id><date_range><begin>1767225600</begin><end>1767311999</end></date_range></report_metadata>
<policy_published><domain>example.com</domain><p>none</p></policy_published>
<record><row><source_ip>192.0.2.1</source_ip><count>%d</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>pass</spf></policy_evaluated></row>
<identifiers><header_from>example.com</header_from></identifiers><auth_results><spf><domain>example.com</domain><result>pass</result></spf></auth_results></record></feedback>`, id, messages)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte(text))
	w.Close()
	return fields + "From: Reports <noreply@reporter.example>\r\nTo: dmarc@example.com\r\nSubject: Report Domain: example.com Submitter: reporter.example Report-ID: " + id +
		"\r\nMIME-Version: 1.0\r\nContent-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(packed.Bytes()) + "\r\n"
}

// Mails that carry reports are checked after they are stored, and where that
// is asked for, only reports in authentic mails count.
func TestOnlyAuthenticReportsCountWhereThatIsRequired(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	resolver := txtServer(t, map[string]string{"s._domainkey.reporter.example.": "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)})
	signed := func(message string) string {
		var b bytes.Buffer
		if err := dkim.Sign(&b, strings.NewReader(message), &dkim.SignOptions{Domain: "reporter.example", Selector: "s", Signer: private}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	imap := dovecottest.Start(t)
	good := signed(reportMail(t, "signed", 1, ""))
	for i, message := range []string{
		good,
		strings.Replace(signed(reportMail(t, "forged", 10, "")), "Report-ID: forged", "Report-ID: FORGED", 1),
		reportMail(t, "unsigned", 100, ""),
		reportMail(t, "trusted", 1000, "Authentication-Results: mx.example.com; dmarc=pass header.from=reporter.example\r\n"),
	} {
		imap.Deliver(t, fmt.Sprintf("%d.M1P1.host", i), []byte(message))
	}

	binary := build(t)
	run := func(require string) *running {
		return start(t, binary, porttest.FreeAddress(t), []string{
			"DMARCD_DATA_DIR=" + filepath.Join(t.TempDir(), "data"), "DMARCD_RESOLVER=" + resolver, "DMARCD_TRANSPORT_TRUSTED=mx.example.com", "DMARCD_TRANSPORT_REQUIRE=" + require,
			"DMARCD_IMAP_URL=imap://" + dovecottest.User + "@" + imap.Address + "/INBOX", "DMARCD_IMAP_PASSWORD=" + dovecottest.Password, "DMARCD_IMAP_NAME=reports",
		})
	}
	type ledger struct {
		Items []struct {
			UID       int    `json:"uid"`
			Outcome   string `json:"outcome"`
			Transport string `json:"transport_auth"`
			Reason    string `json:"transport_reason"`
		} `json:"items"`
	}
	// checked waits until every message was looked at, and returns outcome and verdict of each.
	checked := func(r *running) map[int]string {
		t.Helper()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			var l ledger
			found := map[int]string{}
			r.ask("/api/v1/messages?limit=100", &l)
			for _, m := range l.Items {
				if m.Reason != "" {
					found[m.UID] = m.Outcome + " " + m.Transport
				}
			}
			if len(found) == 4 {
				return found
			}
		}
		t.Fatalf("not all messages were checked\n%s", r.log)
		return nil
	}

	all := run("false")
	want := map[int]string{1: "ok pass", 2: "ok fail", 3: "ok unknown", 4: "ok pass"}
	if got := checked(all); !reflect.DeepEqual(got, want) {
		t.Errorf("all count: %v, want %v", got, want)
	}
	if n := all.messages(); n != 1111 {
		t.Errorf("%d messages count, want all 1,111", n)
	}
	all.stop(syscall.SIGTERM)

	some := run("true")
	want = map[int]string{1: "ok pass", 2: "unauthenticated fail", 3: "unauthenticated unknown", 4: "ok pass"}
	if got := checked(some); !reflect.DeepEqual(got, want) {
		t.Errorf("only authentic ones count: %v, want %v", got, want)
	}
	if n := some.messages(); n != 1001 {
		t.Errorf("%d messages count, want the 1,001 of authentic reports", n)
	}
	if code := some.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("it ended with %d\n%s", code, some.log)
	}
}
