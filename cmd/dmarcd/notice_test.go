package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// licences are those that dependencies may have, by words of their texts: all
// of them permissive.
var licences = []struct{ name, words string }{
	{"Apache-2.0", "Apache License Version 2.0"},
	{"CC0-1.0", "CC0 1.0 Universal"},
	{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted"},
	{"BSD-3-Clause", "may be used to endorse or promote products derived from this software"},
	{"BSD-2-Clause", "Redistributions in binary form must reproduce the above copyright notice"},
}

// NOTICE lists what is built into dmarcd, and under which licences.
func TestTheNoticeListsEveryDependency(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}", ".")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(strings.ReplaceAll(string(out), "\t", "|"))
	slices.Sort(modules)
	modules = slices.Compact(modules)
	var b strings.Builder
	b.WriteString(`dmarcd
Copyright the dmarcd authors

Licensed under the Apache License, Version 2.0; see LICENSE.

The program contains the Go standard library (BSD-3-Clause, Copyright 2009 The Go Authors) and these modules. This file is
made by "go test ./cmd/dmarcd -run Notice -update".
`)
	for _, m := range modules {
		parts := strings.Split(m, "|")
		path, version, dir := parts[0], parts[1], parts[2]
		name, text := licenceIn(t, dir)
		if name == "" {
			t.Errorf("%s: no licence that is known to be permissive", path)
		}
		fmt.Fprintf(&b, "\n%s %s\n    %s\n", path, version, name)
		said := map[string]bool{}
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "Copyright ") && strings.ContainsAny(line, "0123456789") && !said[line] {
				fmt.Fprintf(&b, "    %s\n", line)
				said[line] = true
			}
		}
	}
	current(t, filepath.Join("..", "..", "NOTICE"), b.String())
}

// licenceIn returns the licence of a module and its text.
func licenceIn(t *testing.T, dir string) (name, text string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		upper := strings.ToUpper(e.Name())
		if !strings.HasPrefix(upper, "LICENSE") && !strings.HasPrefix(upper, "LICENCE") && !strings.HasPrefix(upper, "COPYING") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		flat := strings.Join(strings.Fields(string(content)), " ")
		for _, l := range licences {
			if strings.Contains(flat, l.words) {
				return l.name, string(content)
			}
		}
	}
	return "", ""
}

// current compares a file with what it should be, or writes it with -update.
func current(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s is stale (%v): go test ./cmd/dmarcd -update", path, err)
	}
}
