//go:build !linux && !darwin

package tarutil

import "io/fs"

// Here files have no owners, and hard links and devices are not seen.
const (
	nonblockFlags = 0
	knowsOwners   = false
	treeXattrs    = XattrsNone // what trees are compared by
)

func openTree(path string) (dirHandle, error) { return openRootTree(path) }

func addSystemInfo(*fileInfo, fs.FileInfo) {}
