package tarutil

import (
	"errors"
	"io"
	"time"
)

// A dirHandle is an open directory of a source tree. The names it takes are single
// components and are never followed if they are links, so no change made to the tree
// meanwhile can lead outside. A dirHandle may be used by several goroutines at once.
type dirHandle interface {
	// info returns what is known about the directory itself.
	info() (fileInfo, error)
	// list returns all names but "." and "..", in no order.
	list() ([]dirent, error)
	// openDir opens a directory in it.
	openDir(name string) (dirHandle, error)
	// openFile opens a regular file in it for reading. It never waits, not for a fifo
	// either: what was opened is to be found out from info.
	openFile(name string) (fileHandle, error)
	// lstat returns what is known about a name in it, a link's target included, and the
	// extended attributes of what is no regular file and no directory.
	lstat(name string, x Xattrs) (fileInfo, map[string]string, error)
	// xattrs returns the extended attributes of the directory itself.
	xattrs(x Xattrs) (map[string]string, error)
	io.Closer
}

// A fileHandle is an open file of a source tree.
type fileHandle interface {
	io.ReadCloser
	info() (fileInfo, error)
	xattrs(x Xattrs) (map[string]string, error)
}

// A dirent is one name in a directory. Its flag is the type flag of its tar entry, or one
// of the flags below.
type dirent struct {
	name string
	flag byte
}

const (
	flagSocket  = 's'
	flagUnknown = '?'
)

// fileInfo is what tar wants to know about a file.
type fileInfo struct {
	flag         byte  // type flag of its tar entry, or flagSocket or flagUnknown
	perm         int64 // permissions with setuid, setgid and sticky bits
	uid, gid     int
	size         int64
	sec, nano    int64 // modification time
	id           fileID
	links        uint64 // names that it has
	major, minor int64
	target       string // of a symbolic link
}

// A fileID tells whether two names are one file. The zero fileID says that it is unknown.
type fileID struct{ dev, ino uint64 }

func (f *fileInfo) mtime() time.Time {
	return time.Unix(f.sec, f.nano)
}

var errNoXattrs = errors.New("extended attributes are not read on this system")
