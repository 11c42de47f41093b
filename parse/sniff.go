package parse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// A kind is what bytes are, whatever they are called.
type kind int

const (
	kindOther kind = iota // nothing of interest
	kindEmpty             // nothing but white space
	kindText              // text that is none of the others
	kindGzip
	kindZlib
	kindZip
	kindTar
	kindXML      // may hold an aggregate report
	kindOtherXML // with another root; a report may still stand in it
	kindHTML
	kindJSON       // may hold a TLS report
	kindParsedmarc // a report as parsedmarc writes it
	kindReportList // several of them
	kindARF
	kindFailureText
	kindBase64 // text that decodes to one of the above
	kindOLE
	kindUnsupported // a container that is not opened
)

// bare tells whether a file of this kind is surely no mail.
func (k kind) bare() bool {
	switch k {
	case kindOther, kindText, kindARF, kindFailureText, kindBase64:
		return false
	}
	return true
}

// sniffLength is how many bytes are looked at.
const sniffLength = 4 << 10

// A sniffed is what the first bytes tell.
type sniffed struct {
	kind kind
	what string // for people: what it is, or its root element
}

// containers that are recognised and not opened.
var containers = []struct{ magic, what string }{
	{"\x78\x9f\x3e\x22", "a TNEF container (winmail.dat)"},
	{"7z\xbc\xaf\x27\x1c", "a 7z archive"},
	{"Rar!\x1a\x07", "a RAR archive"},
	{"\xfd7zXZ\x00", "xz data"},
	{"\x28\xb5\x2f\xfd", "zstd data"},
	{"BZh91AY&SY", "bzip2 data"}, {"BZh61AY&SY", "bzip2 data"},
	{"-----BEGIN PGP MESSAGE", "a PGP message"},
}

const magicOLE = "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

// sniff tells what bytes are by the first of them: head, which is all there is
// if whole is true.
func sniff(head []byte, whole bool) sniffed {
	is := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	head = skipBlank(head)
	switch {
	case len(head) == 0:
		return sniffed{kind: kindEmpty}
	case is("\x1f\x8b"):
		return sniffed{kindGzip, "gzip data"}
	case is("PK\x03\x04"), is("PK\x05\x06"), is("PK00PK\x03\x04"):
		return sniffed{kindZip, "a zip archive"}
	case is(magicOLE):
		return sniffed{kindOLE, "an Outlook message (.msg)"}
	case len(head) > 262 && string(head[257:262]) == "ustar":
		return sniffed{kindTar, "a tar archive"}
	case len(head) > 2 && head[0] == 0x78 && bytes.IndexByte([]byte{0x01, 0x5e, 0x9c, 0xda}, head[1]) >= 0:
		return sniffed{kindZlib, "zlib data"}
	}
	for _, c := range containers {
		if is(c.magic) {
			return sniffed{kindUnsupported, c.what}
		}
	}
	text := head
	if bytes.IndexByte(head, 0) >= 0 && (head[0] != '<' && head[0] != '{' || head[1] == 0) {
		if text = narrow(head); text == nil {
			return sniffed{kind: kindOther}
		}
	}
	switch {
	case text[0] == '<':
		return sniffXML(text, whole)
	case (text[0] == '{' || text[0] == '[') && sniffReports(text) != kindOther:
		return sniffed{sniffReports(text), "JSON"}
	case text[0] == '{' && holdsAny(text, `"policies"`, `"date-range"`, `"report-id"`, `"organization-name"`):
		return sniffed{kindJSON, "JSON"}
	case text[0] == '{' && !whole && len(bytes.TrimLeft(text[1:], " \t\r\n")) > 0 && bytes.TrimLeft(text[1:], " \t\r\n")[0] == '"':
		return sniffed{kindJSON, "JSON"} // the keys may come later
	case isARF(text):
		return sniffed{kindARF, "a feedback report"}
	case isFailureText(text):
		return sniffed{kindFailureText, "a failure report as text"}
	}
	if text[0] == '{' && whole && json.Valid(text) {
		return sniffed{kindText, "JSON"}
	}
	if inner, ok := sniffBase64(text); ok {
		return inner
	}
	return sniffed{kind: kindText}
}

// skipBlank removes a byte order mark of UTF-8 and white space.
func skipBlank(b []byte) []byte {
	b = bytes.TrimLeft(b, " \t\r\n\v\f")
	if rest, ok := bytes.CutPrefix(b, []byte("\xef\xbb\xbf")); ok {
		b = bytes.TrimLeft(rest, " \t\r\n\v\f")
	}
	return b
}

