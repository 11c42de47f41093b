package sample

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A wrapping is how a reporter puts its XML into a mail. Unless it says
// otherwise: gzip data in the second part of a multipart/mixed.
type wrapping struct {
	alone     bool // no multipart
	text      string
	html      bool // text is HTML
	untyped   bool // a part without a header before the report
	packed    packing
	mediaType string
	suffix    string // of the file name
	unquoted  bool   // the file name stands without quotes
	misspelt  bool   // ContentType for Content-Type
	after     string // what follows the packed data
	width     int    // of lines of base64; 0 means 76
	subject   func(*report) string
}

// A packing is what is done to the XML.
type packing uint8

const (
	inGzip packing = iota
	inZip
	asText
)

// A packer compresses, again and again in the same memory.
type packer struct {
	text, packed []byte
	gz           *gzip.Writer
	fl           *flate.Writer
}

func newPacker() *packer {
	gz, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	fl, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err)
	}
	return &packer{gz: gz, fl: fl}
}

// gzip returns compressed bytes, valid until the next call.
func (p *packer) gzip(b []byte) []byte {
	out := bytes.NewBuffer(p.packed[:0])
	p.gz.Reset(out)
	p.gz.Write(b) // to memory: it cannot fail
	p.gz.Close()
	p.packed = out.Bytes()
	return p.packed
}

// zip returns an archive with one file, valid until the next call.
func (p *packer) zip(name string, modified time.Time, b []byte) []byte {
	out := bytes.NewBuffer(p.packed[:0])
	z := zip.NewWriter(out)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		p.fl.Reset(w)
		return p.fl, nil
	})
	f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: modified})
	if err != nil {
		panic(err) // to memory: it cannot fail
	}
	f.Write(b)
	z.Close()
	p.packed = out.Bytes()
	return p.packed
}

// aggregate writes the mail of an aggregate report. A second copy of it, which
// comes again by way of the secondary mail server, has other trace fields.
func (w *writer) aggregate(r *report, again time.Time) []byte {
	m := r.by.wrapping
	w.text = r.by.layout.feedback(w.text[:0], r)
	p := r.written()
	name := fmt.Sprintf("%s!%s!%d!%d", r.by.submitter, r.domain.name, p.Begin.Unix(), p.End.Unix())
	payload := w.text
	switch m.packed {
	case inGzip:
		payload = append(w.gzip(w.text), m.after...)
	case inZip:
		payload = w.zip(name+".xml", r.at, w.text)
	}

	h := heading{
		from: r.by.Email, name: r.by.OrgName, subject: m.subject(r), at: r.at, again: again,
		key: seed(w.opts.Seed, r.by.OrgName, r.domain.name, r.id, name, r.at.String()),
	}
	b := h.write(make([]byte, 0, 2048+len(m.text)+len(payload)*7/5))
	part := func() {
		field, file := "Content-Type", name+m.suffix
		if m.misspelt {
			field = "ContentType"
		}
		if !m.unquoted {
			file = `"` + file + `"`
		}
		b = fmt.Appendf(b, "%s: %s; name=%s\r\nContent-Disposition: attachment; filename=%s\r\nContent-Transfer-Encoding: base64\r\n\r\n", field, m.mediaType, file, file)
		b = appendBase64(b, payload, m.width)
	}
	if m.alone {
		part()
		return b
	}
	boundary := fmt.Sprintf("=_%016x", mix(h.key))
	b = fmt.Appendf(b, "Content-Type: multipart/mixed; boundary=\"%s\"\r\n\r\nThis is a multi-part message in MIME format.\r\n", boundary)
	if m.text != "" {
		kind := "plain"
		if m.html {
			kind = "html"
		}
		b = fmt.Appendf(b, "--%s\r\nContent-Type: text/%s; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n%s", boundary, kind, m.text)
	}
	if m.untyped {
		b = fmt.Appendf(b, "\r\n--%s\r\n\r\n", boundary)
	}
	b = fmt.Appendf(b, "\r\n--%s\r\n", boundary)
	part()
	return fmt.Appendf(b, "\r\n--%s--\r\n", boundary)
}

// The mailbox that reports go to, and the servers that take them in.
const (
	mailbox     = "dmarc-reports@acme.example"
	firstServer = "mx1.acme.example"
	otherServer = "mx2.acme.example"
)

// A heading is the fields at the top of a mail.
type heading struct {
	from, name string
	subject    string // encoded and folded
	at         time.Time
	key        uint64    // what the identifiers are made of
	again      time.Time // when a second copy came by way of the secondary server
	more       string    // further fields, whole lines
}

// write appends all fields that are not about the content.
func (h *heading) write(b []byte) []byte {
	_, site, _ := strings.Cut(h.from, "@")
	server, key := firstServer, mix(h.key+1)
	if !h.again.IsZero() {
		server, key = otherServer, mix(h.key+2)
	}
	const date = time.RFC1123Z
	source := netip.AddrFrom4([4]byte{203, 0, 113, 64 + byte(seed(0, site)%64)})
	b = fmt.Appendf(b, "Return-Path: <%s>\r\nDelivered-To: %s\r\n", h.from, mailbox)
	if !h.again.IsZero() {
		b = fmt.Appendf(b, "Received: from %s (%s [192.0.2.11])\r\n\tby %s (Postfix) with ESMTPS id %010X\r\n\tfor <%s>; %s\r\n", otherServer, otherServer, firstServer, key>>24, mailbox, h.again.Format(date))
	}
	b = fmt.Appendf(b, "Received: from out.%s (out.%s [%s])\r\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"+
		"\tby %s (Postfix) with ESMTPS id %010X\r\n\tfor <%s>; %s\r\n", site, site, source, server, key>>20, mailbox, h.at.Format(date))
	b = fmt.Appendf(b, "Authentication-Results: %s; dkim=pass (2048-bit key) header.d=%s;\r\n"+
		"\tspf=pass smtp.mailfrom=%s; dmarc=pass header.from=%s\r\n", server, site, h.from, site)
	b = fmt.Appendf(b, "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=%s; s=rpt;\r\n"+
		"\th=from:to:subject:date:message-id:mime-version; bh=%s;\r\n\tb=%s\r\n", site, words64(h.key, 4), words64(key, 8))
	b = append(b, h.more...)
	return fmt.Appendf(b, "From: %s <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%x@%s>\r\nMIME-Version: 1.0\r\n",
		strconv.Quote(h.name), h.from, mailbox, h.subject, h.at.Format(date), h.key, site)
}

// words64 returns n random words in base64, which look like a signature.
func words64(key uint64, n int) string {
	b := make([]byte, 0, 8*n)
	for i := range n {
		x := mix(key + uint64(i))
		for range 8 {
			b = append(b, byte(x))
			x >>= 8
		}
	}
	return base64.StdEncoding.EncodeToString(b)
}

// appendBase64 appends bytes in lines of base64.
func appendBase64(b, payload []byte, width int) []byte {
	if width == 0 {
		width = 76
	}
	perLine := width / 4 * 3
	for len(payload) > 0 {
		n := min(perLine, len(payload))
		b = base64.StdEncoding.AppendEncode(b, payload[:n])
		b = append(b, "\r\n"...)
		payload = payload[n:]
	}
	return b
}

// encodedWords returns text as encoded words in base64 (RFC 2047), folded.
func encodedWords(s string) string {
	var out []string
	for len(s) > 0 {
		n := min(42, len(s))
		out = append(out, "=?utf-8?B?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		s = s[n:]
	}
	return strings.Join(out, "\r\n ")
}
