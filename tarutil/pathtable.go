package tarutil

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"unsafe"
)

// A PathTable gives paths numbers, and keeps each name in them once. What is known of a path can then
// stand in a [Slab] under its number. A path takes some 30 bytes, and its last name. Paths are never
// removed. A PathTable is not safe for concurrent use.
//
// # Design
//
// A map from strings to pointers is the plain way, and takes 150 bytes more for each file. Here names lie
// one behind the other in a few large strings, and the table that finds them has their numbers and hashes
// only, open addressing and linear probing. Hashes have a seed that no input can foresee.
type PathTable struct {
	Budget *Budget // that all names are taken from

	held  int // of the budget
	seed  maphash.Seed
	names Slab[pathName]
	text  []string         // the names, as many in each as textChunk bytes hold
	fill  *strings.Builder // of the last of text
	slots []uint64         // hash and number of each path but the root; 0 is empty
}

// A PathID is the number of a path in a [PathTable]. The root has the number 0.
type PathID uint32

// A pathName is the last name of a path.
type pathName struct {
	dir      PathID
	at       uint32 // its place: which text, and the offset in that
	size     uint16
	fullSize uint16 // of the whole path, with a slash in front
}

const (
	textBits  = 16
	textChunk = 1 << textBits

	// PathMemory is how many bytes a path takes besides its name: at worst three in eight slots are used.
	PathMemory = int(unsafe.Sizeof(pathName{})) + 8*8/3
)

// NewPathTable returns a table with only the root.
func NewPathTable(budget *Budget) *PathTable {
	p := &PathTable{Budget: budget, seed: maphash.MakeSeed(), slots: make([]uint64, 64)}
	p.names.New()
	return p
}

// Len returns how many paths there are. Their numbers are the ones below it.
func (p *PathTable) Len() int { return p.names.Len() }

// Held returns how many bytes of its budget the table has taken.
func (p *PathTable) Held() int { return p.held }

// Find returns the number of a name in a directory, or 0 if it has none.
func (p *PathTable) Find(dir PathID, name string) PathID {
	id, _, _ := p.search(dir, name)
	return id
}

// Add returns the number of a name in a directory, and gives it one if it has none. The name is copied.
// The error wraps [ErrTooMany] if the budget is used up.
func (p *PathTable) Add(dir PathID, name string) (PathID, error) {
	id, hash, slot := p.search(dir, name)
	if id != 0 {
		return id, nil
	}

	full := p.Length(dir) + 1 + len(name)
	if full > math.MaxUint16 {
		return 0, fmt.Errorf("%w: a path of %d bytes", ErrBadPath, full)
	}
	if err := p.Budget.Take(PathMemory + len(name)); err != nil {
		return 0, err
	}
	p.held += PathMemory + len(name)

	i, n := p.names.New()
	*n = pathName{dir: dir, at: p.write(name), size: uint16(len(name)), fullSize: uint16(full)}
	p.slots[slot] = uint64(hash)<<32 | uint64(i)
	if 4*p.Len() > 3*len(p.slots) {
		p.grow()
	}
	return PathID(i), nil
}

// search returns the number of a name with its hash, or 0 and the slot that it would get.
func (p *PathTable) search(dir PathID, name string) (id PathID, hash uint32, slot int) {
	hash = uint32(maphash.String(p.seed, name)) ^ uint32(dir)*0x9e3779b1
	mask := len(p.slots) - 1
	for i := int(hash) & mask; ; i = (i + 1) & mask {
		s := p.slots[i]
		if s == 0 {
			return 0, hash, i
		}
		if id := PathID(s); uint32(s>>32) == hash && p.Dir(id) == dir && p.Name(id) == name {
			return id, hash, i
		}
	}
}

// grow doubles the number of slots.
func (p *PathTable) grow() {
	old := p.slots
	p.slots = make([]uint64, 2*len(old))
	mask := len(p.slots) - 1
	for _, s := range old {
		if s == 0 {
			continue
		}
		i := int(uint32(s>>32)) & mask
		for p.slots[i] != 0 {
			i = (i + 1) & mask
		}
		p.slots[i] = s
	}
}

// write keeps a name, and returns its place.
func (p *PathTable) write(name string) uint32 {
	// The first text grows as it needs to, since most tables are small.
	if p.fill == nil || p.fill.Len()+len(name) > textChunk {
		p.fill = new(strings.Builder)
		if len(p.text) > 0 {
			p.fill.Grow(textChunk)
		}
		p.text = append(p.text, "")
	}

	last := len(p.text) - 1
	at := uint32(last)<<textBits | uint32(p.fill.Len())
	p.fill.WriteString(name)
	p.text[last] = p.fill.String()
	return at
}

// Dir returns the directory of a path. That of the root is the root.
func (p *PathTable) Dir(id PathID) PathID { return p.names.At(uint32(id)).dir }

// Name returns the last name of a path.
func (p *PathTable) Name(id PathID) string {
	n := p.names.At(uint32(id))
	if n.size == 0 {
		return ""
	}
	from := n.at % textChunk
	return p.text[n.at>>textBits][from : from+uint32(n.size)]
}

// Length returns how long a path is with a slash in front. The root has the length 0.
func (p *PathTable) Length(id PathID) int { return int(p.names.At(uint32(id)).fullSize) }

// Path returns a path, without a slash in front.
func (p *PathTable) Path(id PathID) string {
	if id == 0 {
		return ""
	}

	// From the last name to the first, each at its place.
	end := p.Length(id)
	buf := make([]byte, end)
	for ; id != 0; id = p.Dir(id) {
		name := p.Name(id)
		end -= len(name) + 1
		buf[end] = '/'
		copy(buf[end+1:], name)
	}
	return string(buf[1:])
}

// Lookup returns the number of a clean path.
func (p *PathTable) Lookup(path string) (id PathID, ok bool) {
	for rest := path; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if id = p.Find(id, name); id == 0 {
			return 0, false
		}
	}
	return id, true
}

// AddPath returns the number of a clean path, and gives one to it and to the directories that it is in,
// as far as they have none.
func (p *PathTable) AddPath(path string) (id PathID, err error) {
	for rest := path; rest != "" && err == nil; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		id, err = p.Add(id, name)
	}
	return id, err
}

// PathChildren says which paths of a table lie in which, in tree order.
type PathChildren struct {
	start []uint32 // in list, by directory
	list  []PathID
}

// Children returns the order of all paths that are in the table now.
func (p *PathTable) Children() PathChildren {
	// The paths are sorted by their directories, by counting. At first start is the end of each part,
	// and comes down to its beginning as that is filled.
	c := PathChildren{start: make([]uint32, p.Len()+1), list: make([]PathID, p.Len()-1)}
	for id := 1; id < p.Len(); id++ {
		c.start[p.Dir(PathID(id))]++
	}
	for i := 1; i < len(c.start); i++ {
		c.start[i] += c.start[i-1]
	}
	for id := p.Len() - 1; id > 0; id-- {
		at := &c.start[p.Dir(PathID(id))]
		*at--
		c.list[*at] = PathID(id)
	}

	for id := range p.Len() {
		slices.SortFunc(c.Of(PathID(id)), func(a, b PathID) int { return CompareNames(p.Name(a), p.Name(b)) })
	}
	return c
}

// Of returns the paths that lie in a directory, in tree order.
func (c PathChildren) Of(dir PathID) []PathID { return c.list[c.start[dir]:c.start[dir+1]] }
