package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
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

	Progress bool // it may take long: there is --progress

	// Bind declares the flags and returns what runs. Options are locals of Bind, so that
	// nothing is global.
	Bind func(fs *flag.FlagSet) Action
}

// An Action runs a command on its operands.
type Action func(ctx context.Context, env *Env, args []string) error

// A Group is what commands are listed under: what people want to do.
type Group string

// The groups, in the order of help.
const (
	groupLayer    Group = "Make a layer"
	groupDocument Group = "Describe an image"
	groupLayout   Group = "Keep a layout"
	groupImage    Group = "Make an image of an image"
	groupFiles    Group = "Take files out of an image"
	groupCarry    Group = "Carry images"
	groupRegistry Group = "Talk to a registry"
	groupHelp     Group = "Help"
)

func groups() []Group {
	return []Group{groupLayer, groupDocument, groupLayout, groupImage, groupFiles, groupCarry, groupRegistry, groupHelp}
}

// An Env is the world as a command sees it.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer // buffered by dispatch
	Stderr io.Writer
	Getenv func(string) string
	Now    func() time.Time // for tokens and deadlines, never for what is written
	// Whether the two are terminals: then nobody waits for input that was not asked for,
	// and no bytes are spilled.
	InTTY, OutTTY bool
	InNull        bool     // Stdin is the null device: its emptiness is meant
	ErrTerm       terminal // that Stderr is, for progress; nil if it is none
	Ticker        func(time.Duration) (ticks <-chan time.Time, stop func())
	Version       string

	Quiet, Verbose bool // the flags -q and -v
	progress       *progressView
	progressFlag   progressFlag
}

// notice tells the user something on stderr that is not an error.
func (e *Env) notice(format string, args ...any) {
	if !e.Quiet {
		fmt.Fprintln(e.Stderr, printable(fmt.Sprintf(format, args...)))
	}
}

// detail tells what only -v asks for.
func (e *Env) detail(format string, args ...any) {
	if e.Verbose {
		e.notice(format, args...)
	}
}

// dispatch finds the command, parses its flags and runs it. It returns the command's name
// for messages. Standard output is buffered here, once, and the error of the last flush
// counts: a full disk is a failure.
func dispatch(ctx context.Context, env *Env, args []string) (name string, err error) {
	stdout := bufio.NewWriterSize(outWriter{env.Stdout}, 64<<10)
	inner := *env
	inner.Stdout = stdout
	defer func() {
		if flushErr := stdout.Flush(); flushErr != nil && err == nil {
			err = flushErr
		}
	}()
	table := commands()
	cmd, rest, err := find(table, args)
	if err != nil {
		return "", err
	}
	fs := newFlagSet(cmd, &inner)
	action := cmd.Bind(fs)
	operands, err := parseFlags(fs, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return cmd.Name, writeUsage(stdout, cmd)
	case err != nil:
		return cmd.Name, withSynopsis(cmd, err)
	}
	stop := inner.startProgress(inner.progressFlag)
	err = action(ctx, &inner, operands)
	stop(err != nil)
	var usage *usageError
	if errors.As(err, &usage) {
		err = withSynopsis(cmd, err)
	}
	return cmd.Name, err
}

// find returns the command that args begin with, and the rest of args.
func find(table []Command, args []string) (Command, []string, error) {
	switch {
	case len(args) == 0:
		return Command{}, nil, &usageError{msg: "no command", hint: "`ocikit help` lists the commands"}
	case args[0] == "-h" || args[0] == "--help":
		args = append([]string{"help"}, args[1:]...)
	case args[0] == "--version":
		args = append([]string{"version"}, args[1:]...)
	}
	verbs := []string{}
	for _, words := range []int{2, 1} {
		for _, c := range table {
			name := strings.Fields(c.Name)
			if len(name) == words && len(args) >= words && slices.Equal(name, args[:words]) {
				return c, args[words:], nil
			}
			if len(name) == 2 && words == 2 && name[0] == args[0] {
				verbs = append(verbs, name[1])
			}
		}
	}
	if len(verbs) > 0 {
		what, hint := "no step is named", "the steps are "+strings.Join(verbs, ", ")
		if len(args) > 1 {
			what, hint = fmt.Sprintf("unknown step %q", args[1]), suggestStep(args[0], args[1], verbs)
			if slices.Contains([]string{"-h", "--help"}, args[1]) {
				return find(table, []string{"help", args[0]})
			}
		}
		return Command{}, nil, &usageError{msg: args[0] + ": " + what, hint: hint}
	}
	return Command{}, nil, &usageError{msg: fmt.Sprintf("unknown command %q", args[0]), hint: suggest(args[0], table)}
}
