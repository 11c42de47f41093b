package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// parsed is what dmarcd parse says of one file, and what that took.
type parsed struct {
	Kind, Outcome, Reason string
	Rows                  int64
	Totals                totals

	Peak int64 // bytes resident at most
	Took time.Duration
}

// parseAlone has a process of its own read one file. That process then waits
// for more on its standard input, so that its memory can be looked at.
func parseAlone(t *testing.T, binary, path string) parsed {
	t.Helper()
	cmd := exec.Command(binary, "parse", "--format", "ndjson", path, "-")
	cmd.Env = []string{"DMARCD_CONFIG=" + os.DevNull, "TMPDIR=" + t.TempDir()}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	p := parsed{Took: time.Since(begun)}
	if err := json.Unmarshal([]byte(line), &p); err != nil {
		t.Fatalf("%s: %v: %s", path, err, line)
	}
	p.Peak = peakMemory(t, cmd.Process.Pid)
	return p
}

const (
	reportHead = `<?xml version="1.0" encoding="UTF-8"?>
<feedback><report_metadata><org_name>R</org_name><email>a@r.example</email><report_id>1</report_id>
<date_range><begin>1767225600</begin><end>1767311999</end></date_range></report_metadata>
<policy_published><domain>example.com</domain><p>none</p></policy_published>
`
	reportRow = `<record>
  <row><source_ip>192.0.2.%d</source_ip><count>%d</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>
  <identifiers><header_from>example.com</header_from></identifiers>
  <auth_results><dkim><domain>example.com</domain><selector>s%d</selector><result>pass</result></dkim></auth_results>
</record>
`
)

// repeated is gzip data of a head, then a block many times, then a tail.
// Compressed once, the block costs nothing however often it comes. Without a
// tail, the checksum is left out: nobody will get that far.
func repeated(t *testing.T, head, block string, times int, tail string) []byte {
	t.Helper()
	deflated := func(text string) []byte {
		var out bytes.Buffer
		w, err := flate.NewWriter(&out, flate.DefaultCompression)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
		w.Flush()
		return out.Bytes()
	}
	out := append([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), deflated(head)...)
	out = append(out, bytes.Repeat(deflated(block), times)...)
	if tail == "" {
		return out
	}
	sum, b := crc32.ChecksumIEEE([]byte(head)), []byte(block)
	for range times {
		sum = crc32.Update(sum, crc32.IEEETable, b)
	}
	sum = crc32.Update(sum, crc32.IEEETable, []byte(tail))
	out = append(append(out, deflated(tail)...), 1, 0, 0, 0xff, 0xff) // an empty last block
	out = binary.LittleEndian.AppendUint32(out, sum)
	return binary.LittleEndian.AppendUint32(out, uint32(len(head)+len(block)*times+len(tail)))
}

