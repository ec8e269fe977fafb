package diff

import (
	"archive/tar"
	"context"
	"fmt"
	"io"

	"ocikit/tarutil"
)

// WriteLayer writes to w the layer that turns old into new, and returns the changes as
// [Trees] does. The layer is in tree order, and has
//
//   - what was added or changed, as it is in new;
//   - a whiteout for each deleted path whose directory still exists. Where a directory is replaced
//     by something else, or the reverse, no whiteout is needed;
//   - one opaque whiteout in place of these if a directory held several names and none of them is
//     left. It is not used if paths are excluded, since it would remove these too, and not at the
//     root, where Docker, containerd and podman ignore it;
//   - the directories that lead to all this, as they are in new, since some programs create missing
//     ones with permissions of their own;
//   - all names of a file if one of them is in the layer, since a hard link to a file of another
//     layer would make a copy.
//
// A layer between like trees has no entries. All is written to a temporary file first, and to w only
// if that succeeded. New is walked a second time. If a file is not as it was before, the error wraps
// [tarutil.ErrChanged].
func WriteLayer(ctx context.Context, w io.Writer, old, new tarutil.Tree, opts Options) (*Changes, error) {
	d, err := newDiffer(ctx, old, new, &opts)
	if err != nil {
		return nil, err
	}

	d.mark()
	err = tarutil.WriteSorted(ctx, w, opts.TempDir, func(tw *tarutil.Writer) error {
		for _, name := range d.whiteouts() {
			hdr := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}
			if err := tw.WriteHeader(hdr); err != nil {
				return err
			}
		}
		return d.write(ctx, tw, new)
	})
	return &d.changes, err
}

// mark marks the files of the new tree that go into the layer.
func (d *differ) mark() {
	for _, c := range d.changes.list {
		n := d.new.number(c.path)
		if n == 0 { // it is deleted
			d.markAbove(c.path)
			continue
		}
		if d.new.emit[n] {
			continue
		}

		// All names of the file are written, so the directories of all of them are needed.
		d.new.emit[n] = true
		for _, name := range d.new.names(n) {
			d.markAbove(name)
		}
	}
}

// markAbove marks the directories that a path lies in.
func (d *differ) markAbove(id tarutil.PathID) {
	for id = d.paths.Dir(id); id != 0; id = d.paths.Dir(id) {
		n := d.new.number(id)
		if n == 0 || !d.new.isDir(id) {
			continue
		}
		if d.new.emit[n] {
			return
		}
		d.new.emit[n] = true
	}
}

// whiteouts returns the names of all whiteouts.
func (d *differ) whiteouts() []string {
	type count struct{ gone, left int }
	counts := make(map[tarutil.PathID]count) // of the names that a directory had
	deleted := func(id tarutil.PathID) bool { return d.new.number(id) == 0 }

	// One opaque whiteout can stand for all names of a directory only if none of them is left.
	for id := range d.inOrder() {
		if d.old.number(id) == 0 {
			continue
		}
		dir := d.paths.Dir(id)
		c := counts[dir]
		if deleted(id) {
			c.gone++
		} else {
			c.left++
		}
		counts[dir] = c
	}

	var list []string
	for id := range d.inOrder() {
		dir := d.paths.Dir(id)
		if d.old.number(id) == 0 || !deleted(id) || !d.new.isDir(dir) {
			continue
		}

		c := counts[dir]
		// At the root overlay file systems have no place for an opaque mark.
		explicit := dir == 0 || c.left > 0 || c.gone == 1 || d.opts.Exclude != nil
		switch {
		case c.gone == 0: // the opaque whiteout stands for it
		case explicit:
			list = append(list, tarutil.JoinPath(d.paths.Path(dir), tarutil.WhiteoutPrefix+d.paths.Name(id)))
		default:
			list = append(list, tarutil.JoinPath(d.paths.Path(dir), tarutil.OpaqueName))
			counts[dir] = count{} // once
		}
	}
	return list
}

// write writes the marked files, in the order of the tree.
func (d *differ) write(ctx context.Context, tw *tarutil.Writer, tree tarutil.Tree) error {
	if s, ok := tree.(tarutil.Sharer); ok {
		defer s.Forget()
	}

	written := make(map[uint32]bool)
	err := tree.Walk(ctx, func(e tarutil.TreeEntry) error {
		id, _ := d.paths.Lookup(e.Header.Name)
		n := d.new.number(id)
		if n == 0 { // it does not count, but its other names may
			if n = d.new.hidden[id]; n == 0 || len(d.new.links[n]) == 0 {
				return nil
			}
			id = d.new.first(n)
		}
		if !d.new.emit[n] || d.new.file(n).implied {
			return nil
		}
		return d.writeFile(tw, n, id, e, written)
	})
	if err != nil {
		return err
	}

	// What the first walk saw and the second did not is gone meanwhile.
	for id := range d.inOrder() {
		n := d.new.number(id)
		if d.new.emit[n] && !d.new.file(n).implied && !written[n] {
			return fmt.Errorf("entry %q: %w: it is gone", d.paths.Path(id), tarutil.ErrChanged)
		}
	}
	return nil
}

// writeFile writes a file with all its names. It waits for the entry with the content, and does nothing
// for a hard link.
func (d *differ) writeFile(tw *tarutil.Writer, n uint32, name tarutil.PathID, e tarutil.TreeEntry, written map[uint32]bool) error {
	if e.Header.Typeflag == tar.TypeLink {
		return nil
	}

	// The second walk must find what the first one compared.
	f := d.new.file(n)
	now, err := d.newInode(e, name)
	if err != nil {
		return err
	}
	if now.flag != f.flag || f.flag == tar.TypeReg && now.size != f.size || now.sec != f.sec || now.nano != f.nano {
		if f.flag == tar.TypeDir && now.flag == tar.TypeDir {
			return nil // another entry of it counts
		}
		return fmt.Errorf("entry %q: %w", d.paths.Path(name), tarutil.ErrChanged)
	}

	// The file gets the name under which its content comes now, and its other names become links
	// to it. The sorter moves the content to the first of them.
	hdr := d.headerAs(f, name)
	written[n] = true
	if err := tw.WriteHeader(hdr); err != nil {
		return err
	}
	if f.flag == tar.TypeReg {
		if _, err := tw.ReadFrom(e.Content); err != nil {
			return fmt.Errorf("entry %q: %w", hdr.Name, err)
		}
	}

	for _, other := range d.new.names(n) {
		if other == name || f.flag == tar.TypeDir {
			continue
		}
		link := tarutil.HardLink(*hdr, hdr.Name)
		link.Name = d.paths.Path(other)
		if err := tw.WriteHeader(link); err != nil {
			return err
		}
	}
	return nil
}
