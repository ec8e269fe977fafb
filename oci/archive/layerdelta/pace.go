package layerdelta

import (
	"io"
	"sync"
)

// A pace keeps a reader behind a writer. Both sides may be used at the same time.
type pace struct {
	mu    sync.Mutex
	moved sync.Cond
	at    int64 // how far it is in front
	ended bool  // and goes no further
}

func newPace() *pace {
	p := &pace{}
	p.moved.L = &p.mu
	return p
}

// end lets the reader behind go on to its end. It may be called again.
func (p *pace) end() { p.move(0, true) }

// move lets the reader behind go n bytes farther.
func (p *pace) move(n int64, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at += n
	p.ended = p.ended || ended
	p.moved.Broadcast()
}

// wait returns when there is something to read at a place.
func (p *pace) wait(at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.ended && at >= p.at {
		p.moved.Wait()
	}
}

// Write is what is in front: it only counts.
func (p *pace) Write(b []byte) (int, error) {
	p.move(int64(len(b)), false)
	return len(b), nil
}

// behind returns r as the reader behind.
func (p *pace) behind(r io.Reader) io.Reader {
	at := int64(0)
	return readerFunc(func(b []byte) (int, error) {
		p.wait(at)
		n, err := r.Read(b)
		at += int64(n)
		if n > 0 && err == io.EOF {
			err = nil // the file may have grown
		}
		return n, err
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
