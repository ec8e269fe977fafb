// Ocikit builds, checks, carries and pushes OCI container images with small commands that
// each do one step and join with pipes. "ocikit help" lists them.
//
// # Design
//
// The commands are one table, [commands], one file each: flags, operand checks, one call
// into a package. The table feeds dispatch, help, completion, the manual page and the list
// in README.md. A command sees the world through an [Env], so tests run several in one
// process, joined by real pipes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	log.SetOutput(io.Discard) // net/http repeats there what a server sends unasked
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel(errInterrupted)
		signal.Stop(signals) // a second signal ends the process at once
	}()
	env := &Env{
		Stdin:   newInterruptible(ctx, os.Stdin),
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Getenv:  os.Getenv,
		Now:     time.Now,
		InTTY:   isTerminal(os.Stdin),
		OutTTY:  isTerminal(os.Stdout),
		InNull:  isNull(os.Stdin),
		ErrTerm: stderrTerminal(os.Stderr),
		Ticker:  newTicker,
		Version: buildVersion(),
	}
	os.Exit(run(ctx, env, os.Args[1:]))
}

// isNull reports whether f is the null device, or closed. On Windows all devices and pipes are
// one and the same file to package os.
func isNull(f *os.File) bool {
	have, err := f.Stat()
	if err != nil {
		return true
	}
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(have, null) && have.Mode()&os.ModeCharDevice != 0 && !isTerminal(f)
}

func newTicker(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// An interruptible reader returns from Read when its context ends, even if the file below
// does not: a command that waits for a pipe must be able to clean up on SIGTERM.
type interruptible struct {
	ctx  context.Context
	r    io.Reader
	want chan int
	got  chan result
	rest []byte
	err  error
}

type result struct {
	data []byte
	err  error
}

func newInterruptible(ctx context.Context, r io.Reader) io.Reader {
	return &interruptible{ctx: ctx, r: r}
}

func (i *interruptible) pump() {
	buf := make([]byte, 256<<10)
	for range i.want {
		n, err := i.r.Read(buf)
		i.got <- result{buf[:n], err}
	}
}

// Read implements io.Reader.
func (i *interruptible) Read(p []byte) (int, error) {
	if i.want == nil {
		i.want, i.got = make(chan int, 1), make(chan result, 1)
		go i.pump()
	}
	for len(i.rest) == 0 {
		if i.err != nil {
			return 0, i.err
		}
		i.want <- 1
		select {
		case <-i.ctx.Done():
			i.err = context.Cause(i.ctx)
		case r := <-i.got:
			i.rest, i.err = r.data, r.err
		}
	}
	n := copy(p, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}

// run runs one command line and returns its exit status.
func run(ctx context.Context, env *Env, args []string) int {
	cmd, err := dispatch(ctx, env, args)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), errInterrupted) {
		err = errInterrupted
	}
	var out *stdoutError
	if errors.As(err, &out) && (errors.Is(out.err, syscall.EPIPE) || errors.Is(out.err, io.ErrClosedPipe)) {
		return 141 // the reader of our output has gone: as if SIGPIPE had ended us
	}
	if !errors.Is(err, errAnswerNo) {
		fmt.Fprintf(env.Stderr, "%s\n", shorten(printable(prefix(cmd)+err.Error())))
		if hint := hintOf(err); hint != "" {
			fmt.Fprintf(env.Stderr, "hint: %s\n", printable(hint))
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
