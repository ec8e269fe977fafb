package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A feed remembers what happened last, for those who watch.
type feed struct {
	mu       sync.Mutex
	recent   []event // the newest last
	seq      int64   // of the newest
	watchers atomic.Int32
	closed   chan struct{}
	once     sync.Once
}

// An event is one step: a request that has ended, or what became of a session.
type event struct {
	Time    time.Time `json:"time"`
	Repo    string    `json:"repo,omitempty"`
	Session string    `json:"session,omitempty"`
	Text    string    `json:"text"`
	Failed  bool      `json:"failed,omitempty"`
}

// Limits of the feed.
const (
	maxRecent   = 200
	maxWatchers = 64
	feedPulse   = 250 * time.Millisecond
	feedBeat    = 15 * time.Second // so that a watcher that is gone is noticed
)

func newFeed() *feed { return &feed{closed: make(chan struct{})} }

// close ends the streams of those who watch.
func (f *feed) close() { f.once.Do(func() { close(f.closed) }) }

func (f *feed) add(e event) {
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
func (f *feed) since(seq int64) ([]event, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if seq > f.seq { // of a server before this one
		seq = 0
	}
	n := min(int64(len(f.recent)), f.seq-seq)
	return slices.Clone(f.recent[int64(len(f.recent))-n:]), f.seq
}

// step is the event of a request.
func (a Access) step() event {
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
	text += fmt.Sprintf(" → %d", a.Status)
	if a.Offset != nil {
		text += fmt.Sprintf(", offset %d", *a.Offset)
	}
	if a.Fault != "" {
		text += ", fault " + a.Fault
	}
	return event{Time: a.Time, Repo: a.Repository, Session: a.Session, Text: plainText(text), Failed: a.Status >= 400}
}

// plainText escapes what is not printable, or not in its place.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r != '→' {
			return '�'
		}
		return r
	}, s)
}

// note records what became of a session.
func (s *Server) note(u *session, text string) {
	s.feed.add(event{Time: s.opts.Now(), Repo: u.repo, Session: u.id, Text: text})
}

// An uploadView is what the page shows of an open session.
type uploadView struct {
	ID        string    `json:"id"`
	Repo      string    `json:"repo"`
	Offset    int64     `json:"offset"`
	Started   time.Time `json:"started"`
	Last      time.Time `json:"last"` // when the last byte came
	Receiving bool      `json:"receiving"`
}

// maxShown is how many sessions the page shows, those with the latest bytes first.
const maxShown = 100

func (s *Server) uploads() []uploadView {
	views := []uploadView{}
	for _, u := range s.sessions.list() {
		views = append(views, uploadView{u.id, u.repo, u.size.Load(), u.started, time.Unix(0, u.last.Load()).UTC(), u.user.Load() != nil})
	}
	slices.SortFunc(views, func(a, b uploadView) int {
		if c := b.Last.Compare(a.Last); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return views[:min(len(views), maxShown)]
}

// serveEvents streams what happens (server-sent events) until the client goes away or the
// server stops: the open uploads and the new steps, whenever either has changed.
func (s *Server) serveEvents(w *recorder, r *http.Request) error {
	if s.feed.watchers.Add(1) > maxWatchers {
		s.feed.watchers.Add(-1)
		return fail(http.StatusServiceUnavailable, codeTooManyRequests, "%d pages watch already", maxWatchers)
	}
	defer s.feed.watchers.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	pulse := time.NewTicker(feedPulse)
	defer pulse.Stop()
	var before string
	seq, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64) // of a page that comes back
	seq = max(seq, 0)
	last := time.Now()
	for {
		events, now := s.feed.since(seq)
		message, err := json.Marshal(struct {
			Uploads []uploadView `json:"uploads"`
			Events  []event      `json:"events"`
		}{s.uploads(), events})
		if err != nil {
			return err
		}
		switch {
		case string(message) != before || len(events) > 0:
			_, err = fmt.Fprintf(w, "id: %d\ndata: %s\n\n", now, message)
			before, seq, last = string(message), now, time.Now()
		case time.Since(last) > feedBeat:
			_, err = fmt.Fprint(w, ": still here\n\n")
			last = time.Now()
		}
		if err != nil || w.rc.Flush() != nil {
			return nil // the watcher is gone
		}
		select {
		case <-pulse.C:
		case <-r.Context().Done():
			return nil
		case <-s.feed.closed:
			return nil
		}
	}
}
