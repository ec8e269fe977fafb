package layout

import (
	"fmt"
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
	sub, err := root.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("layout %q: %w", name, cause(err))
	}

	// Looked at before it is read: what comes after is newer.
	l := at(sub, name)
	now := time.Now()
	info, err := sub.Lstat(layoutFile)
	if err == nil && k.knows(name, info) {
		return l, nil
	}

	if err := l.checkVersion(); err != nil {
		sub.Close()
		return nil, fmt.Errorf("layout %q: %w", name, err)
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
	return was != nil && os.SameFile(was, info) && was.Size() == info.Size() && was.ModTime().Equal(info.ModTime())
}

func (k *Known) note(name string, info fs.FileInfo) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.files == nil || len(k.files) >= maxKnown {
		k.files = map[string]fs.FileInfo{}
	}
	k.files[name] = info
}
