package tarutil

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
)

// WriteDiff writes to w the layer that turns old into new, and returns the changes as
// [Diff] does. The layer is in tree order, and has
//
//   - what was added or changed, as it is in new;
//   - a whiteout for each deleted path whose directory is left; what replaces a
//     directory by something else, or the reverse, needs none;
//   - one opaque whiteout in place of these where a directory held several names and
//     none of them is left, unless paths are excluded, for it would remove these too;
//   - the directories that lead to all this, as they are in new, since some programs
//     create missing ones with permissions of their own;
//   - all names of a file of which one is in the layer, since a hard link to a file of another
//     layer would make a copy.
//
// A layer between like trees has no entries. The contents pass through a temporary file.
// New is walked a second time; if that finds another file than before, the error wraps
// [ErrChanged].
func WriteDiff(ctx context.Context, w io.Writer, old, new Tree, opts DiffOptions) ([]Change, error) {
	d, err := newDiffer(ctx, old, new, &opts)
	if err != nil {
		return nil, err
	}
	d.mark()
	err = sorted(ctx, w, opts.TempDir, func(tw *Writer) error {
		for _, name := range d.whiteouts() {
			hdr := &tar.Header{Typeflag: typeReg, Name: name, Mode: 0o644}
			if err := tw.WriteHeader(hdr); err != nil {
				return err
			}
		}
		return d.write(ctx, tw, new)
	})
	return d.changes, err
}

// mark marks what goes into the layer.
func (d *differ) mark() {
	for _, c := range d.changes {
		if c.Kind == Deleted {
			d.markAbove(c.Path)
			continue
		}
		f := d.new.files[c.Path]
		if f.emit {
			continue
		}
		f.emit = true
		d.markAbove(f.first)
		for _, name := range f.more {
			d.markAbove(name)
		}
	}
}

// markAbove marks the directories that path lies in.
func (d *differ) markAbove(path string) {
	for path, _ = splitPath(path); path != ""; path, _ = splitPath(path) {
		if f := d.new.files[path]; f != nil && f.flag == typeDir {
			if f.emit {
				return
			}
			f.emit = true
		}
	}
}

// whiteouts returns the names of all whiteouts.
func (d *differ) whiteouts() []string {
	type count struct{ gone, left int }
	counts := make(map[string]count) // of the names that a directory had
	deleted := func(name string) bool { return d.new.files[name] == nil }
	for _, name := range d.old.names {
		dir, _ := splitPath(name)
		c := counts[dir]
		if deleted(name) {
			c.gone++
		} else {
			c.left++
		}
		counts[dir] = c
	}
	var list []string
	for _, name := range d.old.names {
		dir, base := splitPath(name)
		if !deleted(name) || !d.new.isDir(dir) {
			continue
		}
		c := counts[dir]
		if c.left > 0 || c.gone == 1 || d.opts.Exclude != nil && c.gone > 0 {
			list = append(list, joinPath(dir, whiteoutPrefix+base))
		} else if c.gone > 0 {
			list = append(list, joinPath(dir, opaqueName))
			counts[dir] = count{} // once
		}
	}
	return list
}

// write writes the marked files, in the order of the tree.
func (d *differ) write(ctx context.Context, tw *Writer, tree Tree) error {
	written := make(map[*inode]bool)
	err := tree.Walk(ctx, func(e TreeEntry) error {
		name := e.Header.Name
		f := d.new.files[name]
		if f == nil { // it does not count, but its other names may
			if f = d.new.hidden[name]; f == nil || f.first == "" {
				return nil
			}
			name = f.first
		}
		if !f.emit || f.implied {
			return nil
		}
		return d.writeFile(tw, f, name, e, written)
	})
	if err != nil {
		return err
	}
	for _, name := range d.new.names {
		if f := d.new.files[name]; f.emit && !f.implied && !written[f] {
			return fmt.Errorf("entry %q: %w: it is gone", name, ErrChanged)
		}
	}
	return nil
}

// writeFile writes a file, with all its names, when the entry with its content comes.
func (d *differ) writeFile(tw *Writer, f *inode, name string, e TreeEntry, written map[*inode]bool) error {
	if e.Header.Typeflag == typeLink {
		return nil
	}
	now, err := newInode(e)
	if err != nil {
		return err
	}
	if now.flag != f.flag || now.size != f.size || now.sec != f.sec || now.nano != f.nano {
		if f.flag == typeDir && now.flag == typeDir {
			return nil // another entry of it counts
		}
		return fmt.Errorf("entry %q: %w", name, ErrChanged)
	}
	hdr := f.header()
	hdr.Name = name
	written[f] = true
	if err := tw.WriteHeader(hdr); err != nil {
		return err
	}
	if f.flag == typeReg {
		if _, err := tw.ReadFrom(e.Content); err != nil {
			return fmt.Errorf("entry %q: %w", name, err)
		}
	}
	for _, other := range append([]string{f.first}, f.more...) {
		if other == name || f.flag == typeDir {
			continue
		}
		link := asLink(*hdr, name)
		link.Name = other
		if err := tw.WriteHeader(link); err != nil {
			return err
		}
	}
	return nil
}
