package tarutil

import (
	"io/fs"
	"syscall"
)

const (
	nonblockFlags = syscall.O_NONBLOCK | syscall.O_NOCTTY
	knowsOwners   = true
	treeXattrs    = XattrsAll // what trees are compared by
)

func addSystemInfo(info *fileInfo, fi fs.FileInfo) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		*info = infoOfStat(st)
	}
}

// flagOfMode turns the file type in st_mode into a type flag of tar.
func flagOfMode(mode uint32) byte {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return typeReg
	case syscall.S_IFDIR:
		return typeDir
	case syscall.S_IFLNK:
		return typeSymlink
	case syscall.S_IFCHR:
		return typeChar
	case syscall.S_IFBLK:
		return typeBlock
	case syscall.S_IFIFO:
		return typeFifo
	case syscall.S_IFSOCK:
		return flagSocket
	}
	return flagUnknown
}
