package tarutil

import (
	"context"
	"io"
)

const (
	aheadSize  = 256 << 10
	aheadCount = 4
)

// A ReadAhead reads from another reader in a goroutine of its own, up to 1 MiB ahead. So the code that
// decompresses the bytes and the code that uses them run at the same time. Its own methods must not be
// called concurrently.
type ReadAhead struct {
	full    chan aheadBlock
	free    chan []byte
	cancel  context.CancelFunc
	stopped chan error // gets the error of closing the source
	check   io.WriteCloser
	cur     aheadBlock
	rest    []byte
	err     error
}

// An aheadBlock is what one round of reading gave: bytes, then perhaps an error.
type aheadBlock struct {
	buf []byte
	err error
}

// NewReadAhead returns a reader of r. It closes r once that has ended or failed, the context is over, or
// Close is called. Close must be called in any case.
func NewReadAhead(ctx context.Context, r io.ReadCloser) *ReadAhead {
	ctx, cancel := context.WithCancel(ctx)
	a := &ReadAhead{
		full:    make(chan aheadBlock, aheadCount+1), // all buffers, and a last error
		free:    make(chan []byte, aheadCount),
		cancel:  cancel,
		stopped: make(chan error, 1),
	}
	for range aheadCount {
		a.free <- nil // made when first needed
	}
	go a.run(ctx, r)
	return a
}

// run reads until r fails, and then closes it. No send blocks: full has room for all buffers and
// one error.
func (a *ReadAhead) run(ctx context.Context, r io.ReadCloser) {
	defer func() { a.stopped <- r.Close() }()
	defer close(a.full)
	for {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-ctx.Done():
			a.full <- aheadBlock{err: ctx.Err()}
			return
		}

		if buf == nil {
			buf = make([]byte, aheadSize)
		}

		n, err := fill(ctx, r, buf[:cap(buf)])
		a.full <- aheadBlock{buf[:n], err}
		if err != nil {
			return
		}
	}
}

// fill reads until buf is full or r ends.
func fill(ctx context.Context, r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		if err = ctx.Err(); err == nil {
			var k int
			k, err = r.Read(buf[n:])
			n += k
		}
	}
	return n, err
}

// Check has all bytes written to w before they are read. Where the source ends, w is closed, and its
// error takes the place of io.EOF. An error of writing ends the reading. It is for code that takes time
// and needs no buffer of its own, such as a hash. Check is called before the first Read.
func (a *ReadAhead) Check(w io.WriteCloser) { a.check = w }

// Read implements io.Reader. An error of r comes behind all bytes that were read before it.
func (a *ReadAhead) Read(p []byte) (int, error) {
	if err := a.next(); err != nil {
		return 0, err
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Discard passes over n bytes without copying them, and returns over how many. If these are fewer, the
// error says why.
func (a *ReadAhead) Discard(n int) (int, error) {
	done := 0
	for done < n {
		if err := a.next(); err != nil {
			return done, err
		}
		k := min(n-done, len(a.rest))
		a.rest = a.rest[k:]
		done += k
	}
	return done, nil
}

// next makes sure that there is something left of the current block.
func (a *ReadAhead) next() error {
	for len(a.rest) == 0 {
		if a.err != nil {
			return a.err
		}

		// The buffer of the block that was used up goes back.
		if a.cur.buf != nil {
			a.free <- a.cur.buf
			a.cur.buf = nil
		}
		block, ok := <-a.full
		if !ok {
			return io.ErrClosedPipe
		}

		a.cur, a.rest, a.err = block, block.buf, block.err
		if a.check == nil {
			continue
		}
		if _, err := a.check.Write(a.rest); err != nil {
			a.rest, a.err = nil, err
		} else if a.err == io.EOF {
			if err := a.check.Close(); err != nil {
				a.err = err
			}
		}
	}

	return nil
}

// Close ends the reading, and returns the error of closing the source once that is done. It waits for a
// Read of the source that is under way. It may be called again, and then returns the same.
func (a *ReadAhead) Close() error {
	a.cancel()
	err := <-a.stopped
	a.stopped <- err
	return err
}
