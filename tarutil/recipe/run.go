package recipe

import (
	"bufio"
	"context"
	"io"
	"runtime"

	"ocikit/tarutil"
	"ocikit/tarutil/gzip"
	"ocikit/tarutil/internal/inorder"
	"ocikit/tarutil/rangecoder"
)

// maxWorkers bounds the segments under way, and with them the memory.
const maxWorkers = 4

// segmentLag is how many segments are under way, or wait to be written, when the next one is
// started. A style that one of them turns out to have is used for the segments that are started
// afterwards. So this number decides what a recipe looks like, and must not depend on the number of
// processors.
const segmentLag = 2

func workers() int { return min(runtime.GOMAXPROCS(0), maxWorkers) }

// Run writes to w the compressed file that a recipe makes of the uncompressed bytes in plain. The
// file must get size bytes: Run never writes more, and a recipe that makes another number, or is
// damaged, is an error wrapping [ErrRecipe]. Whether they are the right bytes is for the caller to
// check, by a digest.
//
// Run reads plain and recipe to their ends, in one pass; bytes left over in either are an error. It
// uses up to four processors, and needs up to 20 MiB of memory for each. It closes nothing.
//
// kin must be filled as that which the recipe was made with; it is nil if there was none.
func Run(ctx context.Context, w io.Writer, plain, recipe io.Reader, size int64, kin *Kin) error {
	f := &formatReader{r: bufio.NewReader(recipe)}
	if string(f.bytes(len(magic))) != magic {
		return errorf("it does not begin as one of this version")
	}

	out := &joiner{w: w, left: size}
	in := bufio.NewReaderSize(plain, 256<<10)
	var err error
	switch tag := f.byte(); tag {
	case ownTag:
		kin.ignore()
		err = f.own(ctx, out, in)
	case zstdTag:
		kin.ignore()
		err = f.zstd(ctx, out, in)
	default:
		err = f.segments(ctx, out, in, tag, kin)
	}
	if err != nil {
		return err
	}

	if _, err := f.r.ReadByte(); err != io.EOF {
		if err == nil {
			err = errorf("it goes on behind its end")
		}
		return err
	}

	// Bytes that the recipe does not use mean that it is for others.
	if _, err := in.ReadByte(); err != io.EOF {
		if err == nil {
			err = errorf("it is for fewer bytes")
		}
		return err
	}

	return out.end()
}

// A job is a segment on its way through a goroutine.
type job struct {
	s   *segment
	out []byte
}

// segments makes segments, several at once.
func (f *formatReader) segments(ctx context.Context, out *joiner, in *bufio.Reader, tag byte, kin *Kin) error {
	queue := inorder.New[*codec](workers(), func(j *job) error { return out.write(j.out, j.s.phase, j.s.bits) })
	var history []byte
	pos := int64(0)
	for n := 0; tag != endMark && f.err == nil; n++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}

		if tag != segmentTag {
			return errorf("tag %d", tag)
		}

		s, st, payload, err := f.segment(n)
		if err != nil {
			return err
		}

		// A few bytes of recipe could ask for terabytes.
		if s.bits > 8*(out.left+1) {
			return errorf("it makes more than %d bytes", out.left)
		}

		if history, err = s.load(in, history); err != nil {
			return err
		}

		// What is known of the segment was added when its bytes were made.
		size := int64(s.end - s.start)
		s.stretches = kin.take(pos, size)
		pos += size

		j := &job{s: s}
		queue.Start(queue.Take(), j, func(k **codec) (err error) {
			*k = (*k).of(st)
			j.out, err = (*k).segment(s, payload, kin)
			s.data, s.spans = nil, nil
			return err
		})

		if err := queue.Finish(workers()); err != nil {
			return err
		}

		tag = f.byte()
	}

	if f.err != nil {
		return f.err
	}

	return queue.Finish(0)
}

