package display

import (
	"slices"
	"time"

	"ocikit/oci/progress"
)

// progressState is what is known of the work of one command: its tasks and their sum. It
// changes by events and the time at which they came, and by nothing else.
type progressState struct {
	running []*progressTask          // in the order in which they began
	tasks   map[string]*progressTask // all of them, by digest or name

	size  int64 // planned, in bytes; 0 if nobody said
	count int   // planned tasks
	at    int64 // bytes of the plan that are done with
	ended int   // tasks

	exists, mounted, resumed int

	endless bool // nothing is kept of a task that has ended

	moved int64 // bytes that passed; what was there before is not among them
	meter meter
}

// A progressTask is one line of what is shown.
type progressTask struct {
	name       string // a digest, or the name of a file
	size, at   int64
	committing bool
	ended      bool
	resumed    int64  // where it went on
	note       string // why it did not go on as it began
	toldAt     time.Time
	meter      meter
}

// taskName returns what tells a task from others.
func taskName(e progress.Event) string {
	if e.Digest.IsZero() {
		return e.Name
	}
	return e.Digest.String()
}

// apply changes the state by an event, and returns the task that it was of, or nil.
func (s *progressState) apply(e progress.Event, now time.Time) *progressTask {
	switch e.Kind {
	case progress.Plan:
		s.size, s.count = s.size+e.Size, s.count+e.Count
		return nil
	case progress.Manifest, progress.Tag:
		return nil
	}

	t := s.task(e, now)
	switch e.Kind {
	case progress.Start:
		t.note = ""
	case progress.Resume:
		s.resume(t, e.Offset, now)
	case progress.Bytes:
		s.pass(t, e.Offset)
	case progress.Retry:
		t.note, t.committing = "again: "+e.Text, false
	case progress.Again:
		s.move(t, 0)
		t.note, t.committing = "again from the start", false
	case progress.Commit:
		t.committing = true
	default:
		s.end(t, e)
	}

	return t
}

// task returns the task of an event. One that has ended is begun again by its next start.
func (s *progressState) task(e progress.Event, now time.Time) *progressTask {
	name := taskName(e)
	t := s.tasks[name]
	begins := e.Kind == progress.Start || e.Kind == progress.Resume
	if t != nil && (!t.ended || !begins) {
		return t
	}

	if s.tasks == nil {
		s.tasks = map[string]*progressTask{}
	}

	// The meters begin now: without a first sample there is no rate.
	t = &progressTask{name: name, size: e.Size, toldAt: now}
	t.meter.add(now, 0)
	if s.moved == 0 {
		s.meter.add(now, 0)
	}

	s.tasks[name] = t
	s.running = append(s.running, t)
	return t
}

// move sets where a task is.
func (s *progressState) move(t *progressTask, to int64) {
	s.at += to - t.at
	t.at = to
}

// pass notes bytes that passed.
func (s *progressState) pass(t *progressTask, to int64) {
	s.moved += max(to-t.at, 0)
	s.move(t, to)
	t.note, t.committing = "", t.size > 0 && to >= t.size
}

// resume notes that a task goes on where it stood. The bytes before that did not pass now.
func (s *progressState) resume(t *progressTask, at int64, now time.Time) {
	s.move(t, at)
	if t.resumed == 0 {
		s.resumed++
	}
	t.resumed, t.committing = at, false
	t.meter = meter{}
	t.meter.add(now, at)
}

// end ends a task. The bytes of a blob that was mounted or linked are done, but did not pass, so
// they count for no rate.
func (s *progressState) end(t *progressTask, e progress.Event) {
	to := max(e.Size, e.Offset)
	switch {
	case e.Kind == progress.Stop:
		s.move(t, 0)
	case e.Kind == progress.Done && (e.Text == "mounted" || e.Text == "link" || e.Text == "clone"):
		s.move(t, to)
	case e.Kind == progress.Done:
		s.pass(t, to)
	case !t.ended:
		s.move(t, e.Offset)
	}

	switch {
	case e.Kind == progress.Exists:
		s.exists++
	case e.Text == "mounted":
		s.mounted++
	}

	if t.ended {
		return
	}

	t.ended = true
	if e.Kind != progress.Stop && (e.Kind != progress.Exists || e.Offset > 0) {
		s.ended++ // what exists and is not in the plan is not of its tasks either
	}

	s.running = slices.DeleteFunc(s.running, func(r *progressTask) bool { return r == t })

	// A server would gather tasks for ever, and old sums would say nothing of what it does now.
	if s.endless {
		delete(s.tasks, t.name)
		if len(s.running) == 0 {
			*s = progressState{endless: true}
		}
	}
}

// sample keeps the meters going.
func (s *progressState) sample(now time.Time) {
	s.meter.add(now, s.moved)
	for _, t := range s.running {
		t.meter.add(now, t.at)
	}
}

// A meter finds a rate from where something was in the last seconds.
type meter struct {
	at  [8]time.Time
	off [8]int64
	n   int // samples that were taken
}

// meterStep is the time between two samples: together they span four seconds.
const meterStep = 500 * time.Millisecond

// add takes a sample, if the last one is not too young. Going back begins anew.
func (m *meter) add(now time.Time, off int64) {
	if m.n > 0 {
		last := (m.n - 1) % len(m.at)
		if off < m.off[last] {
			*m = meter{}
		} else if now.Sub(m.at[last]) < meterStep {
			return
		}
	}
	m.at[m.n%len(m.at)], m.off[m.n%len(m.at)] = now, off
	m.n++
}

// rate returns bytes per second up to now; 0 if it is not known yet.
func (m *meter) rate(now time.Time, off int64) float64 {
	if m.n == 0 {
		return 0
	}
	oldest := max(m.n-len(m.at), 0) % len(m.at)
	seconds := now.Sub(m.at[oldest]).Seconds()
	if seconds < 0.1 || off <= m.off[oldest] {
		return 0
	}
	return float64(off-m.off[oldest]) / seconds
}
