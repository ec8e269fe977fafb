package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWidenPipe widens pipes, and leaves alone a larger one and what is not a pipe.
func TestWidenPipe(t *testing.T) {
	size := func(f *os.File, set uintptr) (n uintptr) {
		c, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		c.Control(func(fd uintptr) {
			if set > 0 {
				syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, set)
			}
			n, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, getPipeSize, 0)
		})
		return n
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()

	// A user without rights whose pipes hold much already gets no more: as much as another pipe gets.
	r2, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	defer w2.Close()
	before, want := size(w, 0), size(w2, 256<<10)
	if widenPipe(w); size(r, 0) != want {
		t.Errorf("a pipe of %d bytes has %d, want %d", before, size(r, 0), want)
	}

	large := size(w, 512<<10)
	if widenPipe(r); size(w, 0) != large {
		t.Errorf("a pipe of %d bytes has %d", large, size(w, 0))
	}

	name := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	widenPipe(f)
	if _, err := f.WriteString("x"); err != nil {
		t.Error(err)
	}
	f.Close()
	widenPipe(f)
}
