package graph

import (
	"errors"
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
)

// Limits bound what one root of a walk may lead to. A zero field means no limit.
type Limits struct {
	Depth     int   // levels of indexes, the root's own included
	Documents int   // manifests and indexes
	Bytes     int64 // of manifests and indexes
}

// DefaultLimits are far beyond what builders make and within what a machine can hold.
func DefaultLimits() Limits { return Limits{Depth: 1000, Documents: 100_000, Bytes: 128 << 20} }

// check reports whether a document is within the limits.
func (l Limits) check(root oci.Descriptor, depth, documents int, bytes int64) error {
	over := func(format string, limit any) error {
		return fmt.Errorf("image %s: over "+format+": %w", root.Digest, limit, oci.ErrMalformed)
	}
	switch {
	case l.Depth > 0 && depth > l.Depth:
		return over("%d levels of indexes", l.Depth)
	case l.Documents > 0 && documents > l.Documents:
		return over("%d manifests", l.Documents)
	case l.Bytes > 0 && bytes > l.Bytes:
		return over("%d bytes of manifests", l.Bytes)
	}
	return nil
}

// A Node is a descriptor that a walk came to.
type Node struct {
	Desc   oci.Descriptor
	Parent oci.Descriptor // the document that names it; zero for a root
	Doc    []byte         // the verified bytes of a manifest or an index; nil for everything else
	Err    error          // why the document cannot be used; its Doc is nil then

	// Refs are what the document needs: config and layers, or manifests. The subject is not
	// among them.
	Refs  []oci.Descriptor
	Depth int // levels of indexes above it
}

// Walk visits what roots are made of, children before parents, each descriptor once. The same
// digest with another type or size counts as another descriptor. Manifests and indexes are read and
// verified; other blobs are named and not opened.
//
// A document that is absent gives an error that wraps [ErrIncomplete], unless the rules allow it:
// then it is left out. An error of visit ends the walk.
func Walk(s Store, roots []oci.Descriptor, rules Rules, visit func(Node) error) error {
	return NewWalker(s, DefaultLimits()).Whole(roots, rules, visit)
}

// Descend is [Walk] with parents before children, in the order in which documents name them.
func Descend(s Store, roots []oci.Descriptor, rules Rules, visit func(Node) error) error {
	w := NewWalker(s, DefaultLimits())
	w.Descend = true
	return w.Walk(roots, strict(rules, visit))
}

// strict visits what can be used, and ends at what is absent against the rules, or damaged.
func strict(rules Rules, visit func(Node) error) func(Node) error {
	return func(n Node) error {
		switch {
		case n.Err == nil:
			return visit(n)
		case errors.Is(n.Err, ErrNotFound) && rules.mayLack(n.Parent.MediaType, n.Desc):
			return nil
		}
		return Incomplete(n.Err)
	}
}

// Scan is [Descend] for images that may be damaged. It also calls visit for a document that cannot
// be used. If visit then returns nil, Scan goes on without the blobs that this document leads to.
// It has no limits.
func Scan(s Store, roots []oci.Descriptor, visit func(Node) error) error {
	w := NewWalker(s, Limits{})
	w.Descend = true
	return w.Walk(roots, visit)
}

// Documents is [Scan] of manifests and indexes alone: it remembers no blob, so that it costs little
// where there are many of them.
func Documents(s Store, roots []oci.Descriptor, visit func(Node) error) error {
	w := NewWalker(s, Limits{})
	w.Descend, w.Documents = true, true
	return w.Walk(roots, visit)
}

