package recipe

import "ocikit/tarutil/internal/deflate"

// A style is an encoder that is imitated: how it finds matches, where it ends blocks, how it
// writes codes. A style only predicts. It need not be right, but what it predicts from the same
// bytes must never change: numbers and behaviour of styles are part of the format.
type style struct {
	family family
	level  uint8
}

type family uint8

const (
	plain         family = iota // expects literals alone
	zlibStyle                   // zlib as it is, in one piece
	pigzStyle                   // zlib in blocks of 128 KiB, each with the bytes before it as a dictionary
	gnuStyle                    // GNU gzip
	goStyle                     // compress/flate of Go up to 1.26
	kpOldStyle                  // klauspost/compress up to 1.17, which names all codes in a head
	kpStyle                     // and later
	pgzipOldStyle               // pgzip: the same in blocks, each with 16 KiB before it as a dictionary
	pgzipStyle
	go127Style // compress/flate from Go 1.27 on
	families
)

// A matcher finds the matches that an encoder would.
type matcher interface {
	// begin starts an encoder on data[start:end], with the bytes from history on before it as
	// a dictionary. What it was started with before is forgotten. The encoder counts its
	// positions from unit, which may be below zero.
	begin(data []byte, history, start, end, unit int)

	// next returns the first match at or after pos, up to where all before it are literals, or
	// a length of 0 and the end.
	next(pos int) (at, n, dist int)

	// follow says what really came at pos, a match of n bytes or n literals, and that the
	// encoder goes on behind it.
	follow(pos, n int, isMatch bool)
}

// newMatcher returns nil for a style that does not exist.
func (s style) newMatcher() matcher {
	switch {
	case s.family == plain && s.level == 0:
		return new(noMatches)
	case s.level < 1 || s.level > 9:
		return nil
	case s.family == zlibStyle, s.family == pigzStyle, s.family == gnuStyle:
		return newZlibMatcher(int(s.level))
	case s.family == goStyle && s.level > 1:
		return newGoMatcher(int(s.level))
	case s.family == goStyle:
		return new(goFast)
	case s.isKlauspost() && s.level <= 6:
		return &klauspostMatcher{level: int(s.level)}
	case s.isKlauspost():
		return newKlauspostLazy(s)
	}

	return nil
}

// restarts reports whether a new encoder begins after each flush.
func (s style) restarts() bool {
	return s.family == pigzStyle || s.family == pgzipOldStyle || s.family == pgzipStyle
}

// dictionary is how many bytes before it an encoder gets that begins after a flush.
func (s style) dictionary() int {
	if s.family == pgzipOldStyle || s.family == pgzipStyle {
		return 16 << 10
	}
	return windowSize
}

// kinUse returns how other files are best used first. Where the tokens depend on the window alone, they
// save the work of finding them. Encoders whose tables depend on much more are quick anyway.
func (s style) kinUse() kinUse {
	switch {
	case s.family == plain:
		return eagerKin
	case s.family <= goStyle && s.level > 3:
		return steadyKin
	}
	return noKin
}

// isKlauspost reports whether the encoder is that of klauspost/compress, or comes from it.
func (s style) isKlauspost() bool { return s.family >= kpOldStyle && s.family <= go127Style }

// isLazyKlauspost reports whether the encoder has a window and chains, as zlib.
func (s style) isLazyKlauspost() bool { return s.isKlauspost() && s.level > 6 }

// namesAll reports whether heads have a length for every code, as long as more may follow.
func (s style) namesAll() bool { return s.family == kpOldStyle || s.family == pgzipOldStyle }

// period is how many bytes each encoder of a file gets, or 0.
func (s style) period() int {
	if s.family == pigzStyle {
		return 128 << 10
	}
	return 0
}

// A counter knows where the blocks of a style end.
type counter struct {
	style
	tokens, matches int
	begin           int // of the block
	unit            int // the encoder counts from here
	freq            [distSyms]int
}

func (c *counter) start(pos int) {
	c.tokens, c.matches, c.begin = 0, 0, pos
	if c.family == gnuStyle {
		c.freq = [distSyms]int{}
	}
}

// add counts a token, after which the next begins at pos, and reports whether the block ends.
func (c *counter) add(t token, pos int) bool {
	c.tokens++
	switch c.family {
	case zlibStyle, pigzStyle:
		return c.tokens == 1<<14-1
	case goStyle:
		if c.level == 1 {
			return (pos-c.unit)%fastBlock == 0
		}
		return c.tokens == 1<<14
	case gnuStyle:
		return c.addGNU(t, pos)
	case kpOldStyle, kpStyle, pgzipOldStyle, pgzipStyle, go127Style:
		if c.isLazyKlauspost() {
			return c.tokens%lazyBlock == 0
		}
		return (pos-c.unit)%fastBlock == 0
	}

	return false
}

// quiet returns how many literals could be added from pos on before one might end the block. They
// change the number of tokens alone.
func (c *counter) quiet(pos int) int {
	switch {
	case c.family == zlibStyle, c.family == pigzStyle:
		return 1<<14 - 2 - c.tokens
	case c.family == gnuStyle:
		return min(0xfff-c.tokens&0xfff, 1<<15-2-c.tokens)
	case c.family == goStyle && c.level > 1:
		return 1<<14 - 1 - c.tokens
	case c.isLazyKlauspost():
		return lazyBlock - 1 - c.tokens%lazyBlock
	case c.family == plain:
		return maxSegment
	}
	return fastBlock - 1 - (pos-c.unit)%fastBlock
}

// addGNU ends blocks where GNU gzip does: when its buffer is full, and above level 2 also at
// every 4096 tokens if there are few matches, and they seem to save more than half.
func (c *counter) addGNU(t token, pos int) bool {
	if !t.isLiteral() {
		sym, _, _ := deflate.DistCode(t.dist())
		c.freq[sym]++
		c.matches++
	}

	// ct_tally in trees.c of GNU gzip guesses the size so far: eight bits for each token, and for each
	// distance five more and its extra bits.
	if c.level > 2 && c.tokens&0xfff == 0 {
		out := c.tokens * 8
		for sym, n := range c.freq {
			_, extra := deflate.DistBase(sym)
			out += n * (5 + extra)
		}
		at := pos - t.size() // where the encoder stands: lazy ones are a byte ahead
		if c.level > 3 {
			at++
		}
		if c.matches < c.tokens/2 && out>>3 < (at-c.begin)/2 {
			return true
		}
	}

	return c.tokens == 1<<15-1 || c.matches == 1<<15
}

// noMatches is a matcher that finds none.
type noMatches struct{ end int }

func (m *noMatches) begin(_ []byte, _, _, end, _ int) { m.end = end }
func (m *noMatches) next(int) (at, n, dist int)       { return m.end, 0, 0 }
func (m *noMatches) follow(int, int, bool)            {}
