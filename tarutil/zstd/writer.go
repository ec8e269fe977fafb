package zstd

import (
	"errors"
	"fmt"
	"io"
	"runtime"
)

// DefaultLevel is the level for callers without a wish of their own.
const DefaultLevel = 3

const (
	jobSize    = 2 << 20 // input bytes compressed on their own: part of the output, frozen
	maxWorkers = 5       // at once; the ring has room for no more jobs and what they refer to
)

var errClosed = errors.New("zstd: write after close")

// Writer compresses what is written to it; see the package comment for what its output
// depends on. The methods of a Writer must not be called concurrently. The underlying
// writer is called from within the methods only, never from another goroutine.
//
// A Writer holds nothing that outlives it: one which is dropped without Close writes no end of
// the frame, and its goroutines end by themselves with the job they work on.
type Writer struct {
	w        io.Writer
	err      error // the first error of w; every later call returns it
	closed   bool
	level    level
	ring     *ring
	begun    bool // the header is written
	end      int  // bytes taken in
	start    int  // the first byte that no job has
	queue    []*job
	free     []*job
	encoders chan *encoder // idle encoders; nil stands for one not yet made
	sum      xxhash
}

// NewWriter returns a Writer which sends its output to w. The level is 1 (fastest) to 9
// (smallest), or an error comes back. Up to workers jobs are compressed at once; zero or
// less means one per processor, and there are never more than 5.
func NewWriter(w io.Writer, lvl, workers int) (*Writer, error) {
	if lvl < 1 || lvl > 9 {
		return nil, fmt.Errorf("zstd: level %d is not one of 1 to 9", lvl)
	}
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	workers = min(workers, maxWorkers)
	z := &Writer{w: w, level: levelOf(lvl), ring: new(ring), encoders: make(chan *encoder, workers)}
	for range workers {
		z.encoders <- nil
	}
	z.sum.reset()
	return z, nil
}

// Write compresses p, which it does not keep. It waits for the oldest job when too many are under
// way. An error of the underlying writer may belong to an earlier Write; every later call returns
// it again.
func (z *Writer) Write(p []byte) (n int, err error) {
	switch {
	case z.err != nil:
		return 0, z.err
	case z.closed:
		return 0, errClosed
	}

	z.sum.write(p)
	for n < len(p) {
		k, err := z.fill(p[n:])
		if err != nil {
			return n, err
		}
		n += k

		// Bytes behind its end show that the job is not the last one, and are what it looks at.
		if z.end == z.start+jobSize+padding {
			if err := z.dispatch(z.start+jobSize, false); err != nil {
				return n, err
			}
		}
	}

	return n, nil
}

// room returns how many bytes the ring can take: what jobs under way may look at must stay.
func (z *Writer) room() int {
	oldest := z.start
	if len(z.queue) > 0 {
		oldest = z.queue[0].from
	}
	return max(oldest-z.level.overlap, 0) + ringSize - z.end
}

// wait waits for jobs, the oldest first, until there is room for n bytes.
func (z *Writer) wait(n int) error {
	for z.room() < n {
		if err := z.drain(len(z.queue) - 1); err != nil {
			return err
		}
	}
	return nil
}

// fill takes bytes of p into the ring, at least one: no more than the next job and the look
// behind its end need. It waits for jobs when there is no room.
func (z *Writer) fill(p []byte) (int, error) {
	if err := z.wait(1); err != nil {
		return 0, err
	}
	n := min(len(p), z.room(), z.start+jobSize+padding-z.end)
	z.ring.put(z.end, p[:n])
	z.end += n
	return n, nil
}

// dispatch hands out the bytes up to the position to as a job. It waits for the oldest when too
// many are under way.
func (z *Writer) dispatch(to int, last bool) error {
	if err := z.drain(cap(z.encoders)); err != nil {
		return err
	}

	var j *job
	if n := len(z.free); n > 0 {
		j, z.free = z.free[n-1], z.free[:n-1]
	} else {
		j = &job{done: make(chan struct{}, 1)}
	}

	j.start, j.from, j.to, j.last = max(0, z.start-z.level.overlap), z.start, to, last
	z.start = to
	z.queue = append(z.queue, j)
	go j.run(z.ring, z.encoders, z.level)
	return nil
}

// Close ends the frame and waits until everything is written. It does not close the underlying
// writer. Only Close makes the output whole, so call it on success alone.
func (z *Writer) Close() error {
	if z.closed || z.err != nil {
		return z.err
	}

	// A parser looks behind the end of its job. The last one finds zeros there, whatever the ring
	// held before, so the output depends on the input alone.
	to := z.end
	if err := z.wait(padding); err != nil {
		return err
	}

	z.ring.put(z.end, make([]byte, padding))
	z.end += padding

	if err := z.dispatch(to, true); err != nil {
		return err
	}
	if err := z.drain(0); err != nil {
		return err
	}
	if err := z.write(appendLittle(nil, z.sum.sum(), 4)); err != nil {
		return err
	}

	z.closed = true
	z.free, z.ring = nil, nil
	return nil
}

// drain writes the results of jobs, oldest first, until no more than keep are under way.
func (z *Writer) drain(keep int) error {
	for len(z.queue) > keep && z.err == nil {
		j := z.queue[0]
		<-j.done

		// The header waits for the first job: one that is the last, too, knows the size of all.
		if !z.begun {
			z.begun = true
			if err := z.write(j.appendHeader(nil, z.level.windowLog)); err != nil {
				return err
			}
		}
		if err := z.write(j.out); err != nil {
			return err
		}
		z.queue = z.queue[:copy(z.queue, z.queue[1:])]
		z.free = append(z.free, j)
	}

	return z.err
}

func (z *Writer) write(p []byte) error {
	n, err := z.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		z.err = err
		z.queue, z.free, z.ring = nil, nil, nil
	}
	return err
}

// A job is one piece of input on its way through a goroutine.
type job struct {
	start, from, to int // the positions from..to-1, which may refer to those from start on
	last            bool

	out  []byte        // the blocks, once done
	done chan struct{} // receives one value when out is ready
}

// run compresses the job with an idle encoder and reports on done.
func (j *job) run(b *ring, encoders chan *encoder, l level) {
	e := <-encoders
	if e == nil {
		e = newEncoder(l)
	}
	j.out = e.job(j.out[:0], b, j)
	encoders <- e
	j.done <- struct{}{}
}

// appendHeader appends the header of a frame that begins with the job. If it ends with it, too,
// the header has the size of the content, so that a reader needs no more memory than that.
func (j *job) appendHeader(out []byte, windowLog int) []byte {
	const (
		checksum = 1 << 2
		single   = 1 << 5
	)
	out = appendLittle(out, magic, 4)
	if !j.last {
		return append(out, checksum, byte(windowLog-10)<<3)
	}

	switch n := uint64(j.to); {
	case n < 256:
		return append(out, 0<<6|single|checksum, byte(n))
	case n < 256+1<<16:
		return appendLittle(append(out, 1<<6|single|checksum), n-256, 2)
	default:
		return appendLittle(append(out, 2<<6|single|checksum), n, 4)
	}
}
