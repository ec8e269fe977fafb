package zstd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxWindow is how far back a frame may refer, in bytes: 128 MiB, the window of `zstd --long` and
// sixteen times that of its usual levels. A [Reader] needs up to one and a quarter windows of
// memory, and 8 MiB, but only once a frame has that much content.
const MaxWindow = 128 << 20

var (
	// ErrCorrupt says that bytes are not a Zstandard stream, or were changed.
	ErrCorrupt = errors.New("corrupt data")
	// ErrUnsupported says that a stream needs a window over [MaxWindow], or a dictionary.
	ErrUnsupported = errors.New("not supported")
)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

const (
	magic         = 0xfd2fb528
	magicSkip     = 0x184d2a50 // with any last four bits
	magicSkipMask = 0xfffffff0
)

// A Reader decompresses one stream. It is not safe for concurrent use.
type Reader struct {
	src   *bufio.Reader
	err   error
	frame int // number of the current one, from 1
	open  bool
	header
	done    uint64 // bytes of the frame's content so far
	sum     xxhash
	blocks  *blockDecoder
	buf     []byte // content, the last of which were not read yet
	unread  int    // where these begin
	history int    // bytes before the end of buf that belong to the frame
}

// A header is what stands at the start of a frame.
type header struct {
	framed  bool // it is not one to be skipped
	window  int  // how far back matches may lead
	block   int  // the size of the largest block
	hasSum  bool
	hasSize bool
	size    uint64 // of the content, if hasSize
}

// NewReader returns a Reader of all frames that r holds, to its end. Between and behind
// frames only frames to be skipped may stand; a stream of these alone is empty.
//
// Errors take the place of io.EOF: one that wraps [ErrCorrupt] or io.ErrUnexpectedEOF says
// that the stream was damaged or cut, [ErrUnsupported] that it needs what is not here. Bytes
// that were read before the end are not verified. r is read to its end, in pieces of
// 64 KiB; a [bufio.Reader] of that size or more is used as it is.
func NewReader(r io.Reader) *Reader {
	return &Reader{src: bufio.NewReaderSize(r, 64<<10)}
}

// Read implements io.Reader.
func (z *Reader) Read(p []byte) (int, error) {
	for z.unread == len(z.buf) {
		if len(p) == 0 || z.err != nil {
			return 0, z.err
		}
		if err := z.next(); err != nil {
			if err != io.EOF && z.frame > 0 {
				err = fmt.Errorf("frame %d: %w", z.frame, err)
			}
			z.err = err
		}
	}
	n := copy(p, z.buf[z.unread:])
	z.unread += n
	return n, nil
}

// next decodes one block, or what stands between two.
func (z *Reader) next() error {
	if !z.open {
		return z.nextFrame()
	}

	head, err := z.bytes(3)
	if err != nil {
		return err
	}

	last, kind, size := blockHeader(head)
	if size > z.block {
		return corrupt("block of %d bytes, over the limit of %d", size, z.block)
	}

	z.reserve()
	before := len(z.buf)
	switch kind {
	case 0: // raw
		z.buf = z.buf[:before+size]
		_, err = io.ReadFull(z.src, z.buf[before:])
		err = unexpected(err)
	case 1: // one byte repeated
		var c byte
		c, err = z.src.ReadByte()
		err = unexpected(err)
		z.buf = z.buf[:before+size]
		fillBytes(z.buf[before:], c)
	case 2: // compressed
		if _, err = io.ReadFull(z.src, z.blocks.packed.content(size)); err != nil {
			err = unexpected(err)
			break
		}
		z.buf, err = z.blocks.decode(z.buf, size, z.history, z.window, z.block)
	default:
		err = corrupt("block of a reserved type")
	}

	if err != nil {
		z.buf = z.buf[:before]
		return err
	}

	// The size is checked block by block, so that a frame with a wrong one is not read to its end.
	content := z.buf[before:]
	z.done += uint64(len(content))
	z.history += len(content)
	if z.hasSize && (z.done > z.size || last && z.done < z.size) {
		return corrupt("content of %d bytes, the header says %d", z.done, z.size)
	}

	if z.hasSum {
		z.sum.write(content)
	}

	if last {
		z.open = false
		return z.checkSum()
	}

	return nil
}

