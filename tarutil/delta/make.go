package delta

import (
	"context"
	"encoding/binary"
	"io"
	"math/bits"
	"runtime"

	"ocikit/tarutil/internal/inorder"
	"ocikit/tarutil/rangecoder"
)

// What bounds the memory: segments that are coded at once, and segments that wait for one that takes
// longer, as payloads.
const (
	maxWorkers = 2
	maxWaiting = 6
)

// Make writes to w the delta that makes target from the bases. It reads the target once, to its
// end, and the bases in any order, from several goroutines, but not after it has returned. It needs
// up to 200 MiB of memory. Make closes nothing.
func Make(ctx context.Context, w io.Writer, target io.Reader, bases *Bases) error {
	m := &maker{ctx: ctx, w: w, bases: bases, blind: bases.blind}
	if m.blind {
		m.find = func(data []byte, pos int64, _ *pages) []run { return bases.runsOf(data, pos) }
		return m.run(target)
	}
	x, err := newIndex(ctx, bases)
	if err != nil {
		return err
	}
	m.find = x.runs
	return m.run(target)
}

type maker struct {
	ctx   context.Context
	w     io.Writer
	bases *Bases
	blind bool
	find  func(data []byte, pos int64, p *pages) []run
}

// A job is a segment on its way through a goroutine.
type job struct {
	size    int
	payload []byte
}

// finish writes what was made of a segment.
func (m *maker) finish(j *job) error {
	b := binary.AppendUvarint(nil, uint64(j.size))
	b = binary.AppendUvarint(b, uint64(len(j.payload)))
	_, err := m.w.Write(append(b, j.payload...))
	return err
}

// run writes the delta.
func (m *maker) run(target io.Reader) error {
	head := append([]byte(magic), 0)
	if m.blind {
		head[len(magic)] = blindFlag
	}

	if _, err := m.w.Write(binary.AppendUvarint(head, uint64(m.bases.Size()))); err != nil {
		return err
	}

	// The caller may close the bases after an error too, so nothing may read them then.
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	queue := inorder.New[*coder](workers, m.finish)
	defer queue.Wait()

	for pos := int64(0); ; {
		if err := context.Cause(m.ctx); err != nil {
			return err
		}

		c := queue.Take()
		if c == nil {
			c = newCoder(m)
		}

		n, err := io.ReadFull(target, c.buf[maxParts:maxParts+segmentSize])
		if n > 0 {
			j, begin := &job{size: n}, pos
			queue.Start(c, j, func(c **coder) (err error) {
				j.payload, err = (*c).segment(n, begin)
				return err
			})
			pos += int64(n)
		} else {
			queue.Return(c)
		}
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}

		if err != nil {
			break
		}
		if err := queue.FinishDone(); err != nil {
			return err
		}
		if err := queue.Finish(maxWaiting); err != nil {
			return err
		}
	}

	if err := queue.Finish(0); err != nil {
		return err
	}
	_, err := m.w.Write([]byte{0})
	return err
}

// A coder codes one segment after another.
type coder struct {
	*maker
	*pages
	state *state
	data  []byte // the segment
	pos   int64  // of it in the target

	// buf is what short matches are found in: parts of the bases, and from maxParts on the
	// segment. It is made once, as large as it may get, since what is not touched takes no memory,
	// and what is made anew for each segment takes it twice.
	buf     []byte
	parts   []basePart
	entered int // of the parts

	// latest holds the latest places with each hash. It is small enough to stay near the processor: a
	// search waits most of its time for memory. A larger one, or chains of places, would find little more.
	latest [1 << hashBits]recent
	loaded recent // of what is only loaded
}

func newCoder(m *maker) *coder {
	const size = maxParts + segmentSize + 1 // a mark may be of the byte behind the last
	return &coder{
		maker: m, pages: newPages(m.bases), state: newState(nil),
		buf: make([]byte, size),
	}
}

// Recent are the latest two places with a hash, the newest in the lower half: each as place+1, and above
// placeBits the byte behind those that were hashed, as a mark, which most of other hashes do not have.
type recent uint64

const placeBits = 24 // for maxParts and a segment

func (r *recent) add(place int, mark byte) {
	*r = *r<<32 | recent(mark)<<placeBits | recent(place+1)
}

// place returns the place with number k, negative for none, and its mark.
func (r recent) place(k int) (int, byte) {
	v := uint32(r >> (k * 32))
	return int(v&(1<<placeBits-1)) - 1, byte(v >> placeBits)
}

// A basePart is a part of the bases in buf.
type basePart struct {
	at, n int
	off   int64 // in the bases
	gap   int   // it is for the gap with this number
}

