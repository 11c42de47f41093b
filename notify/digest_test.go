package notify

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"image/png"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dmarcd/dmarcd/dmarc"
)

func TestADigestIsDueOnceADayByTheClockOfItsZone(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("NOT TESTED: this machine has no time zones: ", err)
	}
	seven := Schedule{Hour: 7, Zone: berlin}
	night := Schedule{Hour: 2, Minute: 30, Zone: berlin}
	monday := Schedule{Weekly: true, Weekday: time.Monday, Hour: 7, Zone: berlin}
	for _, c := range []struct {
		s              Schedule
		now, due, name string
	}{
		{Schedule{}, "2026-11-20T00:00:00Z", "2026-11-20T00:00:00Z", "daily 2026-11-20"},
		{seven, "2026-11-20T05:59:59Z", "2026-11-19T06:00:00Z", "daily 2026-11-19"},
		{seven, "2026-11-20T06:00:00Z", "2026-11-20T06:00:00Z", "daily 2026-11-20"},
		{seven, "2026-11-20T23:30:00Z", "2026-11-20T06:00:00Z", "daily 2026-11-20"}, // tomorrow in Berlin
		{seven, "2026-03-29T12:00:00Z", "2026-03-29T05:00:00Z", "daily 2026-03-29"}, // summer time begins
		{seven, "2026-10-25T12:00:00Z", "2026-10-25T06:00:00Z", "daily 2026-10-25"}, // and ends
		{night, "2026-03-29T12:00:00Z", "2026-03-29T01:30:00Z", "daily 2026-03-29"}, // half past two does not exist
		{monday, "2026-11-23T05:00:00Z", "2026-11-16T06:00:00Z", "weekly 2026-11-16"},
		{monday, "2026-11-23T06:30:00Z", "2026-11-23T06:00:00Z", "weekly 2026-11-23"},
		{monday, "2026-11-29T23:30:00Z", "2026-11-23T06:00:00Z", "weekly 2026-11-23"}, // Monday in Berlin, before seven
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		due, name := c.s.last(now)
		if got := due.UTC().Format(time.RFC3339); got != c.due || name != c.name {
			t.Errorf("%+v at %s: due %s, %q, want %s, %q", c.s, c.now, got, name, c.due, c.name)
		}
	}
}

// A ledger of digests and of what happened.
type digestStore struct {
	domains []dmarc.DomainTraffic
	events  []dmarc.Event
	posted  []dmarc.OutgoingMessage
}

func (s *digestStore) Domains(_ context.Context, q dmarc.DomainQuery) ([]dmarc.DomainTraffic, dmarc.Cursor, error) {
	// Two pages, to see that both are read.
	half := len(s.domains) / 2
	if q.After == "" {
		return s.domains[:half], "rest", nil
	}
	return s.domains[half:], "", nil
}

func (s *digestStore) GroupDomains(context.Context, []string) ([]string, error) { return nil, nil }

func (s *digestStore) EventsIn(_ context.Context, begin, end time.Time, _ dmarc.Scope) (in []dmarc.Event, err error) {
	for _, e := range s.events {
		if !e.At.Before(begin) && e.At.Before(end) {
			in = append(in, e)
		}
	}
	return in, nil
}

func (s *digestStore) Posted(_ context.Context, key string) (bool, error) {
	for _, m := range s.posted {
		if m.Key == key {
			return true, nil
		}
	}
	return false, nil
}

func (s *digestStore) Post(_ context.Context, _ dmarc.Lease, messages []dmarc.OutgoingMessage) error {
	s.posted = append(s.posted, messages...)
	return nil
}

