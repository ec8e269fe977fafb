package stack

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"ocikit/tarutil/internal/tartest"
)

// twice writes a layer in two readings.
func twice(t *testing.T, l Layer) ([]byte, error) {
	s, err := Apply(t.Context(), []Layer{l}, Options{})
	if err != nil {
		return nil, err
	}
	var tar bytes.Buffer
	err = s.WriteTar(t.Context(), &tar)
	return tar.Bytes(), err
}

// sameOnce holds what one reading writes against what two write. It returns whether one was enough.
func sameOnce(t *testing.T, what any, l Layer) bool {
	var got bytes.Buffer
	done, err := WriteOnce(t.Context(), &got, l)
	if err != nil {
		t.Errorf("%v: %v", what, err)
	}
	if !done {
		return false
	}
	if want, err := twice(t, l); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%v: one reading writes %d bytes, two write %d, %v", what, got.Len(), len(want), err)
	}
	return true
}

func TestWriteOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  bool
	}{
		{"nothing", nil, true},
		{"root first", []string{"./", "a/", "a/b 1"}, true},
		{"root later", []string{"a/", "./"}, false},
		{"directories without entries", []string{"a/b/c 1", "a/d/e |", "f 2"}, true},
		{"a directory behind what is in it", []string{"a/b 1", "a/"}, false},
		{"hard links", []string{"a 1", "b/c = a", "d -> a", "e = d"}, true},
		{"a link to itself by two names", []string{"a 1", "b = a", "b = a"}, false},
		{"a path twice", []string{"a 1", "b 2", "a 3"}, false},
		{"a directory twice", []string{"a/", "a/"}, false},
		{"through a link", []string{"a/", "b -> a", "b/c 1"}, true},
		{"through a link to nothing", []string{"b -> a/x", "b/c 1"}, true},
		{"a link makes more than it leads to", []string{"b -> a/../x", "b/c 1"}, false},
		{"whiteouts hide nothing of their layer", []string{"a 1", ".wh.a ", "b/", "b/c 1", "b/.wh..wh..opq "}, true},
		{"not below a file", []string{"a 1", "a/b 2"}, false},
		{"a hard link to nothing", []string{"a = b"}, false},
	} {
		if got := sameOnce(t, c.name, layersOf(t, c.lines)[0]); got != c.want {
			t.Errorf("%s: one reading is enough: %t, want %t", c.name, got, c.want)
		}
	}
}

func TestWriteOnceRandom(t *testing.T) {
	once := 0
	for seed := range uint64(tartest.Reps(500, 100)) {
		for _, l := range stackLayers(t, randomStack(seed)) {
			if sameOnce(t, seed, l) {
				once++
			}
		}
	}
	if once < 50 {
		t.Errorf("only %d layers were written in one reading", once)
	}
}

// An error of what is written to counts; one of the layer is for Apply to tell, wherever it is.
func TestWriteOnceErrors(t *testing.T) {
	full := errors.New("full")
	layer := layerTar(t, entries("a/", "a/b 1", "c 2"))
	l := bytesLayer("whole", layer)
	for room := 0; room < len(layer); room += 500 {
		if done, err := WriteOnce(t.Context(), &smallWriter{room, full}, l); !errors.Is(err, full) {
			t.Errorf("room for %d bytes: %t, %v", room, done, err)
		}
	}

	for _, cut := range []int{0, 100, 600, 1600} {
		l := bytesLayer("cut", layer[:cut])
		if done, err := WriteOnce(t.Context(), io.Discard, l); done || err != nil {
			t.Errorf("cut at %d: %t, %v", cut, done, err)
		}
		if _, err := twice(t, l); err == nil {
			t.Errorf("cut at %d: Apply takes it", cut)
		}
	}

	wrong := bytesLayer("wrong", layer)
	wrong.Check = func() io.WriteCloser { return wrongCheck{} }
	if done, err := WriteOnce(t.Context(), io.Discard, wrong); done || err != nil {
		t.Errorf("a wrong digest: %t, %v", done, err)
	}
}

// A smallWriter fails when it has no room.
type smallWriter struct {
	room int
	err  error
}

func (s *smallWriter) Write(p []byte) (int, error) {
	if len(p) > s.room {
		return 0, s.err
	}
	s.room -= len(p)
	return len(p), nil
}

// A wrongCheck finds at the end that the bytes were others.
type wrongCheck struct{}

func (wrongCheck) Write(p []byte) (int, error) { return len(p), nil }
func (wrongCheck) Close() error                { return errors.New("wrong digest") }
