package delta

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"slices"
	"sort"
)

// The sizes of chunks. They are part of what an inventory means.
const (
	minChunk  = 2 << 10
	MaxChunk  = 64 << 10     // the largest
	chunkMask = 0x1fff << 19 // one place in 8 KiB ends a chunk
)

// A Chunk is a piece of a stream that ends where its content says, so that the same bytes make
// the same chunks whatever stands before them. It has 2 KiB to 64 KiB, and 10 KiB on average.
type Chunk struct {
	Size int
	Sum  uint64 // the first eight bytes of its SHA-256
}

// Chunks cuts r into chunks and calls yield for each, in their order. It reads r to its end, unless
// yield returns an error, which it passes on, or the context is over. Memory is constant.
func Chunks(ctx context.Context, r io.Reader, yield func(Chunk) error) error {
	g := newGear()
	in := bufio.NewReaderSize(r, 256<<10)
	buf := make([]byte, 0, MaxChunk)
	h := uint32(0)
	emit := func() error {
		sum := sha256.Sum256(buf)
		c := Chunk{len(buf), binary.BigEndian.Uint64(sum[:])}
		buf = buf[:0]
		return cmp.Or(context.Cause(ctx), yield(c))
	}

	for {
		b, err := in.ReadByte()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		buf = append(buf, b)

		// The hash depends on the last 32 bytes. It goes on over the borders of chunks, so that
		// behind a change the cuts soon fall together again.
		h = h<<1 + g[b]
		if len(buf) == MaxChunk || len(buf) >= minChunk && h&chunkMask == 0 {
			if err := emit(); err != nil {
				return err
			}
		}
	}

	if len(buf) > 0 {
		return emit()
	}

	return nil
}

// A Known holds the chunks of bases whose bytes are not here. The zero value is ready for use; it is
// not safe for concurrent use.
type Known struct {
	at   map[uint64]int64
	size int64
}

// Add adds all chunks of one base, behind the bases added before. The order is that of [NewBases]
// where the delta will be applied.
func (k *Known) Add(chunks []Chunk) {
	if k.at == nil {
		k.at = map[uint64]int64{}
	}
	for _, c := range chunks {
		if _, ok := k.at[c.Sum]; !ok {
			k.at[c.Sum] = k.size
		}
		k.size += int64(c.Size)
	}
}

// Bases returns what stands for the bases in [Make], for this target of size bytes alone. It reads
// target once. What the target has in common with the bases is read from the target later, and
// other bytes read as zeros, so target must stay open while the Bases are in use. A delta made like
// this is larger than one from the bases themselves: of these it copies whole chunks only.
func (k *Known) Bases(ctx context.Context, target io.ReaderAt, size int64) (*Bases, error) {
	s := &standIn{target: target}
	b := NewBases(Part{s, k.size})
	pos := int64(0)
	err := Chunks(ctx, io.NewSectionReader(target, 0, size), func(c Chunk) error {
		at, ok := k.at[c.Sum]

		// A chunk that goes on from the one before, in both streams, makes that stretch longer.
		if n := len(s.common); ok && n > 0 && s.common[n-1].end() == pos && s.common[n-1].off == at-pos {
			s.common[n-1].n += int64(c.Size)
		} else if ok {
			s.common = append(s.common, stretchOf{pos, int64(c.Size), at - pos})
		}
		pos += int64(c.Size)
		return nil
	})

	b.known = slices.Clone(s.common)
	b.blind = true
	s.order()
	return b, err
}

// order sorts the stretches by their places in the bases, and takes out where they overlap: the
// target may hold the same chunk many times.
func (s *standIn) order() {
	slices.SortFunc(s.common, func(x, y stretchOf) int { return cmp.Compare(x.pos+x.off, y.pos+y.off) })
	end, kept := int64(0), s.common[:0]
	for _, c := range s.common {
		twice := min(c.n, max(0, end-c.pos-c.off))
		c.pos, c.n = c.pos+twice, c.n-twice
		if c.n > 0 {
			kept = append(kept, c)
			end = c.end() + c.off
		}
	}
	s.common = kept
}

// A stretchOf the target is n bytes from pos on, which stand in the bases at pos+off.
type stretchOf struct{ pos, n, off int64 }

func (s stretchOf) end() int64 { return s.pos + s.n }

// A standIn reads as bases what the target has in common with them.
type standIn struct {
	target io.ReaderAt
	common []stretchOf // by their places in the bases
}

func (s *standIn) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	i := sort.Search(len(s.common), func(i int) bool { return s.common[i].pos+s.common[i].off > off }) - 1
	for i = max(i, 0); i < len(s.common); i++ {
		c := s.common[i]
		from, to := max(off, c.pos+c.off), min(off+int64(len(p)), c.end()+c.off)
		if from >= off+int64(len(p)) {
			break
		}
		if from < to {
			if _, err := s.target.ReadAt(p[from-off:to-off], from-c.off); err != nil && err != io.EOF {
				return 0, err
			}
		}
	}

	return len(p), nil
}

// runsOf returns the stretches that lie in data, which begins at pos.
func (b *Bases) runsOf(data []byte, pos int64) []run {
	var list []run
	i := sort.Search(len(b.known), func(i int) bool { return b.known[i].end() > pos })
	for ; i < len(b.known) && b.known[i].pos < pos+int64(len(data)); i++ {
		c := b.known[i]
		from, to := max(c.pos-pos, 0), min(c.end()-pos, int64(len(data)))
		list = append(list, run{start: int(from), end: int(to), off: c.off})
	}
	return list
}
