package web

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestNumbersAreExactOrShort(t *testing.T) {
	for _, c := range []struct {
		n            int64
		exact, short string
	}{
		{0, "0", "0"},
		{7, "7", "7"},
		{999, "999", "999"},
		{1_000, "1,000", "1,000"},
		{12_345, "12,345", "12,345"},
		{99_999, "99,999", "99,999"},
		{100_000, "100,000", "100 k"},
		{999_499, "999,499", "999 k"},
		{999_500, "999,500", "1 M"},
		{1_234_567, "1,234,567", "1.2 M"},
		{9_949_999, "9,949,999", "9.9 M"},
		{9_950_000, "9,950,000", "10 M"},
		{123_456_789, "123,456,789", "123 M"},
		{2_000_000_000, "2,000,000,000", "2 G"},
		{math.MaxInt64, "9,223,372,036,854,775,807", "9.2 E"},
		{-12_345, "-12,345", "-12,345"},
	} {
		if got := count(c.n); got != c.exact {
			t.Errorf("count(%d) = %q, want %q", c.n, got, c.exact)
		}
		if got := spaced(short(c.n)); got != c.short {
			t.Errorf("short(%d) = %q, want %q", c.n, got, c.short)
		}
	}
	if got, want := string(numeral(1_234_567)), `<span title="1,234,567">1.2`+nbsp+`M</span>`; got != want {
		t.Errorf("a short number is %s, want %s", got, want)
	}
}

func TestPercentagesAreNeverRoundedToAllOrNothing(t *testing.T) {
	for _, c := range []struct {
		n, total int64
		want     string
	}{
		{0, 0, "no mail seen"},
		{0, 10, "0 %"},
		{10, 10, "100 %"},
		{1, 3, "33.3 %"},
		{971, 1000, "97.1 %"},
		{1, 2_000, "0.1 %"},
		{1, 2_001, "<0.1 %"},
		{1, math.MaxInt64, "<0.1 %"},
		{9_994, 10_000, "99.9 %"},
		{9_996, 10_000, ">99.9 %"},
		{math.MaxInt64 - 1, math.MaxInt64, ">99.9 %"},
		{1, 1, "100 %"},
	} {
		if got := spaced(percent(c.n, c.total)); got != c.want {
			t.Errorf("percent(%d, %d) = %q, want %q", c.n, c.total, got, c.want)
		}
	}
}

func TestNounsFollowTheirNumber(t *testing.T) {
	for n, want := range map[int64]string{0: "0 days", 1: "1 day", 2: "2 days", 1204: "1,204 days"} {
		if got := spaced(plural(n, "day", "days")); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestTimesAreSaidInUTC(t *testing.T) {
	zone := time.FixedZone("", 5*3600)
	at := time.Date(2026, 11, 8, 2, 30, 0, 0, zone) // the evening before in UTC
	for _, c := range []struct{ got, want string }{
		{day(at), "7 Nov 2026"},
		{weekday(at), "Sat 7 Nov 2026"},
		{isoDay(at), "2026-11-07"},
		{clock(at), "7 Nov 2026, 21:30 UTC"},
		{day(time.Time{}), "never"},
		{clock(time.Time{}), "never"},
		{string(moment(at)), `<time datetime="2026-11-07T21:30:00Z">7 Nov 2026, 21:30 UTC</time>`},
	} {
		if spaced(c.got) != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

func TestTextOfStrangersCannotTurnOrBreakALine(t *testing.T) {
	for in, want := range map[string]string{
		"Google":              "Google",
		"Bücher für 日本":       "Bücher für 日本",
		"a\tb\nc\rd":          "a b c d",
		"moc.elgoog\u202exyz": "moc.elgoog\ufffdxyz",
		"a\u200bb\x00c\u2066": "a\ufffdb\ufffdc\ufffd",
		"a\u2028b":            "a\ufffdb",
		"broken \xff bytes":   "broken \ufffd bytes",
	} {
		if got := plain(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got, want := string(mono(`<b a="x">`, 30)), `<bdi class="mono">&lt;b a=&#34;x&#34;&gt;</bdi>`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := string(stranger("0123456789&", 6)), `<bdi title="0123456789&amp;">01…89&amp;</bdi>`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestLongTextIsCutInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"short.example", 13, "short.example"},
		{"a-long-name.example", 12, "a-lon…xample"},
		{"日本語の名前です", 5, "日本…です"},
	} {
		if got := cut(c.in, c.n); got != c.want || len([]rune(got)) > c.n {
			t.Errorf("%q to %d: %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

// spaced writes ordinary spaces for those that do not break.
func spaced(s string) string {
	r := []rune(s)
	for i := range r {
		if r[i] == '\u00a0' {
			r[i] = ' '
		}
	}
	return string(r)
}

func TestThePeriodOfAReportIsItsDaysOrTheHoursOfOne(t *testing.T) {
	at := func(s string) time.Time {
		m, err := time.Parse("2006-01-02 15:04:05", s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct{ begin, end, want string }{
		{"2026-11-26 00:00:00", "2026-11-27 00:00:00", "26 Nov 2026"},
		{"2026-11-26 00:00:00", "2026-11-26 23:59:59", "26 Nov 2026"},
		{"2026-11-26 00:00:00", "2026-11-26 06:00:00", "26 Nov 2026, 00:00 to 06:00"},
		{"2026-11-26 18:00:00", "2026-11-26 23:59:59", "26 Nov 2026, 18:00 to 24:00"},
		{"2026-11-26 06:30:00", "2026-11-26 12:00:00", "26 Nov 2026, 06:30 to 12:00"},
		{"2026-11-26 06:00:00", "2026-11-27 06:00:00", "26 Nov 06:00 to 27 Nov 2026 06:00"},
		{"2026-11-20 00:00:00", "2026-11-26 23:59:59", "20 Nov to 26 Nov 2026"},
		{"2026-12-30 00:00:00", "2027-01-03 00:00:00", "30 Dec 2026 to 2 Jan 2027"},
		{"2026-11-26 06:00:00", "2026-11-26 05:00:00", "26 Nov 06:00 to 26 Nov 2026 05:00"},
	} {
		if got := strings.ReplaceAll(reportPeriod(dmarc.Period{Begin: at(c.begin), End: at(c.end)}), nbsp, " "); got != c.want {
			t.Errorf("%s to %s: %q, want %q", c.begin, c.end, got, c.want)
		}
	}
}
