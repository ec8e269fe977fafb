package entropy

import "math/bits"

// Logs holds binary logarithms in fixed point. Floating point would round differently where a
// processor fuses multiplication and addition. Call [Logs.Init] first; after that Logs are safe for
// concurrent use.
type Logs struct {
	log   [256]uint16     // of 1 + i/256
	times [1 << 10]uint32 // i times the logarithm of i
}

const logBits = 12

// One is the 1 of a logarithm.
const One = 1 << logBits

// Init fills the tables.
func (t *Logs) Init() {
	for i := range t.log {
		x := uint64(256+i) << 22 // from here on 1 is 1<<30
		v := uint16(0)
		for range logBits { // squaring doubles the logarithm: one more bit of it
			x = x * x >> 30
			v <<= 1
			if x >= 2<<30 {
				x >>= 1
				v++
			}
		}
		t.log[i] = v
	}

	for i := 1; i < len(t.times); i++ {
		t.times[i] = uint32(int64(i) * t.Of(uint32(i)))
	}
}

// Of returns the binary logarithm of x, which is not zero, in units of 1/[One].
func (t *Logs) Of(x uint32) int64 {
	n := bits.LeadingZeros32(x)
	return int64(31-n)<<logBits + int64(t.log[x<<n>>23&255])
}

// Bits returns the entropy of symbols with the frequencies fs, in units of 1/[One] bit, and how
// many of them are not zero.
func (t *Logs) Bits(fs []uint32) (sum int64, used int) {
	total := uint32(0)

	// The entropy of all symbols is total*log(total) minus the sum of f*log(f).
	for _, f := range fs {
		total += f
		used += int((f + 1<<31 - 1) >> 31) // 1 unless f is 0
		if f < uint32(len(t.times)) {
			sum -= int64(t.times[f])
		} else {
			sum -= int64(f) * t.Of(f)
		}
	}
	return sum + int64(total)*t.Of(max(total, 1)), used
}
