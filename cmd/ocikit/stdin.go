package main

import (
	"context"
	"io"
	"io/fs"
	"os"
)

// standardInput returns what commands read as standard input. Reads end with the context.
func standardInput(ctx context.Context, f *os.File) io.Reader {
	if regular(f) != nil {
		return fileInput{ctx, f}
	}
	return &interruptible{ctx: ctx, r: f}
}

// A fileInput is standard input that is a regular file. Its reads do not wait for anybody, and it can be
// read at any offset, so an archive needs no copy. Methods of the file that read past Read, and so past
// the context, are left out.
type fileInput struct {
	ctx context.Context
	f   *os.File
}

// Read implements io.Reader.
func (i fileInput) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.f.Read(p)
}

// ReadAt implements io.ReaderAt.
func (i fileInput) ReadAt(p []byte, off int64) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.f.ReadAt(p, off)
}

// Seek implements io.Seeker.
func (i fileInput) Seek(offset int64, whence int) (int64, error) { return i.f.Seek(offset, whence) }

// Stat returns what the file is.
func (i fileInput) Stat() (fs.FileInfo, error) { return i.f.Stat() }

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
