package tarutil

import "io"

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
