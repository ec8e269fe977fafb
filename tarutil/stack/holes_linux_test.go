package stack

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"ocikit/tarutil/internal/tartest"
)

// Long runs of zeros take no room, wherever they stand, and every byte is right.
func TestExtractHoles(t *testing.T) {
	data := func(n int) []byte { return bytes.Repeat([]byte("data\x00\x00"), n/6+1)[:n] }
	zeros := func(n int) []byte { return make([]byte, n) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	files := map[string][]byte{
		"all":      zeros(3 << 20),
		"tail":     join(data(200_000), zeros(2<<20+5)),
		"head":     join(zeros(2<<20), data(1)),
		"middle":   join(data(1<<20), zeros(1<<20), data(1<<20)),
		"unequal":  join(zeros(holeSize-1), data(1), zeros(holeSize), data(holeSize)),
		"short":    join(data(holeSize), zeros(holeSize-1), data(1), zeros(holeSize-1)),
		"a block":  zeros(2 * holeSize),
		"one more": zeros(2*holeSize + 1),
		"no zeros": bytes.Repeat([]byte{7}, 1<<20+1),
	}

	var list []entry
	for name, content := range files {
		list = append(list, entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, Content: string(content)})
	}
	dir := t.TempDir()
	if _, err := extractTo(t, []Layer{bytesLayer("holes", tartest.Tar(t, list...))}, dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes with sum %x, want %d with %x", name, len(got), sha256.Sum256(got), len(want), sha256.Sum256(want))
		}
	}

	// Where the file system knows holes, "all" shows it.
	room := func(name string) int64 {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(probe, 1<<20); err != nil || room("probe") > 1<<19 {
		t.Skip("the file system knows no holes")
	}
	for name, most := range map[string]int64{"all": holeSize, "tail": 400_000, "head": 2 * holeSize, "middle": 2<<20 + holeSize} {
		if got := room(name); got > most {
			t.Errorf("%s takes %d bytes, want at most %d", name, got, most)
		}
	}
	if got := fmt.Sprint(isHole(zeros(holeSize)), isHole(zeros(holeSize-1)), isHole(data(holeSize))); got != "true false false" {
		t.Errorf("isHole: %s", got)
	}
}
