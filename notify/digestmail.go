package notify

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"strings"
	texttemplate "text/template"
	"time"
)

var (
	//go:embed digest.html
	digestHTML string
	//go:embed digest.txt
	digestText string

	htmlDigest = template.Must(template.New("digest").Parse(digestHTML))
	textDigest = texttemplate.Must(texttemplate.New("digest").Funcs(texttemplate.FuncMap{"pad": pad, "indent": indent}).Parse(digestText))
)

// pad fills a text up to a width, on the left for a negative one. Names may be
// longer; they are shortened in the middle.
func pad(width int, s string) string {
	n := max(width, -width)
	r := []rune(s)
	if len(r) > n {
		r = []rune(shorten(s, n))
	}
	space := strings.Repeat(" ", max(0, n-len(r)))
	if width < 0 {
		return space + string(r)
	}
	return string(r) + space
}

// indent puts spaces before every line.
func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// HTML writes the digest as a page. Pictures are where source says.
func (d *Digest) HTML(source func(i int) string) (string, error) {
	type chart struct {
		Chart
		Source template.URL
	}
	var charts []chart
	for i, c := range d.Charts {
		charts = append(charts, chart{c, template.URL(source(i))})
	}
	var b bytes.Buffer
	err := htmlDigest.Execute(&b, struct {
		*Digest
		Pictures []chart
	}{d, charts})
	return b.String(), err
}

// Text writes the digest for terminals and for those who read mail as text.
func (d *Digest) Text() (string, error) {
	var b strings.Builder
	if err := textDigest.Execute(&b, d); err != nil {
		return "", err
	}
	return visible(b.String()), nil
}

// Mail writes the digest as a mail: text, or HTML together with its pictures.
func (d *Digest) Mail(m *Mail, key string, at time.Time) ([]byte, error) {
	text, err := d.Text()
	if err != nil {
		return nil, err
	}
	_, domain, _ := strings.Cut(m.Server.From, "@")
	cid := func(i int) string { return fmt.Sprintf("chart%d.%s@%s", i, key, domain) }
	html, err := d.HTML(func(i int) string { return "cid:" + cid(i) })
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	m.Server.header(&b, key, at, m.To, d.Title, "digest")
	either := multipart.NewWriter(&b)
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=%q\r\n\r\n", either.Boundary())
	if err := part(either, "text/plain; charset=utf-8", text); err != nil {
		return nil, err
	}
	var inner bytes.Buffer
	together := multipart.NewWriter(&inner)
	if err := part(together, "text/html; charset=utf-8", html); err != nil {
		return nil, err
	}
	for i, c := range d.Charts {
		w, err := together.CreatePart(textproto.MIMEHeader{
			"Content-Type": {fmt.Sprintf("image/png; name=\"chart%d.png\"", i)}, "Content-Transfer-Encoding": {"base64"},
			"Content-Id": {"<" + cid(i) + ">"}, "Content-Disposition": {fmt.Sprintf("inline; filename=\"chart%d.png\"", i)},
		})
		if err != nil {
			return nil, err
		}
		text := base64.StdEncoding.EncodeToString(c.PNG)
		for len(text) > 0 {
			n := min(76, len(text))
			fmt.Fprintf(w, "%s\r\n", text[:n])
			text = text[n:]
		}
	}
	if err := together.Close(); err != nil {
		return nil, err
	}
	w, err := either.CreatePart(textproto.MIMEHeader{"Content-Type": {fmt.Sprintf("multipart/related; type=\"text/html\"; boundary=%q", together.Boundary())}})
	if err != nil {
		return nil, err
	}
	w.Write(inner.Bytes())
	if err := either.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// part writes a part of text.
func part(w *multipart.Writer, kind, text string) error {
	p, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {kind}, "Content-Transfer-Encoding": {"quoted-printable"}})
	if err != nil {
		return err
	}
	q := quotedprintable.NewWriter(p)
	if _, err := q.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n"))); err != nil {
		return err
	}
	return q.Close()
}

// DataURL returns where the pictures of a digest are if they stand in the page
// itself.
func DataURL(d *Digest) func(i int) string {
	return func(i int) string {
		return "data:image/png;base64," + base64.StdEncoding.EncodeToString(d.Charts[i].PNG)
	}
}
