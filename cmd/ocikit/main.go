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
		Stdin:    standardInput(ctx, os.Stdin),
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
