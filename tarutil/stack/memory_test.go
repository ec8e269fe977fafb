package stack

import (
	"archive/tar"
	"fmt"
	"runtime"
	"testing"

	"ocikit/tarutil"
)

// maxPerFile is what a file may take in memory, its attributes included, besides its name.
const maxPerFile = 150

// TestMemoryOfFile makes sure that a million files fit into the memory of an image, and that they take
// what the budget says.
func TestMemoryOfFile(t *testing.T) {
	each := tarutil.PathMemory + nodeMemory + fileMemory + attrsMemory
	if each > maxPerFile || 1_000_000*(each+40) > tarutil.DefaultMaxMemory {
		t.Errorf("a file takes %d bytes", each)
	}

	const files, size = 100_000, 40
	names := make([]string, files)
	for i := range names {
		names[i] = fmt.Sprintf("%d/%0*d", i%20, size, i)
	}

	// All that is allocated counts, what has become garbage as well.
	var before, after runtime.MemStats
	budget := tarutil.NewBudget(0)
	runtime.ReadMemStats(&before)
	tree := newStackTree(tarutil.NewPathTable(budget), files+20, 0, nil)
	hdr := &tar.Header{Typeflag: tar.TypeReg}
	for i, name := range names {
		hdr.Name = name
		if err := tree.apply(hdr, int32(i)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(tree)

	if got := (after.TotalAlloc - before.TotalAlloc) / files; got > maxPerFile+size {
		t.Errorf("%d bytes were allocated for each file, want at most %d and its name", got, maxPerFile)
	}
	if err := budget.Take(tarutil.DefaultMaxMemory - files*(maxPerFile+size)); err != nil {
		t.Error(err)
	}
}
