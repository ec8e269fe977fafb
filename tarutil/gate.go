package tarutil

import (
	"archive/tar"
	"fmt"
	"hash/maphash"
	"io"
)

// DefaultMaxEntries is how many files a stack of layers, or one layer, may have if no limit is set.
const DefaultMaxEntries = 1 << 20

// A Gate is an [io.Writer] that follows a tar which flows past, and says whether it can be a layer:
// it is whole, and every program that reads the layer later can take its entries. The first error
// ends it. Its rules are those of [Checker], the rules of [EntryReader] for each entry by itself,
// and [LayerRules] for entries against each other:
//
//   - No path comes twice, as layer.md of the image specification forbids; Docker and podman refuse
//     such a layer.
//   - Nothing lies below what is a file in the layer.
//   - A hard link leads to no directory of the layer, and to no file that comes behind it. It may
//     lead to a file of a lower layer, which a Gate cannot know.
//
// Rules that need the layers below are left to stack.Apply. Memory grows with the number of entries,
// some 40 bytes each, of which there may be [DefaultMaxEntries]. A Gate has a goroutine until it is
// closed, so Close must be called in any case.
type Gate struct {
	to     passage
	closed bool
	done   chan struct{}
	err    error // once done is closed

	entries, behind int64 // the same
}

// NewGate returns a Gate. If allowNoEnd is set, the two zero blocks at the end may be absent, as with
// [Checker.AllowNoEnd].
func NewGate(allowNoEnd bool) *Gate {
	g := &Gate{to: newPassage(), done: make(chan struct{})}
	go func() {
		defer close(g.done)
		g.err = g.checkLayer(&passageReader{passage: g.to}, allowNoEnd)
	}()
	return g
}

// Write follows more of the tar. An error about the tar names entry and offset, and is final. It may come
// from a later Write than the one with the bytes it is about, but at the latest from Close.
func (g *Gate) Write(p []byte) (int, error) {
	if g.closed {
		return 0, io.ErrClosedPipe
	}
	if len(p) > 0 && !g.to.pass(p, g.done) {
		return 0, g.err
	}
	return len(p), nil
}

// Close reports whether the tar that ends here can be a layer. It may be called again, and then returns
// the same.
func (g *Gate) Close() error {
	if !g.closed {
		g.closed = true
		close(g.to.pieces)
	}
	<-g.done
	return g.err
}

// Ignored returns how many bytes stand behind the end of a tar without entries, or 0 if it has entries or
// nothing but zeros follows. A file that begins with zeros looks like such a tar, but is likely something
// else. Ignored is known after Close.
func (g *Gate) Ignored() int64 {
	if g.entries > 0 {
		return 0
	}
	return g.behind
}

// checkLayer reads a plain tar to its end.
func (g *Gate) checkLayer(r io.Reader, allowNoEnd bool) error {
	in := NewPlainEntryReader(r, ReadOptions{AllowNoEnd: allowNoEnd})
	rules := NewLayerRules()
	for hdr, err := range in.All() {
		if err != nil {
			return err
		}
		if err := rules.Entry(hdr); err != nil {
			return in.EntryError(err)
		}
		g.entries++
	}
	g.behind = in.bytesBehind()
	return nil
}

// LayerRules check the entries of a layer against each other, by the rules that [Gate] lists. To
// save memory a path is kept as a hash, with a seed that no input can foresee. LayerRules are not
// safe for concurrent use.
type LayerRules struct {
	seed   maphash.Seed
	types  map[uint64]byte     // of the paths so far
	wanted map[uint64]struct{} // paths that hard links led to before they came
}

// NewLayerRules returns the rules for one layer.
func NewLayerRules() *LayerRules {
	return &LayerRules{seed: maphash.MakeSeed(), types: make(map[uint64]byte), wanted: make(map[uint64]struct{})}
}

// Entry checks the next entry of the layer, whose names must be clean. A path that came before is
// [ErrDuplicate]; other errors wrap [ErrMalformed] or [ErrTooMany].
func (l *LayerRules) Entry(hdr *tar.Header) error {
	if len(l.types) >= DefaultMaxEntries {
		return fmt.Errorf("%w: the limit is %d", ErrTooMany, DefaultMaxEntries)
	}

	// Everything above the path has to be a directory, or a link to one.
	for dir, _ := SplitPath(hdr.Name); dir != ""; dir, _ = SplitPath(dir) {
		if flag, ok := l.types[l.key(dir)]; ok && flag != tar.TypeDir && flag != tar.TypeSymlink {
			return fmt.Errorf("%w: %q is not a directory", ErrMalformed, dir)
		}
	}

	key := l.key(hdr.Name)
	if _, ok := l.types[key]; ok {
		return ErrDuplicate
	}

	// A link to a name that has not come is taken for one to a lower layer. If the name comes
	// after all, it was none.
	if _, ok := l.wanted[key]; ok {
		return fmt.Errorf("%w: a hard link to it comes before it", ErrMalformed)
	}

	if hdr.Typeflag == tar.TypeLink {
		target := l.key(hdr.Linkname)
		flag, ok := l.types[target]
		switch {
		case !ok:
			l.wanted[target] = struct{}{}
		case flag == tar.TypeDir:
			return fmt.Errorf("%w: hard link to %q, which is a directory", ErrMalformed, hdr.Linkname)
		}
	}

	l.types[key] = hdr.Typeflag
	return nil
}

// LinksBelow reports whether an entry is a hard link to a path that the layer does not hold: that of a
// file of a lower layer, if it is one.
func (l *LayerRules) LinksBelow() bool { return len(l.wanted) > 0 }

func (l *LayerRules) key(path string) uint64 { return maphash.String(l.seed, path) }

// A passage lends pieces to the goroutine that has its [passageReader], one at a time. Unlike those of an
// [io.Pipe] they can be passed over without a copy, as most of a tar is by those who look at its headers.
type passage struct {
	pieces chan []byte
	taken  chan struct{} // one token for each piece that was read
}

func newPassage() passage {
	return passage{make(chan []byte), make(chan struct{})}
}

// pass returns true once all of p was read, and false if the reader is done before that.
func (p passage) pass(piece []byte, done <-chan struct{}) bool {
	select {
	case p.pieces <- piece:
	case <-done:
		return false
	}
	select {
	case <-p.taken:
		return true
	case <-done:
		return false
	}
}

// A passageReader reads what goes through a passage, until pieces is closed.
type passageReader struct {
	passage
	rest []byte // of the piece that is lent
}

// Read implements io.Reader.
func (r *passageReader) Read(p []byte) (int, error) {
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.take(n)
	return n, nil
}

// Discard passes over n bytes, and returns over how many. If these are fewer, they were the last.
func (r *passageReader) Discard(n int) (int, error) {
	done := 0
	for done < n {
		if err := r.next(); err != nil {
			return done, err
		}
		k := min(n-done, len(r.rest))
		r.take(k)
		done += k
	}
	return done, nil
}

// next waits for a piece if nothing is left of the one before.
func (r *passageReader) next() error {
	if len(r.rest) > 0 {
		return nil
	}
	piece, ok := <-r.pieces
	if !ok {
		return io.EOF
	}
	r.rest = piece
	return nil
}

// take uses n bytes up, and gives a piece back with its last one.
func (r *passageReader) take(n int) {
	if r.rest = r.rest[n:]; len(r.rest) == 0 {
		r.taken <- struct{}{}
	}
}
