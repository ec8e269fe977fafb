package tarutil

// A Slab is a list of values of one size, by number. They stay where they are while it grows: pointers
// to them remain right, and nothing is copied. Without pointers in them a million values cost the
// garbage collector as little as one. The zero value is ready for use.
type Slab[T any] struct {
	chunks []*[slabChunk]T
	used   uint32   // numbers that were given out
	free   []uint32 // and those of them that came back
}

const slabChunk = 256

// Len returns how many numbers were given out; they are the ones below it.
func (s *Slab[T]) Len() int { return int(s.used) }

// At returns the value of a number that New gave.
func (s *Slab[T]) At(i uint32) *T { return &s.chunks[i/slabChunk][i%slabChunk] }

// New returns a number and its value, which is zero. Until something is freed, numbers count up from 0.
func (s *Slab[T]) New() (uint32, *T) {
	if last := len(s.free) - 1; last >= 0 {
		i := s.free[last]
		s.free = s.free[:last]
		return i, s.At(i)
	}

	if s.used%slabChunk == 0 {
		s.chunks = append(s.chunks, new([slabChunk]T))
	}
	s.used++
	return s.used - 1, s.At(s.used - 1)
}

// Free makes the number i one that New may give again. Nobody may use its value any more.
func (s *Slab[T]) Free(i uint32) {
	var zero T
	*s.At(i) = zero
	s.free = append(s.free, i)
}
