package gzip

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"ocikit/tarutil/internal/tartest"
)

func TestWriteErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which ends when all goroutines have
		data := mixed(5 * blockSize / 2)
		for _, short := range []bool{false, true} {
			for k := 1; ; k++ {
				w := &tartest.FaultWriter{At: k, Short: short}
				z, _ := NewWriter(w, 1, 3)
				_, err := io.Copy(struct{ io.Writer }{z}, bytes.NewReader(data))
				err = errors.Join(err, z.Close())
				if w.Calls < k { // all Writes went well
					break
				}
				want := tartest.ErrFault
				if short {
					want = io.ErrShortWrite
				}
				if !errors.Is(err, want) {
					t.Fatalf("write %d broken: got %v, want %v", k, err, want)
				}
				for name, f := range map[string]func() error{
					"Write":     func() error { _, err := z.Write(data[:1]); return err },
					"EndMember": func() error { return z.EndMember(nil) },
					"Sync":      z.Sync,
					"Close":     z.Close,
				} {
					if err := f(); err != want {
						t.Errorf("%s after the error = %v, want %v", name, err, want)
					}
				}
				if r, err := stdgzip.NewReader(&w.Buf); err == nil {
					if _, err := io.Copy(io.Discard, r); err == nil {
						t.Fatalf("write %d broken: the output looks whole", k)
					}
				}
			}
		}
	})
}

func TestDroppedWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which ends when all goroutines have
		var out bytes.Buffer
		z, _ := NewWriter(&out, 9, 4)
		z.Write(mixed(4 * blockSize))
		synctest.Wait()
		if r, err := stdgzip.NewReader(&out); err == nil {
			if _, err := io.Copy(io.Discard, r); err == nil {
				t.Error("without Close the output looks whole")
			}
		}
	})
}

func TestMembers(t *testing.T) {
	parts := [][]byte{text(10), nil, mixed(3 * blockSize), noise(100000), machine(blockSize), text(5)}
	for _, workers := range []int{1, 3} {
		var out bytes.Buffer
		z, _ := NewWriter(&out, 6, workers)
		var ends []int64
		for i, p := range parts {
			z.Write(p)
			if err := z.EndMember(func(at int64) { ends = append(ends, at) }); err != nil {
				t.Fatal(err)
			}
			if i == 3 {
				if err := z.Sync(); err != nil || len(ends) != 4 || ends[3] != int64(out.Len()) {
					t.Fatalf("Sync = %v with ends %v and %d bytes out", err, ends, out.Len())
				}
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if len(ends) != len(parts) || !slices.IsSorted(ends) || ends[5] != int64(out.Len()) {
			t.Fatalf("ends %v, %d bytes out", ends, out.Len())
		}
		start := int64(0)
		for i, end := range ends {
			if i == 1 { // nothing written, no member
				if end != start {
					t.Errorf("an empty part has %d bytes", end-start)
				}
				continue
			}
			if got := expand(t, out.Bytes()[start:end]); !bytes.Equal(got, parts[i]) {
				t.Errorf("part %d changed", i)
			}
			start = end
		}
	}
}

func TestClose(t *testing.T) {
	var out bytes.Buffer
	z, _ := NewWriter(&out, 6, 1)
	if err := errors.Join(z.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	if got := expand(t, out.Bytes()); len(got) != 0 {
		t.Errorf("no input gives %d bytes", len(got))
	}
	if _, err := z.Write([]byte("x")); err != errClosed {
		t.Errorf("Write after Close = %v, want %v", err, errClosed)
	}
	for _, level := range []int{-1, 10} {
		if _, err := NewWriter(&out, level, 1); err == nil {
			t.Errorf("NewWriter with level %d gives no error", level)
		}
	}
}
