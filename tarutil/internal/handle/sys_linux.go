package handle

import (
	"archive/tar"
	"io/fs"
	"syscall"

	"ocikit/tarutil"
)

// What this system has.
const (
	// NonblockFlags are the flags for opening a file without waiting, not even for a fifo.
	NonblockFlags = syscall.O_NONBLOCK | syscall.O_NOCTTY
	KnowsOwners   = true              // files have owners
	TreeXattrs    = tarutil.XattrsAll // what trees are compared by
)

// addSystemInfo makes info that of a linuxFile: all is in the Stat_t.
func addSystemInfo(info *Info, fi fs.FileInfo) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		*info = infoOfStat(st)
	}
}

// flagOfMode turns the file type in st_mode into a type flag of tar.
func flagOfMode(mode uint32) byte {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return tar.TypeReg
	case syscall.S_IFDIR:
		return tar.TypeDir
	case syscall.S_IFLNK:
		return tar.TypeSymlink
	case syscall.S_IFCHR:
		return tar.TypeChar
	case syscall.S_IFBLK:
		return tar.TypeBlock
	case syscall.S_IFIFO:
		return tar.TypeFifo
	case syscall.S_IFSOCK:
		return FlagSocket
	}

	return flagUnknown
}
