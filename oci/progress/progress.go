// Package progress says how far work on blobs and files has come.
//
// A package that moves many bytes takes a function from its caller, calls it with an [Event] for
// each step, and shows nothing itself. So a program shows the work of all of them in one way.
// [NewTask] begins the events of one blob or file; [Reader], [Writer] and [Blob] count its bytes as
// they pass.
//
// Without a function nobody asks: then a [Task] is nil, and costs nothing.
package progress

import (
	"io"

	"ocikit/digest"
)

// A Kind says what an Event tells. They are part of the output of programs, so they stay.
type Kind string

// The kinds.
const (
	Plan     Kind = "plan"     // Size bytes in Count tasks are to come, besides what was planned before
	Start    Kind = "start"    // a task begins; one of the same name is begun again
	Resume   Kind = "resume"   // it goes on from Offset
	Bytes    Kind = "bytes"    // it has come to Offset
	Retry    Kind = "retry"    // it goes on at Offset after a failure, for Text
	Again    Kind = "again"    // it goes back to its start, for Text
	Commit   Kind = "commit"   // its last byte has passed, the other side makes it whole
	Done     Kind = "done"     // it is whole; Text says how if not by its bytes: "mounted", "link"
	Exists   Kind = "exists"   // nothing is to be done; Offset bytes of the plan were for it
	Skip     Kind = "skip"     // it is left out; Offset bytes of the plan were for it
	Stop     Kind = "stop"     // it ends before its end, whether that is an error or not
	Manifest Kind = "manifest" // a manifest is there
	Tag      Kind = "tag"      // it is named Text
)

// An Event is one step of a task, which its digest or else its name tells from others.
type Event struct {
	Kind   Kind          `json:"kind"`
	Digest digest.Digest `json:"digest,omitzero"`
	Name   string        `json:"name,omitempty"` // of a file; what it holds comes from outside
	Size   int64         `json:"size,omitempty"` // of all bytes; 0 if it is not known
	Offset int64         `json:"offset,omitempty"`
	Count  int           `json:"count,omitempty"`
	Text   string        `json:"text,omitempty"` // a reason, or a tag
}

// step is how many bytes pass between two events of a Task: so many that telling costs nothing.
const step = 64 << 10

// A Task counts the bytes of one task. Its methods do nothing on nil. Not safe for concurrent
// use.
type Task struct {
	report func(Event)
	e      Event
	told   int64
	over   bool
}

// NewTask begins a task: e names it, and may say its size and where it goes on. It returns nil
// if report is nil.
func NewTask(report func(Event), e Event) *Task {
	if report == nil {
		return nil
	}
	t := &Task{report: report, e: e}
	k := Start
	if e.Offset > 0 {
		k = Resume
	}
	t.tell(k)
	return t
}

func (t *Task) tell(k Kind) {
	t.e.Kind = k
	t.told = t.e.Offset
	t.report(t.e)
}

// Add counts n more bytes.
func (t *Task) Add(n int) {
	if t == nil || t.over {
		return
	}
	t.e.Offset += int64(n)
	if t.e.Offset-t.told >= step || n > 0 && t.e.Offset == t.e.Size {
		t.tell(Bytes)
	}
}

// Done tells that the task has come to its end. It does nothing behind a Done or a Stop.
func (t *Task) Done() { t.end(Done) }

// Stop tells that the task ends before its end. It does nothing behind a Done or a Stop, so it may
// be deferred.
func (t *Task) Stop() { t.end(Stop) }

func (t *Task) end(k Kind) {
	if t != nil && !t.over {
		t.over = true
		t.tell(k)
	}
}

// Reader counts what is read of r. The task is done where r ends, and stops at an error.
// Without a task it is r itself.
func Reader(r io.Reader, t *Task) io.Reader {
	if t == nil {
		return r
	}
	return &reader{r, t}
}

type reader struct {
	r io.Reader
	t *Task
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.t.Add(n)
	switch err {
	case nil:
	case io.EOF:
		r.t.Done()
	default:
		r.t.Stop()
	}
	return n, err
}

// Blob counts what is read of a blob. The caller closes what it returns, which closes the blob; if
// that is before the end, the task stops. With a nil report it is the blob itself.
func Blob(blob io.ReadCloser, report func(Event), e Event) io.ReadCloser {
	if report == nil {
		return blob
	}
	t := NewTask(report, e)
	return &closer{Reader(blob, t), blob, t}
}

// A closer tells when it is closed before its end.
type closer struct {
	io.Reader
	blob io.Closer
	t    *Task
}

func (c *closer) Close() error {
	c.t.Stop()
	return c.blob.Close()
}

// Writer counts what is written to w. Without a task it is w itself.
func Writer(w io.Writer, t *Task) io.Writer {
	if t == nil {
		return w
	}
	return &writer{w, t}
}

type writer struct {
	w io.Writer
	t *Task
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.t.Add(n)
	return n, err
}