func gz(t *testing.T, write func(io.Writer)) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	write(w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Files made to cost much are refused for what they are, and cost little.
// (How long each took is said with -v; no test depends on it.)
func TestHostileFilesCostLittle(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells how much memory another process had")
	}
	program := build(t)
	random, letters := rand.New(rand.NewPCG(1, 2)), make([]byte, 1<<20)
	for i := range letters {
		letters[i] = 'a' + byte(random.Uint32()%16)
	}
	noisy := func(head string) []byte { return repeated(t, head, string(letters), 100, ".") }
	for name, c := range map[string]struct {
		content         []byte
		outcome, reason string
	}{
		"a gzip bomb of 10 GB.xml.gz":            {repeated(t, reportHead, strings.Repeat(" ", 1<<20), 10<<10, ""), "bomb_or_too_large", "(limits.ratio)"},
		"10 GB of zeros.gz":                      {repeated(t, "", strings.Repeat("\x00", 1<<20), 10<<10, ""), "bomb_or_too_large", "(limits.ratio)"},
		"10 GB of rows.xml.gz":                   {repeated(t, reportHead, strings.Repeat(fmt.Sprintf(reportRow, 1, 1, 1), 2500), 10<<10, ""), "too_large", "(limits.rows)"},
		"a billion laughs.xml":                   {laughs(), "hostile_xml", "it declares entities"},
		"a billion laughs.xml.gz":                {gz(t, func(w io.Writer) { w.Write(laughs()) }), "hostile_xml", "it declares entities"},
		"a million elements.xml":                 {[]byte("<feedback>" + strings.Repeat("<a>", 1_000_000)), "hostile_xml", "(limits.depth)"},
		"a million elements.xml.gz":              {gz(t, func(w io.Writer) { io.WriteString(w, "<feedback>"+strings.Repeat("<a>", 1_000_000)) }), "hostile_xml", "(limits.depth)"},
		"a million elements in a row.xml":        {[]byte(reportHead + "<record>" + strings.Repeat("<a>", 1_000_000)), "hostile_xml", "(limits.depth)"},
		"a million open objects.json":            {[]byte(`{"policies":` + strings.Repeat("[", 1_000_000)), "too_large", "(limits.depth)"},
		"100 MB of text.xml":                     {append([]byte("<feedback><report_metadata><org_name>"), bytes.Repeat([]byte("a"), 100<<20)...), "too_large", "(limits.message)"},
		"100 MB of text that is packed.xml.gz":   {noisy("<feedback><report_metadata><org_name>"), "hostile_xml", "(limits.text)"},
		"100 MB of text in CDATA.xml.gz":         {noisy("<feedback><report_metadata><org_name><![CDATA["), "hostile_xml", "(limits.text)"},
		"100 MB of text in a tag.xml.gz":         {noisy("<feedback><report_metadata "), "bad_xml", "a tag does not end"},
		"100 MB of text in a value.json.gz":      {noisy(`{"policies":[],"report-id":"`), "too_large", "a value in JSON"},
		"10000 parts.eml":                        {parts(10_000), "too_large", "(limits.mime_parts)"},
		"10000 parts, each within another.eml":   {within(10_000), "too_large", "(limits.mime_depth)"},
		"100000 members.zip":                     {members(t, 100_000), "too_large", "the directory of the zip archive"},
		"100000 reports.zip":                     {members(t, 100_000, "<feedback>"), "too_large", "the directory of the zip archive"},
		"1000000 gzip members.xml.gz":            {bytes.Repeat(gz(t, func(w io.Writer) { io.WriteString(w, " ") }), 1_000_000), "too_large", "(limits.members)"},
		"a line of 60 MB.eml":                    {append([]byte("From: a@b.example\nSubject: "), bytes.Repeat([]byte("x"), 60<<20)...), "", ""},
		"60 MB of header fields.eml":             {append([]byte("From: a@b.example\n"), bytes.Repeat([]byte("X-A: b\n"), 8<<20)...), "", ""},
		"60 MB of base64 in base64 of zeros.eml": {append([]byte("From: a@b.example\nMIME-Version: 1.0\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n"), bytes.Repeat([]byte(base64.StdEncoding.EncodeToString(make([]byte, 57))+"\n"), 700_000)...), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			p := parseAlone(t, program, path)
			t.Logf("%s: %s; %d MiB, %v", p.Outcome, p.Reason, p.Peak>>20, p.Took.Round(time.Millisecond))
			if c.outcome != "" && p.Outcome != c.outcome || !strings.Contains(p.Reason, c.reason) || p.Kind != "none" {
				t.Errorf("it is %s, %s: %s; want %s: …%s", p.Kind, p.Outcome, p.Reason, c.outcome, c.reason)
			}
			if p.Peak > 96<<20 {
				t.Errorf("%d MiB were resident", p.Peak>>20)
			}
		})
	}
}

// Memory does not grow with the number of rows.
func TestAMillionRowsCostLittleMemory(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells how much memory another process had")
	}
	program := build(t)
	const rows = 1_000_000
	path := filepath.Join(t.TempDir(), "rows.xml.gz")
	messages := int64(0)
	random := rand.New(rand.NewPCG(1, 2))
	var block strings.Builder
	for range rows / 1000 {
		n := 1 + random.IntN(1000)
		messages += int64(n) * 1000
		fmt.Fprintf(&block, reportRow, random.IntN(256), n, random.IntN(3))
	}
	content := repeated(t, reportHead, block.String(), 1000, "</feedback>\n")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	p := parseAlone(t, program, path)
	t.Logf("%d MiB, %v", p.Peak>>20, p.Took.Round(time.Millisecond))
	if p.Rows != rows || p.Totals.Messages != messages || p.Totals.DKIMAligned != messages || p.Totals.SPFAligned != 0 {
		t.Errorf("read %+v, want %d rows and %d messages", p, rows, messages)
	}
	if p.Peak > 48<<20 {
		t.Errorf("%d MiB were resident", p.Peak>>20)
	}
}

func laughs() []byte {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\"?>\n<!DOCTYPE feedback [\n<!ENTITY a0 \"ha\">\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&b, "<!ENTITY a%d \"%s\">\n", i, strings.Repeat(fmt.Sprintf("&a%d;", i-1), 10))
	}
	b.WriteString("]>\n<feedback><report_metadata><org_name>&a9;</org_name></report_metadata></feedback>")
	return []byte(b.String())
}

func parts(n int) []byte {
	var b strings.Builder
	b.WriteString("From: a@b.example\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n")
	for range n {
		b.WriteString("\n--x\nContent-Type: text/plain\n\nhello\n")
	}
	b.WriteString("\n--x--\n")
	return []byte(b.String())
}

func within(n int) []byte {
	var b strings.Builder
	b.WriteString("From: a@b.example\nMIME-Version: 1.0\n")
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=x%d\n\n--x%d\n", i, i)
	}
	return []byte(b.String())
}

func members(t *testing.T, n int, content ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range n {
		f, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%d.xml", i), Method: zip.Store})
		if err == nil {
			_, err = io.WriteString(f, strings.Join(content, ""))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
