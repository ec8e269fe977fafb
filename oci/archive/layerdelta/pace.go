package layerdelta

import (
	"io"
	"sync"
)

// A pace keeps a reader some bytes behind a writer, or behind another reader. Both sides may be used at the
// same time.
type pace struct {
	lag int64

	mu    sync.Mutex
	moved sync.Cond
	at    int64 // how far it is in front
	ended bool  // and goes no further
}

func newPace(lag int64) *pace {
	p := &pace{lag: lag}
	p.moved.L = &p.mu
	return p
}

// end lets the reader behind go on to its end. It may be called again.
func (p *pace) end() { p.move(0, true) }

func (p *pace) move(n int, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at += int64(n)
	p.ended = p.ended || ended
	p.moved.Broadcast()
}

// wait returns when there is something to read at a place.
func (p *pace) wait(at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.ended && at >= p.at-p.lag {
		p.moved.Wait()
	}
}

// reader returns r as what is in front. [pace.end] must be called when it is read no more.
func (p *pace) reader(r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		n, err := r.Read(b)
		p.move(n, err != nil)
		return n, err
	})
}

// Write is what is in front too: it only counts.
func (p *pace) Write(b []byte) (int, error) {
	p.move(len(b), false)
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
