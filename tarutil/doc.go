// Package tarutil makes, checks, rewrites and compares the tar streams that image
// layers are made of.
//
// The model is that of the image specification: a layer is a tar of a change set. Its
// entries are files to put in place, and whiteouts (".wh.name") that remove a name of
// the layers below; an opaque whiteout (".wh..wh..opq") removes all that the layers
// below hold in its directory.
//
// This package holds what the packages below it share:
//
//   - [Writer] encodes entries. Every tar made by this module is written through it.
//   - [Checker] follows a tar that flows past, and says whether it is whole; [Gate] also says whether
//     it can be a layer.
//   - [EntryReader] reads the entries of a tar that nobody has verified yet; [RawReader] reads them
//     as bytes, for comparisons.
//   - [Decompress] finds out what compression a stream has, and removes it.
//   - [Matcher] selects paths; [Owner], [Mode], [MTime] and [Xattrs] say what headers get.
//   - [Tree] is a file system: a directory (pack.DirTree), a tar ([TarTree]) or a stack of layers.
//
// Those packages are:
//
//   - tarutil/pack writes trees, files and whiteouts as a tar.
//   - tarutil/rewrite reads a tar and writes it again: moved, filtered, sorted.
//   - tarutil/stack finds out what file system a stack of layers makes up, and writes it as one tar
//     or as files.
//   - tarutil/diff says how two trees differ, and writes the layer between them.
//   - tarutil/cause says why two tars differ in their bytes.
//   - tarutil/gzip, gunzip, zstd and estargz compress layers and read them; tarutil/recipe and delta
//     store them in fewer bytes.
//
// # Order
//
// Every tar made here from a tree has its entries in one order, called tree order. A directory comes
// before what it holds. In a directory the opaque whiteout comes first, then the whiteouts, then all
// other names, each of these groups in byte order.
//
// # Design
//
// Layers are named by the digest of their bytes, so the same tree has to give the same bytes for ever.
// archive/tar makes no such promise for its Writer. So there is an encoder of our own here, frozen by
// golden files. Headers are those of archive/tar, and its Reader is used for reading.
package tarutil

import "errors"

var (
	// ErrTruncated says that a tar ends before its two zero blocks.
	ErrTruncated = errors.New("tar is cut off")
	// ErrMalformed says that bytes are not a tar, or break its rules.
	ErrMalformed = errors.New("malformed tar")
	// ErrEmpty says that a stream which must hold something has no bytes at all.
	ErrEmpty = errors.New("empty input")
	// ErrUnsupported says that a stream has a known compression that is not read here.
	ErrUnsupported = errors.New("compression is not supported")
	// errContentSize says that an entry got more or fewer bytes than its header promised.
	errContentSize = errors.New("content does not have the size in the header")
	// ErrWhiteoutName says that a file to be packed has a name that means a whiteout.
	ErrWhiteoutName = errors.New(`names that begin with ".wh." are whiteouts in a layer`)
	// ErrChanged says that a file changed, or was replaced, while it was read.
	ErrChanged = errors.New("changed while it was read")
	// ErrDuplicate says that two sources give the same path and are not both directories.
	ErrDuplicate = errors.New("path is given twice")
	// ErrBadPath says that a path names no place in an image: it is empty, climbs with
	// "..", or holds a NUL byte.
	ErrBadPath = errors.New("path is not usable in an image")
	// ErrOpaqueRoot says that an opaque whiteout is asked for at the root, where overlay file
	// systems, and so Docker, containerd and podman, ignore it: what it should remove stays.
	ErrOpaqueRoot = errors.New("an opaque whiteout at the root removes nothing in most engines")
	// ErrNothing says that a selection left no entry.
	ErrNothing = errors.New("no entry is selected")
	// ErrTooMany says that layers hold more files than the limit allows.
	ErrTooMany = errors.New("too many files")
)
