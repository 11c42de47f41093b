package notify

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// grouped writes 12,345.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func messages(n int64) string {
	switch n {
	case 0:
		return "no message"
	case 1:
		return "1 message"
	}
	return grouped(n) + " messages"
}

func days(n int) string {
	if n == 1 {
		return "1 day"
	}
	return grouped(int64(n)) + " days"
}

// percent writes a share with one digit. What is not all is never 100 %, and
// what is not nothing never 0 %.
func percent(part, whole int64) string {
	if whole == 0 {
		return "none"
	}
	return rateOf(float64(part)/float64(whole), part == whole, part == 0)
}

func rate(r float64) string { return rateOf(r, r == 1, r == 0) }

func rateOf(r float64, all, none bool) string {
	text := strconv.FormatFloat(100*r, 'f', 1, 64)
	switch {
	case all:
		return "100 %"
	case none:
		return "0 %"
	case text == "100.0":
		return "99.9 %"
	case text == "0.0":
		return "0.1 %"
	}
	return text + " %"
}

func day(t time.Time) string { return t.Format("2 January 2006") }

func minute(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

// sentence ends a text with a full stop.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || strings.ContainsRune(".?!", rune(s[len(s)-1])) {
		return s
	}
	return s + "."
}

func optional(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}

// upper begins a text with a capital.
func upper(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}

// shorten cuts the middle out of a long text.
func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n/2]) + "…" + string(r[len(r)-n/2+1:])
}

// visible replaces what could change how a text looks or reads: control and
// format characters. Names in reports are written by strangers.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			return '\uFFFD'
		}
		return r
	}, s)
}

// line is a text in one visible line.
func line(s string) string {
	return strings.Join(strings.Fields(visible(strings.ReplaceAll(s, "\n", " "))), " ")
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%s %s", grouped(int64(n)), many)
}
