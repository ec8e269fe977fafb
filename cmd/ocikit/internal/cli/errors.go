package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/tarutil"
)

// Exit statuses, see "Exit status" in the manual.
const (
	statusInput       = 1
	StatusUsage       = 2
	statusRetry       = 3
	StatusNotThere    = 4
	StatusNotAllowed  = 5
	StatusInterrupted = 130
)

var (
	// ErrNo is a "no" that the command has said on standard output already.
	ErrNo = errors.New("no")
	// ErrInterrupted is the cause of a context that a signal has ended.
	ErrInterrupted = errors.New("interrupted")
)

// NoIf returns err, or [ErrNo] if there is none and what was printed is a "no".
func NoIf(err error, no bool) error {
	if err == nil && no {
		return ErrNo
	}
	return err
}

// A UsageError is a command line that cannot be run. Nothing was read or written.
type UsageError struct {
	Msg      string
	Advice   string
	synopsis string
}

func (e *UsageError) Error() string { return e.Msg }

// Hint returns what to print below the error: the advice, else the synopsis of the command.
func (e *UsageError) Hint() string {
	switch {
	case e.Advice != "":
		return e.Advice
	case e.synopsis != "":
		return "usage: " + e.synopsis
	}
	return ""
}

// Usagef returns a [*UsageError] with a formatted message.
func Usagef(format string, args ...any) error {
	return &UsageError{Msg: fmt.Sprintf(format, args...)}
}

// withSynopsis adds the synopsis of cmd to a usage error that has no better hint.
func withSynopsis(cmd Command, err error) error {
	if e, ok := errors.AsType[*UsageError](err); ok {
		e.synopsis = synopsis(cmd)
	}
	return err
}

// A hinted error carries what the user may do next.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }
func (e *hinted) Hint() string  { return e.hint }

// WithHint adds to an error what the user may do next, which is printed on a line of its own. Nil
// stays nil.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// NotThere returns err with exit status 4, whatever is inside.
func NotThere(err error) error { return &absentError{err} }

type absentError struct{ err error }

func (e *absentError) Error() string   { return e.err.Error() }
func (e *absentError) Unwrap() error   { return e.err }
func (e *absentError) ExitStatus() int { return StatusNotThere }

// hintOf returns what to print below an error of a command: its own hint, or what the program
// advises.
func (p *Program) hintOf(cmd string, err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		return h.Hint()
	}
	if p.Advise != nil {
		if hint := p.Advise(err, func(flag string) bool { return p.HasFlag(cmd, flag) }); hint != "" {
			return hint
		}
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing answers at that address: is the registry running? `ocikit serve DIR` is one"
	}
	return ""
}

// HasFlag reports whether a command has a flag, written without dashes.
func (p *Program) HasFlag(cmd, name string) bool {
	i := slices.IndexFunc(p.Commands, func(c Command) bool { return c.Name == cmd })
	if i < 0 {
		return false
	}
	return slices.ContainsFunc(FlagsOf(p.Commands[i]), func(f FlagDoc) bool { return slices.Contains(f.Names, Dashed(name)) })
}

// statusOf maps an error to the exit status that tells the caller what to change: see "Exit status"
// in the manual.
func statusOf(err error) int {
	var usage *UsageError
	var retry interface{ Retryable() bool }
	var status interface{ ExitStatus() int }
	var conn *registry.ConnError

	// The order matters: an error may be several of these at a time.
	switch {
	case errors.Is(err, ErrInterrupted):
		return StatusInterrupted
	case errors.As(err, &usage):
		return StatusUsage
	case errors.As(err, &status):
		return status.ExitStatus()
	case errors.As(err, &retry) && retry.Retryable():
		return statusRetry
	case errors.As(err, &conn) && conn.NoSuchHost(): // it is the name that the caller should change
		return StatusNotThere
	case errors.Is(err, registry.ErrDenied):
		return StatusNotAllowed
	case errors.Is(err, tarutil.ErrChanged): // a file that vanished while it was read
		return statusInput
	case errors.Is(err, layout.ErrNotFound), errors.Is(err, fs.ErrNotExist), errors.Is(err, registry.ErrNotFound):
		return StatusNotThere
	}

	return statusInput
}
