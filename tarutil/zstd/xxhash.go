package zstd

import (
	"encoding/binary"
	"math/bits"
)

// An xxhash computes XXH64 with the seed 0, the checksum of a frame's content.
type xxhash struct {
	lanes [4]uint64
	block [32]byte
	n     int // bytes in block
	total uint64
}

const (
	prime1 uint64 = 0x9e3779b185ebca87
	prime2 uint64 = 0xc2b2ae3d27d4eb4f
	prime3 uint64 = 0x165667b19e3779f9
	prime4 uint64 = 0x85ebca77c2b2ae63
	prime5 uint64 = 0x27d4eb2f165667c5
)

func (x *xxhash) reset() {
	p1, p2 := prime1, prime2 // sums of constants may not overflow
	*x = xxhash{lanes: [4]uint64{p1 + p2, p2, 0, -p1}}
}

// write takes in p. Whole blocks go to the lanes, what is left over waits in block.
func (x *xxhash) write(p []byte) {
	x.total += uint64(len(p))
	if x.n > 0 {
		k := copy(x.block[x.n:], p)
		x.n += k
		p = p[k:]
		if x.n < len(x.block) {
			return
		}
		x.mix(x.block[:])
	}
	whole := len(p) &^ 31
	x.mix(p[:whole])
	x.n = copy(x.block[:], p[whole:])
}

// mix takes in whole blocks.
func (x *xxhash) mix(p []byte) {
	a, b, c, d := x.lanes[0], x.lanes[1], x.lanes[2], x.lanes[3]
	for len(p) >= 32 {
		a = round(a, binary.LittleEndian.Uint64(p))
		b = round(b, binary.LittleEndian.Uint64(p[8:]))
		c = round(c, binary.LittleEndian.Uint64(p[16:]))
		d = round(d, binary.LittleEndian.Uint64(p[24:]))
		p = p[32:]
	}
	x.lanes = [4]uint64{a, b, c, d}
}

func round(lane, v uint64) uint64 {
	return bits.RotateLeft64(lane+v*prime2, 31) * prime1
}

// sum returns the checksum of all that was written, and changes nothing.
func (x *xxhash) sum() uint64 {
	// The lanes count once they have a block; a shorter input has only its rest.
	h := prime5
	if x.total >= 32 {
		h = 0
		for i, turn := range [...]int{1, 7, 12, 18} {
			h += bits.RotateLeft64(x.lanes[i], turn)
		}
		for _, lane := range x.lanes {
			h = (h^round(0, lane))*prime1 + prime4
		}
	}

	h += x.total
	p := x.block[:x.n]
	for ; len(p) >= 8; p = p[8:] {
		h = bits.RotateLeft64(h^round(0, binary.LittleEndian.Uint64(p)), 27)*prime1 + prime4
	}

	if len(p) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(p))*prime1, 23)*prime2 + prime3
		p = p[4:]
	}

	for _, c := range p {
		h = bits.RotateLeft64(h^uint64(c)*prime5, 11) * prime1
	}

	// Every bit of the input shall change about half of the result.
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}
