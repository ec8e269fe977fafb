package recipe

import (
	"encoding/binary"
	"io"
	"math/bits"

	"ocikit/tarutil/entropy"
)

// A bitReader takes bits from a stream, the lowest of a byte first.
type bitReader struct {
	r    io.Reader
	err  error
	buf  []byte
	pos  int
	acc  uint64
	n    int   // bits in acc
	over int   // bits in acc that are behind the end
	base int64 // bytes before buf
}

const readSize = 64 << 10

func newBitReader(r io.Reader) *bitReader {
	return &bitReader{r: r, buf: make([]byte, 0, readSize)}
}

// refill makes at least 56 bits available; behind the end they are zeros.
func (b *bitReader) refill() {
	if len(b.buf)-b.pos >= 8 {
		// Bits above n may be added twice; they are the same both times.
		b.acc |= binary.LittleEndian.Uint64(b.buf[b.pos:]) << (b.n & 63)
		k := (63 - b.n) >> 3
		b.pos += k
		b.n += k << 3
		return
	}

	for b.n <= 56 {
		if b.pos == len(b.buf) && !b.load() {
			b.n += 8
			b.over += 8
			continue
		}
		b.acc |= uint64(b.buf[b.pos]) << b.n
		b.pos++
		b.n += 8
	}
}

func (b *bitReader) load() bool {
	if b.err != nil {
		return false
	}
	b.base += int64(len(b.buf))
	b.buf, b.pos = b.buf[:readSize], 0
	n := 0
	for n == 0 && b.err == nil {
		n, b.err = b.r.Read(b.buf)
	}
	b.buf = b.buf[:n]
	return n > 0
}

// take returns n bits, at most 48.
func (b *bitReader) take(n int) uint64 {
	if b.n < n {
		b.refill()
	}
	v := b.acc & (1<<n - 1)
	b.drop(n)
	return v
}

func (b *bitReader) drop(n int) {
	b.acc >>= n
	b.n -= n
}

// ended reports whether bits behind the end were taken.
func (b *bitReader) ended() bool { return b.over > b.n }

// offset is how many bits were taken.
func (b *bitReader) offset() int64 {
	return (b.base+int64(b.pos))*8 - int64(b.n-b.over)
}

// more reports whether a byte follows.
func (b *bitReader) more() bool {
	if b.n < 8 {
		b.refill()
	}
	return b.n-b.over >= 8
}

// A bitWriter appends bits to bytes.
type bitWriter struct{ entropy.BitWriter }

// writerBehind returns a bitWriter for what follows the first few bits of a byte.
func writerBehind(phase int) bitWriter {
	return bitWriter{entropy.BitWriter{N: uint(phase)}}
}

// offset is how many bits were put.
func (w *bitWriter) offset() int64 { return int64(len(w.Out))*8 + int64(w.N) }

// bytes appends whole bytes; the writer must stand between two.
func (w *bitWriter) bytes(p []byte) { w.Out = append(w.Out, p...) }

const lookBits = 10

// A decoder finds the symbols of a prefix code.
type decoder struct {
	look   [1 << lookBits]uint16 // symbol<<4 | length, or 0
	count  [16]int               // codes of each length
	symbol [288]uint16           // by code
}

// init sets the code, and reports whether the lengths make one. Codes may be missing, as long
// as they do not occur.
func (d *decoder) init(lengths []uint8) bool {
	d.count = [16]int{}
	for _, n := range lengths {
		d.count[n]++
	}

	// The codes of one length are consecutive numbers (RFC 1951, section 3.2.2). If a length
	// needs more codes than are left, there is no prefix code.
	d.count[0] = 0
	left := 1
	var next, offset [17]int
	for n := 1; n < 16; n++ {
		left = left<<1 - d.count[n]
		if left < 0 {
			return false
		}
		next[n+1] = (next[n] + d.count[n]) << 1
		offset[n+1] = offset[n] + d.count[n]
	}

	// The table is asked with the next ten bits of the input. Behind a short code these can be any, so it
	// has an entry for each continuation.
	clear(d.look[:])
	for sym, n := range lengths {
		if n == 0 {
			continue
		}
		d.symbol[offset[n]] = uint16(sym)
		offset[n]++
		code := next[n]
		next[n]++
		if n <= lookBits {
			step := 1 << n
			for i := int(bits.Reverse16(uint16(code)) >> (16 - n)); i < len(d.look); i += step {
				d.look[i] = uint16(sym<<4) | uint16(n)
			}
		}
	}

	return true
}

// isPrefixCode reports whether there is a code with these lengths.
func isPrefixCode(lengths []uint8) bool {
	space := 0
	for _, n := range lengths {
		if n > 0 {
			space += 1 << (15 - n)
		}
	}
	return space <= 1<<15
}

// slow finds a symbol bit by bit. The length is 0 if no code fits.
func (d *decoder) slow(acc uint64) (sym, n int) {
	code, first, index := 0, 0, 0
	for n = 1; n < 16; n++ {
		code |= int(acc & 1)
		acc >>= 1
		count := d.count[n]
		if code-count < first {
			return int(d.symbol[index+code-first]), n
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0
}
