package parse

import (
	netmail "net/mail"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	dateComment = regexp.MustCompile(`\([^()]*\)`)
	dateWeekday = regexp.MustCompile(`^[A-Za-z]{3,9}\.?,?\s+`)
	dateZone    = regexp.MustCompile(`\s([A-Za-z]{1,5})$`)
)

// zones are the names that RFC 5322, section 4.3 and habit give to offsets.
var zones = map[string]string{
	"UT": "+0000", "UTC": "+0000", "GMT": "+0000", "Z": "+0000", "WET": "+0000",
	"EST": "-0500", "EDT": "-0400", "CST": "-0600", "CDT": "-0500", "MST": "-0700", "MDT": "-0600", "PST": "-0800", "PDT": "-0700",
	"BST": "+0100", "CET": "+0100", "MET": "+0100", "CEST": "+0200", "MEST": "+0200", "EET": "+0200", "EEST": "+0300",
	"MSK": "+0300", "IST": "+0530", "JST": "+0900", "KST": "+0900", "AEST": "+1000", "AEDT": "+1100",
}

var dateLayouts = []string{
	"2 Jan 2006 15:04:05 -0700", "2 Jan 2006 15:04 -0700", "2 Jan 2006 15:04:05", "2 Jan 2006 15:04",
	"2 January 2006 15:04:05 -0700", "2 January 2006 15:04:05",
	"Jan 2 2006 15:04:05 -0700", "Jan 2 2006 15:04:05", "Jan 2 15:04:05 2006 -0700", "Jan 2 15:04:05 2006", "January 2 2006 15:04:05 -0700",
	"2-Jan-2006 15:04:05 -0700", "2 Jan 06 15:04:05 -0700",
	time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05-07:00", "2006-01-02 15:04:05",
	"2006-01-02T15:04:05-0700", "2006-01-02T15:04", "2006-01-02",
	"2 Jan 2006", "Jan 2 2006",
}

// parseDate reads a date of a mail (RFC 5322, section 3.3), of RFC 3339, or of
// one of the many forms in between. Without a zone it is in UTC. The result is
// in UTC, in whole seconds, and lies between 1970 and 9999.
func parseDate(s string) (time.Time, bool) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 200 {
		return time.Time{}, false
	}
	s = strings.TrimSpace(dateComment.ReplaceAllString(s, " "))
	if t, err := netmail.ParseDate(s); err == nil && !dateZone.MatchString(s) {
		return plausibleDate(t)
	}
	s = strings.Join(strings.Fields(strings.ReplaceAll(s, ",", " ")), " ")
	if m := dateZone.FindStringSubmatch(s); m != nil {
		if offset, ok := zones[strings.ToUpper(m[1])]; ok {
			s = strings.TrimSuffix(s, m[1]) + offset
		}
	}
	for _, text := range []string{s, dateWeekday.ReplaceAllString(s, "")} {
		for _, layout := range dateLayouts {
			if t, err := time.Parse(layout, text); err == nil {
				return plausibleDate(t)
			}
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 1e8 && n < 1e10 {
		return plausibleDate(time.Unix(n, 0))
	}
	return time.Time{}, false
}

func plausibleDate(t time.Time) (time.Time, bool) {
	t = t.UTC().Truncate(time.Second)
	if t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, false
	}
	return t, true
}
