package gunzip

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A Reader decompresses all members of a stream. It is not safe for concurrent use.
type Reader struct {
	f      inflater
	unread int // where in f.buf what was not handed out begins
	member int // number of the current one, from 1
	sum    uint32
	size   uint32
	err    error
}

// NewReader reads the header of the first member from r, and returns a Reader of all
// members. r is read to its end, in pieces of 64 KiB.
//
// Errors take the place of io.EOF: that of r as it is, one that wraps io.ErrUnexpectedEOF if the
// stream was cut, and others if it was damaged. Zero bytes behind the last member, which some programs
// write as padding, are dropped; other bytes are an error.
func NewReader(r io.Reader) (*Reader, error) {
	z := &Reader{member: 1}
	z.f.init(r)
	if err := z.header(); err != nil {
		return nil, err
	}
	return z, nil
}

// OnBlock has f called at the begin of each block, from within Read: with how much of the contents
// comes before it, and with how many bits of r. It is called before the first Read.
func (z *Reader) OnBlock(f func(pos, bit int64)) { z.f.onBlock = f }

// Read implements io.Reader.
func (z *Reader) Read(p []byte) (int, error) {
	for z.unread == z.f.at {
		if z.err != nil || len(p) == 0 {
			return 0, z.err
		}
		z.err = z.next()
	}
	n := copy(p, z.f.buf[z.unread:z.f.at])
	z.unread += n
	return n, nil
}

// next decodes more. At the end of a member it goes on to the next one.
func (z *Reader) next() error {
	if z.f.state == atEnd {
		return z.nextMember()
	}

	z.f.slide()
	z.unread = z.f.at
	err := z.f.decode()

	content := z.f.buf[z.unread:z.f.at]
	z.sum = crc32.Update(z.sum, crc32.IEEETable, content)
	z.size += uint32(len(content)) // modulo 2^32, as the trailer has it
	if err == nil && z.f.state == atEnd {
		err = z.trailer()
	}
	if err != nil {
		return fmt.Errorf("member %d: %w", z.member, err)
	}

	return nil
}

// trailer verifies checksum and size behind a member.
func (z *Reader) trailer() error {
	var b [8]byte
	if err := z.fill(b[:]); err != nil {
		return err
	}
	if sum := binary.LittleEndian.Uint32(b[:]); sum != z.sum {
		return fmt.Errorf("%w: checksum %08x, want %08x", errCorrupt, z.sum, sum)
	}
	if size := binary.LittleEndian.Uint32(b[4:]); size != z.size {
		return fmt.Errorf("%w: %d bytes, want %d", errCorrupt, z.size, size)
	}
	return nil
}

// fill reads bytes between blocks.
func (z *Reader) fill(b []byte) error {
	for i := range b {
		c, err := z.f.readByte()
		if err != nil {
			return unexpected(err)
		}
		b[i] = c
	}
	return nil
}

// nextMember goes on to the next member. It returns io.EOF if there is none.
func (z *Reader) nextMember() error {
	// Zeros may fill the stream up to a block of some medium, but nothing may follow them.
	c, err := z.f.readByte()
	padded := false
	for err == nil && c == 0 {
		padded = true
		c, err = z.f.readByte()
	}

	switch {
	case err != nil:
		return err
	case padded:
		return fmt.Errorf("%w: bytes behind the padding after member %d", errCorrupt, z.member)
	}

	z.f.acc, z.f.n = z.f.acc<<8|uint64(c), z.f.n+8 // put back: it is the first of the header
	if err := z.header(); err != nil {
		return fmt.Errorf("bytes behind member %d: %w", z.member, err)
	}

	z.member++
	return nil
}

const (
	hasSum     = 1 << 1
	hasExtra   = 1 << 2
	hasName    = 1 << 3
	hasComment = 1 << 4
)

// header reads the header of a member (RFC 1952, section 2.3). Names, comments and extra fields are
// read over: the checksum of the header may cover them.
func (z *Reader) header() error {
	var h [10]byte
	if err := z.fill(h[:]); err != nil {
		return err
	}

	if h[0] != 0x1f || h[1] != 0x8b || h[2] != 8 {
		return fmt.Errorf("%w: no gzip header", errCorrupt)
	}

	// The rest is optional, and goes into the sum like the start.
	sum := crc32.ChecksumIEEE(h[:])
	more := func(n int) ([]byte, error) {
		b := make([]byte, n)
		err := z.fill(b)
		sum = crc32.Update(sum, crc32.IEEETable, b)
		return b, err
	}

	flags := h[3]
	if flags&hasExtra != 0 {
		b, err := more(2)
		if err == nil {
			_, err = more(int(binary.LittleEndian.Uint16(b)))
		}
		if err != nil {
			return err
		}
	}

	for _, flag := range []byte{hasName, hasComment} {
		for i := 0; flags&flag != 0; i++ {
			b, err := more(1)
			if err != nil {
				return err
			}
			if b[0] == 0 {
				break
			}
			if i == 511 { // as long as compress/gzip takes
				return fmt.Errorf("%w: name or comment without an end", errCorrupt)
			}
		}
	}

	// The checksum of a header is the lower half of the CRC-32 of all before it.
	if flags&hasSum != 0 {
		want := uint16(sum)
		b, err := more(2)
		if err != nil {
			return err
		}
		if got := binary.LittleEndian.Uint16(b); got != want {
			return fmt.Errorf("%w: checksum of the header", errCorrupt)
		}
	}

	z.sum, z.size = 0, 0
	z.f.begin()
	return nil
}
