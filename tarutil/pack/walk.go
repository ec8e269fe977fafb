package pack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/handle"
)

// A walker goes through plan and sources in tree order and hands out items.
type walker struct {
	opts *Options
	send func(item) error
	// hidden are the headers of directories that are left out, from the outside in, that
	// the path being walked lies in. They are written when something in them is.
	hidden []*tar.Header
}

// An item is an entry to be written: one whose header is made, or a file to be read. With
// tell set it is something that is left out: nothing is written, and tell is called with its path.
type item struct {
	hdr  *tar.Header
	in   *treeDir // retained
	base string   // name in that directory
	flag byte
	name string // in the output
	tell func(path string)
}

// A child is what one source, or the plan, has under a name in a directory.
type child struct {
	handle.Entry
	in     *treeDir // nil for the plan
	plan   *planDir
	hidden bool // left out, but something below it may not be
}

// walk hands out what the directory called name holds: whiteouts, the union of the source
// directories in, and what the plan has.
func (w *walker) walk(ctx context.Context, plan *planDir, in []*treeDir, name string) error {
	if plan != nil {
		for _, base := range plan.whiteouts {
			hdr := &tar.Header{Typeflag: tar.TypeReg, Name: tarutil.JoinPath(name, base), Mode: 0o644}
			w.own(hdr)
			if err := w.send(item{hdr: hdr}); err != nil {
				return err
			}
		}
	}

	children, err := w.children(ctx, plan, in)
	if err != nil {
		return err
	}

	// Children of the same name are visited together.
	for len(children) > 0 {
		n := 1
		for n < len(children) && children[n].Name == children[0].Name {
			n++
		}

		group := children[:n:n]
		if plan != nil && group[0].Flag == tar.TypeDir && slices.Contains(plan.whiteouts, tarutil.WhiteoutPrefix+group[0].Name) {
			// Overlay file systems would show what the layers below have in it.
			return fmt.Errorf("%w: %q is to be removed, and to hold something", tarutil.ErrDuplicate, tarutil.JoinPath(name, group[0].Name))
		}
		if err := w.visit(ctx, group, tarutil.JoinPath(name, group[0].Name)); err != nil {
			return err
		}
		children = children[n:]
	}

	return nil
}

// children lists the directories and the plan, without what is left out, sorted.
func (w *walker) children(ctx context.Context, plan *planDir, in []*treeDir) ([]child, error) {
	var children []child
	for _, dir := range in {
		if err := ctx.Err(); err != nil {
			return nil, err
		}

		list, err := dir.dir.List()
		if err != nil {
			return nil, fmt.Errorf("read directory %q: %w", dir.path, vanished(err))
		}

		children = slices.Grow(children, len(list))
		for _, e := range list {
			// A directory is left out only if no pattern may bring back what is in it.
			c := child{Entry: e, in: dir}
			if w.opts.Exclude != nil {
				rel := tarutil.JoinPath(dir.rel, e.Name)
				if w.opts.Exclude.Match(rel) {
					if e.Flag != tar.TypeDir || !w.opts.Exclude.MayReinclude(rel) {
						continue
					}
					c.hidden = true
				}
			}

			// In a layer the file would remove another.
			if strings.HasPrefix(e.Name, tarutil.WhiteoutPrefix) {
				return nil, fmt.Errorf("file %q: %w", filepath.Join(dir.path, e.Name), tarutil.ErrWhiteoutName)
			}
			children = append(children, c)
		}
	}

	// Since the sort is stable, entries of the plan come behind those of the sources.
	if plan != nil {
		for name, p := range plan.children {
			c := child{Entry: handle.Entry{Name: name, Flag: tar.TypeDir}, plan: p}
			if p.leaf != nil {
				c.Flag = p.leaf.flag
			}
			children = append(children, c)
		}
	}

	// Names differ unless sources overlap; then the order of sources counts.
	slices.SortStableFunc(children, func(a, b child) int { return strings.Compare(a.Name, b.Name) })
	return children, nil
}

// visit hands out the entry called name, which all of group give, and what it holds.
func (w *walker) visit(ctx context.Context, group []child, name string) error {
	if err := checkGroup(group, name); err != nil {
		return err
	}

	c := &group[0]
	if c.Flag == tar.TypeDir {
		return w.visitDir(ctx, group, name)
	}

	it := item{in: c.in, base: c.Name, flag: c.Flag, name: name}
	if c.plan != nil {
		it.in, it.base = &c.plan.leaf.in, c.plan.leaf.base
	}

	if c.Flag == handle.FlagSocket {
		return w.leaveOut(it.in, it.base, w.opts.Notice)
	}

	// A reader opens the file, and the walk may have left the directory by then.
	if err := w.reveal(); err != nil {
		return err
	}
	it.in.dir.Retain()
	return w.send(it)
}

// leaveOut hands out that a name, or something of it, is left out, if there is somebody to tell.
func (w *walker) leaveOut(in *treeDir, base string, tell func(path string)) error {
	if tell == nil {
		return nil
	}
	in.dir.Retain()
	return w.send(item{in: in, base: base, tell: tell})
}

// tellMark hands out that the directory c, opened as t, has the mark of an overlay, if so.
func (w *walker) tellMark(t *treeDir, c child) error {
	if w.opts.MarkNotice == nil || c.hidden {
		return nil
	}
	mark := t.dir.OverlayMark()
	if mark == "" {
		return nil
	}
	return w.leaveOut(c.in, c.Name, func(path string) { w.opts.MarkNotice(path, mark) })
}

