package pack

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ocikit/tarutil"
	"ocikit/tarutil/internal/handle"
)

// A plan is the part of the output tree that the options name: where the sources hang,
// and the whiteouts.
type plan struct {
	root    *planDir
	sources []*handle.Shared // opened for this plan
}

// A planDir is a directory that an option names.
type planDir struct {
	children  map[string]*planDir
	made      bool      // something goes into it, so it cannot be a file
	trees     []treeDir // source directories whose content goes here
	leaf      *treeFile // instead: a single file that goes here
	whiteouts []string  // names removed here; the opaque one first
}

// A treeDir is an open directory of a source.
type treeDir struct {
	dir  *handle.Shared
	path string // for errors: what the user named, joined with rel
	rel  string // path within the source, for patterns
}

// A treeFile is a name in an open directory.
type treeFile struct {
	in   treeDir
	base string
	flag byte
}

func newPlan(sources []Source, opts *Options) (*plan, error) {
	p := &plan{root: &planDir{}}
	prefix, err := tarutil.CleanPath(opts.Prefix)
	if err == nil && prefix != "" {
		err = tarutil.RefuseWhiteout(prefix)
	}
	if err != nil {
		return p, fmt.Errorf("prefix %q: %w", opts.Prefix, err)
	}

	for _, src := range sources {
		if err := p.addSource(src, prefix, opts.Exclude); err != nil {
			return p, err
		}
	}

	for _, s := range opts.Whiteouts {
		dir, base, err := whiteoutPath(s)
		if err != nil {
			return p, err
		}
		p.whiteout(dir, tarutil.WhiteoutPrefix+base)
	}

	// "/" is the root, where engines ignore the whiteout; "" is not a path at all.
	for _, s := range opts.Opaques {
		dir, err := tarutil.CleanPath(s)
		if err == nil && s == "" {
			err = fmt.Errorf("%q: %w", s, tarutil.ErrBadPath)
		}
		if err == nil && dir == "" {
			err = fmt.Errorf("%q: %w", s, tarutil.ErrOpaqueRoot)
		}
		if err == nil {
			err = tarutil.RefuseWhiteout(dir)
		}
		if err != nil {
			return p, fmt.Errorf("opaque whiteout %w", err)
		}
		p.whiteout(dir, tarutil.OpaqueName)
	}

	p.root.dropHidden(false)
	return p, nil
}

// dropHidden drops the whiteouts that an opaque one makes superfluous: those beside it and below it.
// They remove nothing more, and overlay file systems list them as files that cannot be opened. If
// below is set, an opaque whiteout is above n, and all of its own are dropped.
func (n *planDir) dropHidden(below bool) {
	opaque := len(n.whiteouts) > 0 && n.whiteouts[0] == tarutil.OpaqueName
	switch {
	case below:
		n.whiteouts = nil
	case opaque:
		n.whiteouts = n.whiteouts[:1]
	}
	for _, child := range n.children {
		child.dropHidden(below || opaque)
	}
}

// whiteout adds a whiteout once, in tree order.
func (p *plan) whiteout(dir, name string) {
	n := p.root.at(dir, false)
	i, found := slices.BinarySearchFunc(n.whiteouts, name, tarutil.CompareNames)
	if !found {
		n.whiteouts = slices.Insert(n.whiteouts, i, name)
	}
}

