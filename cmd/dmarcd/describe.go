package main

import (
	"context"
	"flag"
	"io"
	"strings"
)

// A description is what a command says about itself: what completions and the
// manual are made from.
type description struct {
	*command
	about string
	more  []string // sections, such as examples
	flags []flagDescription
	words []string // that its operand is one of
}

type flagDescription struct {
	name    string // with dashes
	value   string // what stands for its value; "" if it takes none
	choices []string
	text    string
}

// takesFiles tells whether the value of a flag is a file, or a folder.
func (f flagDescription) takesFiles() bool { return f.value == "FILE" || f.value == "DIRECTORY" }

// describe asks every command for its flags, in the order of the help.
func describe() []description {
	var all []description
	for _, c := range commands() {
		var fs *flagSet
		env := newEnviron(strings.NewReader(""), io.Discard, io.Discard, nil)
		env.described = func(f *flagSet) { fs = f }
		// It ends where the arguments would be read.
		if err := c.run(context.Background(), env, nil); fs == nil {
			panic("command " + c.name + " has no arguments to read: " + err.Error())
		}
		d := description{command: &c, about: fs.about, more: fs.more}
		fs.VisitAll(func(f *flag.Flag) {
			one := flagDescription{name: "--" + f.Name, value: valueName(f), text: flagText(f)}
			if choice, ok := f.Value.(*choiceFlag); ok {
				for _, word := range choice.words {
					if word != "" {
						one.choices = append(one.choices, word)
					}
				}
			}
			d.flags = append(d.flags, one)
		})
		d.flags = append(d.flags, flagDescription{name: "--help", text: "print how the command is used"})
		if words := strings.Split(strings.Trim(c.operands, "[]"), "|"); len(words) > 1 {
			for i, w := range words {
				words[i], _, _ = strings.Cut(w, " ")
			}
			d.words = words
		}
		if c.operands == "[COMMAND]" {
			d.words = commandNames()
		}
		all = append(all, d)
	}
	return all
}

// takesPaths tells whether the operands are files.
func (d description) takesPaths() bool { return strings.Contains(d.operands, "PATH") }
