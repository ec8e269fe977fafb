package tarutil

import (
	"context"
	"io"
)

const (
	aheadSize  = 256 << 10
	aheadCount = 4
)

// A readAhead reads from another reader in a goroutine of its own, a few buffers ahead, so
// that what decompresses and what uses the bytes run at the same time.
type readAhead struct {
	full    chan aheadBlock
	free    chan []byte
	cancel  context.CancelFunc
	stopped chan error // gets the error of closing the source
	cur     aheadBlock
	rest    []byte
	err     error
}

// An aheadBlock is what one round of reading gave: bytes, then perhaps an error.
type aheadBlock struct {
	buf []byte
	err error
}

// newReadAhead returns a reader of r, which it closes.
func newReadAhead(ctx context.Context, r io.ReadCloser) *readAhead {
	ctx, cancel := context.WithCancel(ctx)
	a := &readAhead{
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

func (a *readAhead) run(ctx context.Context, r io.ReadCloser) {
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

// Read implements io.Reader.
func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.cur.buf != nil {
			a.free <- a.cur.buf
			a.cur.buf = nil
		}
		block, ok := <-a.full
		if !ok {
			return 0, io.ErrClosedPipe
		}
		a.cur, a.rest, a.err = block, block.buf, block.err
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the reading, and returns once the source is closed.
func (a *readAhead) Close() error {
	a.cancel()
	err := <-a.stopped
	a.stopped <- err
	return err
}
