package pushcmd

import (
	"errors"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry/wire"
	"ocikit/oci/source"
)

// A tree is an image as a tree of manifests, each once.
type tree struct {
	root  *node
	nodes []*node // children before parents
}

// A node is a manifest or an index.
type node struct {
	desc     oci.Descriptor
	blobs    []oci.Descriptor // config and layers
	children []*node
	height   int             // 0 without children
	subject  *oci.Descriptor // what it refers to
	referrer oci.Descriptor  // how it is listed there
	foreign  bool            // of a type that this program does not know
}

// walk reads the manifests that desc leads to. An image that lacks something would fail only after
// most of its blobs were sent, so a local one is looked through before: that costs no request.
func (p *pusher) walk(desc oci.Descriptor) (*tree, error) {
	if !oci.IsDocument(desc.MediaType) {
		return nil, fmt.Errorf("push %s: type %q is neither a manifest nor an index: %w", desc.Digest, desc.MediaType, oci.ErrMalformed)
	}

	t := &tree{}
	known := map[digest.Digest]*node{}

	isRemote := source.Remote(p.src)

	err := graph.Walk(p.src, []oci.Descriptor{desc}, p.o.Rules, func(v graph.Node) error {
		if v.Doc == nil && !isRemote {
			if state, err := p.o.Rules.StateOf(p.src, v.Parent.MediaType, v.Desc); state >= graph.Absent {
				return graph.Incomplete(err)
			}
		}

		if v.Doc == nil && oci.IsManifest(v.Parent.MediaType) || known[v.Desc.Digest] != nil {
			return nil // a config, a layer, or a manifest under another type
		}

		n, err := newNode(v)
		if err != nil {
			return err
		}

		// The walk comes to children first, so the entries of an index are known. Their height
		// orders the uploads: see [pusher.putManifests].
		for _, ref := range v.Refs {
			if child := known[ref.Digest]; child != nil && oci.IsIndex(v.Desc.MediaType) {
				n.children = append(n.children, child)
				n.height = max(n.height, child.height+1)
			}
		}

		known[n.desc.Digest] = n
		t.nodes = append(t.nodes, n)
		t.root = n // the last one
		return nil
	})

	return t, err
}

// newNode returns the node of a manifest, an index, or an entry of an index of unknown type.
func newNode(v graph.Node) (*node, error) {
	if !v.Desc.Digest.Verifiable() {
		return nil, fmt.Errorf("manifest %s: %w", v.Desc.Digest, digest.ErrUnsupported)
	}
	doc, err := oci.DecodeDocument(v.Desc, v.Doc)
	n := &node{desc: v.Desc, subject: doc.Subject, referrer: doc.Listed, foreign: !oci.IsDocument(v.Desc.MediaType)}
	if oci.IsManifest(v.Desc.MediaType) {
		n.blobs = v.Refs
	}
	return n, err
}

// visit calls f for the root and then for the children of each node for which f returned
// true, each node once.
func (g *tree) visit(f func(*node) bool) {
	seen := map[*node]bool{}
	var walk func(n *node)
	walk = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		if f(n) {
			for _, child := range n.children {
				walk(child)
			}
		}
	}
	walk(g.root)
}

// open opens a blob whose digest can be verified.
func (p *pusher) open(desc oci.Descriptor) (source.BlobAt, error) {
	if !desc.Digest.Verifiable() {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, digest.ErrUnsupported)
	}
	return p.src.BlobAt(desc)
}

// A feed reads sections of a blob, hashes every byte once, and holds back the last bytes of
// a blob that turns out to have another digest.
type feed struct {
	r      io.ReaderAt
	far    remote // r, if that is one; else nil
	desc   oci.Descriptor
	h      *digest.Hasher // of the bytes from 0 on
	from   int64          // where the section begins
	at     int64
	end    int64
	report func(at int64) // is called as bytes are taken; may be nil
}

// A remote blob comes over a network.
type remote interface {
	Ahead(off int64)                                 // the bytes from off on are wanted next
	ReadSome(p []byte, off int64) (n int, err error) // waits for the first byte only
}

func newFeed(r io.ReaderAt, desc oci.Descriptor) *feed {
	far, _ := r.(remote)
	return &feed{r: r, far: far, desc: desc, h: digest.NewHasher(desc.Digest.Algorithm())}
}

// section sets what Read returns next: the bytes from one offset to another. Bytes before it
// that were never read are hashed now.
func (f *feed) section(from, to int64) error {
	if gap := from - f.h.Size(); gap > 0 {
		n, err := io.Copy(f.h, io.NewSectionReader(f.r, f.h.Size(), gap))
		if err == nil && n < gap {
			err = f.short(f.h.Size())
		}
		if err != nil {
			return err
		}
	}
	f.from, f.at, f.end = from, from, to
	return f.verify()
}

// ahead lets a remote blob get ready for the section that begins at from.
func (f *feed) ahead(from int64) {
	if f.far != nil && f.desc.Size > 0 {
		f.far.Ahead(min(from, f.h.Size())) // what was never read is hashed first
	}
}

func (f *feed) Read(p []byte) (int, error) {
	if f.at >= f.end {
		return 0, io.EOF
	}

	// What a slow network has brought goes on at once: the registry must not wait for a whole p.
	read := f.r.ReadAt
	if f.far != nil {
		read = f.far.ReadSome
	}

	// A blob that ends too early must not end in io.EOF: the request would look complete.
	n, err := read(p[:min(int64(len(p)), f.end-f.at)], f.at)
	if n == 0 {
		if err == io.EOF {
			err = f.short(f.at)
		}
		return 0, err
	}

	// Of a section that is read again only the bytes behind the hashed ones are new. The digest
	// is checked before the last of them leave, so that a registry never gets the whole of a
	// wrong blob.
	f.at += int64(n)
	if fresh := f.at - f.h.Size(); fresh > 0 {
		f.h.Write(p[int64(n)-fresh : n])
		if err := f.verify(); err != nil {
			return 0, err
		}
	}

	if f.report != nil {
		f.report(f.at)
	}

	return n, nil
}

// FileSection says which bytes of which file these are.
func (f *feed) FileSection() wire.FileSection { return sectionOf(f.r, f.from) }

// verify checks the digest once all bytes were read.
func (f *feed) verify() error {
	if f.h.Size() < f.desc.Size {
		return nil
	}
	if got := f.h.Digest(); got != f.desc.Digest {
		return fmt.Errorf("local blob %s: got %s: %w", f.desc.Digest, got, digest.ErrMismatch)
	}
	return nil
}

func (f *feed) short(n int64) error {
	return fmt.Errorf("local blob %s: it ends after %d of %d bytes: %w", f.desc.Digest, n, f.desc.Size, digest.ErrMismatch)
}

// Seek lets a request that was refused before its body was read be sent again.
func (f *feed) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.at
	default:
		return 0, errors.ErrUnsupported
	}
	if offset < 0 || offset > f.end {
		return 0, errors.New("seek outside of the section")
	}
	f.at = offset
	return offset, nil
}
