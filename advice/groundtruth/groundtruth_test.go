package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAdviceIsRightAboutAGeneratedWorld(t *testing.T) {
	generator, err := filepath.Abs("../../../shared/bin/gencorpus")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(generator); err != nil {
		t.Skipf("SKIPPED: the generator of reports is not here: %v", err)
	}
	var out strings.Builder
	ok, err := run(t.Context(), &out, []string{"--generator", generator, "--seeds", "4", "--domains", "24", "--reports", "2500", "--days", "140", "-v"}, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		t.Errorf("not all of it is right:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "reject: ready") {
		t.Errorf("no domain is ready for anything:\n%s", out.String())
	}
}
