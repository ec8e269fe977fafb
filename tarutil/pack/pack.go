// Package pack makes the tar of a layer from directories and files.
//
// [Tar] merges any number of sources and whiteouts into one tar. Its bytes depend on the
// trees and the options alone: the entries come in tree order (see package tarutil), and
// owners, permissions and times are what the options say. [DirTree] gives a directory as a
// tree that can be compared.
//
// # Design
//
// Source trees may change while they are read, and may be hostile. They are walked through
// handles of open directories, one name at a time, so no link that appears meanwhile leads
// outside. One goroutine walks, a few read files ahead, one writes in order; memory does not
// grow with the sizes of files.
package pack

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/handle"
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

// Options say what [Tar] writes. The zero value gives the owner 0:0, the time 0, the
// permissions as they are, and security.capability as the only extended attribute.
type Options struct {
	Prefix string // directory that all sources are put below; not the whiteouts
	Owner  tarutil.Owner
	Mode   tarutil.Mode
	MTime  tarutil.MTime
	Xattrs tarutil.Xattrs

	// Exclude selects what is left out, by the path within each source directory; a single
	// file has its base name as path. Directories that are left out are still written if
	// a pattern with "!" brings back something below them.
	Exclude *tarutil.Matcher

	// Parents writes entries for directories that no source holds, but Dest or Prefix name.
	Parents bool

	// Whiteouts are paths in the image to remove, Opaques directories in the image whose
	// content to remove, but not the root; see [tarutil.ErrOpaqueRoot]. Prefix is not put before them.
	Whiteouts, Opaques []string

	// Notice, if set, is told the path of each socket, which a tar cannot hold and which is
	// skipped. Calls of all these functions come in tree order, from the goroutine that called Tar.
	Notice func(path string)

	// HoleNotice, if set, is told of files with holes of over a gibibyte in all, which become zeros in
	// the tar: the name in the tar, the size, and the bytes that take no room on the disk.
	HoleNotice func(path string, size, hole int64)

	// MarkNotice, if set, is told of what overlay file systems have in their upper directories for
	// deletions, and what is none in the tar: the path of a character device 0:0, with an empty
	// attribute, or of a directory with an extended attribute that hides or redirects it.
	MarkNotice func(path, attribute string)

	// Output are the file and directories that the tar is written to. They are left out where a
	// source holds them, and OutputNotice, if set, is told their paths.
	Output       []fs.FileInfo
	OutputNotice func(path string)
}

// isOutput says whether a file is what is being written. Where systems tell no identity, none is.
func (o *Options) isOutput(id handle.ID) bool {
	return id != (handle.ID{}) && slices.ContainsFunc(o.Output, func(fi fs.FileInfo) bool { return handle.IDOf(fi) == id })
}

// Tar writes one tar with all sources and whiteouts to w, in tree order. The bytes
// depend on the trees and the options alone, not on the order of directories on disk, the
// umask or the CPU count. The order of sources matters only where several directories
// give the same directory: the first gives its owner, permissions and time.
//
//   - Directories that no source holds, but Dest or Prefix name, have no entries, for these
//     would take the place of what the image has there: of a symbolic link, or of a directory
//     with other permissions. The same goes for Dest itself: as with COPY of a Dockerfile, the
//     owner and permissions of a source directory are not taken. With Parents each is written
//     once, with permissions 0755, owner 0:0 (or the one that opts sets) and the time that
//     opts sets (the epoch where times are kept). The root has no entry.
//   - Whiteouts bring no entries for their parents, since these would reset owner and
//     permissions of directories in the image.
//   - Files with several names are written once, under the first in tree order that is
//     not left out; the others become hard links to it.
//   - Symbolic links are never followed. Fifos and devices are never opened.
//   - Sparse files are written with their holes as zeros.
//
// Errors name the file. They wrap [tarutil.ErrWhiteoutName] for a file with a name that means a
// whiteout, [tarutil.ErrDuplicate] for a path that two sources give, or for a directory that is both
// in Whiteouts and written, [tarutil.ErrOpaqueRoot] for the root in Opaques, [tarutil.ErrChanged] for a file
// that changed in size or time, or was replaced or removed, while it was read, and
// [tarutil.ErrBadPath] for a Dest, Prefix or whiteout that is none. The two zero blocks are
// written on success only. Tar does not close w; no goroutine is left behind.
//
// Memory is below 16 MiB, whatever the sizes of files, and what is needed for names: those in the
// directories from the root down to the one being read, and those of files with further names that
// have not been met.
func Tar(ctx context.Context, w io.Writer, sources []Source, opts Options) error {
	if opts.Owner.Keep && !handle.KnowsOwners {
		return errors.New("owners cannot be kept: files have none on this system")
	}

	plan, err := newPlan(sources, &opts)
	if plan != nil { // it may hold open directories, even with an error
		defer plan.close()
	}
	if err != nil {
		return err
	}

	tw := tarutil.NewWriter(w)
	if err := packTree(ctx, tw, plan, &opts); err != nil {
		return err
	}

	return tw.Close()
}
