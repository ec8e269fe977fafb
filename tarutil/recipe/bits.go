package recipe

import (
	"encoding/binary"
	"io"
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
type bitWriter struct {
	out []byte
	acc uint64
	n   int
}

// put appends the low n bits of v, at most 48.
func (w *bitWriter) put(v uint64, n int) {
	w.acc |= v << (w.n & 63)
	w.n += n

	// Eight bytes are written, of which those count that are full.
	at := len(w.out)
	w.out = binary.LittleEndian.AppendUint64(w.out, w.acc)[:at+w.n>>3]
	w.acc >>= w.n &^ 7
	w.n &= 7
}

// fill puts zeros up to the end of a byte.
func (w *bitWriter) fill() {
	if w.n > 0 {
		w.put(0, 8-w.n)
	}
}

// offset is how many bits were put.
func (w *bitWriter) offset() int64 { return int64(len(w.out))*8 + int64(w.n) }

// bytes appends whole bytes; the writer must stand between two.
func (w *bitWriter) bytes(p []byte) { w.out = append(w.out, p...) }
