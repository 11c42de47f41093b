package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dmarcd/dmarcd/notify"
	"github.com/dmarcd/dmarcd/postgres"
)

const (
	notifyUsage = `Says whether notifications arrive: "dmarcd notify test" sends a test to each configured target and to those who get digests, or to those that are named, and
says for each what happened. No database is needed. Exit status 1 if one of them failed.

"dmarcd notify digest" prints the digest that was due last. Nothing is sent.`

	notifyExamples = `Examples:
  dmarcd notify test
  dmarcd notify test ops
  dmarcd notify digest
  dmarcd notify digest --format html >digest.html`
)

// testTime bounds a test of one target.
const testTime = 45 * time.Second

func runNotify(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("notify", "test|digest [TARGET...]", notifyUsage, notifyExamples)
	format := fs.choice("format", "how to print a digest", "text", "html", "mail")
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	switch fs.Arg(0) {
	case "test":
		return env.testTargets(ctx, cfg, fs.Args()[1:])
	case "digest":
		if fs.NArg() > 1 {
			return usageError("digest takes no arguments")
		}
		s, err := openService(ctx, cfg, log, postgres.Options{}, true)
		if err != nil {
			return err
		}
		return errors.Join(env.printDigest(ctx, s, cfg, format.word), s.close())
	}
	return usageError(fmt.Sprintf("%q is nothing it can do%s; there are test and digest", fs.Arg(0), didYouMean(fs.Arg(0), []string{"test", "digest"})))
}

// testTargets sends a test to the named targets, or to all.
func (env *environ) testTargets(ctx context.Context, cfg *config, names []string) error {
	type tried struct {
		name   string
		sender func() (notify.Sender, error)
	}
	var all []tried
	var known []string
	for _, t := range cfg.Targets {
		all, known = append(all, tried{t.Name, func() (notify.Sender, error) { return cfg.sender(t) }}), append(known, t.Name)
	}
	if cfg.Digest.Every != "" {
		all = append(all, tried{digestTarget, func() (notify.Sender, error) { return notify.NewMail(cfg.mailServer(), cfg.Digest.To) }})
		known = append(known, digestTarget)
	}
	if len(all) == 0 {
		return fmt.Errorf("no target is configured: add [[target]] to the configuration, see docs/notify.md")
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return usageError(fmt.Sprintf("there is no target %q%s", name, didYouMean(name, known)))
		}
	}
	failed := false
	for _, t := range all {
		if len(names) > 0 && !slices.Contains(names, t.name) {
			continue
		}
		sender, err := t.sender()
		if err == nil {
			m := notify.TestMessage(t.name, time.Now())
			sending, cancel := context.WithTimeout(ctx, testTime)
			err = sender.Send(sending, &m)
			cancel()
		}
		if err != nil {
			failed = true
			fmt.Fprintf(env.stdout, "%s: failed: %s\n", inline(t.name), inline(err.Error()))
			continue
		}
		fmt.Fprintf(env.stdout, "%s: sent\n", inline(t.name))
	}
	if failed {
		return errSaid
	}
	return nil
}
