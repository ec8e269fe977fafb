package tarutil

import (
	"context"
	"errors"
	"io"
)

// A Source is something to be packed, and where it goes in the image.
type Source struct {
	// Path is a directory, whose content is packed (not the directory itself), or any
	// other file. A symbolic link is packed as a link, unless a slash stands at the end of
	// Path: then it must lead to a directory, which is packed.
	Path string
	// Dest is where the content of a directory goes; "" is the root. For any other file
	// Dest is its name, or, if Dest is "" or ends in a slash, the directory it goes to.
	Dest string
}

// PackOptions say what [Pack] writes. The zero value gives the owner 0:0, the time 0, the
// permissions as they are, and security.capability as the only extended attribute.
type PackOptions struct {
	Prefix string // directory that all sources are put below; not the whiteouts
	Owner  Owner
	Mode   Mode
	MTime  MTime
	Xattrs Xattrs

	// Exclude selects what is left out, by the path within each source directory; a single
	// file has its base name as path. Directories that are left out are still written if
	// a pattern with "!" brings back something below them.
	Exclude *Matcher

	// Whiteouts are paths in the image to remove, Opaques directories in the image whose
	// content to remove ("/" is the root). Prefix is not put before them.
	Whiteouts, Opaques []string

	// Notice, if set, is told the path of each socket, which a tar cannot hold and which is
	// skipped. Calls come in order, from another goroutine, and none after Pack returned.
	Notice func(path string)
}

// Pack writes one tar with all sources and whiteouts to w, in tree order. The bytes
// depend on the trees and the options alone, not on the order of directories on disk, the
// umask or the CPU count. The order of sources matters only where several directories
// give the same directory: the first gives its owner, permissions and time.
//
//   - Directories that no source holds, but Dest or Prefix name, are written once, with
//     permissions 0755, owner 0:0 (or the one that opts sets) and the time that opts sets
//     (the epoch where times are kept). The same goes for Dest itself: as with COPY of a
//     Dockerfile, the owner and permissions of a source directory are not taken. The root
//     has no entry.
//   - Whiteouts bring no entries for their parents, since these would reset owner and
//     permissions of directories in the image.
//   - Files with several names are written once, under the first in tree order that is
//     not left out; the others become hard links to it.
//   - Symbolic links are never followed. Fifos and devices are never opened.
//   - Sparse files are written with their holes as zeros.
//
// Errors name the file. They wrap [ErrWhiteoutName] for a file with a name that means a
// whiteout, [ErrDuplicate] for a path that two sources give, [ErrChanged] for a file
// that changed in size or time, or was replaced or removed, while it was read, and
// [ErrBadPath] for a Dest, Prefix or whiteout that is none. The two zero blocks are
// written on success only. Pack does not close w; no goroutine is left behind.
//
// Memory is below 16 MiB, and the names in the directories from the root down to the one
// being read, whatever the sizes of files.
func Pack(ctx context.Context, w io.Writer, sources []Source, opts PackOptions) error {
	if opts.Owner.Keep && !knowsOwners {
		return errors.New("owners cannot be kept: files have none on this system")
	}
	plan, err := newPlan(sources, &opts)
	if plan != nil {
		defer plan.close()
	}
	if err != nil {
		return err
	}
	tw := NewWriter(w)
	if err := packTree(ctx, tw, plan, &opts); err != nil {
		return err
	}
	return tw.Close()
}
