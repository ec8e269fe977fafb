package serve

import (
	"io/fs"
	"syscall"
	"testing"
)

// A client may come again when files are closed; of other errors it is not told that.
func TestIsExhausted(t *testing.T) {
	for err, want := range map[error]bool{syscall.EMFILE: true, syscall.ENFILE: true, syscall.ENOSPC: false, fs.ErrNotExist: false} {
		if got := isExhausted(&fs.PathError{Op: "open", Path: "x", Err: err}); got != want {
			t.Errorf("isExhausted(%v) = %t, want %t", err, got, want)
		}
	}
}
