// Package cli is the frame around the commands of ocikit: what a [Command] is, how its line is
// parsed and run, what errors and exit statuses mean, and all that is made from the table of
// commands: help, the manual page, completion and the list in README.md.
//
// A [Program] holds the table. [Program.Run] finds the command that a line names, has its Bind
// declare the flags, and runs the [Action] that Bind returns in an [Env], which is all of the
// world that a command sees. So tests run several in one process, joined by real pipes.
//
// The frame knows flags, files and streams. What operands mean is the matter of package
// operands, flags that several commands share that of package commonflags.
package cli

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"ocikit/cmd/ocikit/internal/display"
	"ocikit/cmd/ocikit/internal/show"
)

// A Command is one row of the table that dispatch, help, completion, the manual page and
// README.md are made from.
type Command struct {
	Name    string // one word, or two as in "upload start"; also the manual section
	Args    string // operands, as in the synopsis
	Group   Group
	Short   string // verb phrase, lower case, no full stop
	Long    string // as the Text of a [Topic]
	Example string // lines of shell that work as they stand; tests run them
	Status  string // what exit statuses mean here beyond the general rule; "" if nothing

	// AnyOperands leaves it to the action to count the operands, as where flags decide how many
	// there are. Otherwise Args does; Surplus is the hint if there are too many.
	AnyOperands bool
	Surplus     string

	Progress bool // it may take long: there is --progress

	// Bind declares the flags and returns what runs. Options are locals of Bind, so that
	// nothing is global.
	Bind func(fs *flag.FlagSet) Action
}

// An Action runs a command on its operands.
type Action func(ctx context.Context, env *Env, args []string) error

// A Program is the commands and what surrounds them: dispatch, help, completion, the manual
// page and the list in README.md are made from it.
type Program struct {
	Commands []Command // in the order of help
	Topics   []Topic
	Foreign  Foreign
	Shared   []SharedFlags

	// FileHint adds a hint to the error about an operand that is not a file; nil for none.
	FileHint func(name string, err error) error
	// Advise returns a hint for an error that carries none, or "". It may name the flags that the
	// command has; nil for none.
	Advise func(err error, has func(flag string) bool) string
}

// A Group is what commands are listed under: what people want to do.
type Group string

// The groups, in the order of help.
const (
	GroupLayer    Group = "Make a layer"
	GroupDocument Group = "Describe an image"
	GroupLayout   Group = "Keep a layout"
	GroupImage    Group = "Make an image of an image"
	GroupFiles    Group = "Take files out of an image"
	GroupCarry    Group = "Carry images"
	GroupRegistry Group = "Talk to a registry"
	GroupHelp     Group = "Help"
)

// Groups returns the groups in the order of help.
func Groups() []Group {
	return []Group{GroupLayer, GroupDocument, GroupLayout, GroupImage, GroupFiles, GroupCarry, GroupRegistry, GroupHelp}
}

// An Env is the world as a command sees it: streams, environment, clock and terminal come from here
// alone. It is for one command line.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer // buffered by dispatch
	Stderr io.Writer
	Getenv func(string) string
	Now    func() time.Time // for tokens and deadlines, never for what is written
	// Whether the two are terminals: then nobody waits for input that was not asked for,
	// and no bytes are spilled.
	InTTY, OutTTY bool
	OutWidth      int              // columns of the terminal that Stdout is; 0 if that is not known
	InNull        bool             // Stdin is the null device: its emptiness is meant
	OutFile       fs.FileInfo      // what Stdout is, if it is a file
	ErrTerm       display.Terminal // that Stderr is, for progress; nil if it is none
	Ticker        func(time.Duration) (ticks <-chan time.Time, stop func())
	Version       string
	// OnHangup calls f at each SIGHUP until stop is called. It is nil where there is no such signal.
	OnHangup func(f func()) (stop func())

	Quiet, Verbose bool            // the flags -q and -v
	stdinRead      bool            // an input was standard input
	ctx            context.Context // of the command; ends what waits for input
	progress       *display.View
	fileHint       func(name string, err error) error
	progressFlag   *string
	cleanups       *[]func() error
}

// AtEnd has f run when the command has ended, the last first. An error of f is one of the command.
func (e *Env) AtEnd(f func() error) {
	if e.cleanups != nil {
		*e.cleanups = append(*e.cleanups, f)
	}
}

// cleanUp runs what [Env.AtEnd] was given, and joins its errors to that of the action.
func (e *Env) cleanUp(err error) error {
	for _, f := range slices.Backward(*e.cleanups) {
		if endErr := f(); endErr != nil {
			err = errors.Join(err, endErr)
		}
	}
	return err
}

// Notice tells the user something on stderr that is not an error, unless -q is given. A terminal
// shows it as it is: see [show.Printable].
func (e *Env) Notice(format string, args ...any) {
	if !e.Quiet {
		fmt.Fprintln(e.Stderr, show.Printable(fmt.Sprintf(format, args...)))
	}
}

// Say gives notices that a library has worded.
func (e *Env) Say(texts ...string) {
	for _, text := range texts {
		e.Tell(text)
	}
}