const (
	hashBits  = 18
	depth     = 2
	goodRep   = 12      // a match with a remembered alignment is taken if it is so long
	maxAround = 1 << 20 // of the bases for one gap
	maxParts  = 5 << 20 // and for one segment

	// Of the parts, and of the inside of long matches, one place in so many is entered: what begins
	// between two of them is mostly found a few bytes later.
	stride    = 8
	longMatch = 32
)

// margin is how much of the bases counts as around a gap: little, if the gap is small.
func margin(gap int64) int64 { return min(max(1<<10, 8*gap), 32<<10) }

// segment codes data that has been read into buf, which begins at pos in the target.
func (c *coder) segment(size int, pos int64) ([]byte, error) {
	data := c.buf[maxParts : maxParts+size]
	c.data, c.pos = data, pos
	w := rangecoder.NewWriter(make([]byte, 0, 64<<10))
	c.state.Coder = w
	c.state.reset()

	// Long copies come first. An empty run at the end makes the bytes behind the last one a gap
	// like the others.
	runs := c.find(data, pos, c.pages)
	runs = append(runs, run{start: len(data), end: len(data)})
	if err := c.surround(runs); err != nil {
		return nil, err
	}

	clear(c.latest[:])
	at := 0
	for i, r := range runs {
		c.insertParts(i)
		c.gap(at, r.start)
		if r.end > r.start {
			c.put(step{length: r.end - r.start, place: place{true, r.off}})
		}
		at = r.end
	}

	return w.Finish(), c.err
}

// surround loads, for the gap before each run, the bytes of the bases that it most likely resembles:
// those behind the run before it, and those before the run behind it.
func (c *coder) surround(runs []run) error {
	// The search looks a little behind the last part. What an earlier segment left there depends on
	// which coder had it, and the delta must not.
	if n := len(c.parts); n > 0 {
		last := c.parts[n-1]
		clear(c.buf[:last.at+last.n])
	}

	c.parts, c.entered = c.parts[:0], 0
	size, at := 0, 0
	add := func(gap int, from, to int64) {
		from, to = max(0, from), min(to, c.b.size)
		n := int(min(to-from, maxAround, int64(maxParts-size)))
		if n > 0 {
			c.parts = append(c.parts, basePart{at: size, n: n, off: from, gap: gap})
			size += n
		}
	}

	for i, r := range runs {
		gap := int64(r.start - at)
		if gap > 0 && !c.blind {
			// Where the run before ends in the bases, and where the run behind begins.
			before, after := int64(-1), int64(-1)
			if i > 0 {
				before = c.pos + int64(at) + runs[i-1].off
			}
			if r.end > r.start {
				after = c.pos + int64(r.start) + r.off
			}

			// A gap of a few bytes in one alignment is left to the expected bytes. If the two
			// places are close together, all that lies between them is loaded, and otherwise a
			// part at each of them.
			margin := margin(gap)
			reach := min(gap, maxAround/2) + margin
			switch {
			case gap < 16 && i > 0 && r.end > r.start && runs[i-1].off == r.off: // some bytes changed
			case before >= 0 && after >= before && after-before < maxAround:
				add(i, before-margin/4, after+margin/4)
			default:
				if before >= 0 {
					add(i, before-margin/4, before+reach)
				}
				if after >= 0 {
					add(i, after-reach, after+margin/4)
				}
			}
		}

		at = r.end
	}

	for _, p := range c.parts {
		if _, err := c.b.ReadAt(c.buf[p.at:p.at+p.n], p.off); err != nil {
			return err
		}
	}

	return nil
}

// hash returns the hash of the four bytes at buf[i].
func (c *coder) hash(i int) uint32 {
	return binary.LittleEndian.Uint32(c.buf[i:]) * 2654435761 >> (32 - hashBits)
}

// recent returns the latest places with the hash of the four bytes at buf[i].
func (c *coder) recent(i int) *recent { return &c.latest[c.hash(i)] }

// insert enters one in step of the places from from to to of buf.
func (c *coder) insert(from, to, step int) {
	to = min(to, maxParts+len(c.data)-3)
	for i := from; i < to; i += step {
		c.recent(i).add(i, c.buf[i+4])
	}
}

// insertParts enters the parts for a gap. Parts are in the order of their gaps.
func (c *coder) insertParts(gap int) {
	for len(c.parts) > c.entered && c.parts[c.entered].gap == gap {
		p := c.parts[c.entered]
		c.entered++
		c.insert(p.at, p.at+p.n-3, stride)
	}
}

// put codes a match, by the number of a remembered alignment if it has one of these.
func (c *coder) put(st step) {
	st.rep = -1
	for i, r := range c.state.reps {
		if r == st.place {
			st.rep = i
			break
		}
	}
	c.state.codeStep(&st)
}

