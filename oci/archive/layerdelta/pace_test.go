package layerdelta

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

// The reader behind never passes the writer until that has ended; then it reads everything.
func TestPace(t *testing.T) {
	const rest = 10
	data := bytes.Repeat([]byte("0123456789"), 50)
	p := newPace()
	behind := p.behind(iotest.DataErrReader(bytes.NewReader(data)))

	// Each of its bytes is read after the front was moved beyond it, and a read that is too early would
	// block for ever.
	var got []byte
	one := make([]byte, 1)
	for n := range len(data) - rest {
		p.Write(data[n : n+1])
		if _, err := io.ReadFull(behind, one); err != nil {
			t.Fatal(err)
		}
		got = append(got, one...)
	}

	early := make(chan []byte)
	go func() {
		rest, err := io.ReadAll(behind)
		if err != nil {
			t.Error(err)
		}
		p.mu.Lock()
		if !p.ended {
			t.Error("it was read to its end before the front was")
		}
		p.mu.Unlock()
		early <- rest
	}()
	p.end()
	if got = append(got, <-early...); !bytes.Equal(got, data) {
		t.Errorf("%d bytes, want %d", len(got), len(data))
	}
}

// A file that grows is read on where it ended before.
func TestPaceOfFile(t *testing.T) {
	f, err := Temp()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := newPace()
	behind := p.behind(io.NewSectionReader(f, 0, 100))
	buf := make([]byte, 20)
	for _, text := range []string{"one", "two", "three"} {
		io.MultiWriter(f, p).Write([]byte(text))
		if n, err := behind.Read(buf); err != nil || string(buf[:n]) != text {
			t.Errorf("read %q, %v, want %q", buf[:n], err, text)
		}
	}
	p.end()
	if n, err := behind.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d bytes, %v", n, err)
	}
}
