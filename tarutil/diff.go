package tarutil

import (
	"archive/tar"
	"context"
	"maps"
)

// A Kind says what happened to a path.
type Kind string

const (
	Added   Kind = "added"
	Changed Kind = "changed"
	Deleted Kind = "deleted"
)

// A Change is one path in which two trees differ.
type Change struct {
	Path string
	Kind Kind
	What What // if Kind is Changed
	// Old and New are the headers on both sides, nil where the path is not. A further name
	// of a file has the header of the file, with the first name in tree order as Name.
	Old, New *tar.Header
}

// DiffOptions say what [Diff] and [WriteDiff] look at.
type DiffOptions struct {
	Ignore  What     // changes that do not count
	Exclude *Matcher // paths, on both sides, that do not count
	TempDir string   // where WriteDiff puts its temporary file; "" is the system's default
}

// Diff returns in what two trees differ, in tree order, every path by itself: of a deleted
// directory all that it held. The result is empty if they are alike.
//
//   - Of times the fraction counts only if both have one. The permissions of symbolic
//     links do not count, nor do names of owners.
//   - Directories that a tree has no entry for, but that something lies in, are like any
//     directory.
//   - Hard links count as the file they are; that its first name in tree order is another is
//     a change of link.
//
// Contents are compared by SHA-256, and not read at all where the sizes differ or both
// sides are one file on disk. Memory holds all names and headers, and no contents.
func Diff(ctx context.Context, old, new Tree, opts DiffOptions) ([]Change, error) {
	d, err := newDiffer(ctx, old, new, &opts)
	if err != nil {
		return nil, err
	}
	return d.changes, nil
}

// A differ is one run of Diff.
type differ struct {
	opts     *DiffOptions
	old, new *snapshot
	changes  []Change
}

func newDiffer(ctx context.Context, old, new Tree, opts *DiffOptions) (*differ, error) {
	d := &differ{opts: opts}
	var err error
	for _, tree := range []Tree{old, new} {
		if dir, ok := tree.(*dirTree); ok {
			defer dir.reset()
		}
	}
	if d.old, err = takeSnapshot(ctx, old, opts, nil); err != nil {
		return nil, err
	}
	if d.new, err = takeSnapshot(ctx, new, opts, d.old); err != nil {
		return nil, err
	}
	return d, d.compare(ctx)
}

// compare merges the sorted names of both trees.
func (d *differ) compare(ctx context.Context) error {
	a, b := d.old.names, d.new.names
	for len(a)+len(b) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = comparePaths(a[0], b[0])
		}
		switch {
		case order < 0:
			d.changes = append(d.changes, Change{Path: a[0], Kind: Deleted, Old: d.old.files[a[0]].header()})
			a = a[1:]
		case order > 0:
			d.changes = append(d.changes, Change{Path: b[0], Kind: Added, New: d.new.files[b[0]].header()})
			b = b[1:]
		default:
			x, y := d.old.files[a[0]], d.new.files[b[0]]
			what, err := d.what(x, y)
			if err != nil {
				return err
			}
			if what != 0 {
				d.changes = append(d.changes, Change{a[0], Changed, what, x.header(), y.header()})
			}
			a, b = a[1:], b[1:]
		}
	}
	return nil
}

// what compares two files of the same path.
func (d *differ) what(a, b *inode) (What, error) {
	var w What
	note := func(what What, differ bool) {
		if differ {
			w |= what
		}
	}
	if a.flag != b.flag {
		return WhatType &^ d.opts.Ignore, nil
	}
	if a.implied || b.implied {
		return 0, nil
	}
	switch a.flag {
	case typeReg:
		if d.opts.Ignore&WhatContent == 0 {
			same, err := sameContent(d.old, d.new, a, b)
			if err != nil {
				return 0, err
			}
			note(WhatContent, !same)
		}
	case typeSymlink:
		note(WhatLink, a.link != b.link)
	case typeChar, typeBlock:
		note(WhatContent, a.major != b.major || a.minor != b.minor)
	}
	note(WhatMode, a.flag != typeSymlink && a.mode != b.mode)
	note(WhatOwner, a.uid != b.uid || a.gid != b.gid)
	note(WhatTimes, a.sec != b.sec || a.nano != b.nano && a.nano != 0 && b.nano != 0)
	note(WhatXattrs, !maps.Equal(a.records, b.records))
	note(WhatLink, a.flag != typeDir && a.first != b.first)
	return w &^ d.opts.Ignore, nil
}
