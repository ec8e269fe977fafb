package disk

import (
	"io/fs"
	"os"
	"syscall"
)

// OpenRoot opens a directory as [os.OpenRoot] does. Anything else under that name is refused without
// being opened, since opening a named pipe waits for its other end.
func OpenRoot(name string) (*os.Root, error) {
	return rootIfDir(name, os.Stat, os.OpenRoot)
}

// OpenRootIn is [OpenRoot] for a directory below root, out of which no link leads.
func OpenRootIn(root *os.Root, name string) (*os.Root, error) {
	return rootIfDir(name, root.Stat, root.OpenRoot)
}

func rootIfDir(name string, stat func(string) (fs.FileInfo, error), open func(string) (*os.Root, error)) (*os.Root, error) {
	if info, err := stat(name); err == nil && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
	}
	return open(name)
}
