package recipe

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// sameQuads returns numbers of four bytes whose hash in chains of four is that of the first.
func sameQuads(n int) [][]byte {
	var list [][]byte
	for v := uint32(1); len(list) < n; v++ {
		if quadHash(v*0x01000193) == 7 {
			list = append(list, binary.LittleEndian.AppendUint32(nil, v*0x01000193))
		}
	}
	return list
}

// dataForChains returns data in which chains are long, of one kind after the other.
func dataForChains(r *rand.Rand, size int) []byte {
	var b []byte
	alike := sameQuads(40)
	for len(b) < size {
		n := 1 + r.IntN(3000)
		switch r.IntN(6) {
		case 0:
			b = append(b, bytes.Repeat([]byte{byte(r.IntN(2))}, n)...)
		case 1:
			for range n {
				b = append(b, byte(r.IntN(4)))
			}
		case 2:
			b = append(b, bytes.Repeat([]byte("\x00\x00\x00a\x00\x00b"), n/7)...)
		case 3:
			for range n / 8 {
				b = append(b, alike[r.IntN(len(alike))]...)
			}
		case 4:
			for range n {
				b = append(b, byte(r.Uint32()))
			}
		default:
			if at := len(b) - r.IntN(min(len(b), 40000)+1); at < len(b) {
				b = append(b, b[at:min(len(b), at+n)]...)
			}
		}
	}
	return b[:size]
}

// The chains of four bytes find what those of three do, which zlib has: from every place, in any state.
func TestQuads(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 77))
		data := dataForChains(r, 30000+r.IntN(90000))
		level := 6 + r.IntN(4)
		z, want := newZlibMatcher(level), newZlibMatcher(level)
		want.quads = nil

		start := r.IntN(len(data) / 2)
		history := r.IntN(start + 1)
		end := len(data) - r.IntN(2)*r.IntN(300)
		unit := history - 1000 + r.IntN(3000)
		z.begin(data, history, start, end, unit)
		want.begin(data, history, start, end, unit)
		for pos := start; pos < end; {
			at, n, dist := z.next(pos)
			if a, k, d := want.next(pos); a != at || k != n || d != dist {
				t.Fatalf("seed %d, level %d: at %d a match of %d bytes at a distance of %d, want at %d %d, %d", seed, level, at, n, dist, a, k, d)
			}
			if pos = at + n; n == 0 {
				break
			}
			if r.IntN(50) == 0 {
				pos = min(at+1+r.IntN(n), end)
				z.follow(at, pos-at, true)
				want.follow(at, pos-at, true)
			}
		}
	}
}
