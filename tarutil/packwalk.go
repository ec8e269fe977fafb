package tarutil

import (
	"archive/tar"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// A walker goes through plan and sources in tree order and hands out items.
type walker struct {
	opts *PackOptions
	send func(item) error
	// hidden are the headers of directories that are left out, from the outside in, that
	// the path being walked lies in. They are written when something in them is.
	hidden []*tar.Header
}

// An item is an entry to be written: one whose header is made, or a file to be read.
type item struct {
	hdr  *tar.Header
	in   *treeDir // retained
	base string   // name in that directory
	flag byte
	name string // in the output
}

// A child is one source's, or the plan's, idea of what a name in a directory is.
type child struct {
	dirent
	in     *treeDir // nil for the plan
	plan   *planDir
	hidden bool // left out, but something below it may not be
}

// walk hands out what the directory called name holds: whiteouts, the union of the source
// directories in, and what the plan has.
func (w *walker) walk(ctx context.Context, plan *planDir, in []*treeDir, name string) error {
	if plan != nil {
		for _, base := range plan.whiteouts {
			hdr := &tar.Header{Typeflag: typeReg, Name: joinPath(name, base), Mode: 0o644}
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
	for len(children) > 0 {
		n := 1
		for n < len(children) && children[n].name == children[0].name {
			n++
		}
		if err := w.visit(ctx, children[:n:n], joinPath(name, children[0].name)); err != nil {
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
		list, err := dir.dir.list()
		if err != nil {
			return nil, fmt.Errorf("read directory %q: %w", dir.path, err)
		}
		children = slices.Grow(children, len(list))
		for _, e := range list {
			c := child{dirent: e, in: dir}
			if w.opts.Exclude != nil {
				rel := joinPath(dir.rel, e.name)
				if w.opts.Exclude.Match(rel) {
					if e.flag != typeDir || !w.opts.Exclude.mayReinclude(rel) {
						continue
					}
					c.hidden = true
				}
			}
			if strings.HasPrefix(e.name, whiteoutPrefix) {
				return nil, fmt.Errorf("file %q: %w", filepath.Join(dir.path, e.name), ErrWhiteoutName)
			}
			children = append(children, c)
		}
	}
	if plan != nil {
		for name, p := range plan.children {
			c := child{dirent: dirent{name, typeDir}, plan: p}
			if p.leaf != nil {
				c.flag = p.leaf.flag
			}
			children = append(children, c)
		}
	}
	// Names differ unless sources overlap; then the order of sources counts.
	slices.SortStableFunc(children, func(a, b child) int { return strings.Compare(a.name, b.name) })
	return children, nil
}

// visit hands out the entry called name, which all of group give, and what it holds.
func (w *walker) visit(ctx context.Context, group []child, name string) error {
	if err := checkGroup(group, name); err != nil {
		return err
	}
	c := &group[0]
	if c.flag == typeDir {
		return w.visitDir(ctx, group, name)
	}
	it := item{in: c.in, base: c.name, flag: c.flag, name: name}
	if c.plan != nil {
		it.in, it.base = &c.plan.leaf.in, c.plan.leaf.base
	}
	if c.flag == flagSocket {
		if w.opts.Notice != nil {
			w.opts.Notice(filepath.Join(it.in.path, it.base))
		}
		return nil
	}
	if err := w.reveal(); err != nil {
		return err
	}
	it.in.dir.retain()
	return w.send(it)
}

// checkGroup returns an error if the children do not go together.
func checkGroup(group []child, name string) error {
	for _, c := range group {
		p := c.plan
		if len(group) > 1 && c.flag != typeDir ||
			p != nil && p.leaf != nil && (p.made || len(p.children)+len(p.whiteouts) > 0) {
			return fmt.Errorf("%w: %q, and not by directories only", ErrDuplicate, name)
		}
	}
	return nil
}

// visitDir hands out a directory, and what it holds.
func (w *walker) visitDir(ctx context.Context, group []child, name string) error {
	var plan *planDir
	var trees []*treeDir
	var hdr, hidden *tar.Header
	defer func() {
		for _, t := range trees {
			t.dir.release()
		}
	}()
	for _, c := range group {
		if c.plan != nil {
			plan = c.plan
			continue
		}
		t, h, err := w.open(c, name)
		if err != nil {
			return fmt.Errorf("open directory %q: %w", filepath.Join(c.in.path, c.name), err)
		}
		trees = append(trees, t)
		if c.hidden && hidden == nil {
			hidden = h
		} else if !c.hidden && hdr == nil {
			hdr = h
		}
	}
	if plan != nil {
		for i := range plan.trees {
			plan.trees[i].dir.retain()
			trees = append(trees, &plan.trees[i])
		}
		if hdr == nil && plan.made {
			hdr = &tar.Header{Typeflag: typeDir, Name: name, Mode: 0o755}
			w.own(hdr)
		}
	}
	depth := len(w.hidden)
	switch {
	case hdr != nil:
		if err := w.reveal(); err != nil {
			return err
		}
		if err := w.send(item{hdr: hdr}); err != nil {
			return err
		}
	case hidden != nil:
		w.hidden = append(w.hidden, hidden)
	}
	err := w.walk(ctx, plan, trees, name)
	w.hidden = w.hidden[:min(depth, len(w.hidden))]
	return err
}

// open opens the directory c and makes its header.
func (w *walker) open(c child, name string) (*treeDir, *tar.Header, error) {
	h, err := c.in.dir.openDir(c.name)
	if err != nil {
		return nil, nil, err
	}
	t := &treeDir{dir: newSharedDir(h), path: filepath.Join(c.in.path, c.name), rel: joinPath(c.in.rel, c.name)}
	info, err := h.info()
	if err == nil && info.flag != typeDir {
		err = ErrChanged
	}
	var attrs map[string]string
	if err == nil && w.opts.Xattrs == XattrsAll { // capabilities are for files
		attrs, err = h.xattrs(w.opts.Xattrs)
	}
	if err != nil {
		t.dir.release()
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
	if !w.opts.Owner.Keep {
		hdr.Uid, hdr.Gid = w.opts.Owner.UID, w.opts.Owner.GID
	}
	hdr.ModTime = w.opts.MTime.made()
}

// fill makes hdr the header of a file, by the options.
func (o *PackOptions) fill(hdr *tar.Header, name string, info *fileInfo, attrs map[string]string) {
	*hdr = tar.Header{
		Typeflag: info.flag,
		Name:     name,
		Linkname: info.target,
		Mode:     o.Mode.apply(info.flag, info.perm),
		Uid:      info.uid, Gid: info.gid,
		ModTime:  o.MTime.apply(info.mtime()),
		Devmajor: info.major, Devminor: info.minor,
	}
	if info.flag == typeReg {
		hdr.Size = info.size
	}
	if !o.Owner.Keep {
		hdr.Uid, hdr.Gid = o.Owner.UID, o.Owner.GID
	}
	if len(attrs) > 0 {
		hdr.PAXRecords = make(map[string]string, len(attrs))
		for key, value := range attrs {
			hdr.PAXRecords[xattrPrefix+key] = value
		}
	}
}
