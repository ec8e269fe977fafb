package tarutil

import (
	"io/fs"
	"syscall"
)

const (
	nonblockFlags = syscall.O_NONBLOCK | syscall.O_NOCTTY
	knowsOwners   = true
	treeXattrs    = XattrsNone // what trees are compared by
)

func openTree(path string) (dirHandle, error) { return openRootTree(path) }

func addSystemInfo(info *fileInfo, fi fs.FileInfo) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	info.uid, info.gid = int(st.Uid), int(st.Gid)
	info.id = fileID{uint64(st.Dev), st.Ino}
	info.links = uint64(st.Nlink)
	info.major, info.minor = int64(uint32(st.Rdev)>>24), int64(st.Rdev&0xffffff)
}
