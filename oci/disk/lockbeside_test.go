package disk

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestLockBeside(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	lock := filepath.Join(dir, ".file.ocikit-lock")

	// A process that was killed has left its file behind.
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	unlock, ok, err := LockBeside(name)
	if err != nil || !ok {
		t.Fatalf("LockBeside = %t, %v", ok, err)
	}
	if _, ok, err := LockBeside(name); ok || err != nil {
		t.Errorf("LockBeside of what is locked = %t, %v", ok, err)
	}
	unlock()
	if _, err := os.Lstat(lock); err == nil {
		t.Error("the file outlived the lock")
	}

	if runtime.GOOS == "windows" {
		return
	}

	// Another name of the file has the same lock.
	other := filepath.Join(dir, "link")
	os.WriteFile(name, nil, 0o600)
	os.Symlink(name, other)
	if unlock, ok, err = LockBeside(other); err != nil || !ok {
		t.Fatalf("LockBeside = %t, %v", ok, err)
	}
	if _, ok, err := LockBeside(name); ok || err != nil {
		t.Errorf("LockBeside of what is locked by another name = %t, %v", ok, err)
	}
	unlock()

	// No link is followed to what somebody planted.
	os.Symlink(filepath.Join(dir, "victim"), lock)
	if _, ok, err := LockBeside(name); ok || err == nil {
		t.Error("LockBeside followed a link")
	}
}

// One at a time has the lock, although each removes the file that holds it.
func TestLockBesideExcludes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	var wg sync.WaitGroup
	var holders, taken atomic.Int32
	for range 8 {
		wg.Go(func() {
			for n := 0; n < 50; {
				unlock, ok, err := LockBeside(name)
				if err != nil {
					t.Error(err)
					return
				}
				if !ok {
					runtime.Gosched()
					continue
				}
				if now := holders.Add(1); now != 1 {
					t.Errorf("%d have the lock", now)
				}
				taken.Add(1)
				runtime.Gosched()
				holders.Add(-1)
				n++
				unlock()
			}
		})
	}
	wg.Wait()
	if n := taken.Load(); n != 8*50 {
		t.Errorf("the lock was taken %d times", n)
	}
}