// sampleStore has domains with mail of a month, and what a stranger named.
func sampleStore(due time.Time) *digestStore {
	s := &digestStore{}
	for i, name := range []string{"acme.example", "north.example", "a-very-long-name-of-a-domain-that-somebody-thought-of.river.example", "x<script>alert(1)</script>.example", "quiet.example"} {
		d := dmarc.DomainTraffic{Domain: name}
		size := int64(1_200_000 >> (3 * i))
		for back := 1; back <= 30; back++ {
			day := due.UTC().Truncate(24*time.Hour).AddDate(0, 0, -back)
			if back == 12 || i == 4 {
				continue // no report
			}
			n := size / 30
			if w := day.Weekday(); w == time.Saturday || w == time.Sunday {
				n /= 3
			}
			failed, stopped := n/50, n/20
			if back < 5 && i == 0 {
				failed = n / 4
			}
			t := dmarc.Tally{Messages: n, DMARCPass: n - failed - stopped, None: n - stopped, Reject: stopped}
			d.Days = append(d.Days, dmarc.DayTraffic{Day: day, Tally: t, Estimated: back == 20})
			if back <= 7 {
				d.Tally.Merge(t)
			}
		}
		switch i {
		case 0:
			d.Verdict = &dmarc.DomainVerdict{Attention: dmarc.AttentionNewFailure, Sentence: "Mailchimp's DKIM has failed since Tuesday: 3,120 messages.", Own: 10_000, Passing: 9_710}
		case 1:
			d.Verdict = &dmarc.DomainVerdict{Attention: dmarc.AttentionReady, Sentence: "Ready for quarantine: 61 days, 14 reporters, 99.97 % of your own mail is aligned.", Own: 10_000, Passing: 9_997}
		case 2:
			d.Verdict = &dmarc.DomainVerdict{Attention: dmarc.AttentionBlocked, Sentence: "2 senders are to be mended.", Own: 10, Passing: 5}
		}
		s.domains = append(s.domains, d)
	}
	s.events = []dmarc.Event{
		{At: due.Add(-3 * time.Hour), Rule: dmarc.RuleReporterStopped, Domain: "acme.example", Phase: dmarc.EventBegan, Title: "acme.example: <img src=x onerror=alert(1)> has stopped reporting", Text: "<img src=x onerror=alert(1)> has sent no report about acme.example for 9 days. Others still report."},
		{At: due.Add(-2 * time.Hour), Rule: dmarc.RuleRecordBroke, Domain: "acme.example", Phase: dmarc.EventBegan, Problem: true, Title: "acme.example: a record is broken", Text: "The key k2 is gone, and mail is still signed with it. Publish it again, or sign with another."},
		{At: due.Add(-30 * time.Hour), Rule: dmarc.RuleMailbox, Phase: dmarc.EventBegan, Title: "of the day before", Text: "."},
	}
	return s
}

func sampleDigester(s *digestStore, now time.Time) *Digester {
	return &Digester{Store: s, Target: "[digest]", Mail: &Mail{&MailServer{From: "dmarcd@example.com"}, []string{"boss@example.com"}}, Link: "https://dmarc.example/",
		Schedule: Schedule{Hour: 7}, Now: func() time.Time { return now }}
}

var digestDue = time.Date(2026, 11, 20, 7, 0, 0, 0, time.UTC)

