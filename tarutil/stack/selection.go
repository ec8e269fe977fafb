package stack

import (
	"archive/tar"
	"fmt"
	"math"
	"strings"

	"ocikit/tarutil"
)

// Select returns a stack that has only some paths of s, each with all that is below it. They have
// the names that paths say, and come behind the directories on the way. Links on the way and at the
// end of a path are followed, as by [Stack.Resolve]; those below it stay links. The root, as "" or
// "/", is all of s. An error wraps fs.ErrNotExist if a path means nothing.
//
// Selected names of one file stay names of one file.
func (s *Stack) Select(paths ...string) (*Stack, error) {
	sel := &selection{
		from:   s,
		tree:   newStackTree(tarutil.NewPathTable(tarutil.NewBudget(0)), math.MaxInt, 0, nil), // smaller than s
		cloned: make(map[*stackFile]*stackFile),
	}

	for _, p := range paths {
		clean, err := tarutil.CleanPath(p)
		if err != nil {
			return nil, err
		}
		if clean == "" {
			return s, nil
		}
		if err := sel.add(clean); err != nil {
			return nil, err
		}
	}

	out := &Stack{layers: s.layers, opts: s.opts, tree: sel.tree}
	out.index()
	return out, nil
}

// A selection is one run of Select.
type selection struct {
	from   *Stack
	tree   *stackTree
	cloned map[*stackFile]*stackFile
}

// add adds what the clean path means.
func (sel *selection) add(path string) error {
	// Each directory on the way is resolved by itself, so that a link on the way becomes a
	// directory with the name of the link.
	at := sel.tree.root
	for end := 0; end < len(path); end++ {
		rest := strings.IndexByte(path[end:], '/')
		if rest < 0 {
			break
		}
		end += rest

		dir, err := sel.from.resolve(path[:end])
		if err != nil {
			return err
		}
		_, name := tarutil.SplitPath(path[:end])
		if at, err = sel.put(at, name, dir); err != nil {
			return err
		}
	}

	n, err := sel.from.resolve(path)
	if err != nil {
		return err
	}

	_, name := tarutil.SplitPath(path)
	return sel.copy(at, name, n)
}

// copy adds n, and all that is below it, as name in dir.
func (sel *selection) copy(dir *node, name string, n *node) error {
	at, err := sel.put(dir, name, n)
	from := sel.from.tree
	if err != nil || !from.isDir(n) {
		return err
	}
	for c := range from.in(n) {
		if err := sel.copy(at, from.name(c), c); err != nil {
			return err
		}
	}
	return nil
}

// put adds one more name for what has the name from, or returns what was added before.
func (sel *selection) put(dir *node, name string, from *node) (*node, error) {
	n, err := sel.tree.node(dir, name)
	if err == nil && n.file == 0 {
		sel.tree.layer, sel.tree.entry = from.layer, from.entry
		err = sel.tree.add(n, dir, sel.clone(sel.from.tree.file(from)))
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", tarutil.JoinPath(sel.tree.path(dir), name), err)
	}

	return n, nil
}

// clone returns what stands for a file of the stack in the selection. A directory by two paths is two
// directories.
func (sel *selection) clone(file *stackFile) *stackFile {
	if out := sel.cloned[file]; out != nil && file.flag != tar.TypeDir {
		return out
	}

	out := sel.tree.newFile(file.flag)
	out.layer, out.entry, out.lacks, out.implied = file.layer, file.entry, file.lacks, file.implied
	if a := sel.from.tree.attributes(file); a != nil {
		sel.tree.setAttributes(out, a)
	}
	sel.cloned[file] = out
	return out
}
