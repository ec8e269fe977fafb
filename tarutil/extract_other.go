//go:build !linux

package tarutil

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// makesNodes says whether fifos and devices can be made here: not in the handle of a
// directory.
const makesNodes = false

func (d *openedDir) chown(name string, f *os.File, a *attributes) error {
	if f != nil {
		return f.Chown(int(a.uid), int(a.gid))
	}
	return d.root.Lchown(name, int(a.uid), int(a.gid))
}

func (d *openedDir) chmod(name string, f *os.File, mode int32) error {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[int32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	if f != nil {
		return f.Chmod(m)
	}
	return d.root.Chmod(name, m)
}

func (d *openedDir) makeNode(string, byte, *attributes) error { return errors.ErrUnsupported }

// setTime leaves symbolic links as they are: they would be followed.
func (d *openedDir) setTime(name string, f *os.File, a *attributes) error {
	if f == nil {
		return nil
	}
	t := time.Unix(a.sec, int64(a.nano))
	return d.root.Chtimes(name, t, t)
}

func (d *openedDir) setXattr(string, *os.File, string, string) (bool, error) { return false, nil }
