package tarutil

import (
	"io"
	"testing"
)

// TestPassage reads and passes over bytes that come in pieces, each of which is given back with its last
// byte, and not before.
func TestPassage(t *testing.T) {
	p, done := newPassage(), make(chan struct{})
	var got string
	go func() {
		defer close(done)
		r := &passageReader{passage: p}
		buf := make([]byte, 2)
		for range 2 {
			n, _ := r.Read(buf)
			got += string(buf[:n]) + "|"
			n, err := r.Discard(4)
			got += string(rune('0' + n))
			if err == io.EOF {
				got += " end"
			}
			got += "|"
		}
	}()

	for _, piece := range []string{"a", "bcdef", "g"} {
		if !p.pass([]byte(piece), done) {
			t.Fatalf("piece %q was not read", piece)
		}
	}
	close(p.pieces)
	<-done
	if want := "a|4|f|1 end|"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if p := newPassage(); p.pass([]byte("x"), done) {
		t.Error("a piece was passed to nobody")
	}
}