// segment makes a segment of its corrections.
func (k *codec) segment(s *segment, payload []byte, kin *Kin) (out []byte, err error) {
	if s.kin != noKin {
		if s.spans, err = kin.spans(s, s.kin == eagerKin); err != nil {
			return nil, err
		}
	}
	k.out = writerBehind(s.phase)
	err = k.run(rangecoder.NewReader(payload), s)
	k.out.Align()
	return k.out.Out, err
}

// of returns a codec for a style, k itself if it is one.
func (k *codec) of(st style) *codec {
	if k == nil {
		k = new(codec)
	}
	if k.own == nil || k.style != st {
		k.own, k.style = st.newMatcher(), st
	}
	return k
}

// load reads the bytes of a segment from in. It gives the segment the history before them, and the
// bytes behind them without taking these. It returns the history of the next segment.
func (s *segment) load(in *bufio.Reader, history []byte) ([]byte, error) {
	size := s.end
	s.start = len(history)
	s.end = s.start + size
	s.data = make([]byte, s.end, s.end+aheadSize)
	copy(s.data, history)
	if _, err := io.ReadFull(in, s.data[s.start:]); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errorf("it is for more bytes")
		}
		return nil, err
	}

	ahead, err := in.Peek(aheadSize)
	if err != nil && err != io.EOF {
		return nil, err
	}

	history = append([]byte(nil), s.data[max(0, s.end-historySize):]...)
	s.data = append(s.data, ahead...)
	return history, nil
}

// A joiner joins segments, which begin and end anywhere within a byte.
type joiner struct {
	w    io.Writer
	left int64
	last byte // the bits of an unfinished byte
	bits int64
}

// write appends a segment of this many bits, whose first byte has phase bits left free for the
// segment before.
func (j *joiner) write(p []byte, phase int, bits int64) error {
	if phase != int(j.bits&7) || len(p) != int((int64(phase)+bits+7)/8) {
		return errorf("segments that do not join")
	}

	if len(p) == 0 {
		return nil
	}

	p[0] |= j.last
	j.bits += bits
	j.last = 0
	if j.bits&7 != 0 {
		j.last = p[len(p)-1]
		p = p[:len(p)-1]
	}

	_, err := j.Write(p)
	return err
}

// Write writes whole bytes.
func (j *joiner) Write(p []byte) (int, error) {
	if j.left -= int64(len(p)); j.left < 0 {
		return 0, errorf("it makes too many bytes")
	}
	return j.w.Write(p)
}

func (j *joiner) end() error {
	if j.bits&7 != 0 || j.left != 0 {
		return errorf("it makes %d bytes too few", j.left)
	}
	return nil
}

// own makes a file as package gzip does.
func (f *formatReader) own(ctx context.Context, out *joiner, in *bufio.Reader) error {
	level := f.byte()
	members := f.number(maxMembers, "the number of members")
	z, err := gzip.NewWriter(out, int(level), 0)
	if err != nil || f.err != nil {
		return errorf("level %d", level)
	}

	buf := make([]byte, 256<<10)
	for range members {
		size := int64(f.number(1<<62, "the size of a member"))
		if f.err != nil {
			return f.err
		}

		// The sizes say where members end; that cannot be seen in the contents.
		n, err := io.CopyBuffer(writerOnly{z}, tarutil.ContextReader(ctx, io.LimitReader(in, size)), buf)
		if err == nil && n < size {
			err = errorf("it is for more bytes")
		}
		if err == nil {
			err = z.EndMember(nil)
		}
		if err != nil {
			return err
		}
	}

	tail := f.bytes(int(f.number(maxHeader, "the bytes behind the members")))
	if f.err != nil {
		return f.err
	}

	// Without a member Close would write an empty one.
	if members > 0 {
		if err := z.Close(); err != nil {
			return err
		}
	}

	_, err = out.Write(tail)
	return err
}

// writerOnly hides other methods of a writer, with which io.CopyBuffer would not use its buffer.
type writerOnly struct{ io.Writer }
