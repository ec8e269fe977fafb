package tarutil

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"testing/iotest"
)

// A pipe that failed once is not walked from the middle, and its copy does not stay behind.
func TestTreeOfBrokenPipe(t *testing.T) {
	data, _ := sampleTar(t)
	dir := t.TempDir()
	tree := TarTree(iotest.TimeoutReader(iotest.HalfReader(bytes.NewReader(data))), dir)
	for range 2 {
		err := tree.Walk(t.Context(), func(e TreeEntry) error {
			t.Errorf("entry %q", e.Header.Name)
			return nil
		})
		if !errors.Is(err, iotest.ErrTimeout) {
			t.Errorf("Walk = %v, want %v", err, iotest.ErrTimeout)
		}
	}

	if err := tree.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
