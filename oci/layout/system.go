package layout

import (
	"os"

	"ocikit/oci/disk"
)

// A system makes the calls that change files. Tests put one in its place whose k-th call
// fails.
type system interface {
	create(root *os.Root, name string) (*os.File, error) // a new file, for reading and writing
	write(f *os.File, p []byte) (int, error)
	sync(f *os.File) error // of a file or a directory
	close(f *os.File) error
	rename(root *os.Root, from, to string) error
	remove(root *os.Root, name string) error
	mkdirAll(root *os.Root, name string) error
	link(from, to string) error                     // full paths
	linkBelow(root *os.Root, from, to string) error // both below root
	clone(to, from *os.File) error                  // makes to share the blocks of from
}

type realSystem struct{}

func (realSystem) create(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
}

func (realSystem) write(f *os.File, p []byte) (int, error)        { return f.Write(p) }
func (realSystem) sync(f *os.File) error                          { return f.Sync() }
func (realSystem) close(f *os.File) error                         { return f.Close() }
func (realSystem) rename(root *os.Root, from, to string) error    { return disk.Rename(root, from, to) }
func (realSystem) remove(root *os.Root, name string) error        { return root.Remove(name) }
func (realSystem) mkdirAll(root *os.Root, name string) error      { return root.MkdirAll(name, 0o755) }
func (realSystem) link(from, to string) error                     { return os.Link(from, to) }
func (realSystem) linkBelow(root *os.Root, from, to string) error { return root.Link(from, to) }
func (realSystem) clone(to, from *os.File) error                  { return disk.Clone(to, from) }
