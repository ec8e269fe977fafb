package delta

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"

	"ocikit/tarutil/rangecoder"
)

const (
	magic = "okd\x01" // with the version

	blindFlag = 1 // who made the delta could not read the bases

	longCopy = 64 // at least, for others to hear of it
)

// Apply writes to w the target of a delta. The bases must be those of [Make], in the same order.
// The target must get size bytes: Apply never writes more, and a delta that makes another number,
// or is damaged, is an error wrapping [ErrDelta]. Other bases of the same total size give other
// bytes without an error, so the caller checks the result by a digest.
//
// Apply calls copied, unless it is nil, for the longer stretches that it takes from the bases, with
// their place in the target, their size and their place in the bases, before it writes them.
//
// Apply reads delta to its end, and needs about 20 MiB of memory. It closes nothing.
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

	a := &applier{pages: newPages(bases), blind: flags&blindFlag != 0, copied: copied, data: make([]byte, 0, segmentSize)}
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}

		n, err := binary.ReadUvarint(in)
		if err != nil || n > segmentSize {
			return errorf("a segment of %d bytes, or none", n)
		}

		if n == 0 {
			break
		}

		// Sizes are checked before memory is taken for them.
		if size -= int64(n); size < 0 {
			return errorf("it makes too many bytes")
		}

		length, err := binary.ReadUvarint(in)
		if err != nil || length > maxPayload {
			return errorf("a payload of %d bytes, or none", length)
		}

		payload := make([]byte, length)
		if _, err := io.ReadFull(in, payload); err != nil {
			return errorf("it is cut")
		}

		if err := a.segment(payload, int(n)); err != nil {
			return err
		}

		if _, err := w.Write(a.data); err != nil {
			return err
		}
	}

	if size != 0 {
		return errorf("it makes %d bytes too few", size)
	}

	if _, err := in.ReadByte(); err != io.EOF {
		return errorf("it goes on behind its end")
	}

	return nil
}

type applier struct {
	*pages
	blind bool
	state *state
	data  []byte
	pos   int64 // of data in the target

	copied func(pos, n, off int64)
}

// segment makes n bytes of the target in a.data. Each step is checked: of a damaged payload the
// coder makes some steps, without end.
func (a *applier) segment(payload []byte, n int) error {
	c := rangecoder.NewReader(payload)
	if a.state == nil {
		a.state = newState(c)
	}

	s := a.state
	s.Coder = c
	s.reset()
	a.pos += int64(len(a.data))
	a.data = a.data[:0]
	for len(a.data) < n {
		var st step
		if !s.codeStep(&st) || c.Overrun() {
			return errorf("at %d: a match that cannot be", a.pos+int64(len(a.data)))
		}

		if st.length == 0 {
			a.data = append(a.data, s.codeLiteral(0, before(a.data, len(a.data)), expect(s, a.pages, a.blind, a.data, len(a.data), a.pos)))
			continue
		}

		if st.length > n-len(a.data) {
			return errorf("at %d: a match of %d bytes", a.pos+int64(len(a.data)), st.length)
		}
		if err := a.copy(st); err != nil {
			return err
		}
	}

	if a.err != nil {
		return a.err
	}

	return nil
}

// before returns the byte before data[i], by which literals are coded.
func before(data []byte, i int) byte {
	if i == 0 {
		return 0
	}
	return data[i-1]
}

// expect returns the byte that stands at the place of data[i] by the latest alignment, or -1 if
// nothing can be expected. data begins at pos in the target.
func expect(s *state, p *pages, blind bool, data []byte, i int, pos int64) int {
	r := s.reps[0]
	switch {
	case s.run >= maxRun, r.isBase && blind:
		return -1
	case r.isBase:
		off := pos + int64(i) + r.off
		if off < 0 || off >= p.b.size {
			return -1
		}
		return int(p.byte(off))
	case int64(i) >= r.off:
		return int(data[i-int(r.off)])
	}
	return -1
}

// copy appends the bytes of a match.
func (a *applier) copy(st step) error {
	if !st.isBase {
		if st.off < 1 || st.off > int64(len(a.data)) {
			return errorf("at %d: a distance of %d", a.pos+int64(len(a.data)), st.off)
		}

		from := len(a.data) - int(st.off)
		for i := range st.length {
			a.data = append(a.data, a.data[from+i])
		}
		return nil
	}

	// Long copies are read in place, and short ones through the cache: they tend to lie close
	// together.
	off := a.pos + int64(len(a.data)) + st.off
	if off < 0 || off > a.b.size-int64(st.length) {
		return errorf("at %d: base bytes from %d on, of %d", a.pos+int64(len(a.data)), off, a.b.size)
	}

	if a.copied != nil && st.length >= longCopy {
		a.copied(a.pos+int64(len(a.data)), int64(st.length), off)
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
