package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/disk"
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

func (e *stdoutError) Error() string { return "write standard output: " + oci.Pathless(e.err).Error() }
func (e *stdoutError) Unwrap() error { return e.err }

// TakeStdin returns standard input, which can be read once: a second time is a [UsageError], and to
// what reads it without a name it is empty.
func (e *Env) TakeStdin() (io.Reader, error) {
	if e.stdinRead {
		return nil, Usagef("standard input can be read once, and \"-\" names it twice")
	}
	in := e.Stdin
	e.stdinRead, e.Stdin = true, strings.NewReader("")
	return in, nil
}

// Input opens a file for reading; "-" is standard input, as [Env.TakeStdin] returns it. The file may be a
// pipe: waiting for its writer ends with the command's context. A directory is an error. The caller closes
// it.
func (e *Env) Input(name string) (io.ReadCloser, error) {
	if name == "-" {
		in, err := e.TakeStdin()
		return io.NopCloser(in), err
	}

	f, err := e.OpenFile(name, os.O_RDONLY, 0)
	if err == nil {
		if info, statErr := f.Stat(); statErr == nil && info.IsDir() {
			f.Close()
			err = fmt.Errorf("%q: it is a directory", name)
		}
	}

	if err != nil {
		if e.fileHint != nil {
			err = e.fileHint(name, err)
		}
		return nil, err
	}

	return &Named{File: f, name: name, ctx: e.context()}, nil
}

// maxSmall bounds a file of certificates or keys; the authorities of a whole system have some 200 KiB.
const maxSmall = 8 << 20

// Small reads a file of certificates, keys or passwords, which a flag names, of at most 8 MiB.
func (e *Env) Small(name string) ([]byte, error) {
	f, err := e.Input(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(data) > maxSmall {
		err = fmt.Errorf("%q: it has over %d bytes", name, maxSmall)
	}
	return data, err
}

// Document reads a document in a file, or on standard input for "-"; see [oci.ReadDocument].
func (e *Env) Document(name string) ([]byte, error) {
	in, err := e.Input(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return oci.ReadDocument(in)
}

// KeyPair reads a certificate and its key, in PEM.
func (e *Env) KeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := e.Small(certFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate %w", err)
	}
	key, err := e.Small(keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		err = fmt.Errorf("certificate %q: %w", certFile, err)
	}
	return pair, err
}

// OpenFile opens a file as [os.OpenFile] does, for reading or writing. Waiting for the other end of a
// pipe ends with the command's context.
func (e *Env) OpenFile(name string, flag int, mode fs.FileMode) (*os.File, error) {
	f, err := disk.Open(e.context(), name, flag, mode)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, oci.Pathless(err))
	}
	return f, nil
}

// context is that of the command.
func (e *Env) context() context.Context {
	if e.ctx == nil {
		return context.Background()
	}
	return e.ctx
}

// InputName returns how messages call an input.
func InputName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return fmt.Sprintf("%q", name)
}

// Named gives the errors of a file the name that the user knows it by.
type Named struct {
	*os.File
	name string
	task *progress.Task // whom reads are told; nil for nobody
	ctx  context.Context
}

// Close implements io.Closer.
func (n *Named) Close() error {
	n.task.Stop()
	return n.File.Close()
}

func (n *Named) Read(p []byte) (int, error) {
	if err := n.ctx.Err(); err != nil {
		return 0, context.Cause(n.ctx)
	}
	k, err := n.File.Read(p)
	n.task.Add(k)
	if err == io.EOF {
		n.task.Done()
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%q: %w", n.name, oci.Pathless(err))
	}
	return k, err
}

// ToOutput runs write on the file that -o names, or on standard output for "" and "-". A file
// appears whole or not at all, under a temporary name until then; a device or a pipe is written to
// as it is. Bytes that are not text go to a terminal only if name is "-".
func (e *Env) ToOutput(name string, binary bool, write func(io.Writer) error) error {
	return e.ToOutputMode(name, binary, 0o644, write)
}

// PutOut writes text to where -o names, as [Env.ToOutput] does.
func (e *Env) PutOut(name string, text []byte) error {
	return e.ToOutput(name, false, func(w io.Writer) error { return show.WriteAll(w, text) })
}

// ToOutputMode is [Env.ToOutput] with the mode of a file that is made, before the umask.
func (e *Env) ToOutputMode(name string, binary bool, mode fs.FileMode, write func(io.Writer) error) error {
	// A "-" that was written out means the terminal, too. Without -o nobody asked for bytes on it.
	if name == "" || name == "-" {
		if binary && e.OutTTY && name == "" {
			return Usagef("standard output is a terminal: write to a file with -o FILE, or into a pipe")
		}
		if e.OutTTY && name == "" {
			return write(&terminalGuard{w: e.Stdout})
		}
		return write(e.Stdout)
	}

	if err := CheckOutput(name); err != nil {
		return err
	}

	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := e.OpenFile(name, os.O_WRONLY, 0) // a device or a pipe: nothing to rename
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}

	return oci.WriteFile(name, mode, write)
}

// CheckOutput reports whether [Env.ToOutput] can begin with a file: a dry run asks it. Nothing is made.
func CheckOutput(name string) error {
	if name == "" || name == "-" {
		return nil
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return fmt.Errorf("%q: it is a directory", name)
	}
	return CheckPlace(name)
}

// CheckPlace reports whether there is something of that name, or a directory in which it can be made.
func CheckPlace(name string) error {
	_, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		var dir fs.FileInfo
		dir, err = os.Stat(filepath.Dir(filepath.Clean(name)))
		if err == nil && !dir.IsDir() {
			err = errors.New("not a directory")
		}
	}
	if err != nil {
		return fmt.Errorf("%q: %w", name, oci.Pathless(err))
	}
	return nil
}

// Outputs returns what w, which ToOutput gave for name, leads to, so that who reads a directory can
// leave it out: the file that is written, and the one that it will replace.
func (e *Env) Outputs(name string, w io.Writer) []fs.FileInfo {
	var list []fs.FileInfo
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil {
			list = append(list, info)
		}
		if info, err := os.Stat(name); err == nil {
			list = append(list, info)
		}
	} else if e.OutFile != nil {
		list = append(list, e.OutFile)
	}
	return list
}

// Exists reports whether there is a file, a directory or anything else of that name.
func Exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// A terminalGuard passes text on to a terminal, and refuses bytes that would garble it: a layer is
// no text, and whoever asked for it wants it elsewhere. It looks at what comes first.
type terminalGuard struct {
	w      io.Writer
	passed bool
}

// Write implements io.Writer.
func (g *terminalGuard) Write(p []byte) (int, error) {
	if !g.passed && bytes.ContainsFunc(p[:min(len(p), 512)], func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' }) {
		return 0, Usagef("these bytes are not text, and standard output is a terminal: write to a file with -o FILE, into a pipe, or to \"-o -\" if they are meant for it")
	}
	g.passed = true
	return g.w.Write(p)
}
