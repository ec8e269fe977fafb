// Package display shows on standard error how far a command is: bars on a terminal, lines in a
// log, or JSON. A [View] is told of events (package ocikit/oci/progress) and draws them; what
// else is printed meanwhile goes through it.
package display

import (
	"io"
	"strings"
	"sync"
	"time"

	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci/progress"
)

const (
	progressDelay = 500 * time.Millisecond // work that ends before shows no bars
	progressTick  = 100 * time.Millisecond
	progressEvery = 5 * time.Second // between two lines of a log on one task
	progressJSON  = time.Second     // the same in JSON
	plainStart    = 1 << 20         // a log tells that a task begins if it is at least so large
)

// A View shows the progress of one command. It is safe for concurrent use.
type View struct {
	out  io.Writer
	now  func() time.Time
	how  string
	term Terminal // of bars; nil for lines

	mu    sync.Mutex
	state progressState
	began time.Time
	bars  bars
	ended chan struct{}
	wg    sync.WaitGroup
}

// Options say how progress is shown.
type Options struct {
	How    string // auto for bars, plain or json
	Out    io.Writer
	Term   Terminal // that Out is, for bars
	Now    func() time.Time
	Ticker func(time.Duration) (ticks <-chan time.Time, stop func()) // nil for no clock
}

// Start begins to show progress, until [View.Stop] is called. Until then what else goes to the
// terminal must pass the view.
func Start(o Options) *View {
	v := &View{out: o.Out, now: o.Now, how: o.How, began: o.Now(), ended: make(chan struct{})}
	if o.How == "auto" {
		v.term = o.Term
	}

	if o.Ticker != nil && o.How != "json" {
		ticks, stopTicks := o.Ticker(progressTick)
		v.wg.Go(func() {
			defer stopTicks()
			for {
				select {
				case <-v.ended:
					return
				case <-ticks:
					v.tick()
				}
			}
		})
	}

	return v
}

// Report returns a function that tells the view of events. Any number of goroutines may call it. It
// is nil for a nil view.
func (v *View) Report() func(progress.Event) {
	if v == nil {
		return nil
	}
	return v.event
}

// Endless is [View.Report] for work without an end: what is over is forgotten, and not summed up.
// It is called before the first event.
func (v *View) Endless() func(progress.Event) {
	if v == nil {
		return nil
	}
	v.state.endless = true
	return v.event
}

func (v *View) event(e progress.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	t := v.state.apply(e, now)
	switch v.how {
	case "plain":
		if line := plainLine(e); line != "" {
			io.WriteString(v.out, show.Printable(line)+"\n")
		}
	case "json":
		if e.Kind == progress.Bytes && now.Sub(t.toldAt) < progressJSON {
			return
		}
		if t != nil {
			t.toldAt = now
		}
		show.WriteJSON(v.out, e)
	}
}

// tick shows what has changed.
func (v *View) tick() {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	v.state.sample(now)
	if v.term != nil {
		v.draw(now)
		return
	}

	for _, t := range v.state.running {
		if now.Sub(t.toldAt) < progressEvery {
			continue
		}
		t.toldAt = now
		io.WriteString(v.out, show.Printable(t.plain(now))+"\n")
	}
}

// draw draws the bars, when there have been a few moments of work.
func (v *View) draw(now time.Time) {
	if now.Sub(v.began) < progressDelay {
		return
	}
	cols, rows := v.term.Size()
	lines := v.state.frame(now, cols, rows)
	if len(lines) > 0 && !v.term.Claim() {
		return
	}
	io.WriteString(v.out, v.bars.draw(lines))
}

// Write implements io.Writer: it writes above the bars, which are drawn again below.
func (v *View) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.bars.shown {
		return v.out.Write(p)
	}
	lines := v.bars.lines
	text := v.bars.erase() + string(p)
	v.bars.midline = !strings.HasSuffix(text, "\n")
	text += v.bars.draw(lines)
	_, err := io.WriteString(v.out, text)
	return len(p), err
}

// SumUp reports whether the caller is to say in a line what was done, which takes the place
// of the view's own.
func (v *View) SumUp() bool {
	if v == nil || v.how == "json" {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.bars.summed = true
	return true
}

// Stop takes the bars away, and ends the view. If there were any, and the work did not fail, a line
// that sums it up takes their place.
func (v *View) Stop(failed bool) {
	close(v.ended)
	v.wg.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.bars.shown {
		return
	}
	cols, _ := v.term.Size()
	text := v.bars.erase()
	if !failed && !v.bars.summed && !v.state.endless {
		text += strings.TrimRight(fit(v.state.sum(v.now().Sub(v.began)), cols-1), " ") + "\n"
	}
	io.WriteString(v.out, text)
}
