package gzip

import (
	"encoding/binary"

	"ocikit/tarutil/entropy"
)

// bitWriter is what DEFLATE blocks are written to.
type bitWriter struct{ entropy.BitWriter }

// The loop over tokens takes stepTokens at a time, six bytes each at most, and writes them
// to an array of a fixed size.
const (
	stepTokens = 512
	stepBytes  = 4 << 10
)

// stored appends p as stored blocks (RFC 1951, section 3.2.4) and leaves the writer aligned.
// An empty p gives one empty block.
func (w *bitWriter) stored(p []byte, last bool) {
	for first := true; first || len(p) > 0; first = false {
		n := min(len(p), maxStored)
		final := uint64(0)
		if last && n == len(p) {
			final = 1
		}
		w.Put(final, 3)
		w.Align()
		w.Out = binary.LittleEndian.AppendUint16(w.Out, uint16(n))
		w.Out = binary.LittleEndian.AppendUint16(w.Out, ^uint16(n))
		w.Out = append(w.Out, p[:n]...)
		p = p[n:]
	}
}

const maxStored = 1<<16 - 1 // bytes in one stored block

// storedBits is an upper bound of what stored appends for n bytes.
func storedBits(n int) int {
	return 8*n + 8*5*(n/maxStored+1) + 7
}

// tokens appends the codes of ts. There must be room for them, and stepBytes to spare. It is the
// innermost loop of all writing, so it has no branches: a literal is a match whose distance takes no
// bits. A token takes at most 48 bits: 15 and 5 for the length, 15 and 13 for the distance.
func (w *bitWriter) tokens(ts []uint32, c *codes) {
	acc, n, o := w.Acc, w.N, len(w.Out)
	out := w.Out[:cap(w.Out)]
	for len(ts) > 0 {
		step := ts[:min(len(ts), stepTokens)]
		ts = ts[len(step):]
		chunk := (*[stepBytes + 8]byte)(out[o:])
		p := 0

		// Each token is added to at most 7 bits and stored as eight bytes, of which the whole
		// ones count. The next store overwrites the rest. The mask only tells the compiler that
		// the index is in range.
		for _, t := range step {
			l := c.litLen[t&tokenLitLen]
			d := c.dist[t>>tokenDistShift&31]
			v := uint64(d>>9|t>>tokenExtraShift<<(d>>5&15))<<(l&31) | uint64(l>>5)
			acc |= v << (n & 63)
			n += uint(d&31 + l&31)
			p &= stepBytes - 1
			binary.LittleEndian.PutUint64(chunk[p:p+8], acc)
			p += int(n >> 3)
			acc >>= n & 56
			n &= 7
		}

		o += p
	}

	w.Acc, w.N, w.Out = acc, n, out[:o]
}