func TestADigestIsPostedOnce(t *testing.T) {
	s := sampleStore(digestDue)
	pass := func(now time.Time) {
		t.Helper()
		if err := sampleDigester(s, now).Pass(t.Context(), dmarc.Lease{}); err != nil { // of a new process each time
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		now  time.Time
		want int
	}{{digestDue, 1}, {digestDue.Add(time.Minute), 1}, {digestDue.Add(23 * time.Hour), 1}, {digestDue.Add(24 * time.Hour), 2}, {digestDue.AddDate(0, 0, 9), 3}} {
		if pass(c.now); len(s.posted) != c.want {
			t.Errorf("at %v: %d posted, want %d", c.now, len(s.posted), c.want)
		}
	}
	if s.posted[0].Key != "digest-daily-2026-11-20" || s.posted[0].Target != "[digest]" || s.posted[0].Kind != KindDigest {
		t.Errorf("%+v", s.posted[0])
	}
}

func TestADigestWithoutNewsIsNotSentIfSoSet(t *testing.T) {
	for _, c := range []struct {
		only bool
		news bool
		want int
	}{{false, false, 1}, {true, false, 0}, {true, true, 1}} {
		s := sampleStore(digestDue)
		if !c.news {
			s.events = nil
			for i := range s.domains {
				s.domains[i].Verdict = nil
			}
		}
		d := sampleDigester(s, digestDue)
		d.OnlyNews = c.only
		if err := d.Pass(t.Context(), dmarc.Lease{}); err != nil || len(s.posted) != c.want {
			t.Errorf("%+v: %d posted, %v", c, len(s.posted), err)
		}
	}
}

// The mail is read as a mail program reads it.
func TestADigestIsAMailThatMailProgramsShow(t *testing.T) {
	s := sampleStore(digestDue)
	if err := sampleDigester(s, digestDue).Pass(t.Context(), dmarc.Lease{}); err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(bytes.NewReader(s.posted[0].Body))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Subject": "DMARC: the day up to Friday, 20 November 2026", "Message-Id": "<digest-daily-2026-11-20@example.com>",
		"List-Id": "<digest.dmarcd.example.com>", "Auto-Submitted": "auto-generated", "To": "boss@example.com"} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	type piece struct {
		kind string
		body []byte
	}
	pieces := map[string]piece{}
	var order []string
	var read func(kind string, r io.Reader)
	read = func(kind string, r io.Reader) {
		media, params, err := mime.ParseMediaType(kind)
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, media)
		parts := multipart.NewReader(r, params["boundary"])
		for {
			p, err := parts.NextRawPart()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			kind := p.Header.Get("Content-Type")
			if strings.HasPrefix(kind, "multipart/") {
				read(kind, p)
				continue
			}
			var body io.Reader = quotedprintable.NewReader(p)
			if p.Header.Get("Content-Transfer-Encoding") == "base64" {
				body = base64.NewDecoder(base64.StdEncoding, p)
			}
			text, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			media, _, _ := strings.Cut(kind, ";")
			order = append(order, media)
			pieces[media+p.Header.Get("Content-Id")] = piece{media, text}
		}
	}
	read(m.Header.Get("Content-Type"), m.Body)
	if got, want := strings.Join(order, " "), "multipart/alternative text/plain multipart/related text/html image/png image/png image/png image/png"; got != want {
		t.Fatalf("parts %s, want %s", got, want)
	}
	html, text := string(pieces["text/html"].body), string(pieces["text/plain"].body)
	for i := range 4 {
		id := fmt.Sprintf("chart%d.digest-daily-2026-11-20@example.com", i)
		if !strings.Contains(html, `src="cid:`+id+`"`) {
			t.Errorf("the page does not show %s", id)
		}
		if img, err := png.Decode(bytes.NewReader(pieces["image/png<"+id+">"].body)); err != nil || img.Bounds().Dx() != pictureWidth {
			t.Errorf("%s: %v", id, err)
		}
	}
	for what, in := range map[string]string{"page": html, "text": text} {
		for _, want := range []string{"Mailchimp", "Ready for quarantine", "The key k2 is gone", "2 of 5 domains need you.", "acme.example"} {
			if !strings.Contains(strings.ReplaceAll(in, "&#39;", "'"), want) {
				t.Errorf("the %s lacks %q", what, want)
			}
		}
		if strings.Contains(in, "of the day before") || strings.Contains(in, "2 senders are to be mended") {
			t.Errorf("the %s says too much", what)
		}
	}
	if strings.Contains(html, "<script") || strings.Contains(html, "<img src=x") || !strings.Contains(html, "&lt;script&gt;") {
		t.Error("what strangers wrote is not escaped")
	}
	if strings.Contains(html, "http://") || strings.Contains(html, "//fonts") {
		t.Error("the page loads something")
	}
}

func TestPicturesShowWhatThereIs(t *testing.T) {
	img, err := png.Decode(bytes.NewReader(drawVolume([]volumeDay{{reported: true, passed: 100}, {}, {reported: true, passed: 50, failed: 25, stopped: 25}, {reported: true, failed: 1}})))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[[3]uint32]int{}
	columns := [4]int{}
	for x := range pictureWidth {
		for y := range pictureHeight - 6 {
			r, g, b, a := img.At(x, y).RGBA()
			if a == 0xffff {
				counts[[3]uint32{r >> 8, g >> 8, b >> 8}]++
				columns[x*4/pictureWidth]++
			}
		}
	}
	passed, failed, stopped := counts[[3]uint32{0x00, 0x72, 0xB2}], counts[[3]uint32{0x8A, 0x8F, 0x98}], counts[[3]uint32{0xD5, 0x5E, 0x00}]
	if passed*10 < columns[0]*14 || passed*10 > columns[0]*16 { // a day and a half
		t.Errorf("passed covers %d, a whole day %d", passed, columns[0])
	}
	if stopped*10 < failed*5 || stopped >= failed { // hatched
		t.Errorf("stopped covers %d, failed %d", stopped, failed)
	}
	if columns[1] != 36 { // a dot: no report is not zero
		t.Errorf("a day without reports covers %d", columns[1])
	}
	if columns[3] < 100 {
		t.Errorf("a single message covers %d", columns[3])
	}
}

// With DMARCD_TEST_DIGEST set to a folder, the page and its text are written there
// to be looked at.
func TestWriteADigestToLookAt(t *testing.T) {
	dir := os.Getenv("DMARCD_TEST_DIGEST")
	if dir == "" {
		t.Skip("DMARCD_TEST_DIGEST names no folder")
	}
	digest, err := sampleDigester(sampleStore(digestDue), digestDue).Gather(t.Context(), digestDue)
	if err != nil {
		t.Fatal(err)
	}
	html, err1 := digest.HTML(DataURL(digest))
	text, err2 := digest.Text()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for name, content := range map[string]string{"digest.html": html, "digest.txt": text} {
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
