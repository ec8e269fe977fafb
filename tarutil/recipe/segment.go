package recipe

import (
	"bufio"
	"encoding/binary"
	"io"
)

// A segment is the part of a gzip file that is coded on its own: whole blocks, mostly, with the
// headers and trailers of members between them. Segments are small enough to be held in
// memory, and several of them are coded at once.
type segment struct {
	events []event

	// data holds what was uncompressed before the segment, the segment itself from start to
	// end, and some bytes after it, all as far as they are there.
	data       []byte
	start, end int

	phase     int   // how many bits of the first byte belong to the segment before
	bits      int64 // how long the segment is, compressed
	inMember  bool  // it begins between a header and a trailer
	opened    bool  // it begins inside a block
	cut       bool  // it ends inside a block
	member    int64 // how many bytes before start the member began
	unit      int64 // how many bytes before start the encoder began, or was flushed
	contentOf int   // number of the segment, for errors

	stretches []stretch // in which others have the same contents, from the segment's start on
	kin       kinUse
	spans     []span // of the stretches, if they are used
}

// A kinUse is how the tokens of other files are used.
type kinUse uint8

const (
	noKin     kinUse = iota
	steadyKin        // where the encoder must be in the same state
	eagerKin         // wherever anything is known
)

// An event is a block, or what stands between blocks.
type event struct {
	what  what
	block block
	raw   []byte // of a header, a trailer, junk
}

type what uint8

const (
	aBlock what = iota
	aHeader
	aTrailer // with the bits that fill up the byte before it first
	aJunk    // bytes behind the last member
)

// Cuts are the sizes of a segment: with flush bytes it ends where the encoder was flushed, with block
// where a block ends, and with force wherever it is.
type cuts struct{ flush, block, force int }

func usualCuts() cuts { return cuts{flushCut, blockCut, forceCut} }

const (
	historySize = 2 * fastBlock // before a segment: from here on encoders find their state again
	aheadSize   = 1 << 10       // after it: encoders look ahead
	maxEvents   = 1 << 14       // more end a segment
	maxRaw      = 1 << 20       // bytes of headers and junk; more end a segment
	leastSize   = 8 * maxEvents // contents of a segment that ends so; with less it is not worth its room
	maxHeader   = 1 << 20       // bytes in the header of a member, or in one event of junk

	// The usual cuts.
	flushCut   = 2 << 20
	blockCut   = 5 << 19
	forceCut   = 4 << 20
	maxSegment = forceCut + 1<<16

	fastBlock = 65535 // the blocks in which the fast levels of Go's encoders work
)

// The layout of a recipe; see the package comment.
const (
	magic      = "okr\x01" // with the version
	endMark    = 0
	segmentTag = 1
	ownTag     = 2
	zstdTag    = 3

	maxPayload = 16 << 20 // of a segment
	maxBits    = 32 << 23 // of a segment, compressed: twice what one of maxEvents blocks can have
	maxMembers = 1 << 20  // of a file written by package gzip
)

// appendSegment appends what a reader must know of a segment, and its payload.
func appendSegment(b []byte, s *segment, st style, payload []byte) []byte {
	flags := s.phase | bit(s.inMember)<<3 | bit(s.opened)<<4 | int(s.kin)<<5
	b = append(b, segmentTag, byte(st.family), st.level, byte(flags))
	b = binary.AppendUvarint(b, uint64(s.end-s.start))
	b = binary.AppendUvarint(b, uint64(s.bits))
	b = binary.AppendUvarint(b, uint64(s.member))
	b = binary.AppendUvarint(b, uint64(s.unit))
	b = binary.AppendUvarint(b, uint64(len(payload)))
	return append(b, payload...)
}

// A formatReader reads the numbers of a recipe; its first error stays.
type formatReader struct {
	r   *bufio.Reader
	err error
}

func (f *formatReader) byte() byte {
	b, err := f.r.ReadByte()
	f.fail(err)
	return b
}

// number reads a number up to a limit.
func (f *formatReader) number(limit uint64, of string) uint64 {
	if f.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(f.r)
	f.fail(err)
	if f.err == nil && v > limit {
		f.err = errorf("%s is %d, the limit is %d", of, v, limit)
	}
	if f.err != nil {
		return 0
	}
	return v
}

func (f *formatReader) bytes(n int) []byte {
	if f.err != nil {
		return nil
	}
	b := make([]byte, n)
	_, err := io.ReadFull(f.r, b)
	f.fail(err)
	return b
}

func (f *formatReader) fail(err error) {
	if f.err != nil || err == nil {
		return
	}
	if f.err = err; err == io.EOF || err == io.ErrUnexpectedEOF {
		f.err = errorf("it is cut")
	}
}

// segment reads what appendSegment wrote after the tag.
func (f *formatReader) segment(number int) (*segment, style, []byte, error) {
	st := style{family: family(f.byte()), level: f.byte()}
	flags := f.byte()
	s := &segment{phase: int(flags & 7), inMember: flags&8 != 0, opened: flags&16 != 0, contentOf: number}
	s.kin = kinUse(flags >> 5)
	s.end = int(f.number(maxSegment, "the size of a segment"))
	s.bits = int64(f.number(maxBits, "the length of a segment"))
	s.member = int64(f.number(1<<62, "the size of a member"))
	s.unit = int64(f.number(1<<62, "the distance to a flush"))
	payload := f.bytes(int(f.number(maxPayload, "the length of corrections")))
	switch {
	case f.err != nil:
		return nil, st, nil, f.err
	case s.kin > eagerKin, s.opened && !s.inMember, s.unit > s.member:
		return nil, st, nil, errorf("segment %d: impossible flags", number)
	case st.newMatcher() == nil:
		return nil, st, nil, errorf("segment %d: style %d with level %d is not known here", number, st.family, st.level)
	}

	return s, st, payload, nil
}
