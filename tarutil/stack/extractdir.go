package stack

import (
	lru "container/list"
	"os"
	"sync"
)

// maxOpenDirs is how many directories that nobody uses at the moment stay open.
const maxOpenDirs = 128

// A dirCache opens directories below a root, one component at a time, each in the handle of
// the one above, and keeps those open that were used last. It is safe for concurrent use.
type dirCache struct {
	root *os.Root
	tree *stackTree
	top  *openedDir
	mu   sync.Mutex
	dirs map[*node]*openedDir
	idle lru.List // of *openedDir, the one used last in front; never the top
}

// An openedDir is a directory that is written to.
type openedDir struct {
	dirHandle
	node  *node
	users int
	idle  *lru.Element
}

// newDirCache opens root as the root of a tree.
func newDirCache(root *os.Root, tree *stackTree) (*dirCache, error) {
	h, err := openTop(root)
	if err != nil {
		return nil, err
	}
	d := &openedDir{dirHandle: h, node: tree.root}
	return &dirCache{root: root, tree: tree, top: d, dirs: map[*node]*openedDir{tree.root: d}}, nil
}

// open returns the directory n. It stays open until release; several may use it at once.
func (c *dirCache) open(n *node) (*openedDir, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	var missing []*node
	for at := n; c.dirs[at] == nil; at = c.tree.dir(at) {
		missing = append(missing, at)
	}

	// From the top down, one name each: no path is ever looked up as a whole.
	for i := len(missing) - 1; i >= 0; i-- {
		at := missing[i]
		h, err := c.dirs[c.tree.dir(at)].openDir(c.tree.name(at))
		if err != nil {
			return nil, err
		}
		d := &openedDir{dirHandle: h, node: at}
		c.dirs[at] = d
		d.idle = c.idle.PushFront(d)
		c.trim()
	}

	// What is in use is not in the list of those that may be closed.
	d := c.dirs[n]
	if d.idle != nil {
		c.idle.Remove(d.idle)
		d.idle = nil
	}

	d.users++
	return d, nil
}

// trim closes the directories that were used longest ago, if too many are open. The one
// that was opened last is never among them.
func (c *dirCache) trim() {
	for c.idle.Len() > maxOpenDirs {
		last := c.idle.Back()
		d := last.Value.(*openedDir)
		c.idle.Remove(last)
		delete(c.dirs, d.node)
		d.close()
	}
}

// release gives a directory back.
func (c *dirCache) release(d *openedDir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.users--; d.users == 0 && d != c.top {
		d.idle = c.idle.PushFront(d)
		c.trim()
	}
}

// close closes all directories but the root, which is not ours.
func (c *dirCache) close() {
	for _, d := range c.dirs {
		d.close()
	}
}
