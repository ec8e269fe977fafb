package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// A reach is the set of blobs that index.json leads to.
type reach struct {
	l      *Layout
	ctx    context.Context
	walker *graph.Walker
	sparse bool // what is absent is no doubt
	leaves bool // configs and layers may be absent, documents may not
	blobs  map[digest.Digest]bool
	order  []digest.Digest // the same, as they were reached
}

func newReach(ctx context.Context, l *Layout, sparse bool) *reach {
	w := graph.NewWalker(l, graph.Limits{})
	w.Ahead = runtime.GOMAXPROCS(0)
	return &reach{l: l, ctx: ctx, walker: w, sparse: sparse, blobs: map[digest.Digest]bool{}}
}

// add adds a blob.
func (r *reach) add(d digest.Digest) {
	if !r.blobs[d] {
		r.blobs[d] = true
		r.order = append(r.order, d)
	}
}

// follow adds what roots lead to: what documents refer to, their subjects if they are there,
// and what documents of unknown types mention. An error means that something cannot be read,
// so that nobody knows what it needs.
func (r *reach) follow(roots []oci.Descriptor) error {
	for todo := roots; len(todo) > 0; {
		var next []oci.Descriptor
		err := r.l.walk(r.ctx, r.walker, todo, func(n graph.Node) error {
			r.add(n.Desc.Digest)
			more, err := r.beyond(n)
			next = append(next, more...)
			return err
		})
		if err != nil {
			return err
		}
		todo = next
	}
	return nil
}

// beyond returns what a node leads to besides what it refers to.
func (r *reach) beyond(n graph.Node) ([]oci.Descriptor, error) {
	switch {
	case errors.Is(n.Err, ErrNotFound) && r.sparse:
		return nil, nil
	case n.Err != nil:
		return nil, n.Err
	case n.Doc != nil:
		return r.subject(n.Doc), nil
	// A config or a layer leads nowhere. An index may name a document of a type that is not
	// known here.
	case !oci.IsManifest(n.Parent.MediaType):
		return r.mentioned(n.Desc)
	}

	_, err := graph.Rules{Blobs: r.sparse || r.leaves}.StateOf(r.l, n.Parent.MediaType, n.Desc)
	if errors.Is(err, ErrNotFound) && (r.sparse || r.leaves || oci.IsForeignLayer(n.Desc.MediaType)) {
		err = nil
	}

	return nil, err
}

// subject returns the subject of a document, if it is there.
func (r *reach) subject(doc []byte) []oci.Descriptor {
	subject := graph.Subject(doc)
	if subject == nil {
		return nil
	}
	if _, err := r.l.Stat(subject.Digest); errors.Is(err, ErrNotFound) {
		return nil
	}
	return []oci.Descriptor{*subject}
}

// followWaiting adds the blobs that have come of images that are not whole yet. While one of their
// documents is to come, nobody knows which of the blobs that are here it needs.
func (r *reach) followWaiting() error {
	w, err := r.l.Waiting()
	if err != nil {
		return err
	}
	for _, d := range w.Deltas {
		r.add(d.Delta)
		r.add(d.Digest)
		for _, base := range d.Bases {
			r.add(base.Digest)
		}
	}
	r.leaves = true
	defer func() { r.leaves = false }()
	return r.follow(w.Images)
}

var anyDigest = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}`) })

// mentioned returns the blobs whose digests occur in a document of a type that this program
// does not know: it may need them.
func (r *reach) mentioned(desc oci.Descriptor) ([]oci.Descriptor, error) {
	_, err := graph.Rules{}.StateOf(r.l, "", desc)
	if errors.Is(err, ErrNotFound) && r.sparse {
		return nil, nil
	}

	if err != nil || desc.Size > oci.MaxDocument || !desc.Digest.Verifiable() {
		return nil, err
	}

	doc, err := r.l.Document(desc)
	if err != nil || !bytes.HasPrefix(bytes.TrimSpace(doc), []byte("{")) {
		return nil, err
	}

	// Every text that looks like a digest counts: to keep too much does no harm.
	var found []oci.Descriptor
	for _, text := range anyDigest().FindAll(doc, -1) {
		d, err := digest.Parse(string(text))
		if err != nil || r.blobs[d] {
			continue
		}
		ref, err := graph.Describe(r.l, d)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return nil, err
		default:
			found = append(found, ref)
		}
	}

	return found, nil
}

// followReferrers adds the manifests among the other blobs whose subject is reached, and what
// they lead to, until there are no more. Such a manifest need not be listed in index.json. The
// blobs that it needs may be absent, since it has no name.
func (r *reach) followReferrers(others []blobFile) error {
	bySubject := map[digest.Digest][]oci.Descriptor{}
	for i := range others {
		b := &others[i]
		if r.blobs[b.d] || b.info.Size() > oci.MaxDocument || !b.d.Verifiable() {
			continue
		}
		desc, err := graph.Describe(r.l, b.d)
		if err != nil || !oci.IsDocument(desc.MediaType) {
			continue // what is damaged refers to nothing
		}
		b.document = true
		doc, err := r.l.Document(desc)
		if err != nil {
			continue
		}
		if subject := graph.Subject(doc); subject != nil {
			bySubject[subject.Digest] = append(bySubject[subject.Digest], desc)
		}
	}

	was := r.sparse
	r.sparse = true
	defer func() { r.sparse = was }()
	for i := 0; i < len(r.order); i++ { // it grows
		if err := r.follow(bySubject[r.order[i]]); err != nil {
			return err
		}
	}

	return nil
}

// others returns the blobs that are not reached. Those that are, or cannot be judged, are counted.
func (r *reach) others(sum *GCSummary) ([]blobFile, error) {
	var found []blobFile
	err := r.l.eachBlobFile(func(d digest.Digest) error {
		if err := context.Cause(r.ctx); err != nil {
			return err
		}
		if r.blobs[d] || !d.Verifiable() {
			sum.Kept++
			return nil
		}
		info, err := r.l.lookAt(d)
		if err == nil && info != nil {
			found = append(found, blobFile{d: d, info: info})
		}
		return err
	})

	return found, err
}

// unsafe says that what is needed cannot be told because of err, unless it is the end of the context.
func (r *reach) unsafe(err error) error {
	if cause := context.Cause(r.ctx); cause != nil {
		return cause
	}
	return fmt.Errorf("layout %q: %w: %v", r.l.dir, ErrUnsafe, err)
}
