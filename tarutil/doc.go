// Package tarutil makes, checks, rewrites and compares the tar streams that image
// layers are made of.
//
// The model is that of the image specification: a layer is a tar of a change set. Its
// entries are files to put in place, and whiteouts (".wh.name") that remove a name of
// the layers below; an opaque whiteout (".wh..wh..opq") removes all that the layers
// below hold in its directory.
//
//   - [Pack] writes trees, files and whiteouts as a tar.
//   - [Rewrite] reads a tar and writes it again: moved, filtered, sorted.
//   - [Diff] says how two trees differ; [WriteDiff] writes the layer between them.
//   - [Apply] finds out what file system a stack of layers makes up; [Stack.WriteTar]
//     writes it as one tar, [Stack.Extract] as files.
//   - [Checker] follows a tar that flows past, and says whether it is whole.
//   - [Decompress] finds out what compression a stream has, and removes it.
//   - [Writer] encodes entries. All of the above write through it.
//
// # Order
//
// Every tar made here from a tree has its entries in one order, called tree order: a
// directory comes before what it holds; in a directory the opaque whiteout comes first,
// then the whiteouts, then all other names; equals are in byte order of their names.
//
// # Design
//
// Layers are named by the digest of their bytes, so the same tree has to give the same
// bytes for ever. archive/tar makes no such promise for its Writer, hence there is our
// own encoder here, frozen by golden files; archive/tar's Header is the data model and
// its Reader is used for reading.
package tarutil

import "errors"

var (
	// ErrTruncated says that a tar ends before its two zero blocks.
	ErrTruncated = errors.New("tar is cut off")
	// ErrMalformed says that bytes are no tar, or break its rules.
	ErrMalformed = errors.New("malformed tar")
	// ErrEmpty says that a stream which must hold something has no bytes at all.
	ErrEmpty = errors.New("empty input")
	// ErrUnsupported says that a stream has a known compression that is not read here.
	ErrUnsupported = errors.New("compression is not supported")
	// ErrContentSize says that an entry got more or fewer bytes than its header promised.
	ErrContentSize = errors.New("content does not have the size in the header")
	// ErrWhiteoutName says that a file to be packed has a name that means a whiteout.
	ErrWhiteoutName = errors.New(`names that begin with ".wh." are whiteouts in a layer`)
	// ErrChanged says that a file changed, or was replaced, while it was read.
	ErrChanged = errors.New("changed while it was read")
	// ErrDuplicate says that two sources give the same path and are not both directories.
	ErrDuplicate = errors.New("path is given twice")
	// ErrBadPath says that a path names no place in an image: it is empty, climbs with
	// "..", or holds a NUL byte.
	ErrBadPath = errors.New("path is not usable in an image")
	// ErrNothing says that a selection left no entry.
	ErrNothing = errors.New("no entry is selected")
)
