package entropy

import "math/bits"

// CodeLengths sets lens to the lengths of a prefix code for the counts in freq. The code is optimal
// unless a length had to be cut to limit. At least two symbols get a code, since some readers
// insist on a complete one. Symbols of the same count are told apart by their number, so the
// result follows from the counts alone. lens and freq are equally long, 2 to 288 symbols, and
// counts are below 2^23.
func CodeLengths(lens []uint8, freq []uint32, limit int) {
	// A key is a count with the symbol below it.
	var keys, tmp [288]uint32
	n, most := 0, uint32(0)
	for i, f := range freq {
		lens[i] = 0
		if f > 0 {
			keys[n] = f<<9 | uint32(i)
			most = max(most, f)
			n++
		}
	}

	for i := 0; n < 2; i++ {
		if freq[i] == 0 {
			keys[n] = 1<<9 | uint32(i)
			n++
		}
	}

	// The tree gives depths, but only how many there are of each is used: after a cut, the rarest
	// symbols get the longest codes.
	sorted := radixSort(keys[:n], tmp[:n], 9, bits.Len32(most))
	var depth [288]uint32
	treeDepths(sorted, depth[:n])
	var count [33]int // codes of each length
	for _, d := range depth[:n] {
		count[d]++
	}

	limitLengths(&count, limit)
	i := 0
	for l := len(count) - 1; l > 0; l-- { // the rarest first
		for range count[l] {
			lens[sorted[i]&511] = uint8(l)
			i++
		}
	}
}

// radixSort sorts keys by width bits above shift, stable, with tmp as the second buffer, and
// returns the one which holds the result.
func radixSort(keys, tmp []uint32, shift, width int) []uint32 {
	for ; width > 0; width, shift = width-8, shift+8 {
		var start [256]uint32
		for _, k := range keys {
			start[k>>shift&255]++
		}
		at := uint32(0)
		for i, n := range &start {
			start[i] = at
			at += n
		}
		for _, k := range keys {
			d := k >> shift & 255
			tmp[start[d]] = k
			start[d]++
		}
		keys, tmp = tmp, keys
	}

	return keys
}

// treeDepths sets depth[i] to the depth of leaf i in a Huffman tree over the counts in
// sorted, which ascend. It is the two-queue construction: inner nodes come to be in
// ascending order too, so the smallest two are always at the heads of the two lists.
func treeDepths(sorted, depth []uint32) {
	n := len(sorted)
	var weight [288]uint32
	var leafUp, nodeUp [288]uint16 // the parent of each leaf and inner node

	// Each inner node takes the two smallest of what is left. Among equals a leaf comes first,
	// which keeps the tree flat.
	leaf, node := 0, 0
	for made := range n - 1 {
		w := uint32(0)
		for range 2 {
			if leaf < n && (node == made || sorted[leaf]>>9 <= weight[node]) {
				w += sorted[leaf] >> 9
				leafUp[leaf] = uint16(made)
				leaf++
			} else {
				w += weight[node]
				nodeUp[node] = uint16(made)
				node++
			}
		}
		weight[made] = w
	}

	var down [288]uint32 // the depth of each inner node; the root is the last
	for i := n - 3; i >= 0; i-- {
		down[i] = down[nodeUp[i]] + 1
	}

	for i := range depth {
		depth[i] = min(down[leafUp[i]]+1, 32)
	}
}

// limitLengths changes the numbers of codes of each length so that none is longer than limit
// and the code is still complete.
func limitLengths(count *[33]int, limit int) {
	used := 0 // of the code space, in units of 2^-limit
	for l := limit + 1; l < len(count); l++ {
		count[limit] += count[l]
		count[l] = 0
	}

	// Leaves that were too deep are now at the limit, and the code may take more than the code
	// space.
	for l := 1; l <= limit; l++ {
		used += count[l] << (limit - l)
	}

	for used > 1<<limit { // move a leaf one down and put one of the longest beside it
		l := limit - 1
		for count[l] == 0 {
			l--
		}
		count[l]--
		count[l+1] += 2
		count[limit]--
		used--
	}
}
