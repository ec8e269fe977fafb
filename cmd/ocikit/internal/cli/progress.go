package cli

import (
	"io"

	"ocikit/cmd/ocikit/internal/display"
	"ocikit/oci/progress"
	"ocikit/oci/source"
)

// startProgress begins to show progress, if the flags and the terminal ask for it, until the
// function that it returns is called. Until then what goes to env.Stderr passes the bars.
func (e *Env) startProgress() (stop func(failed bool)) {
	how := ""
	if e.progressFlag != nil {
		how = *e.progressFlag
	}
	bars := how == "auto" && e.ErrTerm != nil && e.Getenv("TERM") != "dumb"
	if e.Quiet || how == "none" || how == "" || how == "auto" && !bars {
		return func(bool) {}
	}
	v := display.Start(display.Options{How: how, Out: e.Stderr, Term: e.ErrTerm, Now: e.Now, Ticker: e.Ticker})
	e.progress, e.Stderr = v, v
	return v.Stop
}

// Summary tells in one line what was done, if people see the progress or -v asks. After an
// error only -v asks.
func (e *Env) Summary(err error, format string, args ...any) {
	if err != nil || !e.progress.SumUp() {
		e.Detail(format, args...)
		return
	}
	e.Notice(format, args...)
}

// Report returns what is told of the progress of work, by any number of goroutines; nil if nobody
// wants to see it.
func (e *Env) Report() func(progress.Event) { return e.progress.Report() }

// Endless is [Env.Report] for work without an end.
func (e *Env) Endless() func(progress.Event) { return e.progress.Endless() }

// Planned tells how much is to come.
func (e *Env) Planned(count int, size int64) {
	if report := e.Report(); report != nil {
		report(progress.Event{Kind: progress.Plan, Count: count, Size: size})
	}
}

// Watch shows what is read from sources.
func (e *Env) Watch(sources ...source.Source) {
	if report := e.Report(); report != nil {
		for _, s := range sources {
			s.Watch(report)
		}
	}
}

// InputLabel returns what an input is called where its progress is shown.
func InputLabel(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}

// Data opens an input, as [Env.Input] does, and shows how much of it was read, but not while
// somebody types it. The caller closes it.
func (e *Env) Data(name string) (io.ReadCloser, error) {
	in, err := e.Input(name)
	report := e.Report()
	if err != nil || report == nil || name == "-" && e.InTTY {
		return in, err
	}
	if f, ok := in.(*Named); ok {
		event := progress.Event{Name: name}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			event.Size = info.Size()
		}
		f.task = progress.NewTask(report, event)
		return f, nil
	}
	return io.NopCloser(progress.Reader(in, progress.NewTask(report, progress.Event{Name: InputLabel(name)}))), nil
}

// Written shows how much is written to w, until done is called.
func (e *Env) Written(w io.Writer, name string) (counted io.Writer, done func(error) error) {
	t := progress.NewTask(e.Report(), progress.Event{Name: name})
	return progress.Writer(w, t), func(err error) error {
		if err == nil {
			t.Done()
		}
		t.Stop()
		return err
	}
}
