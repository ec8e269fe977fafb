package delta

import "ocikit/tarutil/rangecoder"

// The numbers of the format.
const (
	segmentSize = 8 << 20 // bytes of the target coded on their own
	maxPayload  = segmentSize + segmentSize/8
	reps        = 4 // alignments that are remembered
	minSelf     = 3 // the shortest match with the target
	minRep      = 2 // the shortest match with a remembered alignment
	maxLength   = segmentSize
	maxRun      = 4 // behind so many literals nothing is expected by an alignment
)

// A place is where a match is from: a distance within the target, or an alignment, the
// difference between a place in the bases and the one in the target.
type place struct {
	isBase bool
	off    int64
}

// A state is what coding depends on: the models, and what came last.
type state struct {
	*rangecoder.Coder
	prevMatch int // 0 after a literal, 1 after a match, 2 after a remembered one
	reps      [reps]place
	run       int // literals since the last match, maxRun at most

	isMatch  [3][maxRun + 1]rangecoder.Prob
	isRep    [3]rangecoder.Prob
	whichRep [4]rangecoder.Prob
	isBase   [3]rangecoder.Prob
	negative rangecoder.Prob
	literal  [256][256]rangecoder.Prob   // by the byte before
	expected [2][16][768]rangecoder.Prob // by what an alignment lets expect
	length   [3]rangecoder.Number
	distance [4]rangecoder.Number
	align    rangecoder.Number
	alignTop rangecoder.Number
}

func newState(c *rangecoder.Coder) *state {
	s := &state{Coder: c}
	s.reset()
	return s
}

// reset makes the state that each segment begins with.
func (s *state) reset() {
	for i := range s.isMatch {
		rangecoder.ResetAll(s.isMatch[i][:])
	}

	rangecoder.ResetAll(s.isRep[:])
	rangecoder.ResetAll(s.whichRep[:])
	rangecoder.ResetAll(s.isBase[:])
	s.negative.Reset()
	for i := range s.literal {
		rangecoder.ResetAll(s.literal[i][:])
	}

	for i := range s.expected {
		for j := range s.expected[i] {
			rangecoder.ResetAll(s.expected[i][j][:])
		}
	}

	for i := range s.length {
		s.length[i].Reset()
	}

	for i := range s.distance {
		s.distance[i].Reset()
	}

	s.align.Reset()
	s.alignTop.Reset()

	// The remembered places at the begin are guesses: unchanged bytes, and words of one, two and
	// four bytes that come again.
	s.prevMatch, s.run = 1, 0
	s.reps = [reps]place{{true, 0}, {false, 1}, {false, 2}, {false, 4}}
}

// A step is a literal, with a length of 0, or a match.
type step struct {
	length int
	rep    int // which of the remembered alignments it has, or -1
	place
}

// codeLiteral codes a byte. want is the byte that the latest alignment lets expect, or -1 if
// that is not known.
func (s *state) codeLiteral(c, before byte, want int) byte {
	if want < 0 {
		c = byte(s.Tree(s.literal[before][:], int(c), 8))
	} else {
		c = s.Guided(&s.expected[min(s.run, 1)][before>>4], c, byte(want))
	}
	s.prevMatch, s.run = 0, min(s.run+1, maxRun)
	return c
}

// codeStep codes a step, without the byte of a literal. It reports false for a match that is longer
// than a segment, which only damaged input has.
func (s *state) codeStep(st *step) bool {
	if !s.Flag(&s.isMatch[s.prevMatch][s.run], st.length > 0) {
		st.length = 0
		return true
	}

	// Lengths have other models for each kind of match: a distance, a remembered place, an
	// alignment.
	kind := 0
	if s.Flag(&s.isRep[s.prevMatch], st.rep >= 0) {
		st.rep = s.codeRep(st.rep)
		st.place = s.reps[st.rep]
		kind = 1
		st.length = int(s.Number(&s.length[1], uint32(st.length-minRep))) + minRep
	} else {
		st.rep = -1
		st.isBase = s.Flag(&s.isBase[s.prevMatch], st.isBase)

		least := minSelf
		if st.isBase {
			kind, least = 2, minRep
		}
		st.length = int(s.Number(&s.length[kind], uint32(st.length-least))) + least

		if st.isBase {
			st.off = s.codeAlignment(st.off)
		} else {
			model := &s.distance[min(st.length-minSelf, 3)]
			st.off = int64(s.Number(model, uint32(st.off-1))) + 1
		}
	}

	s.remember(st)
	return st.length <= maxLength
}

// codeRep codes the number of a remembered place, the latest in the fewest bits.
func (s *state) codeRep(rep int) int {
	for i := range reps - 1 {
		if !s.Flag(&s.whichRep[i], rep > i) {
			return i
		}
	}
	return reps - 1
}

// codeAlignment codes an alignment by its difference to the latest of a base.
func (s *state) codeAlignment(off int64) int64 {
	last := s.lastBase()
	diff := off - last
	negative := s.Flag(&s.negative, diff < 0)
	if negative {
		diff = -diff
	}
	diff = int64(s.Number(&s.align, uint32(diff))) | int64(s.Number(&s.alignTop, uint32(diff>>32)))<<32
	if negative {
		diff = -diff
	}
	return last + diff
}

// lastBase returns the latest remembered alignment, or 0.
func (s *state) lastBase() int64 {
	for _, r := range s.reps {
		if r.isBase {
			return r.off
		}
	}
	return 0
}

// remember moves the place of a match to the front of those remembered. A new one drops the last.
func (s *state) remember(st *step) {
	i := st.rep
	if i < 0 {
		i = reps - 1
	}
	copy(s.reps[1:i+1], s.reps[:i])
	s.reps[0] = st.place
	s.run = 0
	s.prevMatch = 1
	if st.rep >= 0 {
		s.prevMatch = 2
	}
}
