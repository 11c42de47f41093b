package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

const (
	doctorUsage = `Tries everything that the configuration names, side by side, and says what is wrong and how to mend it: the data
directory and its disk, the database with its version, privileges, schema and clock, each mailbox up to counting what waits
in it, the resolver, whether reports about the configured domains reach you, the OpenID provider, the servers of notification
targets, the authority of certificates, streams, the listeners and their certificates. Nothing is changed and nothing is
sent: no message is marked, no step of the schema is applied.

Each line begins with a mark and a word: ok, note (worth a look), wrong, or unknown (it could not be found out now).
Exit status 1 if anything is wrong.`

	doctorExamples = `Examples:
  dmarcd doctor
  dmarcd doctor --quiet && systemctl restart dmarcd
  dmarcd doctor --format json | jq '.checks[] | select(.state == "wrong")'`
)

// A state is how a thing is that was tried.
type state string

const (
	stateOK      state = "ok"
	stateNote    state = "note"    // it works, and is worth a look
	stateWrong   state = "wrong"   // it does not work
	stateUnknown state = "unknown" // it could not be found out
)

// stateMarks stand before the words, for those who skim.
var stateMarks = map[state]string{stateOK: "✓", stateNote: "!", stateWrong: "✗", stateUnknown: "?"}

var stateColours = map[state]string{stateOK: "32", stateNote: "33", stateWrong: "31;1", stateUnknown: "35"}

