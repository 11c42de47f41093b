package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"
)

const (
	manUsage = `Prints the manual page of dmarcd: all commands, flags and settings.`

	manExamples = `Examples:
  dmarcd man | man -l -
  dmarcd man > /usr/local/share/man/man1/dmarcd.1`
)

func runMan(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("man", "", manUsage, manExamples)
	if err := fs.Parse(args); err != nil {
		return err
	}
	_, err := io.WriteString(env.stdout, manual(describe()))
	return err
}

// A roff writes a page with the macros of man(7).
type roff struct{ strings.Builder }

// macro begins a line with a macro, and its arguments in quotes.
func (r *roff) macro(name string, args ...string) {
	r.WriteString("." + name)
	for _, a := range args {
		r.WriteString(` "` + strings.ReplaceAll(escapeRoff(a), `"`, `\(dq`) + `"`)
	}
	r.WriteByte('\n')
}

// text writes paragraphs.
func (r *roff) text(text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			r.macro("PP")
		}
		for _, line := range wrap(paragraph, 76) {
			r.line(line)
		}
	}
}

// line writes a line of text that cannot be taken for a macro.
func (r *roff) line(text string) {
	text = escapeRoff(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	r.WriteString(text + "\n")
}

// verbatim writes lines as they are.
func (r *roff) verbatim(lines string) {
	r.macro("PP")
	r.macro("RS", "4")
	r.macro("nf")
	for line := range strings.Lines(lines) {
		r.line(strings.TrimRight(strings.TrimPrefix(line, "  "), "\n"))
	}
	r.macro("fi")
	r.macro("RE")
}

// item writes a term and what it means.
func (r *roff) item(term, text string) {
	r.macro("TP")
	r.WriteString(`\fB` + escapeRoff(term) + "\\fR\n")
	r.text(text)
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "–", `\(en`, "→", `\(->`)

func escapeRoff(text string) string { return roffEscapes.Replace(text) }

// manual is the page of dmarcd(1).
func manual(all []description) string {
	r := &roff{}
	r.macro("TH", "DMARCD", "1", builtOn(), "dmarcd "+version, "User Commands")
	r.macro("SH", "NAME")
	r.line("dmarcd - reads DMARC and SMTP TLS reports and tells who sends mail as your domains")
	r.macro("SH", "SYNOPSIS")
	r.WriteString("\\fBdmarcd\\fR \\fICOMMAND\\fR [\\fIflags\\fR] [\\fIarguments\\fR]\n")
	r.macro("SH", "DESCRIPTION")
	r.text("dmarcd fetches the reports that other mail servers send about your domains from a mailbox, keeps them in PostgreSQL, and shows in a dashboard and over an API how much of your mail passes, who sends it, and whether a stricter policy is safe.")
	r.macro("SH", "COMMANDS")
	for _, d := range all {
		r.macro("SS", strings.TrimSpace("dmarcd "+d.name+" [flags] "+d.operands))
		r.text(d.about)
		for _, f := range d.flags {
			r.item(strings.TrimSpace(f.name+" "+f.value), f.text)
		}
		for _, section := range d.more {
			name, lines, _ := strings.Cut(section, "\n")
			if name != "Examples:" {
				continue // of the environment, below
			}
			r.verbatim(lines)
		}
	}
	r.macro("SH", "CONFIGURATION")
	r.text("A TOML file, and environment variables, which win over it. Settings with a dot stand in the table before the dot.")
	for _, s := range exampleDefaults().settings {
		r.item(s.key, s.doc+settingDefault(s)+".")
	}
	r.macro("SS", "Below [[mailbox]]")
	r.text("There can be several. The variables are for a single one.")
	for _, s := range newMailbox().settings {
		r.item(s.key, s.doc+settingDefault(s)+".")
	}
	r.macro("SH", "ENVIRONMENT")
	r.item("DMARCD_CONFIG", "The configuration file.")
	r.item("DMARCD_SETTING", "Each setting has a variable: DMARCD_ and its name in capitals, with _ for the dot, such as DMARCD_SMTP_LISTEN. Those of the mailbox begin with DMARCD_IMAP_, such as DMARCD_IMAP_URL.")
	r.item("NO_COLOR", "No colours on a terminal.")
	r.item("COLUMNS", "How wide lines may be, where the terminal does not tell.")
	r.macro("SH", "FILES")
	r.item("./dmarcd.toml, /etc/dmarcd/dmarcd.toml", "The configuration, if neither --config nor DMARCD_CONFIG names another; the first that is there is read.")
	r.macro("SH", "EXIT STATUS")
	r.item("0", "It is done.")
	r.item("1", "Something failed; it was said what.")
	r.item("2", "Wrong usage or configuration.")
	return r.String()
}

// builtOn is the day of the commit that this dmarcd was built from, "" if it
// is not known.
func builtOn() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.time" && len(s.Value) >= len(time.DateOnly) {
				return s.Value[:len(time.DateOnly)]
			}
		}
	}
	return ""
}

// settingDefault says what holds without a setting, and its variable.
func settingDefault(s *setting) string {
	if text := s.toml(); !s.required && text != `""` && text != "[]" && !strings.Contains(s.doc, "default:") {
		return fmt.Sprintf(" (%s; default %s)", s.env, text)
	}
	return " (" + s.env + ")"
}
