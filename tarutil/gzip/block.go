package gzip

import "encoding/binary"

// The member header of RFC 1952, section 2.3: magic, method 8, no flags, no time, no hint
// of the level, unknown system. Nothing in it can change.
const memberHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// block is one piece of input on its way through a goroutine. While that runs, nothing else touches it.
type block struct {
	in     buffer // up to windowSize bytes before the block, then the block
	window int    // how many come before the block
	end    int    // the end of the block
	first  bool   // the block begins a member
	last   bool   // the block ends a member, which has this CRC and size:
	crc    uint32
	size   uint32
	ended  []func(offset int64)

	out  []byte        // the result, once done: a part of in, where it overwrites the input
	done chan struct{} // receives one value when out is ready
}

func newBlock() *block {
	return &block{done: make(chan struct{}, 1)}
}

// reset empties the block, and gives it a window, the last bytes of the block before. Without a
// window it begins a member.
func (b *block) reset(window []byte) {
	b.window = copy(b.in[:], window)
	b.end, b.first, b.last = b.window, len(window) == 0, false
	b.ended = b.ended[:0]
}

// fill appends bytes of p until the block is full and returns how many.
func (b *block) fill(p []byte) int {
	n := copy(b.in[b.end:b.window+blockSize], p)
	b.end += n
	return n
}

// run compresses the block with an idle encoder and reports on done.
func (b *block) run(encoders chan *encoder, level int) {
	e := <-encoders
	if e == nil {
		e = newEncoder(level)
	}

	// The result is made in a buffer of the encoder and then copied over the input, so that a
	// waiting block holds one buffer and not two.
	out := e.room(b.end - b.window)
	if b.first {
		out = append(out, memberHeader...)
	}

	out = e.encode(out, &b.in, b.window, b.end, b.last)
	if b.last {
		out = binary.LittleEndian.AppendUint32(out, b.crc)
		out = binary.LittleEndian.AppendUint32(out, b.size)
	}

	b.out = b.in[:copy(b.in[:], out)]
	encoders <- e
	b.done <- struct{}{}
}
