package tarutil

import "sync/atomic"

// A sharedDir is a directory handle that is closed with its last user.
type sharedDir struct {
	dirHandle
	users atomic.Int32
}

// newSharedDir returns h with one user.
func newSharedDir(h dirHandle) *sharedDir {
	d := &sharedDir{dirHandle: h}
	d.users.Store(1)
	return d
}

func (d *sharedDir) retain() { d.users.Add(1) }

func (d *sharedDir) release() {
	if d.users.Add(-1) == 0 {
		d.Close() // it was only read
	}
}
