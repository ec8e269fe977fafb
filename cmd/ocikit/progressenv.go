package main

import (
	"io"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/progress"
)

// summary tells in one line what was done, if people see the progress or -v asks. After an
// error only -v asks.
func (e *Env) summary(err error, format string, args ...any) {
	if e.progress == nil || e.progress.how == "json" || err != nil {
		e.detail(format, args...)
		return
	}
	e.notice(format, args...)
	e.progress.mu.Lock()
	defer e.progress.mu.Unlock()
	e.progress.bars.summed = true
}

// planned tells how much is to come.
func (e *Env) planned(count int, size int64) {
	if report := e.progress.report(); report != nil {
		report(progress.Event{Kind: progress.Plan, Count: count, Size: size})
	}
}

// watch shows what is read from layouts.
func (e *Env) watch(layouts ...*layout.Layout) {
	if report := e.progress.report(); report != nil {
		for _, l := range layouts {
			l.Watch(report)
		}
	}
}

// watchLayers shows what is read of the layers of an image by those who read them twice: to
// find out what is in them, and for their contents.
func (e *Env) watchLayers(l *layout.Layout, desc oci.Descriptor) {
	if e.progress == nil {
		return
	}
	e.watch(l)
	layers, err := image.Layers(l, desc)
	if err != nil {
		return // whoever reads them says what is wrong
	}
	var size int64
	for _, d := range layers {
		size += 2 * d.Size
	}
	e.planned(2*len(layers), size)
}

// inputLabel returns what an input is called where its progress is shown.
func inputLabel(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}

// data opens an input, as [Env.input] does, and shows how much of it was read, but not while
// somebody types it.
func (e *Env) data(name string) (io.ReadCloser, error) {
	in, err := e.input(name)
	report := e.progress.report()
	if err != nil || report == nil || name == "-" && e.InTTY {
		return in, err
	}
	if f, ok := in.(*named); ok {
		event := progress.Event{Name: name}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			event.Size = info.Size()
		}
		f.task = progress.NewTask(report, event)
		return f, nil
	}
	return io.NopCloser(progress.Reader(in, progress.NewTask(report, progress.Event{Name: inputLabel(name)}))), nil
}

// written shows how much is written to w, until done is called.
func (e *Env) written(w io.Writer, name string) (counted io.Writer, done func(error) error) {
	t := progress.NewTask(e.progress.report(), progress.Event{Name: name})
	return progress.Writer(w, t), func(err error) error {
		if err == nil {
			t.Done()
		}
		t.Stop()
		return err
	}
}
