package transport_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/miekg/dns"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/transport"
)

// resolver asks a name server on loopback that knows the given TXT records,
// and answers SERVFAIL for names below broken.example.
func resolver(t *testing.T, records map[string]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
		text, ok := records[name]
		switch {
		case strings.HasSuffix(name, "broken.example"):
			m.Rcode = dns.RcodeServerFailure
		case !ok:
			m.Rcode = dns.RcodeNameError
		default:
			m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{text}}}
		}
		w.WriteMsg(m)
	})
	server := &dns.Server{PacketConn: conn, Handler: handler}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestMailIsAuthenticIfSignedByItsAuthorOrFoundSoByATrustedServer(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	dnsServer := resolver(t, map[string]string{
		"s._domainkey.reporter.example":       key,
		"s._domainkey.mail.reporter.example":  key,
		"s._domainkey.mailer.example":         key,
		"revoked._domainkey.reporter.example": "v=DKIM1; k=ed25519; p=",
	})
	mail := func(fields string) string {
		return "From: Reports <noreply@reporter.example>\r\nTo: dmarc@example.com\r\nSubject: Report Domain: example.com\r\n" + fields + "\r\nbody\r\nof the report\r\n"
	}
	signed := func(domain, selector, message string) string {
		var b bytes.Buffer
		options := &dkim.SignOptions{Domain: domain, Selector: selector, Signer: private, HeaderKeys: []string{"From", "Subject", "To"}}
		if err := dkim.Sign(&b, strings.NewReader(message), options); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	good := signed("reporter.example", "s", mail(""))
	says := func(server, result string) string {
		return mail("Authentication-Results: " + server + "; " + result + "\r\n")
	}
	lookup := errors.New("any lookup error")
	for _, c := range []struct {
		name, message string
		auth          dmarc.TransportAuth
		domain        string
		reason        string // part of it
		err           error
	}{
		{"signed by its author", good, dmarc.TransportPass, "reporter.example", "DKIM signature of reporter.example", nil},
		{"signed by its author, in a file with bare line feeds", strings.ReplaceAll(good, "\r\n", "\n"), dmarc.TransportPass, "reporter.example", "", nil},
		{"signed by a subdomain of its author", signed("mail.reporter.example", "s", mail("")), dmarc.TransportPass, "mail.reporter.example", "", nil},
		{"signed by its author and its mailer", signed("mailer.example", "s", good), dmarc.TransportPass, "reporter.example", "", nil},
		{"changed on its way", strings.Replace(good, "body", "Body", 1), dmarc.TransportFail, "", "does not verify: body hash", nil},
		{"changed in its subject", strings.Replace(good, "example.com\r\n\r\n", "example.org\r\n\r\n", 1), dmarc.TransportFail, "", "does not verify: signature", nil},
		{"with a signature for some of the body only", strings.Replace(good, "v=1;", "v=1; l=4;", 1), dmarc.TransportFail, "", "does not verify: message contains an insecure body length tag", nil},
		{"signed by another one", signed("mailer.example", "s", mail("")), dmarc.TransportUnknown, "", "not by reporter.example", nil},
		{"signed with a key that is gone", signed("reporter.example", "gone", mail("")), dmarc.TransportUnknown, "", "gone from DNS", nil},
		{"signed with a key that is revoked", signed("reporter.example", "revoked", mail("")), dmarc.TransportUnknown, "", "gone from DNS", nil},
		{"signed with a key that cannot be looked up now", strings.ReplaceAll(signed("broken.example", "s", mail("")), "reporter.example", "broken.example"), 0, "", "", lookup},
		{"not signed", mail(""), dmarc.TransportUnknown, "", "it is not signed", nil},
		{"found good by a trusted server", says("mx.example.com", `dmarc=pass (p=reject; "dis=none") header.from=reporter.example`), dmarc.TransportPass, "reporter.example", "mx.example.com says dmarc=pass", nil},
		{"found signed by a trusted server", says("MX.example.com 1", "spf=fail smtp.mailfrom=x.example; dkim=pass (ed25519) header.d=mail.reporter.example"), dmarc.TransportPass, "mail.reporter.example", "says dkim=pass", nil},
		{"found bad by a trusted server", says("mx.example.com", "dmarc=fail header.from=reporter.example"), dmarc.TransportFail, "", "says dmarc=fail", nil},
		{"found good by a trusted server for another author", says("mx.example.com", "dmarc=pass header.from=other.example"), dmarc.TransportUnknown, "", "", nil},
		{"found good by anybody", says("mx.attacker.example", "dmarc=pass header.from=reporter.example"), dmarc.TransportUnknown, "", "", nil},
		{"found bad by a trusted server below which somebody found it good",
			mail("Authentication-Results: mx.example.com; dmarc=fail header.from=reporter.example\r\nAuthentication-Results: mx.example.com; dmarc=pass header.from=reporter.example\r\n"), dmarc.TransportFail, "", "", nil},
		{"of two authors", strings.Replace(good, "From:", "From: a@attacker.example\r\nFrom:", 1), dmarc.TransportUnknown, "", "2 From fields", nil},
		{"without a mail around it", "<?xml version=\"1.0\"?><feedback></feedback>", dmarc.TransportUnknown, "", "without a mail", nil},
		{"of nothing", "", dmarc.TransportUnknown, "", "0 From fields", nil},
		{"with an endless header", mail(strings.Repeat("X-A: "+strings.Repeat("b", 70)+"\r\n", 5000)), dmarc.TransportUnknown, "", "longer than 256 KiB", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := transport.Check(t.Context(), strings.NewReader(c.message), dnsServer, []string{"mx.example.com"})
			if c.err != nil {
				if !errors.As(err, new(*transport.LookupError)) {
					t.Errorf("%+v, %v; want an error of the lookup", got, err)
				}
				return
			}
			if err != nil || got.Auth != c.auth || got.Domain != c.domain || !strings.Contains(got.Reason, c.reason) {
				t.Errorf("%+v, %v; want %v by %q because …%s…", got, err, c.auth, c.domain, c.reason)
			}
		})
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("From: a@b.example\r\nDKIM-Signature: v=1; a=rsa-sha256; d=b.example; s=s; h=from; bh=; b=\r\nAuthentication-Results: mx; dmarc=pass (x\\) header.from=b.example\r\n\r\nbody")
	f.Fuzz(func(t *testing.T, message string) {
		got, err := transport.Check(t.Context(), strings.NewReader(message), none{}, []string{"mx"})
		if err != nil && !errors.As(err, new(*transport.LookupError)) {
			t.Errorf("%+v, %v", got, err)
		}
		if got.Auth == dmarc.TransportPass && !strings.Contains(message, "=") {
			t.Errorf("%+v for %q", got, message)
		}
	})
}

// none is a resolver without any records.
type none struct{}

func (none) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, &net.DNSError{Name: name, IsNotFound: true}
}