// A diagnosis is what was found out about one thing.
type diagnosis struct {
	Area    string `json:"area"` // database, mailbox, …
	Subject string `json:"subject"`
	State   state  `json:"state"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// An examination tries one thing, and what rests on it.
type examination struct {
	area, subject string
	try           func(ctx context.Context, x *findings)
}

// findings collects the diagnoses of one examination.
type findings struct {
	area, subject string
	list          []diagnosis
}

func (x *findings) add(s state, fix, format string, args ...any) {
	x.list = append(x.list, diagnosis{x.area, x.subject, s, fmt.Sprintf(format, args...), fix})
}

func (x *findings) ok(format string, args ...any)        { x.add(stateOK, "", format, args...) }
func (x *findings) note(fix, format string, args ...any) { x.add(stateNote, fix, format, args...) }
func (x *findings) wrong(fix, format string, args ...any) {
	x.add(stateWrong, fix, format, args...)
}
func (x *findings) unknown(fix, format string, args ...any) {
	x.add(stateUnknown, fix, format, args...)
}

// A doctor examines one configuration.
type doctor struct {
	cfg     *config
	limit   time.Duration // for each examination
	now     func() time.Time
	minFree uint64 // bytes on a disk, below which it is full
	fewFree uint64 // bytes below which it is worth a note

	opened chan struct{} // closed once the database was tried; db is set before
	db     *service      // nil if there is none
	usable bool          // db has today's schema
}

// Bounds of the space that is free on a disk.
const (
	minFree = 256 << 20
	fewFree = 2 << 30
)

func runDoctor(ctx context.Context, env *environ, args []string) error {
	env.listens = true
	fs := env.flags("doctor", "", doctorUsage, doctorExamples)
	fs.configFlag()
	format := fs.choice("format", "how to print it", "text", "json")
	quiet := fs.Bool("quiet", false, "print only what is not ok")
	limit := fs.Duration("timeout", 20*time.Second, "`TIME` that each thing may take")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *limit <= 0 {
		return usageError("--timeout must be more than 0, such as 20s")
	}
	cfg, err := env.loadConfig(*fs.config, everything)
	if err != nil {
		return err
	}
	cfg.useResolver()
	d := newDoctor(cfg, *limit)
	defer d.close()
	p := &prescription{out: bufio.NewWriter(env.stdout), style: env.style(env.stdout), quiet: *quiet}
	p.json = format.word == "json"
	p.begin(d.now())
	err = d.examine(ctx, p.write)
	if err := errors.Join(err, p.end()); err != nil {
		return err
	}
	if p.counts[stateWrong] > 0 {
		return errSaid
	}
	return nil
}

func newDoctor(cfg *config, limit time.Duration) *doctor {
	return &doctor{cfg: cfg, limit: limit, now: time.Now, minFree: minFree, fewFree: fewFree, opened: make(chan struct{})}
}

// examine tries everything side by side and hands over what was found, in the
// order of the list.
func (d *doctor) examine(ctx context.Context, write func(diagnosis)) error {
	// What the database is needed for is tried while it is open.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := d.examinations()
	done := make([]chan []diagnosis, len(all))
	for i, e := range all {
		done[i] = make(chan []diagnosis, 1)
		go func() { done[i] <- d.one(ctx, e) }()
	}
	for i := range all {
		select {
		case list := <-done[i]:
			for _, found := range list {
				write(found)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// one makes an examination within its time.
func (d *doctor) one(ctx context.Context, e examination) []diagnosis {
	ctx, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	x := &findings{area: e.area, subject: e.subject}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		e.try(ctx, x)
	}()
	select {
	case <-finished:
		return x.list
	case <-ctx.Done():
	}
	// It ends soon, as all that it does ends with ctx; if it does not, it is left alone.
	select {
	case <-finished:
		return x.list
	case <-time.After(time.Second):
		return []diagnosis{{e.area, e.subject, stateUnknown, fmt.Sprintf("no answer within %s", d.limit), "try again, with a longer --timeout"}}
	}
}

func (d *doctor) examinations() []examination {
	all := []examination{
		{"configuration", d.cfg.configName(), d.configuration},
		{"disk", d.cfg.DataDir, d.disk},
		{"database", d.cfg.databaseName(), d.database},
	}
	if url := d.cfg.ReadURL.reveal(); url != "" {
		all = append(all, examination{"replica", databasePlace(url), d.replica})
	}
	for _, m := range d.cfg.Mailboxes {
		all = append(all, examination{"mailbox", m.Name, func(ctx context.Context, x *findings) { d.mailbox(ctx, m, x) }})
	}
	resolver := d.cfg.Resolver
	if resolver == "" {
		resolver = "the system's"
	}
	all = append(all, examination{"resolver", resolver, d.resolver})
	for _, domain := range d.cfg.Domains {
		all = append(all, examination{"reports", domain, func(ctx context.Context, x *findings) { d.authorization(ctx, domain, x) }})
	}
	for _, path := range d.cfg.Sources.Networks {
		all = append(all, examination{"networks", path, func(_ context.Context, x *findings) { d.networks(x, path) }})
	}
	return append(append(all, d.outward()...), d.doors()...)
}

// configuration says what there is to be done.
func (d *doctor) configuration(_ context.Context, x *findings) {
	ways := []string{counted(int64(len(d.cfg.Mailboxes)), "mailbox", "mailboxes")}
	if d.cfg.SMTP.Listen != "" {
		ways = append(ways, "mail by "+strings.ToUpper(d.cfg.SMTP.Protocol))
	}
	if d.cfg.TLSRPT.Path != "" {
		ways = append(ways, "TLS reports over HTTPS")
	}
	if d.cfg.Directory.Path != "" {
		ways = append(ways, "a watched folder")
	}
	if len(ways) == 1 && len(d.cfg.Mailboxes) == 0 {
		x.note("set DMARCD_IMAP_URL, or add [[mailbox]] to the configuration", "reports come in by uploads only: no mailbox is configured")
	} else {
		x.ok("reports come in by %s", strings.Join(ways, ", "))
	}
	if len(d.cfg.Domains) == 0 {
		x.note("name your domains in domains (DMARCD_DOMAINS)", "no domains are named: reports about any are taken, and whether reports about yours reach you is not looked at")
	}
}

// configName is what the configuration was read from.
func (c *config) configName() string {
	if c.File == "" {
		return "environment"
	}
	return c.File
}

// A prescription writes what was found.
type prescription struct {
	out    *bufio.Writer
	style  style
	quiet  bool
	json   bool
	counts map[state]int
	array  *arrayWriter
}

func (p *prescription) begin(now time.Time) {
	p.counts = map[state]int{}
	if p.json {
		p.array = &arrayWriter{w: p.out}
		p.array.begin(`{"checked_at":"` + now.UTC().Format(time.RFC3339) + `","checks":`)
	}
}

func (p *prescription) write(found diagnosis) {
	p.counts[found.State]++
	if p.quiet && found.State == stateOK {
		return
	}
	if p.json {
		p.array.add(found)
		p.out.Flush()
		return
	}
	mark := p.style.paint(stateColours[found.State], fmt.Sprintf("%s %-7s", stateMarks[found.State], found.State))
	head := found.Area
	if found.Subject != "" {
		head += " " + found.Subject
	}
	lines := wrap(inline(head+": "+found.Message), p.style.width-10)
	for i, line := range lines {
		if i == 0 {
			fmt.Fprintf(p.out, "%s %s\n", mark, line)
		} else {
			fmt.Fprintf(p.out, "%10s%s\n", "", line)
		}
	}
	for i, line := range wrap(inline(found.Fix), p.style.width-13) {
		lead := "→"
		if i > 0 {
			lead = " "
		}
		fmt.Fprintf(p.out, "%10s%s %s\n", "", lead, line)
	}
	p.out.Flush()
}

func (p *prescription) end() error {
	if p.json {
		p.array.end(map[string]any{"ok": p.counts[stateWrong] == 0})
		return errors.Join(p.array.err, p.out.Flush())
	}
	if p.quiet && p.counts[stateWrong]+p.counts[stateNote]+p.counts[stateUnknown] == 0 {
		return p.out.Flush()
	}
	var parts []string
	for _, s := range []state{stateWrong, stateUnknown, stateNote, stateOK} {
		if n := p.counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	fmt.Fprintf(p.out, "\n%s.\n", strings.Join(parts, ", "))
	return p.out.Flush()
}

// quietLog is for what an examination starts: what goes wrong comes back as an
// error, and is said once.
func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
