package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"

	"github.com/dmarcd/dmarcd/records"
)

const (
	checkUsage = `Checks what domains publish in DNS for mail, and says what is wrong, why it matters and what to publish instead.
Nothing is stored, and no database is needed; a policy of MTA-STS is fetched where there is one. No mail server is connected
to unless --probe asks for it: then the certificates of the mail hosts are held against TLSA records and the MTA-STS policy.

A lookup that fails for now gives "unknown": nothing is called missing on that ground. With --format json it prints one
JSON object a line for each domain. Exit status 1 if there is any error among what was found. docs/zones.md has more about checking zones in a CI.`

	checkExamples = `Examples:
  dmarcd check example.com
  dmarcd check --selector s1 --selector s2 --all example.com
  dmarcd check --level warning example.com example.org
  dmarcd check --format json example.com | jq '.findings[] | select(.severity == "error")'`

	checkEnvironment = `Environment:
  DMARCD_RESOLVER          resolver, as host:port; it should validate DNSSEC
  DMARCD_REPORT_ADDRESSES  addresses of yours that reports are sent to
  DMARCD_OUTGOING_ALLOW    networks that are not public and may be connected to
  NO_COLOR                 no colours on a terminal`
)

// levels are what is printed at least, by name.
var levels = map[string]records.Severity{"info": records.Info, "warning": records.Warning, "error": records.Error}

// checkWorkers is how many domains are looked up at a time.
const checkWorkers = 8

// A listFlag collects the values of a flag that may be given more than once.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, ",") }

func (l *listFlag) Set(text string) error {
	*l = append(*l, text)
	return nil
}

func runCheck(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("check", "DOMAIN...", checkUsage, checkExamples, checkEnvironment)
	fs.configFlag()
	var selectors listFlag
	resolver := fs.String("resolver", "", "resolver to ask, as `HOST:PORT` (default: the configured one, or the system's)")
	fs.Var(&selectors, "selector", "DKIM selector `NAME` to look at, of every domain or, as s1._domainkey.example.com, of one; may be given more than once")
	probe := fs.Bool("probe", false, "connect to mail hosts on port 25 to see their certificates; no mail is sent (default: as configured)")
	format := fs.choice("format", "how to print it", "text", "json")
	level := fs.choice("level", "what to print, beside what is not known: errors; warnings, too; or notes, too", "info", "warning", "error")
	only := fs.Bool("resolver-only", false, "ask nobody but the resolver: neither the name servers themselves nor the host of the MTA-STS policy")
	all := fs.Bool("all", false, "print what is well, too")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *resolver != "" {
		if err := hostPort(*resolver); err != nil {
			return usageError(fmt.Sprintf("--resolver %q %v", *resolver, err))
		}
	}
	cfg, err := env.loadConfig(*fs.config, valuesOnly)
	if err != nil {
		return err
	}
	client, err := records.NewClient(records.ClientOptions{Server: cmp.Or(*resolver, cfg.Resolver)})
	if err != nil {
		return fmt.Errorf("%w; name one with --resolver or DMARCD_RESOLVER", err)
	}
	if err := env.tryResolver(ctx, client); err != nil {
		return err
	}
	fetcher := records.NewPolicyFetcher(client, cfg.reach())
	cfg.Records.Probe = cfg.Records.Probe || *probe
	prober := cfg.prober()
	selectors = append(selectors, cfg.Records.Selectors...)
	c := &checker{
		out:   bufio.NewWriterSize(env.stdout, 64<<10),
		json:  format.word == "json",
		level: levels[level.word],
		style: env.style(env.stdout),
		look: func(ctx context.Context, domain string) (*records.Published, error) {
			o := records.Options{Resolver: client, ReportAddresses: cfg.ReportAddresses, Now: time.Now()}
			if !*only {
				o.Direct, o.Fetcher = client, fetcher
			}
			addSelectors(&o, selectors, domain)
			if prober != nil && !*only {
				o.Probe = prober
			}
			return records.Lookup(ctx, domain, o)
		},
	}
	if *all {
		c.level = records.OK
	}
	if !isTerminal(env.stdout) {
		c.progress = env.startProgress("domains", int64(len(fs.Args())))
		defer c.progress.stop()
	}
	if err := c.run(ctx, fs.Args()); err != nil {
		return err
	}
	if c.errors > 0 {
		return errSaid
	}
	return nil
}

// tryResolver asks the resolver for the root: one that is not there would make
// everything unknown, after a long time.
func (env *environ) tryResolver(ctx context.Context, client *records.Client) error {
	root := client.Lookup(ctx, "", dns.TypeSOA)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	servers := strings.Join(client.Servers(), ", ")
	if root.State == records.Failed && root.Err != "" {
		return fmt.Errorf("the resolver %s: %s; name another with --resolver or DMARCD_RESOLVER", servers, root.Err)
	}
	if root.State == records.Found && !root.AD {
		env.say("The resolver %s does not validate DNSSEC, so that broken signatures are not seen. Name one that does with --resolver or DMARCD_RESOLVER.", servers)
	}
	return nil
}

// A checker looks domains up and prints what is found, in their order.
type checker struct {
	out      *bufio.Writer // flushed after each domain
	json     bool
	level    records.Severity // the mildest that is printed as text
	style    style
	look     func(ctx context.Context, domain string) (*records.Published, error)
	progress *progress // nil for none

	errors int             // domains with errors
	shown  int             // domains
	said   map[string]bool // of this domain: what to do and why
}

// A checked domain is one that is being looked up.
type checked struct {
	published *records.Published
	err       error
	done      chan struct{}
}

