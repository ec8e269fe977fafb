package wire

import "strings"

// A HeaderScanner reads the words and quoted strings of a header field (RFC 9110, section 5.6) from
// the beginning of Rest. It takes malformed fields as far as they go and never fails.
type HeaderScanner struct{ Rest string }

// Skip passes over bytes that are in set.
func (p *HeaderScanner) Skip(set string) { p.Rest = strings.TrimLeft(p.Rest, set) }

// Peek returns the next byte without passing over it, 0 at the end.
func (p *HeaderScanner) Peek() byte {
	if p.Rest == "" {
		return 0
	}
	return p.Rest[0]
}

// Next passes over one byte. There must be one.
func (p *HeaderScanner) Next() { p.Rest = p.Rest[1:] }

// Until returns the text up to the next byte that is in set, or to the end, and passes over it.
func (p *HeaderScanner) Until(set string) string {
	i := strings.IndexAny(p.Rest, set)
	if i < 0 {
		i = len(p.Rest)
	}
	word := p.Rest[:i]
	p.Rest = p.Rest[i:]
	return word
}

// Value reads a quoted string, or a bare word up to a comma or blank.
func (p *HeaderScanner) Value() string {
	if p.Peek() != '"' {
		return p.Until(" \t,")
	}

	p.Next()
	var b strings.Builder
	for p.Rest != "" {
		ch := p.Peek()
		p.Next()
		switch {
		case ch == '"':
			return b.String()
		case ch == '\\' && p.Rest != "":
			b.WriteByte(p.Peek())
			p.Next()
		default:
			b.WriteByte(ch)
		}
	}

	return b.String() // the quote was never closed
}
