package zstd

import (
	"bytes"
	"testing"
)

func TestLargestWindow(t *testing.T) {
	small := frame(0, block(false, 0, 2, 'a', 'b'), block(true, 1, 3, 'c')) // a window of 1 KiB
	large := frame(13<<3|3, block(true, 0, 1, 'd'))                         // of 8 MiB, and three eighths of that
	skip := skippable(7, "what others know")
	many := frame(0, append(bytes.Repeat(block(false, 0, 0), 2000), block(true, 0, 0)...))

	for _, test := range []struct {
		name string
		data []byte
		want int
	}{
		{"empty", nil, 0},
		{"one frame", small, 1 << 10},
		{"a larger one behind", bytes.Join([][]byte{skip, small, skip, large, small}, nil), 11 << 20},
		{"only frames to be skipped", skip, 0},
		{"cut in a header", append(bytes.Clone(small), large[:5]...), MaxWindow},
		{"cut before a block", small[:6], MaxWindow},
		{"not zstd", []byte("not zstd"), MaxWindow},
		{"bytes behind", append(bytes.Clone(small), "more"...), MaxWindow},
		{"more blocks than there is a reason for", many, MaxWindow},
	} {
		if got := LargestWindow(bytes.NewReader(test.data), int64(len(test.data))); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

// The window of a real frame is the one that its reader takes.
func TestLargestWindowOfSamples(t *testing.T) {
	for name := range samples() {
		data := readSample(t, name)
		r := NewReader(bytes.NewReader(data))
		want := 0
		for r.err == nil {
			if r.err = r.next(); r.framed {
				want = max(want, r.window)
			}
			r.unread = len(r.buf)
		}
		if got := LargestWindow(bytes.NewReader(data), int64(len(data))); got != want || got == 0 {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}
