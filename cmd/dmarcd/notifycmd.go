package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/notify"
)

const (
	notifyUsage = `Says whether notifications arrive: "dmarcd notify test" sends a test to each configured target, or to the one that is named, and
says for each what happened. No database is needed. Exit status 1 if one of them failed.`

	notifyExamples = `Examples:
  dmarcd notify test
  dmarcd notify test ops`
)

// testTime bounds a test of one target.
const testTime = 45 * time.Second

func runNotify(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("notify", "test [TARGET...]", notifyUsage, notifyExamples)
	cfg, _, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	if fs.Arg(0) != "test" {
		return usageError(fmt.Sprintf("%q is nothing it can do%s; there is test", fs.Arg(0), didYouMean(fs.Arg(0), []string{"test"})))
	}
	return env.testTargets(ctx, cfg, fs.Args()[1:])
}

// testTargets sends a test to the named targets, or to all.
func (env *environ) testTargets(ctx context.Context, cfg *config, names []string) error {
	if len(cfg.Targets) == 0 {
		return fmt.Errorf("no target is configured: add [[target]] to the configuration, see docs/notify.md")
	}
	var known []string
	for _, t := range cfg.Targets {
		known = append(known, t.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return usageError(fmt.Sprintf("there is no target %q%s", name, didYouMean(name, known)))
		}
	}
	failed := false
	for _, t := range cfg.Targets {
		if len(names) > 0 && !slices.Contains(names, t.Name) {
			continue
		}
		sender, err := cfg.sender(t)
		if err == nil {
			m := notify.TestMessage(t.Name, time.Now())
			sending, cancel := context.WithTimeout(ctx, testTime)
			err = sender.Send(sending, &m)
			cancel()
		}
		if err != nil {
			failed = true
			fmt.Fprintf(env.stdout, "%s: failed: %s\n", inline(t.Name), inline(err.Error()))
			continue
		}
		fmt.Fprintf(env.stdout, "%s: sent\n", inline(t.Name))
	}
	if failed {
		return errSaid
	}
	return nil
}
