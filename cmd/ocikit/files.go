package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ocikit/oci/progress"
)

// An outWriter marks the errors of standard output, so that a reader who has gone is told
// from a connection that broke.
type outWriter struct{ w io.Writer }

func (o outWriter) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		err = &stdoutError{err}
	}
	return n, err
}

type stdoutError struct{ err error }

func (e *stdoutError) Error() string { return "write standard output: " + pathless(e.err).Error() }
func (e *stdoutError) Unwrap() error { return e.err }

// pathless returns the cause inside an error of package os, without its path.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// oneOperand returns the only operand, or "-" if there is none.
func oneOperand(args []string) (string, error) {
	switch len(args) {
	case 0:
		return "-", nil
	case 1:
		return args[0], nil
	}
	return "", usagef("%d operands, want at most one", len(args))
}

// input opens a file for reading; "-" is standard input. The file may be a pipe.
func (e *Env) input(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(e.Stdin), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fileHint(name, fmt.Errorf("%q: %w", name, pathless(err)))
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, fmt.Errorf("%q: it is a directory", name)
	}
	return &named{File: f, name: name}, nil
}

// inputName returns how messages call an input.
func inputName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return fmt.Sprintf("%q", name)
}

// named gives the errors of a file the name that the user knows it by.
type named struct {
	*os.File
	name string
	task *progress.Task // whom reads are told; nil for nobody
}

// Close implements io.Closer.
func (n *named) Close() error {
	n.task.Stop()
	return n.File.Close()
}

func (n *named) Read(p []byte) (int, error) {
	k, err := n.File.Read(p)
	n.task.Add(k)
	if err == io.EOF {
		n.task.Done()
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%q: %w", n.name, pathless(err))
	}
	return k, err
}

// toOutput runs write on the file that -o names, or on standard output for "" and "-". A
// file appears whole or not at all. Bytes are not spilled on a terminal.
func (e *Env) toOutput(name string, binary bool, write func(io.Writer) error) error {
	return e.toOutputMode(name, binary, 0o644, write)
}

// toOutputMode is toOutput with the mode of a file that is made, before the umask.
func (e *Env) toOutputMode(name string, binary bool, mode fs.FileMode, write func(io.Writer) error) error {
	if name == "" || name == "-" {
		if binary && e.OutTTY && name == "" {
			return usagef("standard output is a terminal: write to a file with -o FILE, or into a pipe")
		}
		return write(e.Stdout)
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return fmt.Errorf("%q: it is a directory", name)
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0) // a device or a pipe: nothing to rename
		if err != nil {
			return fmt.Errorf("%q: %w", name, pathless(err))
		}
		return errors.Join(write(f), f.Close())
	}
	return writeFile(name, mode, write)
}

// writeFile writes a file under a temporary name beside it, syncs and renames it.
func writeFile(name string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target // the link stays, what it names is replaced
	}
	var random [6]byte
	rand.Read(random[:])
	dir, base := filepath.Split(name)
	tmp := filepath.Join(dir, "."+base+".ocikit-"+hex.EncodeToString(random[:]))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("%q: %w", name, pathless(err))
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(tmp)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%q: %w", name, pathless(err))
	}
	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("%q: %w", name, pathless(err))
	}
	return nil
}

// copyTo copies r to w in large pieces until ctx ends.
func copyTo(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	buf := make([]byte, 256<<10)
	var total int64
	for ctx.Err() == nil {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, context.Cause(ctx)
}
