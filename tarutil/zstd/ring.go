package zstd

import (
	"encoding/binary"
	"math/bits"
)

const (
	ringSize = 16 << 20
	padding  = 32 // bytes a job may look at behind its end
)

// A ring holds the latest part of the input. Positions count from the start of the input;
// masked to the size of the ring, a power of two, they need no check against bounds. The first
// bytes stand once more behind the last, so that a load need not wrap.
type ring [ringSize + padding]byte

// put takes in p at a position.
func (b *ring) put(at int, p []byte) {
	for len(p) > 0 {
		i := at & (ringSize - 1)
		n := copy(b[i:ringSize], p)
		if i < padding {
			copy(b[ringSize+i:], p[:n])
		}
		at += n
		p = p[n:]
	}
}

// appendTo appends the bytes of the positions from..to-1 to out.
func (b *ring) appendTo(out []byte, from, to int) []byte {
	for from < to {
		i := from & (ringSize - 1)
		n := min(to-from, ringSize-i)
		out = append(out, b[i:i+n]...)
		from += n
	}
	return out
}

// load64 returns the eight bytes at position i, the first in the lowest place.
func load64(b *ring, i int) uint64 {
	p := i & (ringSize - 1)
	return binary.LittleEndian.Uint64(b[p : p+8])
}

// matchLen returns how many bytes at s equal those d before, when the first n are known to. It
// counts none at end or behind.
func matchLen(b *ring, s, d, n, end int) int {
	for s+n < end {
		if x := load64(b, s+n) ^ load64(b, s+n-d); x != 0 {
			n += bits.TrailingZeros64(x) >> 3
			break
		}
		n += 8
	}
	return min(n, end-s)
}

// lengthFrom is matchLen for bytes whose first eight have the difference x.
func lengthFrom(b *ring, x uint64, s, d, end int) int {
	if x != 0 {
		return min(bits.TrailingZeros64(x)>>3, end-s)
	}
	return matchLen(b, s, d, 8, end)
}

// extend returns where a match at s with the distance d begins when it is extended to the left,
// but not beyond anchor or, with its source, beyond start.
func extend(b *ring, s, d, anchor, start int) int {
	anchor = max(anchor, start+d)
	for s > anchor && b[(s-1)&(ringSize-1)] == b[(s-1-d)&(ringSize-1)] {
		s--
	}
	return s
}