// checkGroup returns an error if the children do not go together: several of one name must all be
// directories, and a file of the plan has nothing below it.
func checkGroup(group []child, name string) error {
	if err := tarutil.CheckLengths(name); err != nil {
		return fmt.Errorf("file %q: %w", name, err)
	}
	for _, c := range group {
		p := c.plan
		if len(group) > 1 && c.Flag != tar.TypeDir ||
			p != nil && p.leaf != nil && (p.made || len(p.children)+len(p.whiteouts) > 0) {
			return fmt.Errorf("%w: %q, and not by directories only", tarutil.ErrDuplicate, name)
		}
	}
	return nil
}

// visitDir hands out a directory, and what it holds.
func (w *walker) visitDir(ctx context.Context, group []child, name string) error {
	found, err := w.openDirs(group, name)
	defer func() {
		for _, t := range found.trees {
			t.dir.Release()
		}
	}()
	if err != nil {
		return err
	}

	// Sources whose Dest is this directory give their content, and never its header.
	plan, hdr := found.plan, found.hdr
	if plan != nil {
		for i := range plan.trees {
			plan.trees[i].dir.Retain()
			found.trees = append(found.trees, &plan.trees[i])
		}
		if hdr == nil && plan.made && w.opts.Parents {
			hdr = &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
			w.own(hdr)
		}
	}

	// A directory that is left out waits until something in it is written.
	depth := len(w.hidden)
	switch {
	case hdr != nil:
		if err := w.reveal(); err != nil {
			return err
		}
		if err := w.send(item{hdr: hdr}); err != nil {
			return err
		}
	case found.hidden != nil:
		w.hidden = append(w.hidden, found.hidden)
	}

	// If it still waits, nothing in it was written. It may also have been handed out, with all that
	// waited before it.
	err = w.walk(ctx, plan, found.trees, name)
	w.hidden = w.hidden[:min(depth, len(w.hidden))]
	return err
}

// A dirGroup is what the sources have of one directory.
type dirGroup struct {
	plan        *planDir
	trees       []*treeDir
	hdr, hidden *tar.Header // hidden is that of a source which leaves the directory out
}

// openDirs opens the directory in every source that has it. The first one that is not left out gives the
// header. The caller releases the trees, after an error, too.
func (w *walker) openDirs(group []child, name string) (found dirGroup, err error) {
	for _, c := range group {
		if c.plan != nil {
			found.plan = c.plan
			continue
		}

		t, h, err := w.open(c, name)
		if err == errOutput {
			if err := w.leaveOut(c.in, c.Name, w.opts.OutputNotice); err != nil {
				return found, err
			}
			continue
		}
		if err != nil {
			return found, fmt.Errorf("open directory %q: %w", filepath.Join(c.in.path, c.Name), err)
		}

		found.trees = append(found.trees, t)
		if c.hidden && found.hidden == nil {
			found.hidden = h
		} else if !c.hidden && found.hdr == nil {
			found.hdr = h
		}

		if err := w.tellMark(t, c); err != nil {
			return found, err
		}
	}

	return found, nil
}

// errOutput says that a directory is what is being written to.
var errOutput = errors.New("it is being written")

// open opens the directory c and makes its header.
func (w *walker) open(c child, name string) (*treeDir, *tar.Header, error) {
	h, err := c.in.dir.OpenDir(c.Name)
	if err != nil {
		return nil, nil, vanished(err)
	}

	t := &treeDir{dir: handle.Share(h), path: filepath.Join(c.in.path, c.Name), rel: tarutil.JoinPath(c.in.rel, c.Name)}

	info, err := h.Info()
	switch {
	case err == nil && info.Flag != tar.TypeDir:
		err = tarutil.ErrChanged
	case err == nil && w.opts.isOutput(info.ID):
		err = errOutput
	}

	var attrs map[string]string
	if err == nil && w.opts.Xattrs == tarutil.XattrsAll { // capabilities are for files
		attrs, err = h.Xattrs(w.opts.Xattrs)
	}
	if err != nil {
		t.dir.Release()
		return nil, nil, err
	}

	hdr := &tar.Header{}
	w.opts.fill(hdr, name, &info, attrs)
	return t, hdr, nil
}

// reveal hands out the directories that were held back.
func (w *walker) reveal() error {
	for _, hdr := range w.hidden {
		if err := w.send(item{hdr: hdr}); err != nil {
			return err
		}
	}
	w.hidden = w.hidden[:0]
	return nil
}

// own sets owner and time of an entry that no source has.
func (w *walker) own(hdr *tar.Header) {
	w.opts.Owner.Apply(hdr)
	hdr.ModTime = w.opts.MTime.Made()
}

// fill makes hdr the header of a file, by the options.
func (o *Options) fill(hdr *tar.Header, name string, info *handle.Info, attrs map[string]string) {
	*hdr = tar.Header{
		Typeflag: info.Flag,
		Name:     name,
		Linkname: info.Target,
		Mode:     o.Mode.Apply(info.Flag, info.Perm),
		Uid:      info.UID, Gid: info.GID,
		ModTime:  o.MTime.Apply(info.ModTime()),
		Devmajor: info.Major, Devminor: info.Minor,
	}

	if info.Flag == tar.TypeReg {
		hdr.Size = info.Size
	}

	o.Owner.Apply(hdr)
	if len(attrs) > 0 {
		hdr.PAXRecords = make(map[string]string, len(attrs))
		for key, value := range attrs {
			hdr.PAXRecords[tarutil.XattrPrefix+key] = value
		}
	}
}
