package zstd

import (
	"encoding/binary"
	"math/bits"

	"ocikit/tarutil/entropy"
)

// A backward reads the bit streams of entropy codes, which begin at the last byte: the
// highest bit that is set marks the start ("Bitstream" in section 4.1 of the RFC). Bits
// beyond the end are zeros; overrun says whether such were taken.
type backward struct {
	data []byte // whose bytes from off on were loaded
	off  int
	acc  uint64 // loaded bits, the next one highest
	n    int    // how many of these count; negative after an overrun
}

var errNoStart = corrupt("bit stream without a start")

// init begins to read data. It fails if there is no mark.
func (b *backward) init(data []byte) error {
	if len(data) == 0 || data[len(data)-1] == 0 {
		return errNoStart
	}
	*b = backward{data: data, off: len(data)}
	b.fill()
	b.skip(uint(bits.LeadingZeros8(data[len(data)-1])) + 1)
	return nil
}

// fill loads bits, so that at least 56 are there unless the stream has less left. It loads eight
// bytes at once where it can, and counts whole bytes only. The bits beyond the n that count are
// those that come next in the stream: loading them again changes nothing.
func (b *backward) fill() {
	if b.off >= 8 {
		b.acc |= binary.LittleEndian.Uint64(b.data[b.off-8:]) >> uint(b.n)
		k := uint(64-b.n) >> 3
		b.off -= int(k)
		b.n += int(k) << 3
		return
	}
	for b.off > 0 && b.n <= 56 {
		b.off--
		b.acc |= uint64(b.data[b.off]) << uint(56-b.n)
		b.n += 8
	}
}

// take returns the next k bits, at most 56 since the last fill.
func (b *backward) take(k uint8) uint64 {
	v := b.acc >> 1 >> (63 - k&63)
	b.acc <<= k & 63
	b.n -= int(k)
	return v
}

func (b *backward) skip(k uint) {
	b.acc <<= k
	b.n -= int(k)
}

func (b *backward) overrun() bool { return b.n < 0 }

// done says whether all bits were taken, and none beyond.
func (b *backward) done() bool { return b.n == 0 && b.off == 0 }

// A forward reads the bits of a table description, which begins at its first byte.
type forward struct {
	data []byte
	at   uint // position of the next bit
}

// peek returns the next k bits, at most 16, without taking them. Beyond the end are zeros.
func (f *forward) peek(k uint) uint {
	var v uint
	for i := range uint(3) {
		if j := f.at>>3 + i; j < uint(len(f.data)) {
			v |= uint(f.data[j]) << (8 * i)
		}
	}
	return v >> (f.at & 7) & (1<<k - 1)
}

// bytes returns how many bytes were begun, or false if these are more than there are.
func (f *forward) bytes() (int, bool) {
	n := (f.at + 7) >> 3
	return int(n), n <= uint(len(f.data))
}

// A bitWriter writes streams that are read backwards, which end with a mark.
type bitWriter struct{ entropy.BitWriter }

// writerAt returns a bitWriter that goes on behind out, from which n bits in acc are missing.
func writerAt(out []byte, acc uint64, n uint) bitWriter {
	return bitWriter{entropy.BitWriter{Out: out, Acc: acc, N: n}}
}

// mark appends the bit that shows a reader from the end where to begin.
func (w *bitWriter) mark() []byte {
	w.Put(1, 1)
	return w.Align()
}

// store writes acc, which holds n bits, to buf at o, where there is room for eight bytes. It
// returns what is left: the offset behind the whole bytes, and the bits that make none.
func store(buf []byte, o int, acc uint64, n uint) (int, uint64, uint) {
	binary.LittleEndian.PutUint64(buf[o:], acc)
	return o + int(n>>3), acc >> (n & 56), n & 7
}

// appendLittle appends the low n bytes of v.
func appendLittle(out []byte, v uint64, n int) []byte {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	return append(out, b[:n]...)
}
