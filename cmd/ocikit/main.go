// Ocikit builds, checks, carries and pushes OCI container images with small commands that
// each do one step and join with pipes. "ocikit help" lists them.
//
// # Design
//
// The commands are one table, one file each in the rooms below internal (layercmd, layoutcmd and so
// on): flags, operand checks, one call into a package. The frame in internal/cli feeds dispatch,
// help, completion, the manual page and the list in README.md from the table. The words of other
// tools and the topics of help are in this package.
package main

import (
	"context"
	"io"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/display"
)

// memoryLimit is below what the program promises to need at most, 256 MiB: what inputs make it hold
// has budgets that leave room for buffers.
const memoryLimit = 224 << 20

// lastResort is how long a command has to clean up after a signal. A server gives the requests in
// flight ten seconds.
const lastResort = 20 * time.Second

func main() {
	log.SetOutput(io.Discard) // net/http repeats there what a server sends unasked
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit) // from here on memory is collected before it is asked for
	}

	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel(cli.ErrInterrupted)
		signal.Stop(signals) // a second signal ends the process at once

		// A command ends by itself, unless it waits where nothing can wake it, as for a file on a
		// server that is gone. The files that it writes survive the end of the process at any time.
		time.Sleep(lastResort)
		os.Exit(cli.StatusInterrupted)
	}()

	env := &cli.Env{
		Stdin:    newInterruptible(ctx, os.Stdin),
		Stdout:   os.Stdout,
		Stderr:   os.Stderr,
		Getenv:   os.Getenv,
		Now:      time.Now,
		InTTY:    display.IsTerminal(os.Stdin),
		OutTTY:   display.IsTerminal(os.Stdout),
		OutWidth: display.Width(os.Stdout),
		InNull:   isNull(os.Stdin),
		ErrTerm:  display.OpenTerminal(os.Stderr),
		Ticker:   newTicker,
		Version:  cli.BuildVersion(),
		OutFile:  regular(os.Stdout),
		OnHangup: onHangup,
	}

	for _, f := range []*os.File{os.Stdin, os.Stdout} {
		widenPipe(f)
	}
	os.Exit(program().Run(ctx, env, os.Args[1:]))
}

// onHangup calls f at each SIGHUP until stop is called. Without it the signal ends the process.
func onHangup(f func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			f()
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
	}
}

// isNull reports whether f is the null device, or closed. On Windows all devices and pipes are
// one and the same file to package os.
func isNull(f *os.File) bool {
	have, err := f.Stat()
	if err != nil {
		return true
	}
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(have, null) && have.Mode()&os.ModeCharDevice != 0 && !display.IsTerminal(f)
}

// regular returns what a file is, unless it is a pipe or a device.
func regular(f *os.File) fs.FileInfo {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	return info
}

func newTicker(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// An interruptible reader returns from Read when its context ends, even if the file below does not:
// a command that waits for a pipe must be able to clean up on SIGTERM. The read below goes on until
// the process ends, and its bytes are lost.
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

// pump reads once for each wish, into the one buffer.
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

	// One read at a time is asked for, so that the buffer of pump is not written while it is read
	// here.
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
