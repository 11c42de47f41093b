package sample_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/sample"
)

// A feedback is an aggregate report, read by the standard library.
type feedback struct {
	XMLName xml.Name
	Org     string `xml:"report_metadata>org_name"`
	Email   string `xml:"report_metadata>email"`
	ID      string `xml:"report_metadata>report_id"`
	Begin   string `xml:"report_metadata>date_range>begin"`
	End     string `xml:"report_metadata>date_range>end"`
	Policy  struct {
		Domain  string `xml:"domain"`
		P       string `xml:"p"`
		Testing string `xml:"testing"`
	} `xml:"policy_published"`
	Records []struct {
		Source      string   `xml:"row>source_ip"`
		Count       int64    `xml:"row>count"`
		Disposition string   `xml:"row>policy_evaluated>disposition"`
		DKIM        string   `xml:"row>policy_evaluated>dkim"`
		SPF         string   `xml:"row>policy_evaluated>spf"`
		Reasons     []string `xml:"row>policy_evaluated>reason>type"`
		EnvelopeTo  string   `xml:"identifiers>envelope_to"`
		From        string   `xml:"identifiers>header_from"`
		Signatures  []struct {
			Domain   string `xml:"domain"`
			Selector string `xml:"selector"`
			Result   string `xml:"result"`
		} `xml:"auth_results>dkim"`
		Senders []struct {
			Domain string `xml:"domain"`
			Result string `xml:"result"`
		} `xml:"auth_results>spf"`
	} `xml:"record"`
}

func (f *feedback) reporter() dmarc.Reporter { return dmarc.Reporter{OrgName: f.Org, Email: f.Email} }

func (f *feedback) period(t *testing.T) dmarc.Period {
	t.Helper()
	at := func(s string) time.Time {
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		if err != nil {
			t.Fatalf("report %q: %v", f.ID, err)
		}
		return time.Unix(n, 0).UTC()
	}
	return dmarc.Period{Begin: at(f.Begin), End: at(f.End)}
}

// rows returns what sums are made of.
func (f *feedback) rows() []dmarc.Row {
	word := func(s string) string { return strings.ToLower(strings.TrimSpace(s)) }
	rows := make([]dmarc.Row, len(f.Records))
	for i, r := range f.Records {
		rows[i] = dmarc.Row{
			Count: r.Count, Disposition: dmarc.ParseDisposition(word(r.Disposition)),
			DKIM: dmarc.ParseResult(word(r.DKIM)), SPF: dmarc.ParseResult(word(r.SPF)), HeaderFrom: r.From,
		}
		rows[i].Source, _ = netip.ParseAddr(r.Source)
	}
	return rows
}

// A part is a leaf of a mail, decoded and unpacked.
type part struct {
	header textproto.MIMEHeader
	body   []byte
}

// parts returns the leaves of a mail.
func parts(t *testing.T, raw []byte) []part {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in\n%.2000s", err, raw)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatalf("%v in\n%.2000s", err, raw)
	}
	if !strings.HasPrefix(kind, "multipart/") {
		return []part{{textproto.MIMEHeader(m.Header), decode(t, textproto.MIMEHeader(m.Header), m.Body)}}
	}
	var ps []part
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return ps
		}
		if err != nil {
			t.Fatalf("%v in\n%.2000s", err, raw)
		}
		ps = append(ps, part{p.Header, decode(t, p.Header, p)})
	}
}

func decode(t *testing.T, h textproto.MIMEHeader, r io.Reader) []byte {
	t.Helper()
	if h.Get("Content-Transfer-Encoding") == "base64" {
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unpack opens gzip data and archives.
func unpack(t *testing.T, b []byte) []byte {
	t.Helper()
	switch {
	case bytes.HasPrefix(b, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		z.Multistream(false) // something may follow
		if b, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	case bytes.HasPrefix(b, []byte("PK")):
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		f, err := z.File[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// A tlsReport is a TLS report, read by the standard library.
type tlsReport struct {
	Policies []struct {
		Policy struct {
			Domain string `json:"policy-domain"`
		}
		Summary struct {
			Successful int64 `json:"total-successful-session-count"`
			Failed     int64 `json:"total-failure-session-count"`
		}
	}
}

// read returns the report of a mail: one of the three is not zero.
func read(t *testing.T, m sample.Mail) (f *feedback, tls *tlsReport, failure string) {
	t.Helper()
	for _, p := range parts(t, m.Raw) {
		if p.header.Get("Content-Type") == "message/feedback-report" {
			for line := range strings.Lines(string(p.body)) {
				if domain, ok := strings.CutPrefix(line, "Reported-Domain: "); ok {
					return nil, nil, strings.TrimSpace(domain)
				}
			}
		}
		switch b := unpack(t, p.body); {
		case bytes.HasPrefix(b, []byte("<?xml")):
			f = new(feedback)
			if err := xml.Unmarshal(b, f); err != nil {
				t.Fatalf("%v in\n%.2000s", err, b)
			}
			return f, nil, ""
		case bytes.HasPrefix(b, []byte("{")):
			tls = new(tlsReport)
			if err := json.Unmarshal(b, tls); err != nil {
				t.Fatalf("%v in\n%.2000s", err, b)
			}
			return nil, tls, ""
		}
	}
	t.Fatalf("no report in\n%.3000s", m.Raw)
	return nil, nil, ""
}
