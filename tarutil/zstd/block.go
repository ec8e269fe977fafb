package zstd

import (
	"encoding/binary"
	"math/bits"
)

const (
	maxBlock = 128 << 10
	slack    = 64 // bytes behind what counts: short copies are rounded up to fixed sizes, see [blockDecoder.plain]
	margin   = 32 // bytes before a compressed block: loads of eight bytes may begin there

	// Indexes that are masked need no check against bounds. Right ones are below the mask anyway.
	packedMask   = 2*maxBlock - 1
	literalsMask = 2*maxBlock - 1
)

// A packedBlock holds a compressed block, behind the margin.
type packedBlock [packedMask + 1 + 8]byte

// content returns the block itself.
func (p *packedBlock) content(size int) []byte { return p[margin : margin+size] }

// load returns the eight bytes from i on, as one number.
func (p *packedBlock) load(i int) uint64 {
	i &= packedMask
	return binary.LittleEndian.Uint64(p[i : i+8])
}

// before returns the bits before those that were taken of what ends at end, the last one highest: at
// least 57.
func (p *packedBlock) before(end, taken uint) uint64 {
	return p.load(int(end-8-taken>>3)) << (taken & 7)
}

// end returns where a part of the content ends.
func (p *packedBlock) end(part []byte) int { return len(p) - cap(part) + len(part) }

// first returns the first word of a stream of literals, which is a part of the content, and where it
// ends. A word holds the next bits, the first one highest, at least 56. Its lowest bit that is set
// only shows how many were taken: as many as there are zeros below it.
func (p *packedBlock) first(stream []byte) (int, uint64) {
	end := p.end(stream)
	return end, (p.load(end-8) | 1) << (bits.LeadingZeros8(p[end-1]) + 1)
}

// reload returns the word behind the bits that were taken of one, and where it ends.
func (p *packedBlock) reload(end int, word uint64) (int, uint64) {
	taken := bits.TrailingZeros64(word)
	end -= taken >> 3
	return end, (p.load(end-8) | 1) << (taken & 7)
}

// The modes of literals ("Literals_Block_Type") and of tables ("Compression_Mode").
const (
	literalsRaw = iota
	literalsRepeated
	literalsCoded
	literalsCodedAsBefore
)

const (
	modePreset = iota
	modeSingle
	modeTable
	modeRepeat
)

// A blockDecoder holds what lasts from block to block of one frame.
type blockDecoder struct {
	packed   packedBlock                    // the current block
	literals [literalsMask + 1 + slack]byte // up to maxBlock
	code     code
	tables   [3]table // of the kinds, in the order in which they are described
	kinds    [3]kind
	preset   [3]table
	scratch  table
	recent   offsets // offsets
}

var (
	errLiteralsCut = corrupt("literals are cut off")
	errHeaderCut   = corrupt("header of sequences is cut off")
)

// The order of the tables.
const (
	kindLiterals = iota
	kindOffset
	kindMatch
)

func newBlockDecoder() *blockDecoder {
	d := &blockDecoder{kinds: kinds()}
	for i, k := range d.kinds {
		d.preset[i].set(k.preset, k.log, k.values)
	}
	return d
}

// reset begins a frame.
func (d *blockDecoder) reset() {
	d.code.ok = false
	for i := range d.tables {
		d.tables[i].ok = false
	}
	d.recent = offsets{1, 4, 8}
}

// decode appends what a compressed block holds to out, whose last reach bytes matches may lead
// to. The block is size bytes of packed. At most limit bytes are appended; out has room for
// these and slack.
func (d *blockDecoder) decode(out []byte, size, reach, window, limit int) ([]byte, error) {
	data := d.packed.content(size)
	literals, rest, err := d.readLiterals(data, limit)
	if err != nil {
		return out, err
	}

	count, rest, err := d.readTables(rest)
	if err != nil {
		return out, err
	}

	// A block without sequences is its literals alone.
	if count == 0 {
		if len(rest) > 0 {
			return out, corrupt("bytes behind the literals of a block without sequences")
		}
		return append(out, literals...), nil
	}

	r := sequenceReader{packed: &d.packed, end: margin + size, first: margin + size - len(rest), recent: d.recent}

	x := execution{buf: out[:cap(out)], start: len(out), at: len(out), limit: len(out) + limit, lowest: len(out) - reach, window: window, literals: len(literals)}
	if err := d.sequences(&r, &x, count); err != nil {
		return out, err
	}

	d.recent = r.recent
	return x.buf[:x.at], nil
}

