// Package diff compares file systems. A file system is any [tarutil.Tree]: a directory, a tar, or a
// stack of layers. [Trees] says in which paths two trees differ, and how. [WriteLayer] writes the
// layer that turns the one into the other.
package diff

import (
	"archive/tar"
	"context"
	"iter"
	"unsafe"

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

// Changes are the paths in which two trees differ, in tree order.
type Changes struct {
	d    *differ
	list []change
}

// A change is what is remembered of a Change: there may be one for each file.
type change struct {
	path    tarutil.PathID
	aspects uint32 // if both trees have the path
}

// Len returns how many paths differ.
func (c *Changes) Len() int { return len(c.list) }

// At returns the change of number i.
func (c *Changes) At(i int) Change {
	is, d := c.list[i], c.d
	full := Change{Path: d.paths.Path(is.path), Kind: Changed, Aspects: Aspects(is.aspects)}
	old, new := d.old.number(is.path), d.new.number(is.path)
	switch {
	case old == 0:
		full.Kind = Added
	case new == 0:
		full.Kind = Deleted
	}

	if old != 0 {
		full.Old = d.old.header(old)
	}

	if new != 0 {
		full.New = d.new.header(new)
	}
	return full
}

// All yields the changes.
func (c *Changes) All() iter.Seq[Change] {
	return func(yield func(Change) bool) {
		for i := range c.list {
			if !yield(c.At(i)) {
				return
			}
		}
	}
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
// headers, within [tarutil.DefaultMaxMemory] for both trees, and no contents: it is enough for a million
// files that are nearly all alike in both. Trees walks old first and then new. It calls Reset of a
// Reopener, and Share and Forget of a [tarutil.Sharer].
func Trees(ctx context.Context, old, new tarutil.Tree, opts Options) (*Changes, error) {
	d, err := newDiffer(ctx, old, new, &opts)
	if err != nil {
		return nil, err
	}
	return &d.changes, nil
}

// A differ is one run of Trees or WriteLayer.
type differ struct {
	*tables
	opts     *Options
	old, new *snapshot
	changes  Changes
}

func newDiffer(ctx context.Context, old, new tarutil.Tree, opts *Options) (*differ, error) {
	d := &differ{tables: newTables(), opts: opts}
	d.changes.d = d

	// Contents may be opened again until both sides are compared, and not later.
	for _, tree := range []tarutil.Tree{old, new} {
		if r, ok := tree.(tarutil.Reopener); ok {
			defer r.Reset()
		}
		if s, ok := tree.(tarutil.Sharer); ok {
			s.Share(d.paths)
		}
	}

	var err error
	if d.old, err = d.snapshot(ctx, old, nil); err != nil {
		return nil, err
	}
	if d.new, err = d.snapshot(ctx, new, d.old); err != nil {
		return nil, err
	}

	// The order takes two numbers for each path.
	if err := d.paths.Budget.Take(8 * d.paths.Len()); err != nil {
		return nil, err
	}
	d.order = d.paths.Children()
	return d, d.compare(ctx)
}

// snapshot walks a tree, which keeps nothing but its paths then.
func (d *differ) snapshot(ctx context.Context, tree tarutil.Tree, before *snapshot) (*snapshot, error) {
	if s, ok := tree.(tarutil.Sharer); ok {
		defer s.Forget()
	}
	return takeSnapshot(ctx, d.tables, tree, d.opts, before)
}

// compare compares what both trees have under each path.
func (d *differ) compare(ctx context.Context) error {
	for id := range d.inOrder() {
		if err := ctx.Err(); err != nil {
			return err
		}

		a, b := d.old.number(id), d.new.number(id)
		if a == 0 && b == 0 {
			continue // the path does not count, or a layer had it for a while
		}

		var what Aspects
		if a != 0 && b != 0 {
			var err error
			if what, err = d.aspects(a, b); err != nil {
				return err
			}
			if what == 0 {
				continue
			}
		}

		if err := d.paths.Budget.Take(changeMemory); err != nil {
			return err
		}
		d.changes.list = append(d.changes.list, change{id, uint32(what)})
	}
	return nil
}

// changeMemory is how many bytes a change takes.
const changeMemory = int(unsafe.Sizeof(change{}))

// aspects compares two files of the same path, by their numbers.
func (d *differ) aspects(old, new uint32) (Aspects, error) {
	a, b := d.old.file(old), d.new.file(new)
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
		note(Link, a.size != b.size)
	case tar.TypeChar, tar.TypeBlock:
		note(Content, a.size != b.size)
	}

	// A link has no permissions of its own. A time without a fraction may have lost it on the
	// way, as ustar headers have none.
	x, y := d.attributes.list[a.attrs], d.attributes.list[b.attrs]
	note(Mode, a.flag != tar.TypeSymlink && x.mode != y.mode)
	note(Owner, x.uid != y.uid || x.gid != y.gid)
	note(Times, a.sec != b.sec || a.nano != b.nano && a.nano != 0 && b.nano != 0)
	note(Xattrs, x.records != y.records)
	note(Link, a.flag != tar.TypeDir && d.old.first(old) != d.new.first(new))
	return w &^ d.opts.Ignore, nil
}
