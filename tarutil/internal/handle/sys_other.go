//go:build !linux && !darwin

package handle

import (
	"io/fs"

	"ocikit/tarutil"
)

// Here files have no owners, and hard links and devices are not seen.
const (
	NonblockFlags = 0
	KnowsOwners   = false              // Owner.Keep is refused
	TreeXattrs    = tarutil.XattrsNone // what trees are compared by
)

// Open opens the directory path, following links.
func Open(path string) (Dir, error) { return openRoot(path) }

// addSystemInfo has nothing to add.
func addSystemInfo(*Info, fs.FileInfo) {}
