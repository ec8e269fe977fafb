package layout

import (
	"io/fs"
	"os"
	"sync"
	"time"
)

// Known opens layouts below a directory again and again, as [OpenBelow] does. It remembers which files
// oci-layout it has found right: one that has the same inode, size and time is not read again. The zero
// Known is ready; it may be used concurrently.
type Known struct {
	mu    sync.Mutex
	files map[string]fs.FileInfo // by the layout's path
}

// Limits of what is known.
const (
	maxKnown = 10_000
	settling = time.Second // a younger file may change again and look the same
)

// OpenBelow is [OpenBelow].
func (k *Known) OpenBelow(root *os.Root, name string) (*Layout, error) {
	l, err := openBelow(root, name)
	if err != nil {
		return nil, err
	}

	// Looked at before it is read: what comes after is newer.
	now := time.Now()
	info, err := l.root.Lstat(layoutFile)
	if err == nil && k.knows(name, info) {
		return l, nil
	}

	if l, err := l.checked(l.checkVersion()); err != nil {
		return l, err
	}

	if err == nil && now.Sub(info.ModTime()) > settling {
		k.note(name, info)
	}
	return l, nil
}

func (k *Known) knows(name string, info fs.FileInfo) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.files[name]
	return was != nil && unchanged(was, info)
}

// unchanged reports whether a file is the one that it was, as far as the system tells.
func unchanged(was, is fs.FileInfo) bool {
	return os.SameFile(was, is) && was.Size() == is.Size() && was.ModTime().Equal(is.ModTime())
}

func (k *Known) note(name string, info fs.FileInfo) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.files == nil || len(k.files) >= maxKnown {
		k.files = map[string]fs.FileInfo{}
	}
	k.files[name] = info
}
