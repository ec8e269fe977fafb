package progress_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"ocikit/oci/progress"
)

// told collects events as "kind offset".
func told(list *[]string) func(progress.Event) {
	return func(e progress.Event) { *list = append(*list, fmt.Sprintf("%s %d", e.Kind, e.Offset)) }
}

func TestReader(t *testing.T) {
	cut := errors.New("cut")
	text := strings.Repeat("x", 100<<10)
	for _, tt := range []struct {
		name string
		r    io.Reader
		size int64
		want []string
	}{
		{"to its end", strings.NewReader(text), 0, []string{"start 0", "bytes 65536", "done 102400"}},
		{"of a known size", strings.NewReader(text), 100 << 10, []string{"start 0", "bytes 65536", "bytes 102400", "done 102400"}},
		{"empty", strings.NewReader(""), 0, []string{"start 0", "done 0"}},
		{"cut short", io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(cut)), 9, []string{"start 0", "stop 3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			task := progress.NewTask(told(&got), progress.Event{Name: "f", Size: tt.size})
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, progress.Reader(tt.r, task), make([]byte, 32<<10))
			if err != nil && !errors.Is(err, cut) {
				t.Fatal(err)
			}
			task.Stop() // as a deferred one would: it was over already
			if !slices.Equal(got, tt.want) {
				t.Errorf("events %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNobodyAsks(t *testing.T) {
	task := progress.NewTask(nil, progress.Event{})
	r, w := strings.NewReader("x"), new(strings.Builder)
	if progress.Reader(r, task) != io.Reader(r) || progress.Writer(w, task) != io.Writer(w) {
		t.Error("a reader or writer is wrapped for nobody")
	}
	task.Add(1)
	task.Done()
	task.Stop()
}

func TestWriter(t *testing.T) {
	var got []string
	task := progress.NewTask(told(&got), progress.Event{Name: "f"})
	w := progress.Writer(io.Discard, task)
	for range 3 {
		if n, err := w.Write(make([]byte, 40<<10)); n != 40<<10 || err != nil {
			t.Fatal(n, err)
		}
	}
	task.Done()
	if want := []string{"start 0", "bytes 81920", "done 122880"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}
