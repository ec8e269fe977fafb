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
func WriteLayer(ctx context.Context, w io.Writer, old, new tarutil.Tree, opts Options) ([]Change, error) {
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

	return d.changes, err
}

// mark marks the files of the new tree that go into the layer.
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

		// All names of the file are written, so the directories of all of them are needed.
		f.emit = true
		d.markAbove(f.first)
		for _, name := range f.more {
			d.markAbove(name)
		}
	}
}

// markAbove marks the directories that path lies in.
func (d *differ) markAbove(path string) {
	for path, _ = tarutil.SplitPath(path); path != ""; path, _ = tarutil.SplitPath(path) {
		if f := d.new.files[path]; f != nil && f.flag == tar.TypeDir {
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

	// One opaque whiteout can stand for all names of a directory only if none of them is left.
	for _, name := range d.old.names {
		dir, _ := tarutil.SplitPath(name)
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
		dir, base := tarutil.SplitPath(name)
		if !deleted(name) || !d.new.isDir(dir) {
			continue
		}

		c := counts[dir]

		// At the root overlay file systems have no place for an opaque mark.
		explicit := dir == "" || c.left > 0 || c.gone == 1 || d.opts.Exclude != nil
		switch {
		case c.gone == 0: // the opaque whiteout stands for it
		case explicit:
			list = append(list, tarutil.JoinPath(dir, tarutil.WhiteoutPrefix+base))
		default:
			list = append(list, tarutil.JoinPath(dir, tarutil.OpaqueName))
			counts[dir] = count{} // once
		}
	}

	return list
}

// write writes the marked files, in the order of the tree.
func (d *differ) write(ctx context.Context, tw *tarutil.Writer, tree tarutil.Tree) error {
	written := make(map[*inode]bool)
	err := tree.Walk(ctx, func(e tarutil.TreeEntry) error {
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

	// What the first walk saw and the second did not is gone meanwhile.
	for _, name := range d.new.names {
		if f := d.new.files[name]; f.emit && !f.implied && !written[f] {
			return fmt.Errorf("entry %q: %w: it is gone", name, tarutil.ErrChanged)
		}
	}

	return nil
}

// writeFile writes a file with all its names. It waits for the entry with the content, and does nothing
// for a hard link.
func (d *differ) writeFile(tw *tarutil.Writer, f *inode, name string, e tarutil.TreeEntry, written map[*inode]bool) error {
	if e.Header.Typeflag == tar.TypeLink {
		return nil
	}

	// The second walk must find what the first one compared.
	now, err := newInode(e)
	if err != nil {
		return err
	}

	if now.flag != f.flag || now.size != f.size || now.sec != f.sec || now.nano != f.nano {
		if f.flag == tar.TypeDir && now.flag == tar.TypeDir {
			return nil // another entry of it counts
		}
		return fmt.Errorf("entry %q: %w", name, tarutil.ErrChanged)
	}

	// The file gets the name under which its content comes now, and its other names become links
	// to it. The sorter moves the content to the first of them.
	hdr := f.header()
	hdr.Name = name
	written[f] = true
	if err := tw.WriteHeader(hdr); err != nil {
		return err
	}

	if f.flag == tar.TypeReg {
		if _, err := tw.ReadFrom(e.Content); err != nil {
			return fmt.Errorf("entry %q: %w", name, err)
		}
	}

	for _, other := range append([]string{f.first}, f.more...) {
		if other == name || f.flag == tar.TypeDir {
			continue
		}
		link := tarutil.HardLink(*hdr, name)
		link.Name = other
		if err := tw.WriteHeader(link); err != nil {
			return err
		}
	}

	return nil
}
