package pushcmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
)

// maxDepth bounds how deep indexes may be nested. Digests make circles impossible; chains
// they allow.
const maxDepth = 16

// maxNodes bounds the manifests of one push.
const maxNodes = 10_000

// A graph is an image as a tree of manifests, each once.
type graph struct {
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

// walk reads the manifests that desc leads to.
func (p *pusher) walk(desc oci.Descriptor) (*graph, error) {
	g := &graph{}
	known := map[digest.Digest]*node{}
	var visit func(desc oci.Descriptor, depth int) (*node, error)
	visit = func(desc oci.Descriptor, depth int) (*node, error) {
		if n := known[desc.Digest]; n != nil {
			return n, nil
		}
		if depth > maxDepth || len(known) >= maxNodes {
			return nil, fmt.Errorf("image %s: over %d levels or %d manifests: %w", desc.Digest, maxDepth, maxNodes, oci.ErrMalformed)
		}
		n, refs, err := p.read(desc)
		if err != nil {
			return nil, err
		}
		known[desc.Digest] = n
		for _, ref := range refs {
			child, err := visit(ref, depth+1)
			if err != nil {
				return nil, err
			}
			n.children = append(n.children, child)
			n.height = max(n.height, child.height+1)
		}
		g.nodes = append(g.nodes, n)
		return n, nil
	}
	if !oci.IsManifest(desc.MediaType) && !oci.IsIndex(desc.MediaType) {
		return nil, fmt.Errorf("push %s: type %q is neither a manifest nor an index: %w", desc.Digest, desc.MediaType, oci.ErrMalformed)
	}
	root, err := visit(desc, 0)
	g.root = root
	return g, err
}

// read reads one manifest and returns the descriptors of its children.
func (p *pusher) read(desc oci.Descriptor) (*node, []oci.Descriptor, error) {
	n := &node{desc: desc}
	if !desc.Digest.Verifiable() {
		return nil, nil, fmt.Errorf("manifest %s: %w", desc.Digest, digest.ErrUnsupported)
	}
	data, err := p.src.Document(desc)
	if err != nil {
		return nil, nil, err
	}
	n.referrer = oci.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
	switch {
	case oci.IsManifest(desc.MediaType):
		m, err := oci.DecodeManifest(desc, data)
		if err != nil {
			return nil, nil, err
		}
		n.blobs = append([]oci.Descriptor{m.Config}, m.Layers...)
		n.subject, n.referrer.Annotations, n.referrer.ArtifactType = m.Subject, m.Annotations, m.ArtifactType
		if m.ArtifactType == "" {
			n.referrer.ArtifactType = m.Config.MediaType
		}
		return n, nil, nil
	case oci.IsIndex(desc.MediaType):
		x, err := oci.DecodeIndex(desc, data)
		n.subject, n.referrer.Annotations, n.referrer.ArtifactType = x.Subject, x.Annotations, x.ArtifactType
		return n, x.Manifests, err
	}
	n.foreign = true
	return n, nil, nil
}

// visit calls f for the root and then for the children of each node for which f returned
// true, each node once.
func (g *graph) visit(f func(*node) bool) {
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

// A blobFile is an open blob.
type blobFile struct {
	io.ReaderAt
	close func()
}

// open opens a blob and checks its size. One that is embedded in its descriptor need not be
// a file.
func (p *pusher) open(desc oci.Descriptor) (*blobFile, error) {
	if !desc.Digest.Verifiable() {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, digest.ErrUnsupported)
	}
	f, err := p.src.OpenBlob(desc.Digest)
	if err != nil {
		if desc.Data != nil && int64(len(desc.Data)) == desc.Size {
			return &blobFile{bytes.NewReader(desc.Data), func() {}}, nil
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != desc.Size {
		err = fmt.Errorf("blob %s: got %d bytes, want %d: %w", desc.Digest, info.Size(), desc.Size, digest.ErrMismatch)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &blobFile{f, func() { f.Close() }}, nil
}

// A feed reads sections of a blob, hashes every byte once, and holds back the last bytes of
// a blob that turns out to have another digest.
type feed struct {
	r      io.ReaderAt
	desc   oci.Descriptor
	h      *digest.Hasher // of the bytes from 0 on
	at     int64
	end    int64
	report func(at int64) // is called as bytes are taken; may be nil
}

func newFeed(r io.ReaderAt, desc oci.Descriptor) *feed {
	return &feed{r: r, desc: desc, h: digest.NewHasher(desc.Digest.Algorithm())}
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
	f.at, f.end = from, to
	return f.verify()
}

func (f *feed) Read(p []byte) (int, error) {
	if f.at >= f.end {
		return 0, io.EOF
	}
	n, err := f.r.ReadAt(p[:min(int64(len(p)), f.end-f.at)], f.at)
	if n == 0 {
		if err == io.EOF {
			err = f.short(f.at)
		}
		return 0, err
	}
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
