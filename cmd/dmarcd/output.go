package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// printable makes a text safe for a terminal: what does not print stands as an
// escape, so that it can neither begin a line nor turn the direction of
// writing. Line ends of our own texts stay.
func printable(text string) string { return escape(text, true) }

// inline is printable for what a stranger wrote: it stays in its line.
func inline(text string) string { return escape(text, false) }

func escape(text string, lines bool) string {
	plain := true
	for _, r := range text {
		if !strconv.IsPrint(r) && !(lines && r == '\n') {
			plain = false
			break
		}
	}
	if plain {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case strconv.IsPrint(r), lines && r == '\n':
			b.WriteRune(r)
		case unicode.IsSpace(r) && r > ' ':
			b.WriteByte(' ') // spaces of typography
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// grouped writes a number with a comma between thousands.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted joins a number and a noun: "1 row", "1,204 rows".
func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// share writes n of total in percent, with one digit. It says 100 % and 0 %
// only where that is exact.
func share(n, total int64) string {
	switch {
	case total <= 0:
		return "no messages"
	case n == 0:
		return "0 %"
	case n == total:
		return "100 %"
	}
	return fmt.Sprintf("%.1f %%", min(max(float64(n)/float64(total)*100, 0.1), 99.9))
}
