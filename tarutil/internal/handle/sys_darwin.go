package handle

import (
	"io/fs"
	"syscall"

	"ocikit/tarutil"
)

// What this system has.
const (
	// NonblockFlags are the flags for opening a file without waiting, not even for a fifo.
	NonblockFlags = syscall.O_NONBLOCK | syscall.O_NOCTTY
	KnowsOwners   = true               // files have owners
	TreeXattrs    = tarutil.XattrsNone // what trees are compared by
)

// Open opens the directory path, following links.
func Open(path string) (Dir, error) { return openRoot(path) }

// addSystemInfo adds what package os does not tell.
func addSystemInfo(info *Info, fi fs.FileInfo) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	info.UID, info.GID = int(st.Uid), int(st.Gid)
	info.ID = ID{uint64(st.Dev), st.Ino}
	info.Links = uint64(st.Nlink)
	info.Major, info.Minor = int64(uint32(st.Rdev)>>24), int64(st.Rdev&0xffffff)
}
