package zstd

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
		list = append(list, value{base: next})
		next++
	}
	for _, n := range extra {
		list = append(list, value{next, n})
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
		list = append(list, value{1 << n, n})
	}
	return list
}
