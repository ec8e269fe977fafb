package delta

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"runtime"

	"ocikit/tarutil/internal/inorder"
	"ocikit/tarutil/rangecoder"
)

const (
	magic = "okd\x01" // with the version

	blindFlag = 1 // who made the delta could not read the bases

	longCopy = 64 // at least, for others to hear of it

	applyAhead = 2 // segments are made while the one before them is written
)

// Apply writes to w the target of a delta. The bases must be those of [Make], in the same order.
// The target must get size bytes: Apply never writes more, and a delta that makes another number,
// or is damaged, is an error wrapping [ErrDelta]. Other bases of the same total size give other
// bytes without an error, so the caller checks the result by a digest.
//
// Apply calls copied, unless it is nil, for the longer stretches that it takes from the bases, with
// their place in the target, their size and their place in the bases, before it writes them.
//
// Apply reads delta to its end, and makes two segments at once while it writes. It needs about 60 MiB of
// memory, and closes nothing.
func Apply(ctx context.Context, w io.Writer, delta io.Reader, bases *Bases, size int64, copied func(pos, n, off int64)) error {
	in := bufio.NewReader(delta)
	head := make([]byte, len(magic)+1)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(magic)]) != magic {
		return errorf("it does not begin as one of this version")
	}

	flags := head[len(magic)]
	if flags&^blindFlag != 0 {
		return errorf("unknown flags %#x", flags)
	}

	if n, err := binary.ReadUvarint(in); err != nil || n != uint64(bases.Size()) {
		return errorf("it is for bases of %d bytes, got %d", n, bases.Size())
	}

	// What a segment copies is told when it is its turn to be written. Its memory is used again.
	pos := int64(0)
	var free [][]byte
	queue := inorder.New[*applier](min(runtime.GOMAXPROCS(0), maxWorkers), func(m *made) error {
		for _, c := range m.copied {
			copied(c.pos, c.n, c.off)
		}
		_, err := w.Write(m.data)
		free = append(free, m.data[:0])
		return err
	})
	defer queue.Wait() // the caller may close the bases

	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}

		m, err := readSegment(in, size-pos)
		if err != nil {
			return err
		}
		if m == nil {
			break
		}
		m.pos, m.tell = pos, copied != nil
		pos += int64(m.size)
		if n := len(free); n > 0 {
			m.data, free = free[n-1], free[:n-1]
		}

		queue.Start(queue.Take(), m, func(a **applier) error {
			if *a == nil {
				*a = &applier{pages: newPages(bases), blind: flags&blindFlag != 0}
			}
			return (*a).segment(m)
		})
		if err := queue.Finish(applyAhead); err != nil {
			return err
		}
	}

	if err := queue.Finish(0); err != nil {
		return err
	}

	if pos != size {
		return errorf("it makes %d bytes too few", size-pos)
	}

	if _, err := in.ReadByte(); err != io.EOF {
		return errorf("it goes on behind its end")
	}

	return nil
}

// A made segment is one on its way from its payload to its bytes.
type made struct {
	payload []byte
	size    int
	pos     int64 // in the target
	data    []byte
	tell    bool
	copied  []stretchOf // the longer copies from the bases, if they are to be told
}

// readSegment reads the payload of the next segment, or returns nil at the end. Sizes are checked before
// memory is taken for them: left bytes of the target are not made yet.
func readSegment(in *bufio.Reader, left int64) (*made, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil || n > segmentSize {
		return nil, errorf("a segment of %d bytes, or none", n)
	}
	if n == 0 {
		return nil, nil
	}
	if int64(n) > left {
		return nil, errorf("it makes too many bytes")
	}

	length, err := binary.ReadUvarint(in)
	if err != nil || length > maxPayload {
		return nil, errorf("a payload of %d bytes, or none", length)
	}

	m := &made{payload: make([]byte, length), size: int(n)}
	if _, err := io.ReadFull(in, m.payload); err != nil {
		return nil, errorf("it is cut")
	}
	return m, nil
}

type applier struct {
	*pages
	blind bool
	state *state

	*made // the segment
}

// segment makes the bytes of a segment. Each step is checked: of a damaged payload the coder makes some
// steps, without end.
func (a *applier) segment(m *made) error {
	c := rangecoder.NewReader(m.payload)
	if a.state == nil {
		a.state = newState(c)
	}

	s := a.state
	s.Coder = c
	s.reset()
	a.made = m
	if cap(a.data) < m.size {
		a.data = make([]byte, 0, m.size)
	}
	for len(a.data) < m.size {
		var st step
		if !s.codeStep(&st) || c.Overrun() {
			return errorf("at %d: a match that cannot be", a.place())
		}

		if st.length == 0 {
			a.data = append(a.data, s.codeLiteral(0, before(a.data, len(a.data)), expect(s, a.pages, a.blind, a.data, len(a.data), a.pos)))
			continue
		}

		if st.length > m.size-len(a.data) {
			return errorf("at %d: a match of %d bytes", a.place(), st.length)
		}
		if err := a.copy(st); err != nil {
			return err
		}
	}

	return a.err
}

// place is how far the target is made.
func (a *applier) place() int64 { return a.pos + int64(len(a.data)) }

// before returns the byte before data[i], by which literals are coded.
func before(data []byte, i int) byte {
	if i == 0 {
		return 0
	}
	return data[i-1]
}

// expect returns the byte that stands at the place of data[i] by the latest alignment, or -1 if
// nothing can be expected. data begins at pos in the target. The latest alignment is that of a match
// before i, so it does not lead to before the begin.
func expect(s *state, p *pages, blind bool, data []byte, i int, pos int64) int {
	r := s.reps[0]
	switch {
	case s.run >= maxRun, r.isBase && blind:
		return -1
	case r.isBase:
		off := pos + int64(i) + r.off
		if off >= p.b.size {
			return -1
		}
		return int(p.byte(off))
	}
	return int(data[i-int(r.off)])
}

// copy appends the bytes of a match.
func (a *applier) copy(st step) error {
	if !st.isBase {
		if st.off < 1 || st.off > int64(len(a.data)) {
			return errorf("at %d: a distance of %d", a.place(), st.off)
		}

		// Where a match overlaps what it makes, a piece of it is there at a time.
		from := len(a.data) - int(st.off)
		for left := st.length; left > 0; {
			k := min(left, len(a.data)-from)
			a.data = append(a.data, a.data[from:from+k]...)
			left -= k
		}
		return nil
	}

	// Long copies are read in place, and short ones through the cache: they tend to lie close
	// together.
	off := a.place() + st.off
	if off < 0 || off > a.b.size-int64(st.length) {
		return errorf("at %d: base bytes from %d on, of %d", a.place(), off, a.b.size)
	}

	if a.tell && st.length >= longCopy {
		a.copied = append(a.copied, stretchOf{a.place(), int64(st.length), off})
	}

	if st.length >= pageSize {
		at := len(a.data)
		a.data = a.data[:at+st.length]
		_, err := a.b.ReadAt(a.data[at:], off)
		return err
	}

	for left := st.length; left > 0; {
		p := a.at(off)
		k := min(len(p), left)
		if k == 0 {
			return a.err
		}
		a.data = append(a.data, p[:k]...)
		off += int64(k)
		left -= k
	}

	return nil
}
