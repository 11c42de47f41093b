// Command groundtruth holds advice against generated reports of which the
// truth is known: whose every source is, and what a policy would cost. It
// reads the reports with package parse, as dmarcd does, and needs neither
// database nor DNS.
//
//	go run ./advice/groundtruth --seeds 1,2,3 --domains 200
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := run(ctx, os.Stdout, os.Args[1:], os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// run prints what came of it, and reports whether all of it was right.
func run(ctx context.Context, w io.Writer, args []string, getenv func(string) string) (bool, error) {
	flags := flag.NewFlagSet("groundtruth", flag.ContinueOnError)
	generator := getenv("DMARCD_GENCORPUS")
	if generator == "" {
		generator = "../shared/bin/gencorpus"
	}
	seeds := flags.String("seeds", "1,2,3", "worlds to generate")
	domains := flags.Int("domains", 200, "domains of each")
	reports := flags.Int("reports", 20000, "reports about them")
	days := flags.Int("days", 180, "days that they cover")
	verbose := flags.Bool("v", false, "print every source that was taken for another")
	flags.StringVar(&generator, "generator", generator, "the program that generates reports (DMARCD_GENCORPUS)")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	all := true
	for _, text := range strings.Split(*seeds, ",") {
		seed, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return false, fmt.Errorf("--seeds: %q is no number", text)
		}
		dir, err := os.MkdirTemp("", "groundtruth-")
		if err != nil {
			return false, err
		}
		ok, err := trial(ctx, w, generator, dir, seed, *domains, *reports, *days, *verbose)
		os.RemoveAll(dir)
		if err != nil {
			return false, fmt.Errorf("seed %d: %w", seed, err)
		}
		all = all && ok
	}
	return all, nil
}

func trial(ctx context.Context, w io.Writer, generator, dir string, seed, domains, reports, days int, verbose bool) (bool, error) {
	out := filepath.Join(dir, "world")
	cmd := exec.CommandContext(ctx, generator, "--seed", strconv.Itoa(seed), "--domains", strconv.Itoa(domains), "--reports", strconv.Itoa(reports),
		"--days", strconv.Itoa(days), "--format", "xml.gz", "--sources", "--no-cells", "--jobs", "1", "--out", out)
	if text, err := cmd.CombinedOutput(); err != nil {
		return false, fmt.Errorf("%s: %w: %s", generator, err, text)
	}
	world, err := read(ctx, out)
	if err != nil {
		return false, err
	}
	r := examine(world, int64(seed), verbose)
	fmt.Fprintf(w, "Seed %d: %d domains, %d reports, %d days\n\n", seed, len(world.domains), world.reports, days)
	r.print(w)
	return r.ok(), nil
}
