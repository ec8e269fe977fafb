package live

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ocikit/oci/registry/serve/exchange"
)

// A Feed remembers what happened last, for those who watch. It is safe for concurrent use.
type Feed struct {
	open     func() []Upload
	summary  func() []string
	mu       sync.Mutex
	recent   []Event // the newest last
	seq      int64   // of the newest
	watchers atomic.Int32
	closed   chan struct{}
	once     sync.Once
}

// An Event is one step: a request that has ended, or what became of a session.
type Event struct {
	Time    time.Time `json:"time"`
	Repo    string    `json:"repo,omitempty"`
	Session string    `json:"session,omitempty"`
	Text    string    `json:"text"`
	Failed  bool      `json:"failed,omitempty"`
	Verdict string    `json:"verdict,omitempty"` // what is to be said of it, in one line
}

// Limits of the feed.
const (
	maxRecent   = 200
	maxUploads  = 100
	maxWatchers = 64
	feedPulse   = 250 * time.Millisecond
	feedBeat    = 15 * time.Second // so that a watcher that is gone is noticed
)

// New returns a Feed that asks open for the uploads that are open, in any order, in a slice of its own,
// and summary for the lines that say how all of it went, the cause of a problem first. summary
// may be nil: then nothing is said.
func New(open func() []Upload, summary func() []string) *Feed {
	if summary == nil {
		summary = func() []string { return nil }
	}
	return &Feed{open: open, summary: summary, closed: make(chan struct{})}
}

// Close ends the streams of those who watch.
func (f *Feed) Close() { f.once.Do(func() { close(f.closed) }) }

// Add makes an event the newest.
func (f *Feed) Add(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	if len(f.recent) >= maxRecent {
		f.recent = slices.Delete(f.recent, 0, 1)
	}
	f.recent = append(f.recent, e)
}

// since returns the events behind number seq, as far as they are remembered, and the number
// of the newest.
func (f *Feed) since(seq int64) ([]Event, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seq > f.seq { // of a server before this one
		seq = 0
	}
	n := min(int64(len(f.recent)), f.seq-seq)
	return slices.Clone(f.recent[int64(len(f.recent))-n:]), f.seq
}

// Step returns the event that shows a request which has ended.
func Step(a exchange.Access) Event {
	text := a.Method + " " + a.Path
	if a.Session != "" {
		// The session is told apart by the card that it stands on.
		text = a.Method
		if a.Received > 0 {
			text += fmt.Sprintf(" %d bytes", a.Received)
		}
		if a.From != nil {
			text += fmt.Sprintf(" at %d", *a.From)
		}
	}

	if a.Status == 0 {
		text += " → no answer"
	} else {
		text += fmt.Sprintf(" → %d", a.Status)
	}

	if a.Offset != nil {
		text += fmt.Sprintf(", offset %d", *a.Offset)
	}

	if a.Fault != "" {
		text += ", fault " + a.Fault
	}

	return Event{Time: a.Time, Repo: a.Repository, Session: a.Session, Text: PlainText(text), Failed: a.Status >= 400}
}

// PlainText replaces all but printable ASCII, the arrow of [Step], and "…" by U+FFFD.
func PlainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r != '→' && r != '…' {
			return '�'
		}
		return r
	}, s)
}

// An Upload is what the page shows of an open session.
type Upload struct {
	ID        string    `json:"id"`
	Repo      string    `json:"repo"`
	Offset    int64     `json:"offset"`
	Started   time.Time `json:"started"`
	Last      time.Time `json:"last"` // when the last byte came
	Receiving bool      `json:"receiving"`
}

// uploads returns the uploads that the page shows: of the open ones those with the latest bytes.
func (f *Feed) uploads() []Upload {
	open := f.open()
	slices.SortFunc(open, func(a, b Upload) int {
		return cmp.Or(b.Last.Compare(a.Last), strings.Compare(a.ID, b.ID))
	})
	return open[:min(len(open), maxUploads)]
}

// serve streams what happens (server-sent events) until the client goes away or the
// server stops: the open uploads, the new steps and the summary, whenever one of them has changed.
func (f *Feed) serve(w *exchange.Recorder, r *http.Request) error {
	if f.watchers.Add(1) > maxWatchers {
		f.watchers.Add(-1)
		return exchange.Fail(http.StatusServiceUnavailable, exchange.CodeTooManyRequests, "%d pages watch already", maxWatchers)
	}

	defer f.watchers.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	pulse := time.NewTicker(feedPulse)
	defer pulse.Stop()

	seq, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64) // of a page that comes back
	seq = max(seq, 0)
	var before string
	last := time.Now()
	for {
		events, now := f.since(seq)
		message, err := json.Marshal(struct {
			Uploads []Upload `json:"uploads"`
			Events  []Event  `json:"events"`
			Summary []string `json:"summary,omitempty"`
		}{f.uploads(), events, f.summary()})

		if err != nil {
			return err
		}

		// A comment (a line that begins with a colon) stands for "no news".
		switch {
		case string(message) != before || len(events) > 0:
			_, err = fmt.Fprintf(w, "id: %d\ndata: %s\n\n", now, message)
			before, seq, last = string(message), now, time.Now()
		case time.Since(last) > feedBeat:
			_, err = fmt.Fprint(w, ": still here\n\n")
			last = time.Now()
		}

		if err != nil || w.RC.Flush() != nil {
			return nil // the watcher is gone
		}

		select {
		case <-pulse.C:
		case <-r.Context().Done():
			return nil
		case <-f.closed:
			return nil
		}
	}
}
