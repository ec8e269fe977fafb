package handle

import "sync/atomic"

// A Shared is a directory handle that is closed with its last user. It is safe for concurrent use.
type Shared struct {
	Dir
	users atomic.Int32
}

// Share returns h with one user.
func Share(h Dir) *Shared {
	d := &Shared{Dir: h}
	d.users.Store(1)
	return d
}

// Retain adds a user. The caller must be one already.
func (d *Shared) Retain() { d.users.Add(1) }

// Release takes a user away, and closes the directory with the last one.
func (d *Shared) Release() {
	if d.users.Add(-1) == 0 {
		d.Close() // it was only read
	}
}
