package gzip

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
)

// DefaultLevel is the level for callers without a preference.
const DefaultLevel = 6

const (
	blockSize  = 480 << 10 // input bytes compressed on their own: part of the format, frozen
	windowSize = 32 << 10  // the farthest a DEFLATE match may reach back (RFC 1951, section 2)
	maxWorkers = 16        // what "one per processor" is capped at, for memory
	waiting    = 2         // blocks that are filled before an encoder is idle
)

var errClosed = errors.New("gzip: write after close")

// Writer compresses what is written to it; see the package comment for what its output depends on.
// The methods of a Writer must not be called concurrently. The underlying writer is called from within
// the methods only, never from another goroutine. Its first error is final: every later call returns
// it.
//
// A Writer may be dropped without Close. Then it writes no trailer, and its goroutines end by
// themselves with the blocks they work on.
type Writer struct {
	w        io.Writer
	err      error // the first error of w; every later call returns it
	closed   bool
	members  int    // members begun
	written  int64  // bytes given to w
	cur      *block // being filled; nil when nothing was written to it yet
	window   [windowSize]byte
	crc      uint32        // of the current member
	size     uint32        // of the current member, modulo 2^32
	queue    []*block      // handed to goroutines, oldest first
	free     []*block      // idle
	encoders chan *encoder // idle encoders; nil stands for one not yet made
	level    int
}

// NewWriter returns a Writer which sends its output to w. The level is 0 (stored) or 1 (fastest) to 9
// (smallest); any other is an error. Up to workers blocks are compressed at once, which changes the
// speed and not the output. Zero or less means one for each processor, 16 at most.
func NewWriter(w io.Writer, level, workers int) (*Writer, error) {
	if level < 0 || level > 9 {
		return nil, fmt.Errorf("gzip: level %d is not one of 0 to 9", level)
	}
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), maxWorkers)
	}
	z := &Writer{w: w, level: level, encoders: make(chan *encoder, workers)}
	for range workers {
		z.encoders <- nil
	}
	return z, nil
}

// Write compresses p as part of the current member, and begins one if none is open. When too many
// blocks are under way it waits for the oldest. It keeps no reference to p.
func (z *Writer) Write(p []byte) (int, error) {
	if err := z.usable(); err != nil {
		return 0, err
	}

	n := 0
	for n < len(p) {
		if z.cur == nil {
			if err := z.begin(); err != nil {
				return n, err
			}
		}

		k := z.cur.fill(p[n:])
		if k == 0 { // full, and more follows: so it is not the last of its member
			if err := z.dispatch(); err != nil {
				return n, err
			}
			continue
		}

		// The checksum is one for the whole member, so it cannot be left to the blocks.
		z.crc = crc32.Update(z.crc, crc32.IEEETable, p[n:n+k])
		z.size += uint32(k)
		n += k
	}

	return n, nil
}

// EndMember ends the current gzip member. The next Write begins another, which shares no history with
// it. If nothing was written since the last end, no member is ended.
//
// If ended is not nil, it is called once the underlying writer has accepted the last byte of the
// member, with the number of bytes written so far: the offset at which the next member starts. It is
// called from within this method or a later one, in the order of the members, and before Sync or
// Close returns without an error.
func (z *Writer) EndMember(ended func(offset int64)) error {
	if err := z.usable(); err != nil {
		return err
	}

	if z.cur == nil { // the member before ended here as well, but may still be under way
		if ended == nil {
			return nil
		}
		if len(z.queue) == 0 {
			ended(z.written)
			return nil
		}
		last := z.queue[len(z.queue)-1]
		last.ended = append(last.ended, ended)
		return nil
	}

	return z.endMember(ended)
}

// Sync waits until all ended members are written, and calls the functions that [Writer.EndMember] got
// for them. It does not end a block, so it does not change the output.
func (z *Writer) Sync() error {
	if err := z.usable(); err != nil {
		return err
	}
	return z.drain(0)
}

// Close ends the current member and waits until everything is written. If nothing was written at all,
// the output is one empty member. Close does not close the underlying writer. Only Close makes the
// output whole, so call it on success alone. A second Close does nothing.
func (z *Writer) Close() error {
	if z.closed {
		return z.err
	}

	if z.err != nil {
		return z.err
	}

	if z.cur == nil && z.members == 0 { // no input at all: an empty member
		if err := z.begin(); err != nil {
			return err
		}
	}

	if z.cur != nil {
		if err := z.endMember(nil); err != nil {
			return err
		}
	}

	if err := z.drain(0); err != nil {
		return err
	}

	z.closed = true
	z.free = nil
	return nil
}

// usable returns the error of a call that comes after an error or after Close.
func (z *Writer) usable() error {
	if z.err == nil && z.closed {
		return errClosed
	}
	return z.err
}

// begin takes a block for the first bytes of a member.
func (z *Writer) begin() error {
	if err := z.take(nil); err != nil {
		return err
	}
	z.members++
	z.crc, z.size = 0, 0
	return nil
}

// endMember hands out the current block as the last of its member.
func (z *Writer) endMember(ended func(int64)) error {
	b := z.cur
	z.cur = nil
	b.last, b.crc, b.size = true, z.crc, z.size
	if ended != nil {
		b.ended = append(b.ended, ended)
	}
	z.start(b)
	return nil
}

// dispatch hands out the full current block and takes another which knows its window.
func (z *Writer) dispatch() error {
	copy(z.window[:], z.cur.in[z.cur.end-windowSize:z.cur.end])
	z.start(z.cur)
	return z.take(z.window[:])
}

// start gives a block to a goroutine.
func (z *Writer) start(b *block) {
	z.queue = append(z.queue, b)
	go b.run(z.encoders, z.level)
}

// take makes the current block an empty one with this window. It waits for the oldest block if all
// encoders have one and some more are waiting for them: so the encoders stay busy while the oldest is
// written and the next one is filled, even if the bytes for that come late.
func (z *Writer) take(window []byte) error {
	if err := z.drain(cap(z.encoders) + waiting); err != nil {
		return err
	}
	if n := len(z.free); n > 0 {
		z.cur, z.free = z.free[n-1], z.free[:n-1]
	} else {
		z.cur = newBlock()
	}
	z.cur.reset(window)
	return nil
}

// drain writes blocks, oldest first, until no more than keep are under way.
func (z *Writer) drain(keep int) error {
	for len(z.queue) > keep && z.err == nil {
		b := z.queue[0]
		<-b.done
		n, err := z.w.Write(b.out)
		z.written += int64(n)
		if err == nil && n < len(b.out) {
			err = io.ErrShortWrite
		}
		if err != nil {
			z.err = err
			z.cur, z.queue, z.free = nil, nil, nil
			return err
		}

		z.queue = z.queue[:copy(z.queue, z.queue[1:])]
		z.free = append(z.free, b)
		for _, f := range b.ended {
			f(z.written)
		}
	}

	return z.err
}
