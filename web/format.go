package web

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Spaces that do not break: between a number and its unit.
const nbsp = "\u00a0"

// count writes a number with a comma between thousands: 1,234,567.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// short writes a number exactly up to 99,999, and with two or three digits and
// a unit beyond: 124 k, 1.2 M.
func short(n int64) string {
	if n < 100_000 {
		return count(n)
	}
	return scaled(float64(n))
}

// scaled writes a number from 1,000 up with two or three digits and a unit.
func scaled(v float64) string {
	for i, unit := range []string{"k", "M", "G", "T", "P", "E"} {
		size := math.Pow(1000, float64(i+1))
		x := v / size
		if math.Round(x) >= 1000 && unit != "E" {
			continue
		}
		if math.Round(x*10) < 100 {
			return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0") + nbsp + unit
		}
		return strconv.FormatFloat(x, 'f', 0, 64) + nbsp + unit
	}
	return ""
}

// tick writes a number at an axis: 0, 500, 20 k, 2.5 M.
func tick(v float64) string {
	switch {
	case v != math.Trunc(v):
		return strconv.FormatFloat(v, 'f', -1, 64)
	case v < 10_000:
		return count(int64(v))
	}
	return scaled(v)
}

// percent writes n of total with one digit. It says 100 % and 0 % only when
// that is exact, and nothing at all of nothing.
func percent(n, total int64) string {
	switch {
	case total <= 0:
		return "no mail seen"
	case n <= 0:
		return "0" + nbsp + "%"
	case n >= total:
		return "100" + nbsp + "%"
	}
	tenths := math.Round(float64(n) / float64(total) * 1000)
	switch {
	case tenths < 1:
		return "<" + "0.1" + nbsp + "%"
	case tenths > 999:
		return ">" + "99.9" + nbsp + "%"
	}
	return strconv.FormatFloat(tenths/10, 'f', 1, 64) + nbsp + "%"
}

// plural joins a number and a noun: "1 message", "1,204 messages".
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1" + nbsp + one
	}
	return count(n) + nbsp + many
}

// day writes a day of UTC as people read it: 7 Nov 2026.
func day(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2 Jan 2006")
}

// weekday writes a day of UTC with its weekday: Sat 7 Nov 2026.
func weekday(t time.Time) string { return t.UTC().Format("Mon 2 Jan 2006") }

// isoDay writes a day of UTC as addresses and machines read it.
func isoDay(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// clock writes a moment as people read it, and says that it is in UTC: 7 Nov 2026, 21:30 UTC.
func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2 Jan 2006, 15:04") + nbsp + "UTC"
}

// plain makes a stranger's text safe to show in a line: what is invisible,
// breaks the line or turns the direction of writing is replaced.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r == unicode.ReplacementChar, unicode.Is(unicode.C, r), r == '\u2028', r == '\u2029':
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// spoken makes a sentence of ours, with what strangers wrote in it, safe to show: a number
// and its sign stay on one line.
func spoken(s string) string { return strings.ReplaceAll(plain(s), " %", nbsp+"%") }

// lines makes a stranger's text of several lines safe to show.
func lines(s string) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i := range all {
		all[i] = plain(all[i])
	}
	return strings.Join(all, "\n")
}

// cut shortens text to at most n characters by leaving out the middle.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	tail := n / 2
	return string(r[:n-1-tail]) + "…" + string(r[len(r)-tail:])
}

// sentence makes a sentence of a clue.
func sentence(s string) string {
	s = plain(s)
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
