package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/dmarcd/dmarcd/dmarc"
	"github.com/dmarcd/dmarcd/ingest"
	"github.com/dmarcd/dmarcd/ingest/dovecottest"
	"github.com/dmarcd/dmarcd/parse"
)

// A memory is a store that keeps what it is given, by the rules of the real one.
type memory struct {
	mu    sync.Mutex
	place map[string]dmarc.Place
	known map[string]bool
	took  []dmarc.Delivery
	asked int // digests that the store was asked about
	added int // deliveries that it was given
	fail  error
}

func (m *memory) Place(_ context.Context, mailbox string) (dmarc.Place, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.place[mailbox], nil
}

func (m *memory) Known(_ context.Context, mailbox string, digests []dmarc.Digest) (map[dmarc.Digest]dmarc.Fate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	fates := map[dmarc.Digest]dmarc.Fate{}
	for _, d := range m.took {
		if d.Mailbox == mailbox && d.Place.UID == 0 && slices.Contains(digests, d.Digest) {
			fates[d.Digest] = dmarc.Fate{Outcome: fateOf(&d), Reason: d.Reason, Known: true}
		}
	}
	m.asked += len(digests)
	return fates, nil
}

func fateOf(d *dmarc.Delivery) dmarc.Outcome {
	switch {
	case len(d.Parts) > 0 && d.Parts[0].Outcome == "":
		return dmarc.OutcomeOK
	case len(d.Parts) > 0:
		return d.Parts[0].Outcome
	}
	return d.Outcome
}

func (m *memory) Add(_ context.Context, ds []dmarc.Delivery) ([]dmarc.Fate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	if m.place == nil {
		m.place, m.known = map[string]dmarc.Place{}, map[string]bool{}
	}
	fates := make([]dmarc.Fate, len(ds))
	for i, d := range ds {
		k := fmt.Sprint(d.Mailbox, d.Place, d.Digest)
		fates[i] = dmarc.Fate{Outcome: fateOf(&d), Reason: d.Reason, Known: m.known[k]}
		m.added++
		if !m.known[k] {
			m.known[k] = true
			m.took = append(m.took, d)
		}
		if d.Reached.UID != 0 {
			m.place[d.Mailbox] = d.Reached
		}
	}
	return fates, nil
}

func (m *memory) ids() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.took {
		id := string(d.Outcome)
		if len(d.Parts) > 0 && d.Parts[0].Aggregate != nil {
			id = d.Parts[0].Aggregate.ID
		}
		ids = append(ids, id)
	}
	return ids
}

func ingester(s ingest.Store) *ingest.Ingester {
	return &ingest.Ingester{Store: s, Log: slog.New(slog.DiscardHandler), Limits: parse.DefaultLimits, Workers: 4}
}

func reportXML(id string) string {
	return `<feedback><report_metadata><org_name>Reporter</org_name><email>a@reporter.example</email><report_id>` + id + `</report_id>
<date_range><begin>1767225600</begin><end>1767311999</end></date_range></report_metadata>
<policy_published><domain>example.com</domain><p>none</p></policy_published>
<record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>
<identifiers><header_from>example.com</header_from></identifiers><auth_results/></record></feedback>`
}

func reportMail(id string) []byte {
	return []byte("From: a@reporter.example\r\nSubject: report\r\nMessage-ID: <" + id + "@reporter.example>\r\nContent-Type: text/xml\r\n\r\n" + reportXML(id) + "\r\n")
}

func mailboxAt(s *dovecottest.Server, change func(*ingest.IMAPOptions)) *ingest.IMAP {
	opts := ingest.IMAPOptions{
		Name: "box", Address: s.Address, Security: ingest.SecurityPlain, User: dovecottest.User, Password: dovecottest.Password,
		Folder: "INBOX", Poll: time.Minute, Idle: true, Limit: 1 << 20, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&opts)
	}
	return ingest.NewIMAP(opts)
}