// A Walker remembers what it has visited, so that several walks of it visit nothing twice. The
// fields are set before its first walk.
type Walker struct {
	Descend   bool // visit parents before children
	Documents bool // visit manifests and indexes alone

	// Ahead is how many goroutines read manifests and indexes before the walk comes to them, from a
	// store that may be used concurrently. With 0 the walk reads each when it comes to it. visit is
	// called by the walk alone, in the same order either way.
	Ahead int

	// Reads reports which manifests and indexes are read; nil are all. The others are visited
	// without their bytes, as blobs are, and what they lead to is not.
	Reads func(oci.Descriptor) bool

	store  Store
	limits Limits
	seen   map[mention]struct{}
	ids    map[string]uint32 // of texts that many descriptors share
	ahead  ahead
}

// NewWalker returns a walker that has visited nothing.
func NewWalker(s Store, limits Limits) *Walker {
	w := &Walker{store: s, limits: limits, seen: map[mention]struct{}{}, ids: map[string]uint32{}}
	w.ahead = ahead{w: w, begun: map[mention]*batch{}}
	return w
}

// opens reports whether the walk reads a descriptor's blob.
func (w *Walker) opens(desc oci.Descriptor) bool {
	return oci.IsDocument(desc.MediaType) && (w.Reads == nil || w.Reads(desc))
}

// A mention holds the parts of a descriptor that count when a walk asks whether it was visited. A
// second descriptor of the same blob may differ in them, and is then visited too. A walk remembers all
// of them, so those that repeat themselves are numbers.
type mention struct {
	digest          digest.Digest
	size            int64
	mediaType, data uint32 // as in [Walker.id]
}

func (w *Walker) mentionOf(desc oci.Descriptor) mention {
	m := mention{digest: desc.Digest, size: desc.Size, mediaType: w.id(desc.MediaType)}
	if desc.Data != nil {
		m.data = w.id(digest.FromBytes(desc.Data).String())
	}
	return m
}

// id returns a number over 0 for a text, the same for the same text.
func (w *Walker) id(text string) uint32 {
	id, ok := w.ids[text]
	if !ok {
		id = uint32(len(w.ids)) + 1
		w.ids[text] = id
	}
	return id
}

func (w *Walker) saw(m mention) bool {
	_, ok := w.seen[m]
	return ok
}

// Walk visits what roots are made of and was not visited yet, children before parents. A document
// that cannot be used is handed to visit with its error; what it leads to is left out if visit
// returns nil. An error of visit, and what goes over the limits, end the walk. Walk does not
// recurse.
func (w *Walker) Walk(roots []oci.Descriptor, visit func(Node) error) error {
	defer w.ahead.wait()
	begun := 0
	for i, root := range roots {
		begun = w.begin(roots, i, begun)
		if err := w.walk(root, oci.Descriptor{}, visit); err != nil {
			return err
		}
	}
	return nil
}

// Whole is [Walker.Walk] for images that are to be whole, as [Walk] says.
func (w *Walker) Whole(roots []oci.Descriptor, rules Rules, visit func(Node) error) error {
	return w.Walk(roots, strict(rules, visit))
}

// begin reads ahead in a list that the walk has come to at place i, where the first begun entries are
// begun, and returns how many are then.
func (w *Walker) begin(list []oci.Descriptor, i, begun int) int {
	if w.Ahead == 0 || len(list) < aheadMin || begun == len(list) {
		return begun
	}
	begun = max(begun, i)
	return begun + w.ahead.begin(list[begun:])
}

// walk visits one root, which parent names.
func (w *Walker) walk(root, parent oci.Descriptor, visit func(Node) error) error {
	r := rootWalk{w: w, root: root, visit: visit}
	if err := r.enter(root, parent, 0); err != nil {
		return err
	}
	return r.below()
}

// A rootWalk is the walk of one root.
type rootWalk struct {
	w     *Walker
	root  oci.Descriptor
	visit func(Node) error

	stack     []frame // the documents between the root and the place of the walk
	documents int
	bytes     int64
}

// A frame is a document on the way, with how many of its references were visited.
type frame struct {
	node  Node
	next  int
	begun int // of the references, see begin
}

