package zstd

import (
	"slices"

	"ocikit/tarutil/entropy"
)

// An encoder compresses jobs, one after the other, each without a trace of those before. Of
// what lasts from block to block of a frame (distances, the code of literals, the tables of
// sequences) a job uses only what its own blocks have set.
type encoder struct {
	out    []byte
	parser parser
	seq    sequences
	logs   entropy.Logs

	repeats repeats
	code    literalCode // of the blocks before
	newCode literalCode // of the current block
	tables  [3]sequenceTable
	symbols [maxSequences]symbols
}

func newEncoder(l level) *encoder {
	e := &encoder{parser: l.newParser()}
	e.logs.Init()
	for i, k := range kinds() {
		e.tables[i].init(k)
	}
	return e
}

// job appends the blocks of a job to out.
func (e *encoder) job(out []byte, b *ring, j *job) []byte {
	e.out = slices.Grow(out, (j.to-j.from)/2) // about what most need
	e.parser.reset(b, j.start, j.from)
	e.forget()

	// The distances that the job before leaves behind are not known: it may not be done.
	e.repeats = repeats{}
	if j.from == 0 {
		e.repeats = repeats{1, 4, 8} // which a frame begins with
	}

	for at := j.from; ; {
		to := min(at+maxBlock, j.to)
		e.block(b, at, to, j.last && to == j.to)
		if at = to; at == j.to {
			break
		}
	}

	out, e.out = e.out, nil
	return out
}

// forget makes the next block describe all its codes.
func (e *encoder) forget() {
	e.code.log = 0
	for i := range e.tables {
		e.tables[i].known = false
	}
}

// The types of blocks ("Block_Type").
const (
	blockRaw    = 0
	blockPacked = 2
)

// block appends a block of the positions from..to-1: compressed, or as they are if that is not
// longer.
func (e *encoder) block(b *ring, from, to int, last bool) {
	const header = 3
	size := to - from
	head := len(e.out)
	e.out = append(e.out, make([]byte, header)...)
	before := e.repeats

	if size > 0 {
		q := &e.seq
		q.n, q.literals = 0, 0
		e.parser.parse(b, from, to, q)
		e.literals(q.lit[:q.literals])
		e.sequences(q)
	}

	// A raw block has no distances, so those before it are the latest again. The codes before it
	// were overwritten here, so the next block describes its own.
	kind, n := blockPacked, len(e.out)-head-header
	if size == 0 || n >= size {
		kind, n = blockRaw, size
		e.out = b.appendTo(e.out[:head+header], from, to)
		e.repeats = before
		e.forget()
	}

	h := uint32(n)<<3 | uint32(kind)<<1
	if last {
		h |= 1
	}

	e.out[head], e.out[head+1], e.out[head+2] = byte(h), byte(h>>8), byte(h>>16)
}
