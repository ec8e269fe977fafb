package tarutil

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
	top  *node
	mu   sync.Mutex
	dirs map[*node]*openedDir
	idle lru.List // of *openedDir, the one used last in front
}

// An openedDir is a directory that is written to.
type openedDir struct {
	root  *os.Root
	node  *node
	users int
	idle  *lru.Element
	once  sync.Once
	file  *os.File // the same, for what os.Root cannot do
	err   error
}

func newDirCache(root *os.Root, top *node) *dirCache {
	return &dirCache{root: root, top: top, dirs: make(map[*node]*openedDir)}
}

// open returns the directory n, until release.
func (c *dirCache) open(n *node) (*openedDir, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []*node
	for at := n; at != c.top && c.dirs[at] == nil; at = at.dir {
		missing = append(missing, at)
	}
	// Opened from the top down, so that no path is ever looked up as a whole.
	for i := len(missing) - 1; i >= 0; i-- {
		at := missing[i]
		parent := c.root
		if at.dir != c.top {
			parent = c.dirs[at.dir].root
		}
		root, err := parent.OpenRoot(at.name)
		if err != nil {
			return nil, err
		}
		d := &openedDir{root: root, node: at}
		c.dirs[at] = d
		d.idle = c.idle.PushFront(d)
		c.trim()
	}
	d := c.dirs[n]
	if d == nil { // the top, which is not ours to close
		d = &openedDir{root: c.root, node: n}
		c.dirs[n] = d
	}
	if d.idle != nil {
		c.idle.Remove(d.idle)
		d.idle = nil
	}
	d.users++
	return d, nil
}

// trim closes the directories that were used longest ago, if too many are open. That
// opened last is never among them.
func (c *dirCache) trim() {
	for c.idle.Len() > maxOpenDirs {
		last := c.idle.Back()
		d := last.Value.(*openedDir)
		c.idle.Remove(last)
		delete(c.dirs, d.node)
		d.close()
		if d.node != c.top {
			d.root.Close()
		}
	}
}

// release gives a directory back.
func (c *dirCache) release(d *openedDir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.users--; d.users == 0 {
		d.idle = c.idle.PushFront(d)
		c.trim()
	}
}

// close closes all directories but the root.
func (c *dirCache) close() {
	for _, d := range c.dirs {
		d.close()
		if d.node != c.top {
			d.root.Close()
		}
	}
}

// handle returns an open file of the directory itself.
func (d *openedDir) handle() (*os.File, error) {
	d.once.Do(func() { d.file, d.err = d.root.Open(".") })
	return d.file, d.err
}

func (d *openedDir) close() {
	if d.file != nil {
		d.file.Close() // it was not written to
	}
}
