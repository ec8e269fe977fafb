//go:build !linux

package stack

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// makesNodes says whether fifos and devices can be made here: not in the handle of a
// directory.
const makesNodes = false

// A dirHandle is a directory that is open.
type dirHandle struct {
	root *os.Root
	top  bool // it is not ours to close
}

// An outFile is a file, or a directory, that is open.
type outFile struct{ *os.File }

func openTop(root *os.Root) (dirHandle, error) { return dirHandle{root, true}, nil }

func (d dirHandle) close() {
	if !d.top {
		d.root.Close()
	}
}

// self returns the directory as a file.
func (d dirHandle) self() (*outFile, error) {
	f, err := d.root.Open(".")
	return &outFile{f}, err
}

func (d dirHandle) openDir(name string) (dirHandle, error) {
	root, err := d.root.OpenRoot(name)
	return dirHandle{root: root}, err
}

func (d dirHandle) mkdir(name string, mode int32) error {
	return d.root.Mkdir(name, fs.FileMode(mode))
}

func (d dirHandle) symlink(target, name string) error { return d.root.Symlink(target, name) }

// create makes a file, only where nothing is. It gets its permissions by chmod.
func (d dirHandle) create(name string, _ int32) (*outFile, error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return &outFile{f}, err
}

func (d dirHandle) openFile(name string) (*outFile, error) {
	f, err := d.root.Open(name)
	return &outFile{f}, err
}

func (d dirHandle) removeFile(name string) error { return d.root.Remove(name) }

// take is for systems whose rename can tell that something is there.
func (d dirHandle) take(dirHandle, string, string) error { return errors.ErrUnsupported }

// asMade tells nothing, so that owner and permissions are always set.
func (f *outFile) asMade() (uid, gid int64, mode int32, ok bool) { return 0, 0, 0, false }

func (d dirHandle) chown(name string, f *outFile, a *attributes) error {
	if f != nil {
		return f.Chown(int(a.uid), int(a.gid))
	}
	return d.root.Lchown(name, int(a.uid), int(a.gid))
}

func (d dirHandle) chmod(name string, f *outFile, mode int32) error {
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

func (d dirHandle) makeNode(string, byte, *attributes) error { return errors.ErrUnsupported }

// setTime leaves symbolic links as they are: they would be followed.
func (d dirHandle) setTime(name string, f *outFile, a *attributes) error {
	if f == nil {
		return nil
	}
	t := time.Unix(a.sec, int64(a.nano))
	return d.root.Chtimes(name, t, t)
}

func (d dirHandle) setXattr(string, *outFile, string, string) (bool, error) { return false, nil }