// run looks some domains up at a time. What is kept does not grow with their
// number.
func (c *checker) run(ctx context.Context, domains []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan *checked, checkWorkers)
	free := make(chan struct{}, checkWorkers)
	go func() {
		defer close(queue)
		for _, domain := range domains {
			if !send(ctx, free, struct{}{}) {
				return
			}
			d := &checked{done: make(chan struct{})}
			go func() {
				defer close(d.done)
				d.published, d.err = c.look(ctx, domain)
			}()
			if !send(ctx, queue, d) {
				return
			}
		}
	}()
	for range domains {
		var d *checked
		select {
		case d = <-queue:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if d == nil {
			return context.Cause(ctx)
		}
		<-d.done // lookups end with ctx
		if d.err != nil {
			return d.err
		}
		if err := c.print(d.published); err != nil {
			return err
		}
		<-free
		if c.progress != nil {
			c.progress.add(1)
		}
	}
	return nil
}

// print prints what was found for a domain.
func (c *checker) print(p *records.Published) error {
	findings := records.Check(p)
	for i := range findings {
		if findings[i].Severity == records.Error {
			c.errors++
			break
		}
	}
	if c.json {
		if err := c.printJSON(p, findings); err != nil {
			return err
		}
	} else {
		c.printText(p, findings)
	}
	c.shown++
	return c.out.Flush()
}

// printText prints for people: the worst first within each kind of record.
func (c *checker) printText(p *records.Published, findings []records.Finding) {
	if c.shown > 0 {
		fmt.Fprintln(c.out)
	}
	counts := map[records.Severity]int64{}
	var order []string
	by := map[string][]*records.Finding{}
	for i := range findings {
		f := &findings[i]
		counts[f.Severity]++
		if f.Severity < c.level { // unknown is above all
			continue
		}
		name := records.KindOf(f.ID)
		if by[name] == nil {
			order = append(order, name)
		}
		by[name] = append(by[name], f)
	}
	fmt.Fprintf(c.out, "%s  %s\n", c.style.bold(domainForPeople(p.Domain)), c.summary(counts))
	if w := p.DMARC.Walk; w != nil && w.Failed == nil {
		if e := &p.DMARC.Policy; e.Record != nil {
			fmt.Fprintf(c.out, "  policy %s, from the %s of %s\n", cmp.Or(e.Policy.String(), "does not apply"), e.Tag, inline(e.At))
		}
	}
	c.said = map[string]bool{}
	for _, name := range order {
		fmt.Fprintf(c.out, "\n  %s\n", c.style.bold(name))
		if name == "SPF" {
			for line := range strings.Lines(p.SPF.Tree()) {
				fmt.Fprintf(c.out, "    %s\n", inline(strings.TrimRight(line, "\n")))
			}
		}
		for severity := records.Unknown; ; severity-- {
			for _, f := range by[name] {
				if rank(f.Severity) == severity {
					c.printFinding(f)
				}
			}
			if severity == records.OK {
				break
			}
		}
	}
}

// rank orders severities for reading: errors, then what is not known.
func rank(s records.Severity) records.Severity {
	switch s {
	case records.Error:
		return records.Unknown
	case records.Unknown:
		return records.Error
	}
	return s
}

func (c *checker) printFinding(f *records.Finding) {
	fmt.Fprintf(c.out, "    %s  %s\n", c.colour(f.Severity), c.style.dim(f.ID))
	c.printLines("", f.What())
	brief := f.Severity == records.OK || f.Severity == records.Unknown && c.said[f.ID] // many lookups fail alike
	c.said[f.ID] = true
	for _, more := range []struct{ style, text string }{{"2", f.Why()}, {"", f.Fix()}} { // why it matters is dim
		if !brief && !c.said[more.text] {
			c.printLines(more.style, more.text)
			c.said[more.text] = true
		}
	}
	if publish := f.Publish(); publish != "" && f.Severity != records.OK {
		for line := range strings.SplitSeq(publish, "\n") {
			fmt.Fprintf(c.out, "        %s\n", c.style.paint("36", inline(line)))
		}
	}
}

// printLines prints a text in lines.
func (c *checker) printLines(style, text string) {
	for _, line := range wrap(inline(text), c.style.width-6) {
		fmt.Fprintf(c.out, "      %s\n", c.style.paint(style, line))
	}
}

// wrap breaks a text into lines at blanks.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// summary counts findings in a few words.
func (c *checker) summary(counts map[records.Severity]int64) string {
	var parts []string
	for _, s := range []struct {
		severity  records.Severity
		one, many string
	}{{records.Error, "error", "errors"}, {records.Unknown, "unknown", "unknown"}, {records.Warning, "warning", "warnings"}, {records.Info, "note", "notes"}} {
		if n := counts[s.severity]; n > 0 {
			parts = append(parts, c.style.paint(severityColours[s.severity], counted(n, s.one, s.many)))
		}
	}
	if parts == nil {
		return c.style.paint(severityColours[records.OK], "all is well")
	}
	return strings.Join(parts, ", ")
}

// domainForPeople writes a domain with what its A-labels stand for.
func domainForPeople(domain string) string {
	text, err := idna.Display.ToUnicode(domain)
	if err != nil || text == domain {
		return inline(domain)
	}
	return inline(text) + " (" + inline(domain) + ")"
}

// severityColours are of ANSI terminals.
var severityColours = map[records.Severity]string{
	records.OK: "32", records.Info: "36", records.Warning: "33", records.Error: "31;1", records.Unknown: "35",
}

func (c *checker) colour(s records.Severity) string {
	word := s.String()
	if s == records.Info {
		word = "note" // as the sum and the dashboard call it
	}
	return c.style.paint(severityColours[s], fmt.Sprintf("%-7s", word))
}

// printJSON prints a domain as one line.
func (c *checker) printJSON(p *records.Published, findings []records.Finding) error {
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(records.NewResult(p, findings))
}