// addSource opens a source and hangs it into the plan.
func (p *plan) addSource(src Source, prefix string, exclude *tarutil.Matcher) error {
	dest, err := tarutil.CleanPath(src.Dest)
	if err == nil && dest != "" {
		err = tarutil.RefuseWhiteout(dest)
	}
	if err != nil {
		return fmt.Errorf("destination of %q: %w", src.Path, err)
	}

	file, isDir, err := p.openSource(src.Path)
	if err != nil {
		return fmt.Errorf("open %q: %w", src.Path, err)
	}

	if isDir {
		n := p.root.at(tarutil.JoinPath(prefix, dest), true)
		n.trees = append(n.trees, file.in)
		return nil
	}

	// Dest is the directory of a file, or else its name; see [Source].
	if src.Dest == "" || strings.HasSuffix(src.Dest, "/") {
		if strings.HasPrefix(file.base, tarutil.WhiteoutPrefix) {
			return fmt.Errorf("file %q: %w", src.Path, tarutil.ErrWhiteoutName)
		}
		dest = tarutil.JoinPath(dest, file.base)
	}

	if exclude.Match(file.base) {
		return nil
	}
	if dest == "" {
		return fmt.Errorf("destination of %q: %q: %w", src.Path, src.Dest, tarutil.ErrBadPath)
	}

	// A place has one file, or else directories. What source directories hold is compared when they
	// are walked.
	dir, base := tarutil.SplitPath(tarutil.JoinPath(prefix, dest))
	parent := p.root.at(dir, true)
	if n := parent.children[base]; n != nil && (n.leaf != nil || n.made) {
		return fmt.Errorf("file %q: %w: %q", src.Path, tarutil.ErrDuplicate, tarutil.JoinPath(dir, base))
	}

	parent.at(base, false).leaf = file
	return nil
}

// openSource opens the directory path, or else the directory that path is in. The handle belongs to
// the plan, also after an error.
func (p *plan) openSource(path string) (file *treeFile, isDir bool, err error) {
	if path == "" {
		return nil, false, fmt.Errorf("%w: it is empty", tarutil.ErrBadPath)
	}

	// The last name of the path is looked up in the directory above it, so that a symbolic link
	// is not followed. With a slash at the end there is no last name, and it is.
	cut := len(path) // where the last name begins
	for cut > len(filepath.VolumeName(path)) && !os.IsPathSeparator(path[cut-1]) {
		cut--
	}

	base := path[cut:]
	if base != "" && base != "." && base != ".." { // else it is a directory, or an error
		above := path[:cut]
		if above == "" {
			above = "."
		}
		parent, err := handle.Open(above)
		if err != nil {
			return nil, false, err
		}

		in := treeDir{dir: p.own(parent), path: path[:cut]}
		info, _, err := parent.Lstat(base, tarutil.XattrsNone)
		if err != nil {
			return nil, false, err
		}
		if info.Flag != tar.TypeDir {
			return &treeFile{in: in, base: base, flag: info.Flag}, false, nil
		}
	}

	dir, err := handle.Open(path)
	if err != nil {
		return nil, false, err
	}

	return &treeFile{in: treeDir{dir: p.own(dir), path: path}}, true, nil
}

// own makes the plan close h.
func (p *plan) own(h handle.Dir) *handle.Shared {
	d := handle.Share(h)
	p.sources = append(p.sources, d)
	return d
}

func (p *plan) close() {
	for _, d := range p.sources {
		d.Release()
	}
}

// at returns the directory path below n, made if it is missing. If made is set, something goes into
// it and all on the way to it; see [Options].Parents.
func (n *planDir) at(path string, made bool) *planDir {
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, "/")
		child := n.children[name]
		if child == nil {
			child = &planDir{}
			if n.children == nil {
				n.children = make(map[string]*planDir)
			}
			n.children[name] = child
		}
		child.made = child.made || made
		n = child
	}

	return n
}

// whiteoutPath splits a path to be removed into its directory and its name.
func whiteoutPath(s string) (dir, base string, err error) {
	clean, err := tarutil.CleanPath(s)
	if err != nil {
		return "", "", fmt.Errorf("whiteout %w", err)
	}
	if clean == "" {
		return "", "", fmt.Errorf("whiteout %q: %w: the root cannot be removed", s, tarutil.ErrBadPath)
	}
	if err := tarutil.RefuseWhiteout(clean); err != nil {
		return "", "", fmt.Errorf("whiteout %q: %w", s, err)
	}
	dir, base = tarutil.SplitPath(clean)
	return dir, base, nil
}
