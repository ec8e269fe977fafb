package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"ocikit/oci/layout"
	"ocikit/tarutil"
)

// Exit statuses, see "Exit status" in the manual.
const (
	statusInput       = 1
	statusUsage       = 2
	statusRetry       = 3
	statusNotThere    = 4
	statusNotAllowed  = 5
	statusInterrupted = 130
)

var (
	// errAnswerNo is a "no" that the command has said on standard output already.
	errAnswerNo    = errors.New("no")
	errInterrupted = errors.New("interrupted")
)

// A usageError is a command line that cannot be run. Nothing was read or written.
type usageError struct {
	msg      string
	hint     string
	synopsis string
}

func (e *usageError) Error() string { return e.msg }

func (e *usageError) Hint() string {
	switch {
	case e.hint != "":
		return e.hint
	case e.synopsis != "":
		return "usage: " + e.synopsis
	}
	return ""
}

func usagef(format string, args ...any) error {
	return &usageError{msg: fmt.Sprintf(format, args...)}
}

// withSynopsis adds the synopsis of cmd to a usage error that has no better hint.
func withSynopsis(cmd Command, err error) error {
	var e *usageError
	if errors.As(err, &e) {
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

func withHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

func hintOf(err error) string {
	var h interface{ Hint() string }
	switch {
	case errors.As(err, &h) && h.Hint() != "":
		return h.Hint()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing answers at that address: is the registry running? `ocikit serve DIR` is one"
	}
	return ""
}

// statusOf maps an error to the exit status that tells the caller what to change.
func statusOf(err error) int {
	var usage *usageError
	var retry interface{ Retryable() bool }
	var status interface{ ExitStatus() int }
	switch {
	case errors.Is(err, errInterrupted):
		return statusInterrupted
	case errors.As(err, &usage):
		return statusUsage
	case errors.As(err, &status):
		return status.ExitStatus()
	case errors.As(err, &retry) && retry.Retryable():
		return statusRetry
	case isDenied(err):
		return statusNotAllowed
	case errors.Is(err, tarutil.ErrChanged): // a file that vanished while it was read
		return statusInput
	case errors.Is(err, layout.ErrNotFound), errors.Is(err, fs.ErrNotExist), isRemoteNotFound(err):
		return statusNotThere
	}
	return statusInput
}

// printable returns s as one line that a terminal shows as it is: control characters, marks
// that turn the direction of text and bytes that are not UTF-8 are written as escapes.
// Whatever came from an image, a registry or a file name goes through here.
func printable(s string) string {
	clean := func(r rune) bool {
		return r != utf8.RuneError && (unicode.IsPrint(r) || r == ' ') && !unicode.Is(unicode.Bidi_Control, r)
	}
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case clean(r):
			b.WriteString(s[i : i+n])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}
	return b.String()
}

// shorten takes the middle out of a line that is longer than anyone reads, as an error can be
// about a name that fills an extended header. What happened stands at its ends.
func shorten(line string) string {
	const limit, end = 4096, 512
	if len(line) <= limit {
		return line
	}
	head := strings.ToValidUTF8(line[:limit-end], "")
	tail := strings.ToValidUTF8(line[len(line)-end:], "")
	return fmt.Sprintf("%s …%d bytes… %s", head, len(line)-len(head)-len(tail), tail)
}