// client looks at the mailbox as a person would.
func client(t *testing.T, s *dovecottest.Server) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialInsecure(s.Address, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(dovecottest.User, dovecottest.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// flags returns the flags of each message in the mailbox.
func flags(t *testing.T, s *dovecottest.Server) (all [][]imap.Flag) {
	t.Helper()
	c := client(t, s)
	data, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if data.NumMessages == 0 {
		return nil
	}
	list, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{Flags: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		kept := []imap.Flag{}
		for _, f := range m.Flags {
			if f != imap.Flag("\\Recent") {
				kept = append(kept, f)
			}
		}
		all = append(all, kept)
	}
	return all
}

func TestAPassTakesInWhatIsNewInOrderAndChangesNothing(t *testing.T) {
	s := dovecottest.Start(t)
	var want []string
	for i := range 250 {
		id := fmt.Sprintf("r%03d", i)
		s.Deliver(t, fmt.Sprintf("%04d.a.host", i), reportMail(id))
		want = append(want, id)
	}
	store := &memory{}
	in := ingester(store)
	box := mailboxAt(s, nil)
	defer box.Close()
	sum, err := in.Pass(t.Context(), box)
	if err != nil || sum.Messages != 250 {
		t.Fatalf("%+v, %v", sum, err)
	}
	if got := store.ids(); !reflect.DeepEqual(got, want) {
		t.Errorf("took %v", got)
	}
	for i, f := range flags(t, s) {
		if len(f) != 0 {
			t.Errorf("message %d has flags %v", i+1, f)
		}
	}
	if sum, err := in.Pass(t.Context(), box); err != nil || sum.Messages != 0 {
		t.Errorf("second pass: %+v, %v", sum, err)
	}
	s.Deliver(t, "9999.a.host", []byte("Subject: hello\r\n\r\nNo report.\r\n"))
	// The server tells of it, or the next pass finds it.
	if err := box.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sum, err := in.Pass(t.Context(), box); err != nil || sum.Messages != 1 || sum.Outcomes[dmarc.OutcomeNotAReport] != 1 {
		t.Errorf("third pass: %+v, %v", sum, err)
	}
}

func TestMessagesAreDeletedOnlyAfterTheyAreStoredAndOnlyReports(t *testing.T) {
	s := dovecottest.Start(t)
	s.Deliver(t, "1.a.host", reportMail("one"))
	s.Deliver(t, "2.a.host", []byte("Subject: hello\r\n\r\nNo report.\r\n"))
	s.Deliver(t, "3.a.host", []byte("Subject: long\r\n\r\n"+strings.Repeat("x", 5000)))
	store := &memory{fail: errors.New("no disk")}
	in := ingester(store)
	box := mailboxAt(s, func(o *ingest.IMAPOptions) {
		o.After, o.Limit, o.Idle, o.Poll = ingest.AfterDelete, 3000, false, time.Millisecond
	})
	defer box.Close()
	if _, err := in.Pass(t.Context(), box); !errors.Is(err, store.fail) {
		t.Errorf("err = %v, want %v", err, store.fail)
	}
	if got := flags(t, s); len(got) != 3 {
		t.Errorf("%d messages are left after a failure, want 3", len(got))
	}
	store.fail = nil
	sum, err := in.Pass(t.Context(), box)
	want := map[dmarc.Outcome]int{dmarc.OutcomeOK: 1, dmarc.OutcomeNotAReport: 1, dmarc.OutcomeTooLarge: 1}
	if err != nil || !reflect.DeepEqual(sum.Outcomes, want) {
		t.Fatalf("%+v, %v", sum, err)
	}
	if err := box.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := flags(t, s); len(got) != 2 {
		t.Errorf("%d messages are left, want 2", len(got))
	}
}

func TestAWrongPasswordIsSaid(t *testing.T) {
	s := dovecottest.Start(t)
	box := mailboxAt(s, func(o *ingest.IMAPOptions) { o.Password = "wrong" })
	_, err := ingester(&memory{}).Pass(t.Context(), box)
	if err == nil || !strings.Contains(err.Error(), "logging in to "+s.Address+" as reports") {
		t.Errorf("err = %v", err)
	}
}

func TestFilesOfEveryKindAreTakenIn(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b string) {
		t.Helper()
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a.xml", reportXML("bare"))
	write("b.mbox", "From a Thu Jan  1 00:00:00 2026\n"+strings.ReplaceAll(string(reportMail("m1")), "\r", "")+"\nFrom b Thu Jan  1 00:00:00 2026\nSubject: hi\n\n>From here on\n>>From there\nFrom nobody is no separator\n\n"+
		"From c Thu Jan  1 00:00:00 2026\r\n"+string(reportMail("m2")))
	write("md/new/1", string(reportMail("new")))
	write("md/cur/2:2,S", string(reportMail("cur")))
	write("md/tmp/3", string(reportMail("tmp")))
	write(".hidden.xml", reportXML("hidden"))
	store := &memory{}
	sum, err := ingester(store).Pass(t.Context(), &ingest.Files{Paths: []string{dir, filepath.Join(dir, "missing")}, Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bare", "m1", "not_a_report", "m2", "cur", "new", "unreadable"}
	if got := store.ids(); !reflect.DeepEqual(got, want) || sum.Messages != len(want) {
		t.Errorf("took %v, want %v", got, want)
	}
	var names []string
	for _, d := range store.took {
		name, _ := filepath.Rel(dir, d.Source)
		names = append(names, name)
	}
	if w := []string{"a.xml", "b.mbox#1", "b.mbox#2", "b.mbox#3", "md/cur/2:2,S", "md/new/1", "missing"}; !reflect.DeepEqual(names, w) {
		t.Errorf("names = %v, want %v", names, w)
	}
	if store.took[2].Size != int64(len("Subject: hi\n\nFrom here on\n>From there\nFrom nobody is no separator\n\n")) {
		t.Errorf("the second message of the mbox has %d bytes", store.took[2].Size)
	}
}

func TestWhatIsNotWantedIsParkedAndWhatIsPrivateIsNotKept(t *testing.T) {
	store := &memory{}
	in := ingester(store)
	in.Accepts = func(domain string) bool { return domain == "other.example" }
	if _, err := in.Take(t.Context(), dmarc.MailboxUpload, "a.xml", strings.NewReader(reportXML("1"))); err != nil {
		t.Fatal(err)
	}
	if d := store.took[0]; d.Parts[0].Outcome != dmarc.OutcomeUnknownDomain || d.Raw == nil {
		t.Errorf("%+v", d)
	}
	failure := "From: Jo <jo@reporter.example>\r\nSubject: about somebody\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\n" +
		"Feedback-Type: auth-failure\r\nVersion: 1\r\nAuth-Failure: dmarc\r\nReported-Domain: other.example\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\nFrom: x@other.example\r\nSubject: secret\r\n\r\n--b--\r\n"
	if _, err := in.Take(t.Context(), dmarc.MailboxUpload, "f.eml", strings.NewReader(failure)); err != nil {
		t.Fatal(err)
	}
	if d := store.took[1]; d.Parts[0].Outcome != dmarc.OutcomeNotKept || d.Raw != nil || d.Subject != "" || d.From != "reporter.example" {
		t.Errorf("%+v", d)
	}
	in.KeepFailures = true
	if _, err := in.Take(t.Context(), dmarc.MailboxUpload, "f.eml", strings.NewReader(failure+" ")); err != nil {
		t.Fatal(err)
	}
	rep := store.took[2].Parts[0].Failure
	if rep == nil || rep.Arrival.IsZero() {
		t.Fatalf("%+v", store.took[2])
	}
	for _, h := range rep.Headers {
		if h.Name == "Subject" {
			t.Error("the subject of the sample is kept")
		}
	}
}

// Where only authentic reports count, what the operator brings counts at once,
// mails are parked until they are found authentic, and what nobody can vouch for
// stays parked.
func TestWhatIsParkedDependsOnWhoVouchesForIt(t *testing.T) {
	const counts, until, stays = "", "it is read as soon as it is", "it stays parked"
	bare, whole := reportXML("1"), string(reportMail("1"))
	for _, c := range []struct{ mailbox, body, want string }{
		{"reports", whole, until}, // IMAP
		{"reports", bare, until},  // a mail without any field
		{dmarc.MailboxSMTP, whole, until},
		{dmarc.MailboxSMTP, bare, until},
		{dmarc.MailboxDirectory, whole, until},
		{dmarc.MailboxDirectory, bare, counts},
		{dmarc.MailboxTLSRPT, bare, stays},
		{dmarc.MailboxUpload, whole, counts},
		{dmarc.MailboxUpload, bare, counts},
		{dmarc.MailboxImport, whole, counts},
		{dmarc.MailboxImport, bare, counts},
	} {
		for _, require := range []bool{false, true} {
			store := &memory{}
			in := ingester(store)
			in.RequireAuthentic = require
			if _, err := in.Take(t.Context(), c.mailbox, "", strings.NewReader(c.body)); err != nil {
				t.Fatal(err)
			}
			d := store.took[0]
			p := d.Parts[0]
			if !require || c.want == counts {
				if p.Aggregate == nil || p.Outcome != "" {
					t.Errorf("%s, %.10q, required %t: %+v, want it to count", c.mailbox, c.body, require, p)
				}
			} else if p.Aggregate != nil || p.Outcome != dmarc.OutcomeUnauthenticated || !strings.HasSuffix(p.Reason, c.want) || d.Raw == nil {
				t.Errorf("%s, %.10q: %+v, want it parked: %s", c.mailbox, c.body, p, c.want)
			}
		}
	}
}

func FuzzMbox(f *testing.F) {
	f.Add("From a\nSubject: x\n\nbody\n\nFrom b\n\n>From c\n")
	f.Add("From a\r\nSubject: x\r\n\r\nbody\r\n\r\nFrom b\r\n\r\n>>From c\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		box := &ingest.Files{Paths: []string{"-"}, Stdin: strings.NewReader(text), Limit: 1 << 20}
		n := 0
		err := box.Each(t.Context(), dmarc.Place{}, func(_ context.Context, m ingest.Message) error {
			n++
			if m.Raw != nil {
				m.Raw.Close()
			}
			return nil
		})
		if err != nil || n == 0 && len(text) > 0 || n > strings.Count(text, "From ")+1 {
			t.Errorf("%d messages, %v", n, err)
		}
	})
}

// Going over files again asks the store for many at once, and parses nothing.
func TestWhatIsKnownIsNotParsedAgain(t *testing.T) {
	dir := t.TempDir()
	box := "From a\n" + strings.ReplaceAll(string(reportMail("m1")), "\r", "") + "\nFrom b\nSubject: hi\n\nNo report.\n"
	for name, text := range map[string]string{"a.xml": reportXML("a"), "b.xml": reportXML("b"), "c.mbox": box, "d.xml": "<feedback>", "e.xml": reportXML("a")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	store := &memory{}
	in := ingester(store)
	files := func() *ingest.Files {
		return &ingest.Files{Paths: []string{dir, filepath.Join(dir, "missing")}, Limit: 1 << 20}
	}
	first, err := in.Pass(t.Context(), files())
	if err != nil || first.Known != 1 || first.Messages != 7 { // e is a
		t.Fatalf("%+v, %v", first, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bb.xml"), []byte(reportXML("bb")), 0o644); err != nil {
		t.Fatal(err)
	}
	store.added, in.Limits.Depth = 0, 1 // whatever is parsed now is refused
	var order []string
	in.OnFate = func(d *dmarc.Delivery, f dmarc.Fate) {
		order = append(order, fmt.Sprint(filepath.Base(d.Source), " ", f.Outcome, " ", f.Known))
	}
	again, err := in.Pass(t.Context(), files())
	if err != nil || again.Known != 7 || again.Messages != 8 {
		t.Fatalf("%+v, %v", again, err)
	}
	want := []string{"a.xml ok true", "b.xml ok true", "bb.xml hostile_xml false", "c.mbox#1 ok true", "c.mbox#2 not_a_report true", "d.xml bad_xml true", "e.xml ok true", "missing unreadable true"}
	if !slices.Equal(order, want) {
		t.Errorf("fates\n%q, want\n%q", order, want)
	}
	if store.added != 1 {
		t.Errorf("the store was given %d deliveries, want 1", store.added)
	}
}

// A folder with more names than are held at once is gone through in pieces: every
// file once, and no memory that grows with it.
func TestAHugeFolderIsTakenInByPieces(t *testing.T) {
	const n = 45_000
	dir := t.TempDir()
	file := filepath.Join(dir, "0")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < n; i++ {
		if err := os.Link(file, filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Skipf("SKIPPED: no more links can be made here: %v", err)
		}
	}
	box := &ingest.Files{Paths: []string{dir}, Limit: 1 << 20}
	seen := map[string]bool{}
	breaks, last := 0, ""
	var settled []ingest.Settled
	err := box.Each(t.Context(), dmarc.Place{}, func(_ context.Context, m ingest.Message) error {
		m.Raw.Close()
		if m.Name < last {
			breaks++
		}
		last, seen[m.Name] = m.Name, true
		settled = append(settled, ingest.Settled{Origin: m.Origin})
		return nil
	})
	if err != nil || len(seen) != n || breaks > 2 {
		t.Errorf("%d files, the order breaks %d times, %v", len(seen), breaks, err)
	}
	for _, done := range []int{0, n / 3, n} { // what was only read is not done
		if err := box.Settle(t.Context(), settled[:done]); err != nil || box.Done() != int64(done) {
			t.Errorf("%d of %d bytes are done, %v", box.Done(), done, err)
		}
	}
	if total, err := box.Total(t.Context()); err != nil || total != n {
		t.Errorf("%d bytes, %v", total, err)
	}
}

// A waitingStore commits its first batch only once so many messages have been read.
type waitingStore struct {
	memory
	first sync.Once
	ready <-chan struct{}
}

func (w *waitingStore) Add(ctx context.Context, ds []dmarc.Delivery) (fates []dmarc.Fate, err error) {
	w.first.Do(func() {
		select {
		case <-w.ready:
		case <-ctx.Done():
			err = ctx.Err()
		}
	})
	if err != nil {
		return nil, err
	}
	return w.memory.Add(ctx, ds)
}

func reportFiles(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.xml", i)), []byte(reportXML(fmt.Sprintf("r%03d", i))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheNextBatchIsReadWhileOneIsCommitted(t *testing.T) {
	const batch, n = 40, 100
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	ready := make(chan struct{})
	s := &waitingStore{ready: ready}
	in := ingester(s)
	in.Workers, in.BatchRows = 1, batch
	var read atomic.Int64
	in.OnRead = func(*dmarc.Delivery, time.Duration) {
		if read.Add(1) == 2*batch { // one batch that waits, and the next
			close(ready)
		}
	}
	sum, err := in.Pass(ctx, &ingest.Files{Paths: []string{reportFiles(t, n)}, Limit: 1 << 20})
	if err != nil || sum.Messages != n || len(s.ids()) != n || !slices.IsSorted(s.ids()) {
		t.Errorf("%+v, %v: %q", sum, err, s.ids())
	}
}

// A failingStore fails once, after some batches.
type failingStore struct {
	memory
	left int
}

func (f *failingStore) Add(ctx context.Context, ds []dmarc.Delivery) ([]dmarc.Fate, error) {
	if f.left--; f.left == -1 {
		return nil, errors.New("out of order")
	}
	return f.memory.Add(ctx, ds)
}

func TestNothingIsCommittedBehindABatchThatFailed(t *testing.T) {
	s := &failingStore{left: 2}
	in := ingester(s)
	in.BatchRows = 10
	files := &ingest.Files{Paths: []string{reportFiles(t, 95)}, Limit: 1 << 20}
	sum, err := in.Pass(t.Context(), files)
	stored := len(s.ids()) // two batches, of 10 at least
	if err == nil || sum.Messages != stored || stored < 20 || s.ids()[stored-1] != fmt.Sprintf("r%03d", stored-1) {
		t.Errorf("%+v, %v: %q", sum, err, s.ids())
	}
	if sum, err := in.Pass(t.Context(), files); err != nil || sum.Known != stored || len(s.ids()) != 95 || !slices.IsSorted(s.ids()) {
		t.Errorf("%+v, %v: %q", sum, err, s.ids())
	}
}

// How far an import has come is told by what is stored, not by what was read ahead.
func TestFilesAreDoneOnceTheyAreStored(t *testing.T) {
	const n = 95
	var mbox strings.Builder
	for i := range n {
		fmt.Fprintf(&mbox, "From a Mon Jan  5 00:00:00 2026\n%s\n\n", strings.ReplaceAll(string(reportMail(fmt.Sprintf("m%03d", i))), "\r", ""))
	}
	dir := reportFiles(t, n)
	if err := os.WriteFile(filepath.Join(dir, "z.mbox"), []byte(mbox.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	files := &ingest.Files{Paths: []string{dir}, Limit: 1 << 20}
	total, err := files.Total(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	each := int64(len(reportXML("r000")))
	store := &memory{}
	in := ingester(store)
	in.BatchRows = 10
	var messages int64
	in.OnFate = func(d *dmarc.Delivery, _ dmarc.Fate) {
		committed := int64(len(store.ids()))
		switch done := files.Done(); {
		case committed <= n && done != committed*each:
			t.Errorf("%d bytes are done with %d files of %d bytes stored", done, committed, each)
		case done < messages*each || done > total:
			t.Errorf("%d bytes of %d are done with %d messages", done, total, messages)
		}
		messages++
	}
	if _, err := in.Pass(t.Context(), files); err != nil || messages != 2*n || files.Done() != total {
		t.Errorf("%d messages, %d of %d bytes, %v", messages, files.Done(), total, err)
	}
}