// readLiterals decodes the "Literals Section". The literals have room behind them.
func (d *blockDecoder) readLiterals(data []byte, limit int) (literals, rest []byte, err error) {
	if len(data) == 0 {
		return nil, nil, errLiteralsCut
	}

	// The header says how many literals there are and, if they are in a code, how many bytes these
	// take. The format is how wide the numbers are, and also whether there are four streams.
	mode, format := data[0]&3, data[0]>>2&3
	var size, packed, head int
	if mode <= literalsRepeated {
		head = [...]int{1, 2, 1, 3}[format]
		if len(data) < head {
			return nil, nil, errLiteralsCut
		}
		h := little(data[:head])
		size = int(h >> [...]uint{3, 4, 3, 4}[format])
		packed = size
		if mode == literalsRepeated {
			packed = 1
		}
	} else {
		head = [...]int{3, 3, 4, 5}[format]
		if len(data) < head {
			return nil, nil, errLiteralsCut
		}
		width := [...]uint{10, 10, 14, 18}[format]
		h := little(data[:head]) >> 4
		size, packed = int(h&(1<<width-1)), int(h>>width&(1<<width-1))
	}

	if size > limit {
		return nil, nil, corrupt("%d literals in a block of at most %d bytes", size, limit)
	}

	if data = data[head:]; packed > len(data) {
		return nil, nil, errLiteralsCut
	}
	data, rest = data[:packed], data[packed:]
	literals = d.literals[:size]
	switch mode {
	case literalsRaw:
		copy(literals, data)
		return literals, rest, nil
	case literalsRepeated:
		fillBytes(literals, data[0])
		return literals, rest, nil
	case literalsCoded:
		used, err := d.code.read(data, &d.scratch)
		if err != nil {
			return nil, nil, err
		}
		data = data[used:]
	}

	// The code may be that of an earlier block of the frame.
	if !d.code.ok {
		return nil, nil, corrupt("literals by a code that was never given")
	}

	if format == 0 {
		return literals, rest, d.code.decode1(literals, data)
	}
	return literals, rest, d.code.decode4(literals, data, &d.packed)
}

// little returns the little-endian number b.
func little(b []byte) (v uint64) {
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	return v
}

func fillBytes(b []byte, c byte) {
	if len(b) == 0 {
		return
	}
	b[0] = c
	for n := 1; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

// readTables reads the "Sequences_Section_Header" and the tables behind it.
func (d *blockDecoder) readTables(data []byte) (count int, rest []byte, err error) {
	if len(data) == 0 {
		return 0, nil, errHeaderCut
	}

	// The count takes one, two or three bytes, as the first one says.
	switch first := int(data[0]); {
	case first < 128:
		count, data = first, data[1:]
	case len(data) < 3 && (first == 255 || len(data) < 2):
		return 0, nil, errHeaderCut
	case first < 255:
		count, data = (first-128)<<8+int(data[1]), data[2:]
	default:
		count, data = int(data[1])+int(data[2])<<8+0x7f00, data[3:]
	}

	if count == 0 {
		return 0, data, nil
	}

	if len(data) == 0 {
		return 0, nil, errHeaderCut
	}

	// Two bits for each table, the first one highest.
	modes := data[0]
	data = data[1:]
	if modes&3 != 0 {
		return 0, nil, corrupt("reserved bits in the header of sequences")
	}

	for i := range d.tables {
		used, err := d.readTable(i, modes>>(6-2*i)&3, data)
		if err != nil {
			return 0, nil, err
		}
		data = data[used:]
	}

	return count, data, nil
}

// readTable sets one table, and returns how many bytes describe it.
func (d *blockDecoder) readTable(i int, mode uint8, data []byte) (used int, err error) {
	t, k := &d.tables[i], &d.kinds[i]
	switch mode {
	case modePreset:
		*t = d.preset[i]
		return 0, nil
	case modeSingle:
		if len(data) == 0 {
			return 0, corrupt("code of %s is cut off", k.name)
		}
		if int(data[0]) >= len(k.values) {
			return 0, corrupt("code %d of %s", data[0], k.name)
		}
		t.setSingle(k.values[data[0]])
		return 1, nil
	case modeTable:
		var counts [maxSymbols]int16
		dist, log, used, err := readCounts(data, counts[:len(k.values)], k.maxLog)
		if err != nil {
			return 0, err
		}
		t.set(dist, log, k.values)
		return used, nil
	}

	// What is left is modeRepeat: the table stays as an earlier block of the frame has set it.
	if !t.ok {
		return 0, corrupt("table of %s that was never given", k.name)
	}

	return 0, nil
}