// narrow returns UTF-16 as bytes, or nil if it is something else.
func narrow(b []byte) []byte {
	wide := bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) ||
		bytes.HasPrefix(b, []byte("<\x00")) || bytes.HasPrefix(b, []byte("\x00<"))
	if !wide {
		return nil
	}
	b = bytes.TrimLeft(b, "\xff\xfe")
	b = skipBlank(bytes.ReplaceAll(b, []byte{0}, nil))
	if len(b) == 0 {
		return nil
	}
	return b
}

func holdsAny(b []byte, words ...string) bool {
	for _, w := range words {
		if bytes.Contains(b, []byte(w)) {
			return true
		}
	}
	return false
}

// sniffXML looks at the first element.
func sniffXML(text []byte, whole bool) sniffed {
	name, found := rootName(text)
	local := strings.ToLower(name[strings.LastIndexByte(name, ':')+1:])
	switch {
	case local == "feedback":
		return sniffed{kindXML, "XML"}
	case local == "html":
		return sniffed{kindHTML, "HTML"}
	case !found && whole:
		return sniffed{kindText, "XML without an element"}
	case !found, feedbackElement.Match(text):
		return sniffed{kindXML, "XML"} // let the reader of reports look
	case name == "" || !isLetter(name[0]):
		return sniffed{kind: kindText}
	}
	return sniffed{kindOtherXML, fmt.Sprintf("XML with the root <%s>", cleanText(name))}
}

// feedbackElement is what an aggregate report begins with.
var feedbackElement = regexp.MustCompile(`<([A-Za-z_][\w.-]*:)?feedback[\s/>]`)

func isLetter(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }

// rootName returns the name of the first element, and whether there is one.
// Declarations, comments and instructions are skipped.
func rootName(b []byte) (string, bool) {
	for {
		i := bytes.IndexByte(b, '<')
		if i < 0 || i+1 == len(b) {
			return "", false
		}
		b = b[i+1:]
		end := ">"
		switch {
		case bytes.HasPrefix(b, []byte("!--")):
			end = "-->"
		case b[0] == '?', b[0] == '!':
			if len(b) > 12 && strings.EqualFold(string(b[:12]), "!DOCTYPE htm") {
				return "html", true
			}
		default:
			n := bytes.IndexAny(b, " \t\r\n/>")
			if n < 0 {
				n = len(b)
			}
			return string(b[:min(n, 64)]), n > 0
		}
		if i = bytes.Index(b, []byte(end)); i < 0 {
			return "", false
		}
		b = b[i+len(end):]
	}
}

// isARF tells whether a field block with Feedback-Type begins here.
func isARF(b []byte) bool {
	if !bytes.Contains(bytes.ToLower(b), []byte("feedback-type")) {
		return false
	}
	found := false
	readHeader(newLines(bytes.NewReader(b), 0, int64(len(b))), func(name, _ string) {
		found = found || squash(name) == "feedbacktype"
	})
	return found
}

const failurePhrase = "a message claiming to be from you has failed"

var blanks = regexp.MustCompile(`[\s>]+`)

// isFailureText tells whether the text is a failure report without ARF, also
// when it was wrapped again or quoted.
func isFailureText(b []byte) bool {
	if !bytes.Contains(bytes.ToLower(b), []byte("claiming")) {
		return false
	}
	text := blanks.ReplaceAllString(strings.ToLower(string(b)), " ")
	return strings.Contains(text, failurePhrase)
}

// sniffBase64 tells whether text is base64 of something that is of interest.
func sniffBase64(b []byte) (sniffed, bool) {
	n := 0
	for _, c := range b {
		switch v := base64Values[c]; {
		case v <= 64 && c != '-' && c != '_':
			n++
		case c != '\r' && c != '\n' && c != ' ' && c != '\t':
			return sniffed{}, false
		}
	}
	if n < 16 {
		return sniffed{}, false
	}
	decoded, _ := io.ReadAll(newBase64Reader(bytes.NewReader(b)))
	switch inner := sniff(decoded, false); inner.kind {
	case kindGzip, kindZlib, kindZip, kindTar, kindXML, kindJSON, kindARF:
		return sniffed{kindBase64, "base64 of " + inner.what}, true
	}
	return sniffed{}, false
}
