package recipe

import "ocikit/tarutil/internal/deflate"

// zlibLengths returns the code lengths that zlib gives symbols of these frequencies, and the
// last symbol that has one. Among equals zlib's heap decides, so the heap is the same.
func zlibLengths(freq []uint32, limit int, lengths []uint8) (last int) {
	t := &zlibTree{limit: limit}
	last = -1
	for sym, f := range freq {
		lengths[sym] = 0
		if f > 0 {
			t.node[sym].freq = f
			t.push(sym)
			last = sym
		}
	}

	// There are two codes at least, even if nothing needs them.
	for t.n < 2 {
		sym := 0
		if last < 2 {
			last++
			sym = last
		}
		t.node[sym].freq = 1
		t.push(sym)
	}

	for i := t.n / 2; i >= 1; i-- {
		t.sink(i)
	}

	t.join(len(freq))
	t.measure(last, lengths)
	return last
}

const zlibNodes = 2*288 + 1

type zlibTree struct {
	limit int
	node  [zlibNodes]struct {
		freq   uint32
		parent int
		depth  uint8
		length int
	}
	heap [zlibNodes]int // from 1 on
	n    int            // in the heap
	done [zlibNodes]int // nodes as they left the heap, the last first
	top  int            // of done
}

func (t *zlibTree) push(node int) {
	t.n++
	t.heap[t.n] = node
}

func (t *zlibTree) less(a, b int) bool {
	x, y := &t.node[a], &t.node[b]
	return x.freq < y.freq || x.freq == y.freq && x.depth <= y.depth
}

// sink moves an element of the heap down to its place.
func (t *zlibTree) sink(at int) {
	v := t.heap[at]
	for child := at * 2; child <= t.n; child *= 2 {
		if child < t.n && t.less(t.heap[child+1], t.heap[child]) {
			child++
		}
		if t.less(v, t.heap[child]) {
			break
		}
		t.heap[at] = t.heap[child]
		at = child
	}
	t.heap[at] = v
}

// join makes pairs of the two rarest nodes until one is left.
func (t *zlibTree) join(next int) {
	t.top = zlibNodes
	keep := func(node int) { t.top--; t.done[t.top] = node }
	for ; ; next++ {
		a := t.heap[1]
		t.heap[1] = t.heap[t.n]
		t.n--
		t.sink(1)
		b := t.heap[1]
		keep(a)
		keep(b)

		// Of equal frequencies the less deep comes first (see less), so the depth is kept too.
		pair := &t.node[next]
		pair.freq = t.node[a].freq + t.node[b].freq
		pair.depth = max(t.node[a].depth, t.node[b].depth) + 1
		t.node[a].parent, t.node[b].parent = next, next
		t.heap[1] = next
		t.sink(1)
		if t.n < 2 {
			break
		}
	}

	keep(t.heap[1])
}

// measure sets the lengths, none of them above the limit: codes that would be longer take the
// places of shorter ones, moved down.
func (t *zlibTree) measure(last int, lengths []uint8) {
	var count [17]int
	root := t.done[t.top]
	t.node[root].length = 0
	over := 0
	for _, n := range t.done[t.top+1:] {
		length := t.node[t.node[n].parent].length + 1
		if length > t.limit {
			length = t.limit
			over++
		}
		t.node[n].length = length
		if n <= last {
			count[length]++
		}
	}

	if over > 0 {
		// As in gen_bitlen of zlib: a leaf moves one down and gets one that was too long as its
		// sibling. Then lengths are handed out anew, the longest to the rarest.
		for ; over > 0; over -= 2 {
			b := t.limit - 1
			for count[b] == 0 {
				b--
			}
			count[b]--
			count[b+1] += 2
			count[t.limit]--
		}

		i := zlibNodes
		for length := t.limit; length > 0; length-- {
			for k := count[length]; k > 0; {
				i--
				if n := t.done[i]; n <= last {
					t.node[n].length = length
					k--
				}
			}
		}
	}

	for _, n := range t.done[t.top:] {
		if n <= last {
			lengths[n] = uint8(t.node[n].length)
		}
	}
}

// zlibRuns writes code lengths as zlib does: a run of the same length once, and then in
// repeats of three to six, or of zeros up to 138.
func zlibRuns(runs []uint16, lengths []uint8) []uint16 {
	most, least := 7, 4
	if lengths[0] == 0 {
		most, least = 138, 3
	}

	// The least and most repeats depend on the length, and on whether it was just written: only
	// then can code 16 repeat it without naming it first (scan_tree in zlib).
	count, before := 0, -1
	for i, n := range lengths {
		next := -1
		if i+1 < len(lengths) {
			next = int(lengths[i+1])
		}

		cur := int(n)
		if count++; count < most && cur == next {
			continue
		}

		switch {
		case count < least:
			for range count {
				runs = append(runs, uint16(cur))
			}
		case cur != 0:
			if cur != before {
				runs = append(runs, uint16(cur))
				count--
			}
			runs = append(runs, 16|uint16(count-3)<<8)
		case count <= 10:
			runs = append(runs, 17|uint16(count-3)<<8)
		default:
			runs = append(runs, 18|uint16(count-11)<<8)
		}

		count, before = 0, cur
		switch {
		case next == 0:
			most, least = 138, 3
		case next == cur:
			most, least = 6, 3
		default:
			most, least = 7, 4
		}
	}

	return runs
}

// zlibHead returns the codes that zlib gives a block.
func zlibHead(f *frequencies) *head {
	var lit [litLenSyms]uint8
	var dist [distSyms]uint8
	h := &head{
		lit:  zlibLengths(f.Lit[:], 15, lit[:]) + 1,
		dist: zlibLengths(f.Dist[:], 15, dist[:]) + 1,
	}

	h.runs = zlibRuns(h.runs, lit[:h.lit])
	h.runs = zlibRuns(h.runs, dist[:h.dist])
	var freq [lengthSyms]uint32
	for _, r := range h.runs {
		freq[r&0xff]++
	}

	zlibLengths(freq[:], 7, h.length[:])
	h.trim()
	return h
}

// trim drops code lengths of 0 from the end, as far as the format lets them be dropped.
func (h *head) trim() {
	h.lengths = lengthSyms
	for h.lengths > 4 && h.length[deflate.LengthOrder[h.lengths-1]] == 0 {
		h.lengths--
	}
}
