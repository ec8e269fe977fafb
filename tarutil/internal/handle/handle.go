// Package handle reads directories that may change, or may be hostile, through handles.
//
// [Open] returns a [Dir]. Every further name is one component, looked up in the open
// directory and never followed if it is a link. On Linux a handle is a file descriptor and
// its calls go to the kernel directly; elsewhere it is an [os.Root].
package handle

import (
	"errors"
	"io"
	"io/fs"
	"time"

	"ocikit/tarutil"
)

// A Dir is an open directory of a source tree. The names it takes are single
// components and are never followed if they are links, so no change made to the tree
// meanwhile can lead outside. A Dir may be used by several goroutines at once.
type Dir interface {
	// Info returns what is known about the directory itself.
	Info() (Info, error)
	// List returns all names but "." and "..", in no order.
	List() ([]Entry, error)
	// OpenDir opens a directory in it, which the caller closes.
	OpenDir(name string) (Dir, error)
	// OpenFile opens a regular file in it for reading, which the caller closes. It never waits, not
	// even for a fifo: the Info of what was opened says what it is. A link is an error.
	OpenFile(name string) (File, error)
	// Lstat returns what is known about a name in it, a link's target included, and the
	// extended attributes of what is neither a regular file nor a directory.
	Lstat(name string, x tarutil.Xattrs) (Info, map[string]string, error)
	// Xattrs returns those extended attributes of the directory itself that x keeps.
	Xattrs(x tarutil.Xattrs) (map[string]string, error)
	// OverlayMark returns the name of an extended attribute by which overlay file systems say that
	// the directory itself hides what a lower one holds, or shows another one; "" if it has none.
	OverlayMark() string
	io.Closer
}

// A File is an open file of a source tree. Info and Xattrs ask the file itself, whatever its name
// stands for by now.
type File interface {
	io.ReadCloser
	Info() (Info, error)
	Xattrs(x tarutil.Xattrs) (map[string]string, error)
}

// An Entry is one name in a directory. Its Flag is the type flag of its tar entry, or
// [FlagSocket] for what a tar cannot hold.
type Entry struct {
	Name string
	Flag byte
}

// Flags of what tar has none for.
const (
	FlagSocket  = 's'
	flagUnknown = '?'
)

// Info is what tar wants to know about a file.
type Info struct {
	Flag         byte  // type flag of its tar entry, or FlagSocket or flagUnknown
	Perm         int64 // permissions with setuid, setgid and sticky bits
	UID, GID     int
	Size         int64
	Hole         int64 // bytes of Size that take no room on the disk, as far as the system tells
	Sec, Nano    int64 // modification time
	ID           ID
	Links        uint64 // names that it has
	Major, Minor int64
	Target       string // of a symbolic link
}

// An ID tells whether two names are one file. The zero ID says that it is unknown.
type ID struct{ Dev, Ino uint64 }

// ModTime returns the modification time, in the local time zone.
func (f *Info) ModTime() time.Time {
	return time.Unix(f.Sec, f.Nano)
}

var errNoXattrs = errors.New("extended attributes are not read on this system")

// IDOf returns the identity of a file that package os tells of; it is zero where systems tell none.
func IDOf(fi fs.FileInfo) ID {
	var info Info
	addSystemInfo(&info, fi)
	return info.ID
}