// enter visits a descriptor that leads no further. A document goes onto the stack: it is visited when
// everything below it was, or now if the walker descends.
func (r *rootWalk) enter(desc, parent oci.Descriptor, depth int) error {
	w, m := r.w, r.w.mentionOf(desc)
	if w.saw(m) || w.Documents && !oci.IsDocument(desc.MediaType) {
		return nil
	}

	w.seen[m] = struct{}{}

	n := Node{Desc: desc, Parent: parent, Depth: depth}
	if !w.opens(desc) {
		return r.visit(n)
	}

	// The limits are checked with the size that the descriptor claims, before anything is read.
	r.documents++
	r.bytes += max(desc.Size, 0)
	if err := w.limits.check(r.root, depth+1, r.documents, r.bytes); err != nil {
		return err
	}

	d, ok := w.ahead.take(m)
	if !ok {
		d.doc, d.refs, d.err = read(w.store, desc)
	}
	if n.Doc, n.Refs, n.Err = d.doc, d.refs, d.err; n.Err != nil {
		return r.visit(n)
	}

	r.stack = append(r.stack, frame{node: n})
	if w.Descend {
		return r.visit(n)
	}

	return nil
}

// below visits what the documents on the stack lead to, until it is empty.
func (r *rootWalk) below() error {
	for len(r.stack) > 0 {
		top := &r.stack[len(r.stack)-1]
		if top.next == len(top.node.Refs) {
			// Everything below this document was visited.
			n := top.node
			r.stack = r.stack[:len(r.stack)-1]
			if r.w.Descend {
				continue
			}
			if err := r.visit(n); err != nil {
				return err
			}
			continue
		}

		top.begun = r.w.begin(top.node.Refs, top.next, top.begun)
		child := top.node.Refs[top.next]
		// enter may move the stack, so top is not used behind it.
		top.next++
		if err := r.enter(child, top.node.Desc, top.node.Depth+1); err != nil {
			return err
		}
	}

	return nil
}

// read reads a manifest or an index, and what it needs.
func read(s Store, desc oci.Descriptor) (doc []byte, refs []oci.Descriptor, err error) {
	if err := desc.CheckData(); err != nil {
		return nil, nil, err
	}
	if doc, err = s.Document(desc); err != nil {
		return nil, nil, err
	}
	if refs, err = oci.References(desc, doc); err != nil {
		return nil, nil, err
	}
	return doc, refs, nil
}

// Check reports whether everything that the image needs is in the store with the right size, by
// the rules. Documents are verified, the bytes of layers are not read. What is absent gives
// [ErrIncomplete].
func Check(s Store, desc oci.Descriptor, rules Rules) error {
	return NewWalker(s, DefaultLimits()).Check(desc, rules)
}

// Check is the function [Check] for what was not visited yet.
func (w *Walker) Check(desc oci.Descriptor, rules Rules) error {
	defer w.ahead.wait()
	return w.check(desc, oci.Descriptor{}, rules)
}

func (w *Walker) check(desc, parent oci.Descriptor, rules Rules) error {
	return w.walk(desc, parent, func(n Node) error {
		if n.Doc != nil {
			return nil
		}
		err := n.Err
		if err == nil {
			_, err = rules.StateOf(w.store, n.Parent.MediaType, n.Desc)
		}
		if errors.Is(err, ErrNotFound) && rules.mayLack(n.Parent.MediaType, n.Desc) {
			return nil
		}
		return Incomplete(err)
	})
}

// CheckRefs is [Check] for a document that is not stored yet: it checks everything that data,
// which desc describes, refers to.
func CheckRefs(s Store, desc oci.Descriptor, data []byte, rules Rules) error {
	refs, err := oci.References(desc, data)
	if err != nil {
		return err
	}

	w := NewWalker(s, DefaultLimits())
	for _, ref := range refs {
		if err := w.check(ref, desc, rules); err != nil {
			return err
		}
	}
	return nil
}
