package main

import (
	"io"
	"os"
	"strconv"

	"golang.org/x/term"
)

// A style is how text for people looks where it is written: colours only on
// a terminal that wants them, lines as wide as it is.
type style struct {
	colours bool
	width   int // columns
}

// Widths of lines. Wider ones are hard to read.
const (
	usualWidth = 100 // where nobody knows
	leastWidth = 60
	mostWidth  = 120
)

// style returns how to write to w. COLUMNS wins over what a terminal tells.
func (env *environ) style(w io.Writer) style {
	s := style{width: usualWidth}
	s.colours = isTerminal(w) && env.getenv("NO_COLOR") == "" && env.getenv("TERM") != "dumb"
	if f, ok := w.(*os.File); ok && isTerminal(w) {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			s.width = columns
		}
	}
	if columns, err := strconv.Atoi(env.getenv("COLUMNS")); err == nil && columns > 0 {
		s.width = columns
	}
	s.width = min(max(s.width, leastWidth), mostWidth)
	return s
}

// paint colours a text, by the codes of ANSI terminals.
func (s style) paint(code, text string) string {
	if !s.colours || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(text string) string { return s.paint("1", text) }
func (s style) dim(text string) string  { return s.paint("2", text) }
