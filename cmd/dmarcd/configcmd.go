package main

import (
	"context"
	"fmt"
	"io"
	"strings"
)

const configUsage = `Prints the effective configuration as TOML, with secrets hidden, and where each value comes from: default, file or
environment. All mistakes are reported at once, with exit status 2.

The configuration is a TOML file (--config FILE, else DMARCD_CONFIG, else ./dmarcd.toml, else /etc/dmarcd/dmarcd.toml;
none is fine) and environment variables, which win over it. An empty variable says nothing.`

func runConfig(ctx context.Context, env *environ, args []string) error {
	env.listens = true
	fs := env.flags("config", "", configUsage, environmentHelp(env.style(env.stdout).width))
	fs.configFlag()
	check := fs.Bool("check", false, "only look for mistakes")
	example := fs.Bool("example", false, "print a configuration file with every setting, its default and what it does")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *example {
		_, err := io.WriteString(env.stdout, exampleConfig())
		return err
	}
	cfg, err := env.loadConfig(*fs.config, everything)
	if err != nil {
		return err
	}
	if *check {
		env.say("The configuration is fine.")
		return nil
	}
	return cfg.print(env.stdout)
}

// print writes the configuration as TOML, with where each value comes from.
func (c *config) print(w io.Writer) error {
	var b strings.Builder
	table := ""
	line := func(s *setting, key string) {
		text := s.toml()
		if s.secret && s.origin.level == fromDefault {
			text = `""` // it came from its file
		}
		fmt.Fprintf(&b, "%s = %s # %s\n", key, text, printable(s.origin.String()))
	}
	for _, s := range c.settings {
		name, key, nested := strings.Cut(s.key, ".")
		if !nested {
			name, key = "", name
		}
		if name != table {
			fmt.Fprintf(&b, "\n[%s]\n", name)
			table = name
		}
		line(s, key)
	}
	for _, list := range tableLists {
		for _, entry := range list.entries(c) {
			b.WriteString("\n[[" + list.name + "]]\n")
			for _, s := range entry {
				line(s, s.key)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// environmentHelp lists the environment variables.
func environmentHelp(width int) string {
	var b strings.Builder
	list := [][2]string{{"DMARCD_CONFIG", "configuration file"}}
	for _, s := range exampleDefaults().settings {
		list = append(list, [2]string{s.env, s.doc})
	}
	b.WriteString("Environment:\n")
	writeList(&b, list, width)
	b.WriteString("\n" + paragraphs("One mailbox can be given by variables alone. If the file has one mailbox, they win over its settings; "+
		"if it has several, DMARCD_IMAP_NAME says which one is meant:", width))
	list = nil
	for _, s := range newMailbox().settings {
		list = append(list, [2]string{s.env, s.doc})
	}
	writeList(&b, list, width)
	return b.String()
}

// exampleDefaults is the configuration that examples show: that of a service.
func exampleDefaults() *config {
	return defaultConfig(&environ{root: true})
}

// exampleConfig is a configuration file with every setting, commented out.
func exampleConfig() string {
	var b strings.Builder
	b.WriteString(`# The configuration of dmarcd: every setting, with its default. Take the # away to change one.
#
# dmarcd reads the file of --config or DMARCD_CONFIG, else ./dmarcd.toml, else
# /etc/dmarcd/dmarcd.toml. Environment variables win over it; each is named
# after what it sets. "dmarcd config" shows what is in force and where it
# comes from.
`)
	table := ""
	for _, s := range exampleDefaults().settings {
		name, key, nested := strings.Cut(s.key, ".")
		if !nested {
			name, key = "", name
		}
		if name != table {
			table = name
			for _, t := range tables {
				if t.name == name {
					fmt.Fprintf(&b, "\n# %s\n", t.doc)
				}
			}
			fmt.Fprintf(&b, "#[%s]\n", name)
		}
		exampleSetting(&b, s, key)
	}
	for _, list := range tableLists {
		fmt.Fprintf(&b, "\n# %s\n#[[%s]]\n", list.doc, list.name)
		for _, s := range list.settings() {
			exampleSetting(&b, s, s.key)
		}
	}
	return b.String()
}

func exampleSetting(b *strings.Builder, s *setting, key string) {
	fmt.Fprintf(b, "\n# %s%s\n", strings.ToUpper(s.doc[:1]), s.doc[1:])
	if s.env != "" {
		fmt.Fprintf(b, "# Environment: %s\n", s.env)
	}
	text := s.toml()
	if s.required {
		text = s.example
	} else if s.example != "" {
		fmt.Fprintf(b, "# Example: %s = %s\n", key, s.example)
	}
	fmt.Fprintf(b, "#%s = %s\n", key, text)
}
