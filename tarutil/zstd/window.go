package zstd

import (
	"bufio"
	"encoding/binary"
	"io"
)

// LargestWindow returns the largest window that a frame of a stream of size bytes asks for, which is
// nearly all the memory that it takes to read the stream. It goes from block to block and decompresses
// nothing. A stream that cannot be read, is damaged, or has many more blocks than its size calls for
// gives [MaxWindow]: whoever reads it will learn why.
func LargestWindow(r io.ReaderAt, size int64) int {
	// Encoders put far more than this into a block. A stream of empty ones must not take for ever.
	const leastBlock = 4 << 10
	steps := 1000 + size/leastBlock

	largest := 0
	for at := int64(0); at < size; steps-- {
		section := io.NewSectionReader(r, at, size-at)
		z := &Reader{src: bufio.NewReaderSize(section, 32)}
		skip, err := z.frameHead()
		if err != nil || steps <= 0 {
			return MaxWindow
		}

		read, _ := section.Seek(0, io.SeekCurrent)
		at += read - int64(z.src.Buffered()) + skip
		if !z.framed {
			continue
		}
		largest = max(largest, z.window)

		for last := false; !last; steps-- {
			var b [3]byte
			if _, err := r.ReadAt(b[:], at); err != nil && err != io.EOF || at+3 > size || steps <= 0 {
				return MaxWindow
			}
			var kind, length int
			last, kind, length = blockHeader(b[:])
			if kind == 1 { // one byte repeated, which stands there once
				length = 1
			}
			at += int64(len(b) + length)
		}

		if z.hasSum {
			at += 4
		}
	}
	return largest
}

// frameHead reads the header of a frame, or returns how many bytes are to be skipped behind that of a
// frame that holds what other programs put there (RFC 8878, section 3.1.2).
func (z *Reader) frameHead() (skip int64, err error) {
	b, err := z.bytes(4)
	if err != nil {
		return 0, err
	}

	switch m := binary.LittleEndian.Uint32(b); {
	case m&magicSkipMask == magicSkip:
		if b, err = z.bytes(4); err != nil {
			return 0, err
		}
		return int64(binary.LittleEndian.Uint32(b)), nil
	case m != magic && z.frame > 1:
		return 0, corrupt("bytes behind the last frame")
	case m != magic:
		return 0, corrupt("it does not begin with a frame")
	}

	return 0, z.readHeader()
}

// blockHeader takes a "Block_Header" apart, 24 bits: last, type, size (section 3.1.1.2).
func blockHeader(b []byte) (last bool, kind, size int) {
	h := int(little(b))
	return h&1 == 1, h >> 1 & 3, h >> 3
}
