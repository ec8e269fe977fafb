package zstd

const (
	maxSequences = 1 << 15 // of one block: no match has fewer than four bytes
	minMatch     = 3       // what the format allows, and what lengths are counted from
)

// sequences is what a parser makes of a block: literals, and the sequences that consume them.
type sequences struct {
	n        int // in list
	literals int // in lit
	list     [maxSequences]sequence
	lit      [maxBlock + 2*literalStep]byte
}

// literalStep is how many literals are copied at once. The last step may copy more than are added.
const literalStep = 16

// A sequence is a run of literals and a match after it:
//
//	bits 0-17   how many literals
//	bits 18-35  the length of the match
//	bits 36-63  its distance
type sequence uint64

func (q sequence) literals() uint32 { return uint32(q) & (1<<18 - 1) }
func (q sequence) match() uint32    { return uint32(q>>18) & (1<<18 - 1) }
func (q sequence) distance() uint32 { return uint32(q >> 36) }

// further returns what [encoder.collect] makes of a sequence: bits, and how many.
func (q sequence) further() (uint64, uint) { return uint64(q) << 6 >> 6, uint(q >> 58) }

// addLiterals appends the bytes of the positions from..to-1. It copies whole steps: a fixed size
// needs no call, and what is too much is overwritten by what comes next.
func (q *sequences) addLiterals(b *ring, from, to int) {
	at := q.literals
	for i := from; i < to; i += literalStep {
		p := i & (ringSize - 1)
		o := min(uint(at), maxBlock)
		*(*[literalStep]byte)(q.lit[o : o+literalStep]) = *(*[literalStep]byte)(b[p : p+literalStep])
		at += literalStep
	}
	q.literals += to - from
}

// addMatch appends a sequence, whose literals were added.
func (q *sequences) addMatch(literals, n, dist int) {
	q.list[q.n&(maxSequences-1)] = sequence(literals) | sequence(n)<<18 | sequence(dist)<<36
	q.n++
}

// repeats are the three latest distances ("Repeat Offsets", RFC 8878, section 3.1.1.5). One
// that is 0 is not known: it is from a job that may not be done.
type repeats [3]uint32

// kinds returns what the codes of sequences mean ("The Codes for Literals Lengths, Match
// Lengths, and Offsets") and their default distributions.
func kinds() [3]kind {
	return [3]kind{
		kindLiterals: {
			name: "literals lengths", maxLog: 9, log: 6,
			values: lengthCodes(0, 16, []uint8{1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}),
			preset: []int16{
				4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1,
				2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
				-1, -1, -1, -1,
			},
		},
		kindOffset: {
			name: "offsets", maxLog: 8, log: 5,
			values: offsetCodes(),
			preset: []int16{
				1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1,
				1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
			},
		},
		kindMatch: {
			name: "match lengths", maxLog: 9, log: 6,
			values: lengthCodes(3, 32, []uint8{1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}),
			preset: []int16{
				1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1,
				1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
				1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1,
				-1, -1, -1, -1, -1,
			},
		},
	}
}

// lengthCodes returns the values of lengths, the least of which is first: single codes for
// the first few, then codes with as many further bits as extra says, without gaps.
func lengthCodes(first uint32, single int, extra []uint8) []value {
	var list []value
	next := first
	for range single {
		list = append(list, value{base: next, long: next > plainMatch})
		next++
	}
	for _, n := range extra {
		list = append(list, value{next, n, true})
		next += 1 << n
	}
	return list
}

// maxOffsetCode is the largest that is taken: offsets of up to 2 GiB, beyond any window.
const maxOffsetCode = 30

// offsetCodes returns the values of offsets: a code is the number of its further bits.
func offsetCodes() []value {
	var list []value
	for n := range uint8(maxOffsetCode + 1) {
		list = append(list, value{1 << n, n, false})
	}
	return list
}