// literal codes the byte at data[i].
func (c *coder) literal(i int) {
	c.state.codeStep(&step{rep: -1})
	c.state.codeLiteral(c.data[i], before(c.data, i), expect(c.state, c.pages, c.blind, c.data, i, c.pos))
}

// gap codes data[from:to], which is in no run. A match waits for a better one at the next byte.
func (c *coder) gap(from, to int) {
	st, score := step{}, 0
	known := -1
	for i := from; i < to; {
		// What is looked up next is loaded while this is being compared.
		if i+5 <= to {
			c.loaded += *c.recent(maxParts + i + 1)
		}
		if known != i {
			st, score = c.best(i, to)
		}

		c.insert(maxParts+i, maxParts+i+1, 1)
		if score <= 0 {
			c.literal(i)
			i++
			continue
		}

		// The better match is kept for the next round, where it may wait in its turn.
		if i+1 < to && st.length < 64 {
			next, better := c.best(i+1, to)
			if better > score+3 {
				c.literal(i)
				i++
				st, score, known = next, better, i
				continue
			}
		}

		c.put(st)

		// What follows on a match is often found by its last bytes.
		inside, end := maxParts+i+1, maxParts+i+st.length
		if st.length >= longMatch {
			c.insert(inside, end-longMatch/2, stride)
			inside = end - longMatch/2
		}
		c.insert(inside, end, 1)

		i += st.length
	}
}

// Averages of what a match saves and costs, in quarters of bits.
const (
	byteBits  = 22
	repCost   = 18
	otherCost = 52
)

// best returns the match at data[i] that saves most, within data[i:to], and by how much.
func (c *coder) best(i, to int) (st step, score int) {
	want := c.data[i:to]
	for k, r := range c.state.reps {
		n := 0
		switch {
		case r.isBase && !c.blind:
			if off := c.pos + int64(i) + r.off; off >= 0 && off < c.b.size {
				n = c.same(want, off)
			}
		case !r.isBase && int64(i) >= r.off:
			n = c.sameSelf(i, i-int(r.off), to)
		}

		if n >= minRep {
			if s := n*byteBits - repCost - 6*k; s > score {
				st, score = step{length: n, place: r}, s
			}
		}
	}

	// A good match with a remembered alignment is cheaper than any other could be.
	if len(want) < 4 || st.length >= goodRep {
		return st, score
	}

	// Other places are of the bases, below maxParts, and of this segment. A candidate that
	// does not agree one byte behind the longest match so far cannot be longer.
	last := c.state.lastBase()
	longest := max(st.length, 3)
	found := *c.recent(maxParts + i)
	for k := range depth {
		j, mark := found.place(k)
		if j < 0 {
			break
		}

		// A match of four bytes is of use only if it is close.
		if len(want) > 4 && mark != want[4] && (j < maxParts || 4*byteBits-otherCost-4*log2(int64(maxParts+i-j)) <= score) {
			continue
		}
		if longest < len(want) && j+longest < maxParts+len(c.data) && c.buf[j+longest] != want[longest] {
			continue
		}

		if j >= maxParts {
			n := c.sameSelf(i, j-maxParts, to)
			dist := i - (j - maxParts)
			if s := n*byteBits - otherCost - 4*log2(int64(dist)); n >= 4 && s > score {
				st, score = step{length: n, place: place{false, int64(dist)}}, s
				longest = max(longest, n)
			}
			continue
		}

		// A match must not lead out of its part: other bytes of the bases follow there.
		p := c.partOf(j)
		n := equal(want[:min(len(want), p.at+p.n-j)], c.buf[j:j+min(len(want), p.at+p.n-j)])
		align := p.off + int64(j-p.at) - c.pos - int64(i)
		if s := n*byteBits - otherCost - 5*log2(align-last); n >= 4 && s > score {
			st, score = step{length: n, place: place{true, align}}, s
			longest = max(longest, n)
		}
	}

	return st, score
}

// log2 returns how many bits the size of v takes.
func log2(v int64) int { return bits.Len64(uint64(max(v, -v))) }

// sameSelf returns how many bytes of data[i:to] equal those at j, which is before i.
func (c *coder) sameSelf(i, j, to int) int {
	n := to - i
	return equal(c.data[i:to], c.data[j:j+n])
}

// partOf returns the part that buf[j] is in.
func (c *coder) partOf(j int) *basePart {
	lo, hi := 0, len(c.parts)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; c.parts[mid].at <= j {
			lo = mid
		} else {
			hi = mid
		}
	}
	return &c.parts[lo]
}
