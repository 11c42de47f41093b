// Command dmarcd is a DMARC report service: it polls mailboxes for reports,
// keeps them in PostgreSQL, and serves pass rates over a JSON API and a
// dashboard. Package main is alone in knowing the environment, signals and
// how long to wait.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	_ "time/tzdata" // names of time zones, wherever dmarcd runs

	"github.com/dmarcd/dmarcd/notify"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1 // something failed; it was said what
	exitUsage  = 2 // wrong usage or configuration
)

// memoryGoal is what the garbage collector works towards. It keeps a small
// machine small; what is really needed may be more.
const memoryGoal = 64 << 20

// room is how it comes to be more.
var room struct {
	sync.Mutex
	own  bool // nobody else has set a goal
	kept int64
}

// answerSooner has the garbage collector wait, below the goal, until there is four times as much garbage
// as what is needed, and not as much again: who waits for a page does not wait for it. What serves
// people calls it. GOMEMLIMIT and GOGC in the environment win.
func answerSooner() {
	if room.own && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// makeRoom adds to the goal what is kept in memory on purpose, in bytes; it is taken back
// by as many less. The nearer memory comes to the goal, the more time goes into looking for
// garbage.
func makeRoom(kept int) {
	room.Lock()
	defer room.Unlock()
	room.kept += int64(kept)
	if room.own {
		debug.SetMemoryLimit(memoryGoal + room.kept)
	}
}

func main() {
	room.own = os.Getenv("GOMEMLIMIT") == ""
	makeRoom(0)
	http.DefaultTransport = notify.DefaultTransport()
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// A command is what the first argument names.
type command struct {
	name     string
	operands string // as in usage: "PATH..."
	summary  string // what it does, in a line
	run      func(ctx context.Context, env *environ, args []string) error
}

// commands are in the order of the help.
func commands() []command {
	return []command{
		{"demo", "", "shows everything on generated reports", runDemo},
		{"serve", "", "polls the mailboxes, serves dashboard and API", runServe},
		{"doctor", "", "tries everything the configuration names, and says what is wrong", runDoctor},
		{"import", "PATH...", "stores reports from files", runImport},
		{"parse", "PATH...", "prints what files hold; needs no database", runParse},
		{"check", "DOMAIN...", "checks what domains publish in DNS; needs no database", runCheck},
		{"advise", "DOMAIN", "says whether a stricter policy is safe, and what to mend first", runAdvise},
		{"token", "create|list|revoke", "hands out API tokens, lists and revokes them", runToken},
		{"notify", "test|digest [TARGET...]", "tries whether notifications arrive, and prints the digest", runNotify},
		{"export", "", "writes reports and rows as NDJSON to a file, a pipe or Kafka, once or as a stream", runExport},
		{"migrate", "", "brings the database schema up to date, or shows it", runMigrate},
		{"backup", "PATH", "writes all that is in the database to a file", runBackup},
		{"restore", "PATH", "fills an empty database from a backup", runRestore},
		{"reparse", "", "reads the archived messages again and repairs history", runReparse},
		{"verify", "[DOMAIN]", "computes all totals anew and compares", runVerify},
		{"config", "", "prints the effective configuration, secrets hidden", runConfig},
		{"healthcheck", "", "asks a running dmarcd whether it is ready", runHealthcheck},
		{"completion", "bash|zsh|fish", "prints a script that completes commands in a shell", runCompletion},
		{"man", "", "prints the manual page", runMan},
		{"version", "", "prints version and commit", runVersion},
		{"help", "[COMMAND]", "explains a command", runHelp},
	}
}

// An environ is the world around a command.
type environ struct {
	stdin  io.Reader
	stdout io.Writer
	stderr *screen
	vars   map[string]string // the environment variables

	configFiles []string // where a configuration is looked for, unless one is named
	root        bool     // dmarcd runs as root

	described func(*flagSet) // if set, is told of the arguments in place of reading them
	listens   bool           // the command serves, or tells what would be served
}

func newEnviron(stdin io.Reader, stdout, stderr io.Writer, vars []string) *environ {
	env := &environ{
		stdin: stdin, stdout: stdout, stderr: newScreen(stderr), vars: map[string]string{},
		configFiles: []string{"dmarcd.toml", "/etc/dmarcd/dmarcd.toml"},
		root:        os.Geteuid() == 0,
	}
	for _, v := range vars {
		if name, text, ok := strings.Cut(v, "="); ok {
			env.vars[name] = text
		}
	}
	return env
}

func (env *environ) getenv(name string) string { return env.vars[name] }

// say writes a line about what happens, for people.
func (env *environ) say(format string, args ...any) {
	fmt.Fprintf(env.stderr, "%s\n", printable(fmt.Sprintf(format, args...)))
}

// errSaid is returned by a command that failed and has said all about it.
var errSaid = errors.New("failed")

// A usageError says what is wrong with the arguments, and what to do.
type usageError string

func (e usageError) Error() string { return string(e) }

// run does what the arguments say and returns the exit status. The first
// signal to stop cancels the context that commands work with; the second
// one ends the process at once.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, vars []string) int {
	env := newEnviron(stdin, stdout, stderr, vars)
	if len(args) == 0 {
		io.WriteString(env.stderr, overview(env.style(stderr).width))
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "-h", "-help", "--help":
		name = "help"
	case "-version", "--version":
		name = "version"
	}
	cmd := findCommand(name)
	if cmd == nil {
		env.say("dmarcd: unknown command %q%s\n%q lists the commands.", name, didYouMean(name, commandNames()), "dmarcd help")
		return exitUsage
	}
	ctx, stop := withSignals(ctx)
	defer stop()
	err := cmd.run(ctx, env, args)

	var usage usageError
	var mistakes configError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.Is(err, errSaid):
		return exitFailed
	case errors.As(err, &usage):
		env.say("dmarcd %s: %v\n%q explains it.", cmd.name, err, "dmarcd "+cmd.name+" --help")
		return exitUsage
	case errors.As(err, &mistakes):
		env.say("dmarcd %s: %v", cmd.name, err)
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		env.say("dmarcd %s: interrupted before it was done (%v)", cmd.name, context.Cause(ctx))
		return exitFailed
	}
	env.say("dmarcd %s: %v", cmd.name, err)
	return exitFailed
}

