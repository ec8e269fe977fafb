package zstd

const (
	maxBlock = 128 << 10
	slack    = 32 // bytes behind what counts, so that short copies may be rounded up
)

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
	literals [maxBlock + slack]byte
	code     code
	tables   [3]table // of the kinds, in the order in which they are described
	kinds    [3]kind
	preset   [3]table
	scratch  table
	recent   [3]int // offsets
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
	d.code.log = 0
	for i := range d.tables {
		d.tables[i].ok = false
	}
	d.recent = [3]int{1, 4, 8}
}

// decode appends what the compressed block data holds to out, whose last reach bytes matches
// may lead to. At most limit bytes are appended; out has room for these and slack.
func (d *blockDecoder) decode(out, data []byte, reach, window, limit int) ([]byte, error) {
	literals, rest, err := d.readLiterals(data, limit)
	if err != nil {
		return out, err
	}
	count, rest, err := d.readTables(rest)
	if err != nil {
		return out, err
	}
	if count == 0 {
		if len(rest) > 0 {
			return out, corrupt("bytes behind the literals of a block without sequences")
		}
		return append(out, literals...), nil
	}
	return d.sequences(out, literals, rest, count, reach, window, limit)
}

// readLiterals decodes the "Literals Section". The literals have room behind them.
func (d *blockDecoder) readLiterals(data []byte, limit int) (literals, rest []byte, err error) {
	if len(data) == 0 {
		return nil, nil, errLiteralsCut
	}
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
	if d.code.log == 0 {
		return nil, nil, corrupt("literals by a code that was never given")
	}
	if format == 0 {
		return literals, rest, d.code.decode1(literals, data)
	}
	return literals, rest, d.code.decode4(literals, data)
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
	if !t.ok {
		return 0, corrupt("table of %s that was never given", k.name)
	}
	return 0, nil
}

// sequences decodes and executes count sequences ("Decoding Sequences", "Sequence
// Execution").
func (d *blockDecoder) sequences(out, literals, data []byte, count, reach, window, limit int) ([]byte, error) {
	var b backward
	if err := b.init(data); err != nil {
		return out, err
	}
	lengths, offsets, matches := &d.tables[kindLiterals], &d.tables[kindOffset], &d.tables[kindMatch]
	const mask = 1<<maxTableLog - 1
	lengthState := b.take(lengths.log)
	offsetState := b.take(offsets.log)
	matchState := b.take(matches.log)
	start, at := len(out), len(out)
	end := start + limit
	buf := out[:cap(out)]
	recent := d.recent
	unused := len(literals)                    // literals that were not copied
	padded := d.literals[:len(literals)+slack] // what may be read
	for i := range count {
		lc, oc, mc := &lengths.cells[lengthState&mask], &offsets.cells[offsetState&mask], &matches.cells[matchState&mask]
		b.fill()
		offset := int(oc.base) + int(b.take(oc.extra))
		match := int(mc.base) + int(b.take(mc.extra))
		b.fill()
		length := int(lc.base) + int(b.take(lc.extra))
		if i < count-1 {
			lengthState = uint64(lc.next) + b.take(lc.bits)
			matchState = uint64(mc.next) + b.take(mc.bits)
			offsetState = uint64(oc.next) + b.take(oc.bits)
		}
		if oc.base > 3 {
			recent[2], recent[1] = recent[1], recent[0]
			offset -= 3
			recent[0] = offset
		} else if offset = repeated(&recent, offset, length); offset <= 0 {
			return out, corrupt("offset %d", offset)
		}
		switch {
		case b.n < 0:
			return out, corrupt("sequences are cut off")
		case length > unused:
			return out, corrupt("more literals used than there are")
		case length+match > end-at:
			return out, corrupt("block of over %d bytes", limit)
		case offset > window || offset > reach+at-start+length:
			return out, corrupt("match %d bytes back, where there are %d", offset, min(window, reach+at-start+length))
		}
		from := len(literals) - unused
		if length <= 16 {
			copy(buf[at:at+16], padded[from:from+16])
		} else {
			copy(buf[at:at+length], padded[from:])
		}
		at += length
		unused -= length
		at = copyMatch(buf, at, offset, match)
	}
	if !b.done() {
		return out, corrupt("stream of sequences has a wrong length")
	}
	if unused > end-at {
		return out, corrupt("block of over %d bytes", limit)
	}
	at += copy(buf[at:], literals[len(literals)-unused:])
	d.recent = recent
	return buf[:at], nil
}

// repeated returns the offset that the values 1 to 3 stand for ("Repeat Offsets").
func repeated(recent *[3]int, value, length int) int {
	if length == 0 {
		value++
	}
	offset := recent[0]
	switch value {
	case 1:
		return offset
	case 2:
		offset = recent[1]
	case 3:
		offset = recent[2]
		recent[2] = recent[1]
	case 4:
		offset--
		recent[2] = recent[1]
	}
	recent[1], recent[0] = recent[0], offset
	return offset
}

// copyMatch copies n bytes from offset bytes before buf[at], and returns where they end.
func copyMatch(buf []byte, at, offset, n int) int {
	from := at - offset
	switch {
	case offset >= 16 && n <= 16:
		copy(buf[at:at+16], buf[from:from+16])
	case offset >= n:
		copy(buf[at:at+n], buf[from:from+n])
	default: // what is copied is copied again
		dst := buf[at : at+n]
		for done := copy(dst, buf[from:at]); done < n; {
			done += copy(dst[done:], dst[:done])
		}
	}
	return at + n
}
