package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"ocikit/oci/progress"
)

// progressUsage is what the help of every command that takes --progress says about it.
const progressUsage = "show on standard error `how` far the work is: auto (bars if that is a terminal, else nothing), " +
	"plain (lines without control codes), json (a JSON line for each step) or none; never with -q"

const (
	progressDelay = 500 * time.Millisecond // work that ends before shows no bars
	progressTick  = 100 * time.Millisecond
	progressEvery = 5 * time.Second // between two lines of a log on one task
	progressJSON  = time.Second     // the same in JSON
	plainStart    = 1 << 20         // a log tells that a task begins if it is at least so large
)

// progressFlag is --progress.
type progressFlag string

func (p *progressFlag) String() string { return string(*p) }

func (p *progressFlag) Set(s string) error {
	if !slices.Contains([]string{"auto", "plain", "json", "none"}, s) {
		return errors.New("want auto, plain, json or none")
	}
	*p = progressFlag(s)
	return nil
}

// A progressView shows the progress of one command. It is safe for concurrent use.
type progressView struct {
	out  io.Writer
	now  func() time.Time
	how  progressFlag
	term terminal // of bars; nil for lines

	mu    sync.Mutex
	state progressState
	began time.Time
	bars  bars
	ended chan struct{}
	wg    sync.WaitGroup
}

// startProgress begins to show progress, if the flags and the terminal ask for it, until the
// function that it returns is called. Until then what goes to env.Stderr passes the bars.
func (e *Env) startProgress(how progressFlag) (stop func(failed bool)) {
	bars := how == "auto" && e.ErrTerm != nil && e.Getenv("TERM") != "dumb"
	if e.Quiet || how == "none" || how == "" || how == "auto" && !bars {
		return func(bool) {}
	}
	v := &progressView{out: e.Stderr, now: e.Now, how: how, began: e.Now(), ended: make(chan struct{})}
	if bars {
		v.term = e.ErrTerm
	}
	e.progress, e.Stderr = v, v
	if e.Ticker != nil && how != "json" {
		ticks, stopTicks := e.Ticker(progressTick)
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
	return v.stop
}

// report is what tells the view of events; nil without one.
func (v *progressView) report() func(progress.Event) {
	if v == nil {
		return nil
	}
	return v.event
}

// endless is report for work without an end: what is over is forgotten, and not summed up.
func (v *progressView) endless() func(progress.Event) {
	if v == nil {
		return nil
	}
	v.state.endless = true
	return v.event
}

func (v *progressView) event(e progress.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	t := v.state.apply(e, now)
	switch v.how {
	case "plain":
		if line := plainLine(e); line != "" {
			io.WriteString(v.out, printable(line)+"\n")
		}
	case "json":
		if e.Kind == progress.Bytes && now.Sub(t.toldAt) < progressJSON {
			return
		}
		if t != nil {
			t.toldAt = now
		}
		writeJSON(v.out, e)
	}
}

// tick shows what has changed.
func (v *progressView) tick() {
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
		io.WriteString(v.out, printable(t.plain(now))+"\n")
	}
}

// draw draws the bars, when there have been a few moments of work.
func (v *progressView) draw(now time.Time) {
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

// Write writes above the bars.
func (v *progressView) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.bars.shown {
		return v.out.Write(p)
	}
	lines := v.bars.lines
	text := v.bars.erase() + string(p)
	v.bars.midline = !strings.HasSuffix(text, "\n")
	text += v.bars.draw(lines)
	if _, err := io.WriteString(v.out, text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// stop takes the bars away. If there were any, and the work did not fail, a line that sums it
// up takes their place.
func (v *progressView) stop(failed bool) {
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
