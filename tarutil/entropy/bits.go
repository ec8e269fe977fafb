package entropy

import "encoding/binary"

// A BitWriter appends bits to Out, the first bit in the lowest place.
type BitWriter struct {
	Out []byte
	Acc uint64 // bits not yet in Out; those above N are zero
	N   uint   // how many; fewer than 8 between calls
}

// Put appends the low n bits of v, at most 48; the bits above must be zero.
func (w *BitWriter) Put(v uint64, n uint) {
	w.Acc |= v << (w.N & 63)
	w.N += n

	// Eight bytes are written, of which those count that are full.
	at := len(w.Out)
	w.Out = binary.LittleEndian.AppendUint64(w.Out, w.Acc)[:at+int(w.N>>3)]
	w.Acc >>= w.N &^ 7
	w.N &= 7
}

// Align fills the last byte up with zero bits, and returns all bytes.
func (w *BitWriter) Align() []byte {
	if w.N > 0 {
		w.Put(0, 8-w.N)
	}
	return w.Out
}