// checkSum verifies the checksum behind a frame.
func (z *Reader) checkSum() error {
	if !z.hasSum {
		return nil
	}
	b, err := z.bytes(4)
	if err != nil {
		return err
	}
	if want, got := binary.LittleEndian.Uint32(b), uint32(z.sum.sum()); got != want {
		return corrupt("checksum %08x, want %08x", got, want)
	}
	return nil
}

// nextFrame reads the header of a frame, or skips one. At the end it returns io.EOF.
func (z *Reader) nextFrame() error {
	// Between frames the stream may end; an end further on is an error.
	if _, err := z.src.Peek(1); err != nil {
		return err
	}

	z.frame++
	z.header = header{}
	skip, err := z.frameHead()
	if err != nil {
		return err
	}
	if !z.framed {
		_, err := io.CopyN(io.Discard, z.src, skip)
		return unexpected(err)
	}

	if z.blocks == nil {
		z.blocks = newBlockDecoder()
	}
	z.blocks.reset()
	z.open, z.done, z.history = true, 0, 0
	z.sum.reset()
	return nil
}

// readHeader reads a "Frame_Header" (RFC 8878, section 3.1.1.1).
func (z *Reader) readHeader() error {
	b, err := z.bytes(1)
	if err != nil {
		return err
	}

	d := b[0]
	single := d&0x20 != 0
	if d&0x08 != 0 {
		return corrupt("reserved bit in the header")
	}

	z.header = header{framed: true, hasSum: d&0x04 != 0}

	// The window is a power of two, and some eighths of that more. A frame of a single segment has
	// none: its window is all of its content.
	window := uint64(0)
	if !single {
		if b, err = z.bytes(1); err != nil {
			return err
		}
		window = 1 << (10 + b[0]>>3)
		window += window / 8 * uint64(b[0]&7)
	}

	if b, err = z.bytes([...]int{0, 1, 2, 4}[d&3]); err != nil {
		return err
	}
	if id := little(b); id != 0 { // 0 stands for no dictionary
		return fmt.Errorf("dictionary %d is needed, and dictionaries are %w", id, ErrUnsupported)
	}

	width := [...]int{0, 2, 4, 8}[d>>6]
	if single && width == 0 {
		width = 1
	}
	if b, err = z.bytes(width); err != nil {
		return err
	}

	z.hasSize = width > 0
	z.size = little(b)
	if width == 2 { // smaller ones take one byte
		z.size += 256
	}

	if single {
		window = z.size
	}
	if window > MaxWindow {
		return fmt.Errorf("window of %d bytes, over the limit of %d, is %w: compress it again without --long, or with --long=27", window, MaxWindow, ErrUnsupported)
	}

	z.window = int(window)
	z.block = min(z.window, maxBlock)
	return nil
}

// reserve makes room for one block behind buf, all of which was read.
func (z *Reader) reserve() {
	need := z.block + slack
	if len(z.buf)+need <= cap(z.buf) {
		return
	}

	keep := min(z.history, z.window)

	// A full buffer has spare bytes beyond the window: the window is copied to the front each time
	// that these are used up, so the more of them, the less is copied.
	full := z.window + max(z.window/4, min(2*z.window, 8<<20), 1<<20) + need
	if z.hasSize && z.size < uint64(full) {
		full = max(int(z.size)+need, keep+need)
	}

	// The buffer grows in steps, each only when the one before is used up: a header may claim a
	// large window for nothing.
	to := z.buf[:0]
	if cap(z.buf) < full && keep+need > cap(z.buf)/4 {
		size := max(4*cap(z.buf), 4*need)
		if size > full/4 {
			size = full
		}
		to = make([]byte, 0, max(size, keep+need))
	}

	z.buf = append(to, z.buf[len(z.buf)-keep:]...)
	z.unread = len(z.buf)
}

// bytes returns the next n bytes, at most 16, until the next call.
func (z *Reader) bytes(n int) ([]byte, error) {
	b, err := z.src.Peek(n)
	if err != nil {
		return nil, unexpected(err)
	}
	_, err = z.src.Discard(n)
	return b, err
}

// unexpected makes an end within a frame an error.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
