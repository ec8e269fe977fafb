// Package diff compares file systems. A file system is any [tarutil.Tree]: a directory, a tar, or a
// stack of layers. [Trees] says in which paths two trees differ, and how. [WriteLayer] writes the
// layer that turns the one into the other.
package diff

import (
	"archive/tar"
	"context"
	"maps"

	"ocikit/tarutil"
)

// A Kind says what happened to a path.
type Kind string

// The kinds of [Change].
const (
	Added   Kind = "added"
	Changed Kind = "changed"
	Deleted Kind = "deleted"
)

// A Change is one path in which two trees differ.
type Change struct {
	Path    string
	Kind    Kind
	Aspects Aspects // if Kind is Changed
	// Old and New are the headers on both sides, or nil where the path does not exist. A file with
	// several names has one header for all of them, in which Name is the first in tree order.
	Old, New *tar.Header
}

// Options say what [Trees] and [WriteLayer] look at. The zero value looks at everything.
type Options struct {
	Ignore  Aspects          // changes that do not count
	Exclude *tarutil.Matcher // paths that do not count, on both sides
	TempDir string           // where WriteLayer puts its temporary file; "" is the system's default
}

// Trees returns the paths in which two trees differ, in tree order. Every path counts by itself, so
// a deleted directory comes with all that it held. The result is empty if the trees are alike.
//
//   - The fraction of a time counts only if both have one. The permissions of symbolic links do
//     not count, nor do names of owners.
//   - A directory without an entry of its own, but with something in it, exists, and equals any
//     directory.
//   - A hard link counts as the file that it is a name of. If the first name of that file in tree
//     order has changed, that is a change of [Link].
//
// Contents are compared by SHA-256. Of a [tarutil.Reopener] only those are read that have to be: not
// where the sizes differ, or where both sides are one file on disk. Memory holds all names and
// headers, within [tarutil.DefaultMaxMemory] for both trees, and no contents. Trees walks old first
// and then new, and calls Reset of those that have one.
func Trees(ctx context.Context, old, new tarutil.Tree, opts Options) ([]Change, error) {
	d, err := newDiffer(ctx, old, new, &opts)
	if err != nil {
		return nil, err
	}
	return d.changes, nil
}

// A differ is one run of Trees or WriteLayer.
type differ struct {
	opts     *Options
	old, new *snapshot
	changes  []Change
}

func newDiffer(ctx context.Context, old, new tarutil.Tree, opts *Options) (*differ, error) {
	d := &differ{opts: opts}
	var err error

	// Contents may be opened again until both sides are compared, and not later.
	for _, tree := range []tarutil.Tree{old, new} {
		if r, ok := tree.(tarutil.Reopener); ok {
			defer r.Reset()
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

		// Both lists are in tree order, so the smaller name is missing on the other side.
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = tarutil.ComparePaths(a[0], b[0])
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
			what, err := d.aspects(x, y)
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

// aspects compares two files of the same path.
func (d *differ) aspects(a, b *inode) (Aspects, error) {
	var w Aspects
	note := func(what Aspects, differ bool) {
		if differ {
			w |= what
		}
	}

	if a.flag != b.flag {
		return Type &^ d.opts.Ignore, nil
	}

	// Nothing is known of a directory without an entry.
	if a.implied || b.implied {
		return 0, nil
	}

	switch a.flag {
	case tar.TypeReg:
		if d.opts.Ignore&Content == 0 {
			same, err := sameContent(d.old, d.new, a, b)
			if err != nil {
				return 0, err
			}
			note(Content, !same)
		}
	case tar.TypeSymlink:
		note(Link, a.link != b.link)
	case tar.TypeChar, tar.TypeBlock:
		note(Content, a.major != b.major || a.minor != b.minor)
	}

	// A link has no permissions of its own. A time without a fraction may have lost it on the
	// way, as ustar headers have none.
	note(Mode, a.flag != tar.TypeSymlink && a.mode != b.mode)
	note(Owner, a.uid != b.uid || a.gid != b.gid)
	note(Times, a.sec != b.sec || a.nano != b.nano && a.nano != 0 && b.nano != 0)
	note(Xattrs, !maps.Equal(a.records, b.records))
	note(Link, a.flag != tar.TypeDir && a.first != b.first)
	return w &^ d.opts.Ignore, nil
}
