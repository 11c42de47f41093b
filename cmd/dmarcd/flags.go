package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// A flagSet is the arguments of one command: flags, which may stand anywhere
// among the operands, and what the command says about itself.
type flagSet struct {
	*flag.FlagSet // holds the definitions; arguments are read by Parse

	env      *environ
	synopsis string   // of the operands
	about    string   // what the command does
	more     []string // sections after the flags, such as examples
	rest     []string
	config   *string // the file named by --config, for commands that have it
}

// flags begins the definition of a command's arguments. The operands are as
// in usage: "" for none, "PATH..." for at least one, in brackets if they may be
// left out.
func (env *environ) flags(name, operands, about string, more ...string) *flagSet {
	return &flagSet{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), env: env, synopsis: operands, about: about, more: more}
}

// configFlag adds --config.
func (fs *flagSet) configFlag() {
	fs.config = fs.String("config", "", "configuration `FILE` (default DMARCD_CONFIG, ./dmarcd.toml or /etc/dmarcd/dmarcd.toml)")
}

// Args returns the operands.
func (fs *flagSet) Args() []string { return fs.rest }

// Arg returns an operand, or "" if there are fewer.
func (fs *flagSet) Arg(i int) string {
	if i >= len(fs.rest) {
		return ""
	}
	return fs.rest[i]
}

// NArg returns how many operands there are.
func (fs *flagSet) NArg() int { return len(fs.rest) }

// Parse reads the arguments. With --help it writes the usage to standard
// output and returns flag.ErrHelp; what is wrong gives a usageError.
func (fs *flagSet) Parse(args []string) error {
	if fs.env.described != nil {
		fs.env.described(fs)
		return flag.ErrHelp
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			fs.rest = append(fs.rest, args...)
			args = nil
			continue
		case arg == "-" || !strings.HasPrefix(arg, "-"):
			fs.rest = append(fs.rest, arg)
			continue
		}
		name, text, given := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		if name == "help" || name == "h" {
			if _, err := io.WriteString(fs.env.stdout, fs.usage()); err != nil {
				return err
			}
			return flag.ErrHelp
		}
		f := fs.Lookup(name)
		if f == nil {
			return usageError(fmt.Sprintf("unknown flag --%s%s", name, didYouMean("--"+name, fs.names())))
		}
		if !given {
			if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
				text = "true"
			} else if len(args) > 0 {
				text, args = args[0], args[1:]
			} else {
				return usageError(fmt.Sprintf("--%s needs a value: --%s %s", name, name, valueName(f)))
			}
		}
		if err := f.Value.Set(text); err != nil {
			return usageError(fmt.Sprintf("--%s %q: %v; want %s", name, text, err, valueName(f)))
		}
	}
	switch {
	case fs.synopsis == "" && len(fs.rest) > 0:
		return usageError(fmt.Sprintf("takes no arguments, but got %q", fs.rest[0]))
	case fs.synopsis != "" && !strings.HasPrefix(fs.synopsis, "[") && len(fs.rest) == 0:
		return usageError("needs " + fs.synopsis)
	case !strings.Contains(fs.synopsis, "...") && len(fs.rest) > 1:
		return usageError(fmt.Sprintf("takes one argument, but got %q as well", fs.rest[1]))
	}
	return nil
}

func (fs *flagSet) names() []string {
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, "--"+f.Name) })
	return names
}

// usage is the text of --help.
func (fs *flagSet) usage() string {
	var b strings.Builder
	width := fs.env.style(fs.env.stdout).width
	fmt.Fprintf(&b, "Usage: %s\n\n%s\nFlags:\n", strings.TrimSpace("dmarcd "+fs.Name()+" [flags] "+fs.synopsis), paragraphs(fs.about, width))
	var list [][2]string
	fs.VisitAll(func(f *flag.Flag) {
		list = append(list, [2]string{strings.TrimSpace("--" + f.Name + " " + valueName(f)), flagText(f)})
	})
	writeList(&b, append(list, [2]string{"--help", "print this"}), width)
	for _, section := range fs.more {
		b.WriteString("\n" + strings.TrimRight(section, "\n") + "\n")
	}
	return b.String()
}

// paragraphs breaks the lines of paragraphs anew.
func paragraphs(text string, width int) string {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		for _, line := range wrap(paragraph, width) {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// flagText says what a flag does, with its default.
func flagText(f *flag.Flag) string {
	_, text := flag.UnquoteUsage(f)
	if f.DefValue != "" && f.DefValue != "false" && !strings.Contains(text, "default") {
		text += " (default " + f.DefValue + ")"
	}
	return text
}

// writeList writes names and what they mean, side by side, or below each other
// where that is too wide.
func writeList(b *strings.Builder, list [][2]string, width int) {
	const most = 36 // columns of names
	widest := 0
	for _, item := range list {
		if n := len([]rune(item[0])); n <= most {
			widest = max(widest, n)
		}
	}
	for _, item := range list {
		lines := wrap(item[1], width-widest-4)
		if len(lines) == 0 {
			lines = []string{""}
		}
		if len([]rune(item[0])) > widest {
			fmt.Fprintf(b, "  %s\n", item[0])
		} else {
			fmt.Fprintf(b, "  %-*s  %s\n", widest, item[0], lines[0])
			lines = lines[1:]
		}
		for _, line := range lines {
			fmt.Fprintf(b, "  %-*s  %s\n", widest, "", line)
		}
	}
}

// valueName is what stands for the value of a flag in usage, "" for a flag
// that takes none.
func valueName(f *flag.Flag) string {
	if c, ok := f.Value.(*choiceFlag); ok {
		return strings.TrimPrefix(strings.Join(c.words, "|"), "|") // an empty word is only a default
	}
	name, _ := flag.UnquoteUsage(f)
	return strings.ToUpper(name)
}

// A choiceFlag takes one of some words.
type choiceFlag struct {
	word  string
	words []string
}

func (c *choiceFlag) String() string { return c.word }

func (c *choiceFlag) Set(word string) error {
	for _, w := range c.words {
		if w == word {
			c.word = word
			return nil
		}
	}
	return errors.New("not one of the choices")
}

// choice defines a flag that takes one of some words; the first is the
// default.
func (fs *flagSet) choice(name, usage string, words ...string) *choiceFlag {
	c := &choiceFlag{word: words[0], words: words}
	fs.Var(c, name, usage)
	return c
}
