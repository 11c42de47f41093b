package parse

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime/metrics"
	"testing"
	"time"
	"unicode/utf8"
)

// fuzzLimits make the limits easy to reach.
var fuzzLimits = func() Limits {
	l := DefaultLimits
	l.Part, l.Unpacked, l.TotalUnpacked, l.RatioAfter = 1<<20, 4<<20, 8<<20, 1<<16
	l.MIMEDepth, l.MIMEParts, l.NestedMails, l.Members = 4, 20, 3, 5
	l.TLSPolicies, l.TLSDetails = 10, 20
	l.Time = 10 * time.Second
	return l
}()

// fuzzMemory is more than any message may allocate under fuzzLimits, and so
// more than it may ever hold.
const fuzzMemory = 64 << 20

// allocated returns how many bytes were ever allocated.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// sound checks what holds of every message.
func sound(t *testing.T, raw []byte, name string) {
	before := allocated()
	defer func() {
		if n := allocated() - before; n > fuzzMemory+uint64(len(raw)) {
			t.Errorf("%d bytes took %d bytes of memory", len(raw), n)
		}
	}()
	found, err := readMessage(context.Background(), bytes.NewReader(raw), name, fuzzLimits)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer found.Close()
	text := func(s string, max int) {
		if !utf8.ValidString(s) || len(s) > max {
			t.Errorf("text of %d bytes (at most %d), valid %v: %.100q", len(s), max, utf8.ValidString(s), s)
		}
	}
	text(found.From, maxID)
	text(found.Subject, maxComment)
	text(found.MessageID, maxID)
	if (len(found.Parts) == 0) != (found.Outcome != "" && found.Reason != "") {
		t.Errorf("%d parts and the outcome %q: %q", len(found.Parts), found.Outcome, found.Reason)
	}
	paths := map[string]bool{}
	for _, p := range found.Parts {
		if paths[p.Path] {
			t.Errorf("two parts %q", p.Path)
		}
		paths[p.Path] = true
		n := 0
		for _, is := range []bool{p.Aggregate != nil, p.Failure != nil, p.TLS != nil, p.Outcome != ""} {
			if is {
				n++
			}
		}
		if n != 1 || (p.Outcome != "") != (p.Reason != "") {
			t.Fatalf("part %q is %d things at once; outcome %q, reason %q", p.Path, n, p.Outcome, p.Reason)
		}
		text(p.Reason, 2*maxComment)
		if p.Outcome == "timeout" {
			t.Errorf("it took longer than %v", fuzzLimits.Time)
		}
		switch {
		case p.Aggregate != nil:
			rows := int64(0)
			for _, err := range p.Aggregate.Rows {
				if err != nil {
					t.Fatalf("part %q, row %d: %v", p.Path, rows, err)
				}
				rows++
			}
			if rows != p.Aggregate.Tally.Rows {
				t.Errorf("part %q: %d rows, then %d", p.Path, p.Aggregate.Tally.Rows, rows)
			}
		case p.Failure != nil:
			r := p.Failure
			if r.Incidents < 1 || len(r.AuthFailure) == 0 || r.Hash.IsZero() || (r.ArrivalSource == "receipt") != r.Arrival.IsZero() {
				t.Errorf("part %q: %+v", p.Path, r)
			}
			text(r.ReportedDomain, maxName)
			text(r.MailFrom, maxID)
			for _, f := range append(r.Headers, r.Other...) {
				text(f.Name, fieldName)
				text(f.Value, maxComment)
			}
		case p.TLS != nil:
			r := p.TLS
			if ok, failed := r.Sessions(); ok < 0 || failed < 0 || r.OrgName == "" || r.ID == "" || r.Hash.IsZero() || r.Period.Begin.IsZero() {
				t.Errorf("part %q: %+v", p.Path, r)
			}
			text(r.OrgName, maxID)
			text(r.ID, maxID)
			text(r.Domain, maxName)
		}
	}
}

func addFiles(f *testing.F, pattern string) {
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		f.Fatalf("no files %s: %v", pattern, err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, filepath.Base(name))
	}
}

func FuzzMessage(f *testing.F) {
	xml := report("1")
	gz := gzipped(f, xml)
	addFiles(f, "testdata/failure/*")
	addFiles(f, "testdata/messages/*")
	for _, raw := range []string{
		xml, gz, zipped(f, "a/r.xml", xml, "t.json", tlsReport), zlibbed(f, xml), gzipped(f, tarred(f, "r.xml", xml)), gz + gz,
		mixed(plain, attached(gzipType, gz), "Content-Type: message/rfc822\n\n"+multi("multipart/alternative", "x", plain, "\n"+xml)),
		envelope + "Content-Type: application/zip; name*0=\"a!b!1!\"; name*1*=utf-8''2.zip\nContent-Transfer-Encoding: base64\n\n" + encoded(stored(f, "x", xml)),
		envelope + "Content-Transfer-Encoding: quoted-printable\n\n<?xml version=3D\"1.0\"?><feedback>=\n</feedback>",
	} {
		f.Add([]byte(raw), "r!example.com!1704067200!1704153599.xml.gz")
	}
	f.Fuzz(sound)
}

func FuzzFailure(f *testing.F) {
	addFiles(f, "testdata/failure/*")
	f.Fuzz(func(t *testing.T, raw []byte, _ string) {
		sound(t, raw, "")
		sound(t, append([]byte("Feedback-Type: auth-failure\n"), raw...), "")
		sound(t, append([]byte(envelope+"\nA message claiming to be from you has failed\n"), raw...), "")
	})
}

func FuzzTLS(f *testing.F) {
	addFiles(f, "testdata/tls/*")
	f.Fuzz(sound)
}

// FuzzContainer reads what came out of a container, packed again in each of
// the containers, and what is given as a container.
func FuzzContainer(f *testing.F) {
	xml := report("1")
	for _, raw := range []string{
		xml, gzipped(f, xml), gzipped(f, gzipped(f, xml)), gzipped(f, xml) + gzipped(f, xml), gzipped(f, xml) + "\r\n", zlibbed(f, xml),
		zipped(f, "a/r.xml", xml, "t.json", tlsReport, "__MACOSX/x", "y"), stored(f, "x", xml), tarred(f, "r.xml", xml), gzipped(f, tarred(f, "r.xml", xml)),
		"unused", "",
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		text := string(raw)
		sound(t, raw, "r.zip")
		for name, packed := range map[string]string{
			"r.xml.gz": gzipped(t, text), "r.zip": zipped(t, "dir/r.xml", text), "r.tar.gz": gzipped(t, tarred(t, "r.xml", text)), "r.z": zlibbed(t, text),
		} {
			sound(t, []byte(packed), name)
		}
	})
}