// withSignals returns a context that the first SIGINT, SIGTERM or SIGHUP cancels; SIGHUP unless
// dmarcd was begun to ignore it, as by nohup. From then on signals do again what they do to any
// process: the second one ends it at once.
func withSignals(ctx context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

func findCommand(name string) *command {
	for _, c := range commands() {
		if c.name == name {
			return &c
		}
	}
	return nil
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

const helpUsage = `Explains a command, or lists them all.`

func runHelp(ctx context.Context, env *environ, args []string) error {
	fs := env.flags("help", "[COMMAND]", helpUsage)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if len(fs.Args()) == 0 {
		_, err := io.WriteString(env.stdout, overview(env.style(env.stdout).width))
		return err
	}
	name := fs.Args()[0]
	cmd := findCommand(name)
	if cmd == nil {
		return usageError(fmt.Sprintf("unknown command %q%s", name, didYouMean(name, commandNames())))
	}
	return cmd.run(ctx, env, []string{"--help"})
}

// overview is the help about everything.
func overview(width int) string {
	var b strings.Builder
	b.WriteString(paragraphs("dmarcd reads the DMARC reports that mail servers send you, and tells you who sends mail as your domains "+
		"and how much of it passes.", width) + "\nUsage: dmarcd COMMAND [flags] [arguments]\n\n")
	var list [][2]string
	for _, c := range commands() {
		list = append(list, [2]string{strings.TrimSpace(c.name + " " + c.operands), c.summary})
	}
	writeList(&b, list, width)
	b.WriteString("\n" + paragraphs("\"dmarcd COMMAND --help\" explains a command; \"dmarcd config --help\" lists all settings. "+
		"Exit status: 0 done, 1 something failed (it says what), 2 wrong usage or configuration.", width))
	return b.String()
}
