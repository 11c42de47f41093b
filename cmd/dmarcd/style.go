package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

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

// Colours that mean the same everywhere: mail that passes, and mail that fails.
const (
	colourPass = "38;5;32"
	colourFail = "38;5;166"
)

// bar draws how much of a whole n is, in so many columns. What is more than
// nothing and less than all is never drawn as that.
func (s style) bar(n, total int64, columns int) string {
	full := 0
	if total > 0 {
		full = int(float64(n) / float64(total) * float64(columns))
		if n > 0 && full == 0 {
			full = 1
		}
		if n < total && full == columns {
			full--
		}
	}
	return s.paint(colourPass, strings.Repeat("█", full)) + s.paint("2", strings.Repeat("░", columns-full))
}

// A column is one of a table.
type column struct {
	name  string
	right bool // numbers
}

// table writes lines of cells below the names of the columns, each as wide as
// it has to be. The widest column of text gives way if the lines are too long.
func (s style) table(w io.Writer, indent string, columns []column, lines [][]string) {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = len([]rune(c.name))
		for _, cells := range lines {
			widths[i] = max(widths[i], len([]rune(cells[i])))
		}
	}
	total := len(indent) + 2*(len(columns)-1)
	widest := 0
	for i, n := range widths {
		total += n
		if !columns[i].right && n > widths[widest] || columns[widest].right {
			widest = i
		}
	}
	if over := total - s.width; over > 0 {
		widths[widest] = max(widths[widest]-over, len([]rune(columns[widest].name)), 12)
	}
	write := func(cells []string, style func(string) string) {
		var b strings.Builder
		for i, text := range cells {
			text = shortened(text, widths[i])
			pad := strings.Repeat(" ", widths[i]-len([]rune(text)))
			if i > 0 {
				b.WriteString("  ")
			}
			if columns[i].right {
				b.WriteString(pad + text)
			} else {
				b.WriteString(text + pad)
			}
		}
		fmt.Fprintf(w, "%s%s\n", indent, style(strings.TrimRight(b.String(), " ")))
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	write(names, s.dim)
	for _, cells := range lines {
		write(cells, func(text string) string { return text })
	}
}

// shortened cuts a text in its middle.
func shortened(text string, width int) string {
	r := []rune(text)
	if len(r) <= width {
		return text
	}
	head := (width - 1) / 2
	return string(r[:head]) + "…" + string(r[len(r)-(width-1-head):])
}
