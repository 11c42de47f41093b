package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Whoever builds the same source has the same program, wherever it lies: so can
// people see that what they were handed was made of what they can read.
func TestTheSameSourceMakesTheSameProgram(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(dir, "elsewhere")
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		from, to := filepath.Join("../..", e.Name()), filepath.Join(elsewhere, e.Name())
		switch {
		case e.Name() == ".git" || e.Name() == "bin":
		case e.IsDir():
			if err := os.CopyFS(to, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
		default:
			text, err := os.ReadFile(from)
			if err == nil {
				err = os.MkdirAll(elsewhere, 0o755)
			}
			if err == nil {
				err = os.WriteFile(to, text, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	binary := filepath.Join(dir, "dmarcd")
	if err := buildIn(filepath.Join(elsewhere, "cmd/dmarcd"), binary); err != nil {
		t.Fatal(err)
	}
	one, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, other) {
		t.Errorf("%d and %d bytes, and not the same ones", len(one), len(other))
	}
}