// Tell gives one notice that a library has worded. Libraries take it for the function that they tell
// what the user should know.
func (e *Env) Tell(text string) { e.Notice("ocikit: %s", text) }

// Detail tells what only -v asks for.
func (e *Env) Detail(format string, args ...any) {
	if e.Verbose {
		e.Notice(format, args...)
	}
}

// Run runs one command line and returns its exit status. Errors and hints go to env.Stderr. Several
// may run at a time, each with an Env of its own.
func (p *Program) Run(ctx context.Context, env *Env, args []string) int {
	env.ctx = ctx
	cmd, err := p.dispatch(ctx, env, args)
	if err == nil {
		return 0
	}

	// The signal is why the command failed, whatever error came of it.
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), ErrInterrupted) && !errors.Is(err, ErrNo) {
		err = ErrInterrupted
	}

	if readerGone(err) {
		return 141 // the reader of our output has gone: as if SIGPIPE had ended us
	}

	if !errors.Is(err, ErrNo) {
		fmt.Fprintf(env.Stderr, "%s\n", show.Shorten(show.Printable(prefix(cmd)+err.Error())))
		if hint := p.hintOf(cmd, err); hint != "" {
			fmt.Fprintf(env.Stderr, "hint: %s\n", show.Printable(hint))
		}
	}

	return statusOf(err)
}

func prefix(cmd string) string {
	if cmd == "" {
		return "ocikit: "
	}
	return "ocikit " + cmd + ": "
}

// readerGone reports whether standard output could not be written since nobody reads it any more.
func readerGone(err error) bool {
	out, ok := errors.AsType[*stdoutError](err)
	return ok && (errors.Is(out.err, syscall.EPIPE) || errors.Is(out.err, io.ErrClosedPipe))
}

// dispatch finds the command, parses its flags and runs it. It returns the command's name
// for messages. Standard output is buffered here, once, and the error of the last flush
// counts: a full disk is a failure.
func (p *Program) dispatch(ctx context.Context, env *Env, args []string) (name string, err error) {
	stdout := bufio.NewWriterSize(outWriter{env.Stdout}, 64<<10)
	inner := *env
	inner.Stdout, inner.fileHint, inner.cleanups = stdout, p.FileHint, new([]func() error)
	defer func() {
		flushErr := stdout.Flush()
		_, told := errors.AsType[*stdoutError](err)
		switch {
		case flushErr == nil || told:
		case err == nil || errors.Is(err, ErrNo): // nobody has seen the "no"
			err = flushErr
		case !readerGone(flushErr): // what goes with an error, as a list of what is missing, is lost too
			err = fmt.Errorf("%w; %v", err, flushErr)
		}
	}()

	cmd, rest, err := p.Find(args)
	if err != nil {
		return "", err
	}

	fs := newFlagSet(cmd, &inner)
	action := cmd.Bind(fs)
	operands, err := p.parseFlags(fs, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return cmd.Name, p.writeUsage(stdout, env.width(), cmd)
	case err != nil:
		return cmd.Name, withSynopsis(cmd, err)
	}

	if err := checkOperands(cmd, len(operands)); err != nil {
		return cmd.Name, withSynopsis(cmd, err)
	}

	// Clean-ups run while progress is still shown: they may take a while, too.
	stop := inner.startProgress()
	err = inner.cleanUp(action(ctx, &inner, operands))
	stop(err != nil)

	// An action may find fault with the line as well, as with two flags that exclude each other.
	if _, ok := errors.AsType[*UsageError](err); ok {
		err = withSynopsis(cmd, err)
	}

	return cmd.Name, err
}

// Find returns the command that args begin with, and the rest of args. Words that are not commands
// are a [*UsageError] that says what may be meant.
func (p *Program) Find(args []string) (Command, []string, error) {
	switch {
	case len(args) == 0:
		return Command{}, nil, &UsageError{Msg: "no command", Advice: "`ocikit help` lists the commands"}
	case args[0] == "-h" || args[0] == "--help":
		args = append([]string{"help"}, args[1:]...)
	case args[0] == "--version":
		args = append([]string{"version"}, args[1:]...)
	}

	// Two words come first: the step of a command is not an operand.
	verbs := []string{}
	for _, words := range []int{2, 1} {
		for _, c := range p.Commands {
			name := strings.Fields(c.Name)
			if len(name) == words && len(args) >= words && slices.Equal(name, args[:words]) {
				return c, args[words:], nil
			}
			if len(name) == 2 && words == 2 && name[0] == args[0] {
				verbs = append(verbs, name[1])
			}
		}
	}

	// The word begins commands of two words, and none of those follows.
	if len(verbs) > 0 {
		what, hint := "no step is named", "the steps are "+strings.Join(verbs, ", ")
		if len(args) > 1 {
			what, hint = fmt.Sprintf("unknown step %q", args[1]), p.suggestStep(args[0], args[1], verbs)
			if slices.Contains([]string{"-h", "--help"}, args[1]) {
				return p.Find([]string{"help", args[0]})
			}
		}
		return Command{}, nil, &UsageError{Msg: args[0] + ": " + what, Advice: hint}
	}

	return Command{}, nil, &UsageError{Msg: fmt.Sprintf("unknown command %q", args[0]), Advice: p.suggest(args[0])}
}
