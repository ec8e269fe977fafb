package tarutil

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A plan is the part of the output tree that the options name: where the sources hang,
// and the whiteouts.
type plan struct {
	root    *planDir
	sources []*sharedDir // opened for this plan
}

// A planDir is a directory that an option names.
type planDir struct {
	children  map[string]*planDir
	made      bool      // it is written even if no source has it
	trees     []treeDir // source directories whose content goes here
	leaf      *treeFile // instead: a single file that goes here
	whiteouts []string  // names removed here; the opaque one first
}

// A treeDir is an open directory of a source.
type treeDir struct {
	dir  *sharedDir
	path string // for errors: what the user named, joined with rel
	rel  string // path within the source, for patterns
}

// A treeFile is a name in an open directory.
type treeFile struct {
	in   treeDir
	base string
	flag byte
}

func newPlan(sources []Source, opts *PackOptions) (*plan, error) {
	p := &plan{root: &planDir{}}
	prefix, err := cleanPath(opts.Prefix)
	if err == nil && prefix != "" {
		err = refuseWhiteout(prefix)
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
		p.whiteout(dir, whiteoutPrefix+base)
	}
	for _, s := range opts.Opaques {
		dir, err := cleanPath(s)
		if err == nil && s == "" {
			err = fmt.Errorf("%q: %w", s, ErrBadPath)
		}
		if err == nil {
			err = refuseWhiteout(dir)
		}
		if err != nil {
			return p, fmt.Errorf("opaque whiteout %w", err)
		}
		p.whiteout(dir, opaqueName)
	}
	return p, nil
}

// whiteout adds a whiteout once.
func (p *plan) whiteout(dir, name string) {
	n := p.root.at(dir, false)
	i, found := slices.BinarySearchFunc(n.whiteouts, name, compareNames)
	if !found {
		n.whiteouts = slices.Insert(n.whiteouts, i, name)
	}
}

// addSource opens a source and hangs it into the plan.
func (p *plan) addSource(src Source, prefix string, exclude *Matcher) error {
	dest, err := cleanPath(src.Dest)
	if err == nil && dest != "" {
		err = refuseWhiteout(dest)
	}
	if err != nil {
		return fmt.Errorf("destination of %q: %w", src.Path, err)
	}
	file, isDir, err := p.openSource(src.Path)
	if err != nil {
		return fmt.Errorf("open %q: %w", src.Path, err)
	}
	if isDir {
		n := p.root.at(joinPath(prefix, dest), true)
		n.trees = append(n.trees, file.in)
		return nil
	}
	if src.Dest == "" || strings.HasSuffix(src.Dest, "/") {
		if strings.HasPrefix(file.base, whiteoutPrefix) {
			return fmt.Errorf("file %q: %w", src.Path, ErrWhiteoutName)
		}
		dest = joinPath(dest, file.base)
	}
	if exclude.Match(file.base) {
		return nil
	}
	if dest == "" {
		return fmt.Errorf("destination of %q: %q: %w", src.Path, src.Dest, ErrBadPath)
	}
	dir, base := splitPath(joinPath(prefix, dest))
	parent := p.root.at(dir, true)
	if n := parent.children[base]; n != nil && (n.leaf != nil || n.made) {
		return fmt.Errorf("file %q: %w: %q", src.Path, ErrDuplicate, joinPath(dir, base))
	}
	parent.at(base, false).leaf = file
	return nil
}

// openSource opens the directory path, or else the directory that path is in.
func (p *plan) openSource(path string) (file *treeFile, isDir bool, err error) {
	if path == "" {
		return nil, false, fmt.Errorf("%w: it is empty", ErrBadPath)
	}
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
		parent, err := openTree(above)
		if err != nil {
			return nil, false, err
		}
		in := treeDir{dir: p.own(parent), path: path[:cut]}
		info, _, err := parent.lstat(base, XattrsNone)
		if err != nil {
			return nil, false, err
		}
		if info.flag != typeDir {
			return &treeFile{in: in, base: base, flag: info.flag}, false, nil
		}
	}
	dir, err := openTree(path)
	if err != nil {
		return nil, false, err
	}
	return &treeFile{in: treeDir{dir: p.own(dir), path: path}}, true, nil
}

func (p *plan) own(h dirHandle) *sharedDir {
	d := newSharedDir(h)
	p.sources = append(p.sources, d)
	return d
}

func (p *plan) close() {
	for _, d := range p.sources {
		d.release()
	}
}

// at returns the directory path below n. If made is set, it and all on the way to it are
// written even if no source has them.
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
