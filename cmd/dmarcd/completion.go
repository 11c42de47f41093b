package main

import (
	"context"
	"fmt"
	"io"
	"strings"
)

const (
	completionUsage = `Prints a script that lets a shell complete the commands of dmarcd, their flags and the words that these take.`

	completionExamples = `Examples:
  dmarcd completion bash > /etc/bash_completion.d/dmarcd
  dmarcd completion zsh > /usr/local/share/zsh/site-functions/_dmarcd
  dmarcd completion fish > ~/.config/fish/completions/dmarcd.fish`
)

func runCompletion(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("completion", "bash|zsh|fish", completionUsage, completionExamples)
	if err := fs.Parse(args); err != nil {
		return err
	}
	scripts := map[string]func([]description) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	write := scripts[fs.Arg(0)]
	if write == nil {
		return usageError(fmt.Sprintf("%q is none of bash, zsh and fish%s", fs.Arg(0), didYouMean(fs.Arg(0), []string{"bash", "zsh", "fish"})))
	}
	_, err := io.WriteString(env.stdout, write(describe()))
	return err
}

// names are the names of all commands.
func names(all []description) string {
	var list []string
	for _, d := range all {
		list = append(list, d.name)
	}
	return strings.Join(list, " ")
}

func bashCompletion(all []description) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Completion of dmarcd for bash.
_dmarcd_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }
_dmarcd_files() { compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen "$1" -- "$cur"); }
_dmarcd() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	COMPREPLY=()
	# bash takes --flag=value apart.
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD-2]}
	fi
	if ((COMP_CWORD == 1)); then
		_dmarcd_words "%s"
		return
	fi
	case ${COMP_WORDS[1]} in
`, names(all))
	for _, d := range all {
		fmt.Fprintf(&b, "\t%s)\n\t\tcase $prev in\n", d.name)
		var flags []string
		for _, f := range d.flags {
			flags = append(flags, f.name)
			switch {
			case f.choices != nil:
				fmt.Fprintf(&b, "\t\t%s) _dmarcd_words %q; return ;;\n", f.name, strings.Join(f.choices, " "))
			case f.value == "DIRECTORY":
				fmt.Fprintf(&b, "\t\t%s) _dmarcd_files -d; return ;;\n", f.name)
			case f.value == "FILE":
				fmt.Fprintf(&b, "\t\t%s) _dmarcd_files -f; return ;;\n", f.name)
			case f.value != "":
				fmt.Fprintf(&b, "\t\t%s) return ;;\n", f.name)
			}
		}
		fmt.Fprintf(&b, "\t\tesac\n\t\tcase $cur in\n\t\t-*) _dmarcd_words %q ;;\n", strings.Join(flags, " "))
		switch {
		case d.words != nil:
			fmt.Fprintf(&b, "\t\t*) _dmarcd_words %q ;;\n", strings.Join(d.words, " "))
		case d.takesPaths():
			b.WriteString("\t\t*) _dmarcd_files -f ;;\n")
		}
		b.WriteString("\t\tesac ;;\n")
	}
	b.WriteString("\tesac\n}\ncomplete -F _dmarcd dmarcd\n")
	return b.String()
}

// zshQuote makes a text fit for a specification of _arguments in single quotes.
func zshQuote(text string) string {
	return strings.NewReplacer("'", `'\''`, "[", `\[`, "]", `\]`, ":", `\:`).Replace(text)
}

func zshCompletion(all []description) string {
	var b strings.Builder
	b.WriteString("#compdef dmarcd\n# Completion of dmarcd for zsh.\n_dmarcd() {\n\tlocal -a commands\n\tcommands=(\n")
	for _, d := range all {
		fmt.Fprintf(&b, "\t\t'%s:%s'\n", d.name, zshQuote(d.summary))
	}
	b.WriteString("\t)\n\tif ((CURRENT == 2)); then\n\t\t_describe command commands\n\t\treturn\n\tfi\n\tlocal command=$words[2]\n\tshift words\n\t((CURRENT--))\n\tcase $command in\n")
	for _, d := range all {
		fmt.Fprintf(&b, "\t%s)\n\t\t_arguments -S", d.name)
		for _, f := range d.flags {
			action := ""
			switch {
			case f.choices != nil:
				action = "=:" + "value:(" + strings.Join(f.choices, " ") + ")"
			case f.value == "DIRECTORY":
				action = "=:directory:_files -/"
			case f.value == "FILE":
				action = "=:file:_files"
			case f.value != "":
				action = "=:" + zshQuote(strings.ToLower(f.value)) + ": "
			}
			spec, value := f.name, ""
			if action != "" {
				spec, value = f.name+"=", action[1:]
			}
			fmt.Fprintf(&b, " \\\n\t\t\t'%s[%s]%s'", spec, zshQuote(f.text), value)
		}
		switch {
		case d.words != nil:
			fmt.Fprintf(&b, " \\\n\t\t\t'1:word:(%s)'", strings.Join(d.words, " "))
		case d.takesPaths():
			b.WriteString(" \\\n\t\t\t'*:file:_files'")
		}
		b.WriteString("\n\t\t;;\n")
	}
	b.WriteString("\tesac\n}\nif [[ $funcstack[1] == _dmarcd ]]; then\n\t_dmarcd \"$@\"\nelse\n\tcompdef _dmarcd dmarcd\nfi\n")
	return b.String()
}

// fishQuote makes a text fit for single quotes of fish.
func fishQuote(text string) string {
	return strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text)
}

func fishCompletion(all []description) string {
	var b strings.Builder
	b.WriteString("# Completion of dmarcd for fish.\ncomplete -c dmarcd -f\n")
	for _, d := range all {
		fmt.Fprintf(&b, "complete -c dmarcd -n __fish_use_subcommand -a %s -d '%s'\n", d.name, fishQuote(d.summary))
		given := "'__fish_seen_subcommand_from " + d.name + "'"
		for _, f := range d.flags {
			fmt.Fprintf(&b, "complete -c dmarcd -n %s -l %s -d '%s'", given, strings.TrimPrefix(f.name, "--"), fishQuote(f.text))
			switch {
			case f.choices != nil:
				fmt.Fprintf(&b, " -x -a '%s'", strings.Join(f.choices, " "))
			case f.takesFiles():
				b.WriteString(" -r -F")
			case f.value != "":
				b.WriteString(" -x")
			}
			b.WriteByte('\n')
		}
		switch {
		case d.words != nil:
			fmt.Fprintf(&b, "complete -c dmarcd -n %s -a '%s'\n", given, strings.Join(d.words, " "))
		case d.takesPaths():
			fmt.Fprintf(&b, "complete -c dmarcd -n %s -F\n", given)
		}
	}
	return b.String()
}
