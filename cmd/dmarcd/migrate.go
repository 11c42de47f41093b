package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dmarcd/dmarcd/migrations"
	"github.com/dmarcd/dmarcd/postgres"
)

const migrateUsage = `Brings the schema of the database up to date, and says what was done. dmarcd serve and dmarcd import do the same when
they start. Steps are applied once, in order, and several processes may start at once.

With --distribute the tables are spread over the machines of a Citus cluster by domain, after all steps are applied. A
database without Citus is refused and stays as it is.`

func runMigrate(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("migrate", "", migrateUsage)
	show := fs.Bool("show", false, "only show the steps; change nothing")
	distribute := fs.Bool("distribute", false, "spread the tables over the machines of a Citus cluster")
	cfg, log, err := env.setUp(fs, args)
	if err != nil {
		return err
	}
	s, err := openDatabase(ctx, cfg, log, postgres.Options{}, true)
	if err != nil {
		return err
	}
	if *show && *distribute {
		return errors.Join(usageError("--show changes nothing, --distribute does: choose one"), s.close())
	}
	if !*show {
		_, err = migrations.Apply(ctx, s.db)
	}
	if err == nil && *distribute {
		err = migrations.Distribute(ctx, s.db)
	}
	var steps []migrations.Step
	if err == nil {
		steps, err = migrations.Status(ctx, s.db)
	}
	var lines [][]string
	for _, step := range steps {
		state := "not applied"
		if !step.AppliedAt.IsZero() {
			state = step.AppliedAt.UTC().Format(time.RFC3339)
		}
		lines = append(lines, []string{fmt.Sprintf("%04d", step.Number), step.Name, state})
	}
	if len(lines) > 0 {
		env.style(env.stdout).table(env.stdout, "", []column{{"Step", false}, {"Name", false}, {"Applied", false}}, lines)
	}
	return errors.Join(err, s.close())
}
