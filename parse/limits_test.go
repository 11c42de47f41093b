package parse

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

// bomb is gzip data that unpacks to a head and a number of blanks.
func bomb(t testing.TB, head string, blanks int64) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, head); err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte(" "), 1<<20)
	for ; blanks > 0; blanks -= int64(len(chunk)) {
		if _, err := w.Write(chunk[:min(blanks, int64(len(chunk)))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Every limit refuses what is over it, says so with its setting, and leaves
// the other parts alone.
func TestEveryLimitRefusesWhatIsOverIt(t *testing.T) {
	xml := report("1")
	good := attached(gzipType, gzipped(t, report("good")))
	half := bomb(t, xml[:len(xml)-len("</feedback>\n")], 6<<20)
	deep := good
	for i := range 4 {
		deep = multipart("multipart/mixed", fmt.Sprintf("d%d", i), deep)
	}
	nested := envelope + good
	for i := range 3 {
		nested = multi("multipart/mixed", fmt.Sprintf("n%d", i), "Content-Type: message/rfc822\n\n"+nested)
	}
	many := []string{}
	for i := range 4 {
		many = append(many, fmt.Sprintf("%d.xml", i), report(fmt.Sprint(i)))
	}
	policy := `{"policy":{"policy-type":"sts","policy-domain":"example.com"},"failure-details":[{"result-type":"x","failed-session-count":1},{"result-type":"y","failed-session-count":1}]}`
	tls := func(policies ...string) string {
		return `{"organization-name":"R","report-id":"1","date-range":{"start-datetime":"2024-01-01T00:00:00Z","end-datetime":"2024-01-02T00:00:00Z"},"policies":[` + strings.Join(policies, ",") + `]}`
	}
	for name, test := range map[string]struct {
		set  func(*Limits)
		raw  string
		want []string
	}{
		"message": {func(l *Limits) { l.Message = 600 }, mixed(good),
			[]string{fmt.Sprintf("too_large: %s, more than 600 bytes (limits.message)", size(int64(len(mixed(good)))))}},
		"part": {func(l *Limits) { l.Part = 600 }, mixed(attached("text/xml", xml), good),
			[]string{"1: too_large: more than 600 bytes (limits.part)", "2: aggregate good 2 []"}},
		"part, of a zip": {func(l *Limits) { l.Part = 100 }, mixed(attached("application/zip", zipped(t, "r.xml", xml))),
			[]string{"1: too_large: more than 100 bytes (limits.part)"}},
		"unpacked": {func(l *Limits) { l.Unpacked = 3 << 20 }, mixed(attached(gzipType, half), good),
			[]string{"1: bomb_or_too_large: unpacks to more than 3 MiB (limits.unpacked)", "2: aggregate good 2 []"}},
		"total unpacked": {func(l *Limits) { l.TotalUnpacked = 10 << 20; l.Ratio = 5000 }, mixed(good, attached(gzipType, half), attached(gzipType, half)),
			[]string{"1: aggregate good 2 []", "2: bad_xml", "3: bomb_or_too_large: the message unpacks to more than 10 MiB (limits.total_unpacked)"}},
		"layers": {func(l *Limits) { l.Layers = 2 }, mixed(attached(gzipType, gzipped(t, gzipped(t, gzipped(t, xml)))), good),
			[]string{"1: bomb_or_too_large: compressed more than 2 times (limits.layers)", "2: aggregate good 2 []"}},
		"members of a zip": {func(l *Limits) { l.Members = 2 }, mixed(attached("application/zip", zipped(t, many...)), good),
			[]string{"1/0.xml: aggregate 0 2 []", "1/1.xml: aggregate 1 2 []", "1: too_large: more than 2 files in the archive (limits.members)", "2: aggregate good 2 []"}},
		"members of a tar": {func(l *Limits) { l.Members = 2 }, mixed(attached(octets, tarred(t, many...)), good),
			[]string{"1/0.xml: aggregate 0 2 []", "1/1.xml: aggregate 1 2 []", "1: too_large: more than 2 files in the archive (limits.members)", "2: aggregate good 2 []"}},
		"members of gzip": {func(l *Limits) { l.Members = 2 }, mixed(attached(gzipType, gzipped(t, xml)+gzipped(t, report("2"))+gzipped(t, report("3"))), good),
			[]string{"1: aggregate 1 2 []", "1 (2): aggregate 2 2 []", "1 (3): too_large: more than 2 gzip members (limits.members)", "2: aggregate good 2 []"}},
		"MIME depth": {func(l *Limits) { l.MIMEDepth = 4 }, mixed(deep, good),
			[]string{"1.1.1.1: too_large: multiparts nested deeper than 4 (limits.mime_depth)", "2: aggregate good 2 []"}},
		"MIME parts": {func(l *Limits) { l.MIMEParts = 3 }, mixed(plain, good, plain, plain),
			[]string{"2: aggregate good 2 []", "1: too_large: more than 3 parts (limits.mime_parts)"}},
		"nested mails": {func(l *Limits) { l.NestedMails = 2 }, mixed("Content-Type: message/rfc822\n\n"+nested, good),
			[]string{"1.1.1: too_large: mails within mails, more than 2 (limits.nested_mails)", "2: aggregate good 2 []"}},
		"JSON depth": {func(l *Limits) { l.Depth = 5 }, mixed("Content-Type: application/json\n\n"+tls(`{"x":[[[1]]]}`), good),
			[]string{"1: too_large: JSON nested deeper than 5 (limits.depth)", "2: aggregate good 2 []"}},
		"TLS policies": {func(l *Limits) { l.TLSPolicies = 2 }, mixed("Content-Type: application/json\n\n"+tls(policy, policy, policy), good),
			[]string{"1: too_large: more than 2 policies (limits.tls_policies)", "2: aggregate good 2 []"}},
		"TLS details": {func(l *Limits) { l.TLSDetails = 3 }, mixed("Content-Type: application/json\n\n"+tls(policy, policy), good),
			[]string{"1: too_large: more than 3 failure details (limits.tls_details)", "2: aggregate good 2 []"}},
		"a value of JSON": {func(*Limits) {}, mixed("Content-Type: application/json\n\n"+tls(`"`+strings.Repeat("x", jsonText)+`"`), good),
			[]string{"1: too_large: a value in JSON is longer than 256 KiB", "2: aggregate good 2 []"}},
		"time": {func(l *Limits) { l.Time = -time.Second }, mixed(plain, good),
			[]string{": timeout: took longer than -1s (limits.time)"}},
	} {
		t.Run(name, func(t *testing.T) {
			limits := DefaultLimits
			test.set(&limits)
			got := summary(read(t, test.raw, "", limits))
			for i, line := range got {
				if strings.HasSuffix(line, "bad_xml") || strings.Contains(line, ": bad_xml: ") {
					got[i], _, _ = strings.Cut(line, "bad_xml")
					got[i] += "bad_xml"
				}
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("found\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(test.want, "\n\t"))
			}
		})
	}
}

func TestASampleIsKeptUpToItsLimit(t *testing.T) {
	limits := DefaultLimits
	limits.SampleHeaders = 120
	_, failure, _, _ := reports(read(t, file(t, "failure", "gateway.eml"), "", limits))
	if len(failure) != 1 {
		t.Fatalf("%d failure reports, want 1", len(failure))
	}
	r := failure[0]
	if len(r.Headers) != 1 || r.Headers[0].Name != "Received" || r.Flags != dmarc.FlagTruncated {
		t.Errorf("kept %v with flags %v, want one field and %v", r.Headers, r.Flags.Names(), dmarc.FlagTruncated.Names())
	}
}

// Bombs are refused by their ratio, whatever they are packed in, and cost no
// memory.
func TestBombsAreRefusedAndCostNoMemory(t *testing.T) {
	const size = 64 << 20
	blanks := bomb(t, "", size)
	inReport := bomb(t, "<feedback>", size)
	inJSON := bomb(t, `{"report-id":`, size)
	inText := bomb(t, `{"report-id":"`, size)
	packed := mixed(
		attached(gzipType, blanks),
		attached(gzipType, inReport),
		attached(gzipType, inJSON),
		attached(gzipType, inText),
		attached(gzipType, gzipped(t, inReport)),
		attached("application/zip", zipped(t, "r.xml", "<feedback>"+strings.Repeat(" ", 32<<20))),
		attached("application/zip", zipped(t, "r.xml.gz", inReport)),
		attached("application/x-tar", gzipped(t, tarred(t, "r.xml", "<feedback>"+strings.Repeat(" ", 16<<20)))),
		attached(octets, zlibbed(t, "<feedback>"+strings.Repeat(" ", 16<<20))),
		attached(gzipType, gzipped(t, report("good"))),
	)
	raw := []byte(packed)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	found, err := Message(context.Background(), bytes.NewReader(raw), "", DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 128<<20 {
		t.Errorf("%d bytes were allocated in all, for a message of %d", n, len(raw))
	}
	if len(found.Parts) != 11 { // the tar archive counts as well as its member
		t.Fatalf("found %v", summary(found))
	}
	for _, p := range found.Parts[:10] {
		if p.Outcome == dmarc.OutcomeTooLarge && p.Path == "4" {
			continue // the text is too long before the ratio is
		}
		if p.Outcome != dmarc.OutcomeBomb || !strings.Contains(p.Reason, "(limits.ratio)") {
			t.Errorf("part %s: %s: %s, want %s by limits.ratio", p.Path, p.Outcome, p.Reason, dmarc.OutcomeBomb)
		}
	}
	if p := found.Parts[10]; p.Aggregate == nil || p.Aggregate.ID != "good" {
		t.Errorf("the report after the bombs: %+v", p)
	}
}

// A zip archive may claim any number of members.
func TestTheDirectoryOfAZipIsBounded(t *testing.T) {
	var files []string
	for i := range 30_000 {
		files = append(files, fmt.Sprintf("%05d", i), "")
	}
	raw := zipped(t, files...)
	check(t, read(t, raw, "x.zip", DefaultLimits), ": too_large: the directory of the zip archive is longer than 1 MiB")
}

// Sizes are told as people and settings write them.
func TestSizesAreForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 600: "600 bytes", 1023: "1.0 kB", 1024: "1 KiB", 4_194_305: "4.2 MB", 64 << 20: "64 MiB", 3 << 29: "1536 MiB", 1_234_567_890: "1.2 GB", 2 << 30: "2 GiB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
