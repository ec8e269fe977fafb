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
		tree:   newStackTree(math.MaxInt, 0, nil), // smaller than s
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
	if err != nil || n.file.flag != tar.TypeDir {
		return err
	}
	for c := n.child; c != nil; c = c.next {
		if err := sel.copy(at, c.name, c); err != nil {
			return err
		}
	}
	return nil
}

// put adds one more name for what has the name from, or returns what was added before.
func (sel *selection) put(dir *node, name string, from *node) (*node, error) {
	if n := sel.tree.names[childKey{dir, name}]; n != nil {
		return n, nil
	}

	file := from.file
	out := sel.cloned[file]
	if out == nil || file.flag == tar.TypeDir { // by two paths it is two directories
		c := *file
		c.first, c.many, c.walk, c.names = nil, false, 0, 0
		out = &c
		sel.cloned[file] = out
	}

	sel.tree.layer, sel.tree.entry = from.layer, from.entry
	n, err := sel.tree.add(dir, name, out)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", tarutil.JoinPath(dir.path(), name), err)
	}

	return n, nil
}
