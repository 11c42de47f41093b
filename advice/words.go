package advice

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// count writes a number with commas: 12,345.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// messages writes a number of messages.
func messages(n int64) string {
	if n == 1 {
		return "1 message"
	}
	return count(n) + " messages"
}

// plural writes a number and what it counts; the plural ends with s.
func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return count(int64(n)) + " " + word + "s"
}

// aDay writes a number of messages a day, as exactly as is of use.
func aDay(n float64) string {
	switch {
	case n == 0:
		return "0 a day"
	case n < 0.095:
		return "fewer than 1 in 10 days"
	case n < 9.95:
		return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 1, 64), ".0") + " a day"
	}
	return count(int64(math.Round(n))) + " a day"
}

// messagesADay is aDay, with what is counted.
func messagesADay(n float64) string {
	text, ok := strings.CutSuffix(aDay(n), " a day")
	switch {
	case !ok:
		return "Fewer than 1 message in 10 days"
	case text == "1":
		return "1 message a day"
	}
	return text + " messages a day"
}

// percent writes a share with one digit; what is not all or nothing is never
// written as 100 % or 0 %.
func percent(share float64) string {
	digits := 1
	s := fmt.Sprintf("%.*f", digits, 100*share)
	for digits < 6 && (share > 0 && allZero(s) || share < 1 && strings.HasPrefix(s, "100")) {
		digits++
		s = fmt.Sprintf("%.*f", digits, 100*share)
	}
	if share == 0 || share == 1 {
		s = strings.TrimSuffix(s, ".0")
	}
	return s + " %"
}

func allZero(s string) bool { return strings.Trim(s, "0.") == "" }

func date(t time.Time) string { return t.UTC().Format("2 January 2006") }

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func pick(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return strconv.Itoa(n) + " times"
}

func ordinal(n int) string {
	switch n {
	case 1:
		return "first"
	case 2:
		return "second"
	case 3:
		return "third"
	}
	return strconv.Itoa(n) + "th"
}

// list writes at most n names, and how many more there are.
func list(names []string, n int) string {
	if len(names) > n {
		return strings.Join(names[:n], ", ") + fmt.Sprintf(" and %d more", len(names)-n)
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
