package tarutil

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// A tap notes what is written to it, and what Close is to say.
type tap struct {
	bytes.Buffer
	verdict error
}

func (t *tap) Close() error { return t.verdict }

func TestReadAheadCheck(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), (aheadSize*3+1000)/16)
	wrong := errors.New("wrong")
	for _, verdict := range []error{nil, wrong} {
		a := NewReadAhead(t.Context(), io.NopCloser(bytes.NewReader(data)))
		seen := &tap{verdict: verdict}
		a.Check(seen)

		// What is passed over is checked as well, within a block and beyond it.
		var head [5]byte
		io.ReadFull(a, head[:])
		if n, err := a.Discard(aheadSize + 11); n != aheadSize+11 || err != nil {
			t.Errorf("Discard = %d, %v", n, err)
		}
		rest, err := io.ReadAll(a)
		if err != verdict || !bytes.Equal(rest, data[aheadSize+16:]) || string(head[:]) != "01234" {
			t.Errorf("verdict %v: read %d bytes, %v", verdict, len(rest), err)
		}
		if !bytes.Equal(seen.Bytes(), data) {
			t.Errorf("verdict %v: %d bytes of %d were checked", verdict, seen.Len(), len(data))
		}
		if n, err := a.Discard(1); n != 0 || err != orEOF(verdict) {
			t.Errorf("verdict %v: Discard at the end = %d, %v", verdict, n, err)
		}
		a.Close()
	}
}

func orEOF(verdict error) error {
	if verdict == nil {
		return io.EOF
	}
	return verdict
}

// What nobody reads may be passed over without being copied. That changes nothing: not the entries,
// and not the error of a tar that is cut.
func TestEntriesDiscard(t *testing.T) {
	var whole bytes.Buffer
	w := NewWriter(&whole)
	for i, size := range []int64{0, 1, 511, 512, 513, 5000} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i), Size: size}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.ReadFrom(strings.NewReader(strings.Repeat("x", int(size)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	list := func(r io.Reader) (names []string, err error) {
		in := NewPlainEntryReader(r, ReadOptions{})
		for {
			hdr, err := in.Next()
			if err != nil {
				return names, err
			}
			names = append(names, fmt.Sprint(hdr.Name, " ", hdr.Size, " ", in.Offset()))
		}
	}

	broken := errors.New("broken")
	for cut := 0; cut <= whole.Len(); cut += 128 {
		part := whole.Bytes()[:cut]
		for _, end := range []error{io.EOF, broken} {
			source := func() io.Reader { return io.MultiReader(bytes.NewReader(part), ender{end}) }
			want, wantErr := list(struct{ io.Reader }{source()})
			got, err := list(bufio.NewReaderSize(source(), 16))
			if !slices.Equal(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Errorf("cut at %d, %v: got %q, %v; want %q, %v", cut, end, got, err, want, wantErr)
			}
			if (end == broken) != errors.Is(err, broken) && cut < whole.Len() {
				t.Errorf("cut at %d, %v: got %v", cut, end, err)
			}
		}
	}
}

// An ender ends at once, with an error.
type ender struct{ err error }

func (e ender) Read([]byte) (int, error) { return 0, e.err }
