package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
	"ocikit/oci/source"
)

// A Repository is a repository of a registry as a [source.Source], bound to a context. Documents
// and blobs are verified against their descriptors while they are read; only [Repository.BlobAt]
// leaves that to the caller. Each manifest is asked for once and kept in memory: the walk of the
// graph bounds their number and size, see [graph.Limits]. It is safe for concurrent use once
// CalledHere and Watch have been called.
type Repository struct {
	ctx   context.Context
	c     *Client
	ref   Reference
	local graph.Store // is looked into first; may be nil
	here  string      // what local calls the image, besides by its full name

	report func(progress.Event)

	mu        sync.Mutex
	documents map[digest.Digest][]byte
	manifests map[digest.Digest]bool  // blobs that are known to be manifests or indexes
	sizes     map[digest.Digest]int64 // of what the registry was asked for, and has
}

// NewRepository returns the repository of ref. Nothing is sent. Documents that local has are not
// asked for, since a digest names the same bytes everywhere; local may be nil. Close does not close
// the client.
func NewRepository(ctx context.Context, c *Client, ref Reference, local graph.Store) *Repository {
	return &Repository{ctx: ctx, c: c, ref: ref, local: local, documents: map[digest.Digest][]byte{}, manifests: map[digest.Digest]bool{}, sizes: map[digest.Digest]int64{}}
}

// Remote reports that what is not known yet costs a request, see [source.Remote].
func (r *Repository) Remote() bool { return true }

// Name returns the name of the repository.
func (r *Repository) Name() string {
	ref := r.ref
	ref.Tag, ref.Digest = "", digest.Digest{}
	return ref.String()
}

// Index always returns an error that wraps [errors.ErrUnsupported]: a registry lists its tags, see
// [Client.Tags], but not the manifests that they name.
func (r *Repository) Index() (oci.Index, error) {
	return oci.Index{}, fmt.Errorf("repository %q: it cannot list its images: %w", r.Name(), errors.ErrUnsupported)
}

// Tags lists the tags of the repository, see [Client.Tags].
func (r *Repository) Tags() iter.Seq2[string, error] { return r.c.Tags(r.ctx, r.ref.Repo, 0) }

// Head returns the descriptor that the registry claims for a tag, without its manifest. Nothing is
// verified, see [Client.HeadManifest].
func (r *Repository) Head(tag string) (oci.Descriptor, error) {
	return r.c.HeadManifest(r.ctx, r.ref.Repo, tag)
}

// Resolve returns the descriptor that a name stands for: that of its tag, else of its digest, else
// of the tag "latest". With both a tag and a digest, a tag that names other bytes gives
// [digest.ErrMismatch]. The manifest is read, verified and kept.
func (r *Repository) Resolve(n oci.ImageName) (oci.Descriptor, error) {
	name := n.Tag
	switch {
	case name == "" && !n.Digest.IsZero():
		name = n.Digest.String()
	case name == "":
		name = "latest"
	}

	if desc, ok := r.unchanged(name, n.Digest); ok {
		return desc, nil
	}

	desc, data, err := r.c.GetManifest(r.ctx, r.ref.Repo, name)
	if err != nil {
		return desc, err
	}

	if !n.Digest.IsZero() && desc.Digest != n.Digest {
		return desc, fmt.Errorf("tag %q: got %s, want %s: %w", n.Tag, desc.Digest, n.Digest, digest.ErrMismatch)
	}

	r.keep(desc, data)
	return desc, nil
}

// CalledHere sets the name that the image has in the local store, where that is not its name in the
// registry: Resolve compares the tag with the entry of that name. It must be called before any
// other method.
func (r *Repository) CalledHere(name string) { r.here = name }

// unchanged asks with HEAD whether a name still means the manifest that the local store has: the one
// with the digest that is wanted, else the one that has the tag. Registries that limit pulls count the requests that hand out a manifest, and a HEAD
// hands out none. Any doubt is a no, which costs one GET.
func (r *Repository) unchanged(name string, want digest.Digest) (oci.Descriptor, bool) {
	local, ok := r.local.(interface{ Index() (oci.Index, error) })
	if !ok {
		return oci.Descriptor{}, false
	}

	x, err := local.Index()
	full := r.ref.Repository() + ":" + name
	i := slices.IndexFunc(x.Manifests, func(d oci.Descriptor) bool {
		if !want.IsZero() {
			return d.Digest == want
		}
		return d.Annotations.Get(oci.AnnotationImageName) == full || r.here != "" && d.Annotations.Get(oci.AnnotationRefName) == r.here
	})

	if err != nil || i < 0 {
		return oci.Descriptor{}, false
	}

	entry := x.Manifests[i]
	got, err := r.c.HeadManifest(r.ctx, r.ref.Repo, name)
	if err != nil || got.Digest != entry.Digest || got.MediaType != entry.MediaType {
		return oci.Descriptor{}, false
	}

	// The size of the entry was checked when it was stored. The answer to HEAD may claim any.
	got.Size = entry.Size
	data, err := r.local.Document(got)
	if err != nil {
		return oci.Descriptor{}, false
	}

	r.keep(got, data)
	return got, true
}

// keep remembers a document, and which of the blobs that it names are manifests.
func (r *Repository) keep(desc oci.Descriptor, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.documents[desc.Digest] = data
	r.manifests[desc.Digest] = oci.IsDocument(desc.MediaType)
	refs, err := oci.References(desc, data)
	if err != nil {
		return // a malformed document is reported by the walk that reads it
	}
	for _, ref := range refs {
		r.manifests[ref.Digest] = oci.IsDocument(ref.MediaType)
	}
}

// Connect makes connections for n blobs that will be asked for at once, besides the one that the
// manifest came over, see [Client.Connect].
func (r *Repository) Connect(n int) { r.c.Connect(r.ctx, n-1) }

// Document returns a manifest, an index or a config, verified: from memory, from the local store, or
// from the registry. If the registry does not have it, the data embedded in desc stands in; if
// there is none either, the error wraps [ErrNotFound]. Over [oci.MaxDocument] bytes give
// [oci.ErrMalformed].
func (r *Repository) Document(desc oci.Descriptor) ([]byte, error) {
	if err := desc.CheckDocument(); err != nil {
		return nil, err
	}

	r.mu.Lock()
	data, ok := r.documents[desc.Digest]
	r.mu.Unlock()
	if ok && int64(len(data)) == desc.Size {
		return data, nil
	}

	if r.local != nil {
		if data, err := r.local.Document(desc); err == nil {
			return data, nil
		}
	}

	data, err := r.fetch(desc)
	if errors.Is(err, ErrNotFound) && desc.Data != nil {
		return desc.Data, desc.CheckData()
	}
	if err != nil {
		return nil, err
	}

	r.keep(desc, data)
	return data, nil
}

// fetch asks the registry for a document. A config is a blob there, and has another endpoint.
func (r *Repository) fetch(desc oci.Descriptor) ([]byte, error) {
	if !oci.IsDocument(desc.MediaType) {
		b, err := r.c.OpenBlob(r.ctx, r.ref.Repo, desc)
		if err != nil {
			return nil, err
		}
		defer b.Close()
		return io.ReadAll(b) // bounded: OpenBlob fails behind desc.Size bytes
	}

	// GetManifest has checked the digest. The size and the media type are claims of the parent,
	// and have to be those of what came.
	got, data, err := r.c.GetManifest(r.ctx, r.ref.Repo, desc.Digest.String())
	switch {
	case err != nil:
		return nil, err
	case got.Size != desc.Size:
		return nil, fmt.Errorf("manifest %s: got %d bytes, want %d: %w", desc.Digest, got.Size, desc.Size, digest.ErrMismatch)
	case got.MediaType != desc.MediaType:
		return nil, fmt.Errorf("manifest %s: got %q, want %q: %w", desc.Digest, got.MediaType, desc.MediaType, oci.ErrMalformed)
	}

	return data, nil
}

// Stat returns the size of a manifest, -1 for a blob that is there, or [ErrNotFound]. A digest that
// a document read before calls a manifest is looked for among the manifests, since registries keep
// the two apart. What is there is asked for once: plans look at a blob several times, each of which
// would be a round trip.
func (r *Repository) Stat(d digest.Digest) (int64, error) {
	r.mu.Lock()
	data, ok := r.documents[d]
	size, found := r.sizes[d]
	isManifest := r.manifests[d]
	r.mu.Unlock()

	switch {
	case ok:
		return int64(len(data)), nil
	case found:
		return size, nil
	}

	size, err := r.head(d, isManifest)
	if err == nil {
		r.mu.Lock()
		r.sizes[d] = size
		r.mu.Unlock()
	}
	return size, err
}

// head asks the registry for the size of a manifest or a blob.
func (r *Repository) head(d digest.Digest, isManifest bool) (int64, error) {
	if isManifest {
		desc, err := r.c.HeadManifest(r.ctx, r.ref.Repo, d.String())
		return desc.Size, err
	}

	// What HEAD says of a length is wrong with some registries, and what GET gives is checked.
	_, err := r.c.HeadBlob(r.ctx, r.ref.Repo, d)
	return -1, err
}

// Blob opens a blob for reading; the caller closes it. A mismatch comes from Read in place of io.EOF
// and wraps [digest.ErrMismatch]. A connection that breaks is made again where it broke. The data
// embedded in desc stands in for a blob that the registry does not have.
func (r *Repository) Blob(desc oci.Descriptor) (io.ReadCloser, error) {
	if err := desc.CheckData(); err != nil {
		return nil, err
	}

	if oci.IsDocument(desc.MediaType) {
		data, err := r.Document(desc)
		return io.NopCloser(bytes.NewReader(data)), err
	}

	b, err := r.c.OpenBlob(r.ctx, r.ref.Repo, desc)
	if errors.Is(err, ErrNotFound) && desc.Data != nil {
		return io.NopCloser(bytes.NewReader(desc.Data)), nil
	}
	if err != nil {
		return nil, err
	}

	return progress.Blob(b, r.report, progress.Event{Digest: desc.Digest, Size: desc.Size}), nil
}

// BlobAt opens a blob for reading at any offset; the caller closes it. The bytes are not verified.
// Reads in order share one request; a read elsewhere costs another.
func (r *Repository) BlobAt(desc oci.Descriptor) (source.BlobAt, error) {
	if desc.Data != nil {
		return source.Embedded(desc), desc.CheckData()
	}
	return &remoteBlob{r: r, desc: desc}, nil
}

// A remoteBlob reads a blob of a registry at any offset. It holds the answer to the newest request,
// and asks anew if the next read is for other bytes.
type remoteBlob struct {
	r    *Repository
	desc oci.Descriptor

	mu     sync.Mutex
	answer chan answer // to the request that is under way; nil for none
	body   io.ReadCloser
	at     int64
	cancel context.CancelFunc // ends the request
}

// An answer is what a request for a blob led to.
type answer struct {
	body io.ReadCloser
	err  error
}

// Ahead asks for the bytes from off on, which are to be read next, and does not wait for them. If a
// request is under way already, nothing happens.
func (b *remoteBlob) Ahead(off int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel == nil {
		b.ask(off)
	}
}

// ask begins a request for the bytes from off on. The caller holds b.mu.
func (b *remoteBlob) ask(off int64) {
	var ctx context.Context
	ctx, b.cancel = context.WithCancel(b.r.ctx)
	b.r.c.placed.Add(1)
	b.at = off

	come := make(chan answer, 1)
	b.answer = come
	go func() {
		body, err := b.r.c.ResumeBlob(ctx, b.r.ref.Repo, b.desc, off)
		come <- answer{body, err}
	}()
}

// ReadAt implements [io.ReaderAt]. Concurrent calls wait for one another.
func (b *remoteBlob) ReadAt(p []byte, off int64) (int, error) {
	return b.read(p, off, io.ReadFull)
}

// ReadSome reads the bytes at off that have come, up to all of p. It waits for the first of them only,
// so that they can be passed on while others are under way.
func (b *remoteBlob) ReadSome(p []byte, off int64) (int, error) {
	return b.read(p, off, io.Reader.Read)
}

// read has fill read the bytes from off on.
func (b *remoteBlob) read(p []byte, off int64, fill func(io.Reader, []byte) (int, error)) (int, error) {
	if off >= b.desc.Size {
		return 0, io.EOF
	}

	b.mu.Lock()
	defer b.mu.Unlock()

	if b.cancel != nil && b.at != off {
		if err := b.end(); err != nil {
			return 0, err
		}
	}

	if b.cancel == nil {
		b.ask(off)
	}

	if err := b.wait(); err != nil {
		b.end()
		return 0, err
	}

	// A read across the end is cut at the size that the descriptor names, whatever the registry
	// would send behind it.
	rest := b.desc.Size - off
	n, err := fill(b.body, p[:min(int64(len(p)), rest)])
	b.at += int64(n)
	if err == nil && int64(n) == rest && n < len(p) {
		err = io.EOF
	}

	return n, err
}

// wait waits for the answer to the request that is under way. The caller holds b.mu.
func (b *remoteBlob) wait() error {
	if b.answer == nil {
		return nil
	}
	a := <-b.answer
	b.answer, b.body = nil, a.body
	return a.err
}

// end ends the request that is under way, if there is one. The caller holds b.mu.
func (b *remoteBlob) end() (err error) {
	if b.cancel == nil {
		return nil
	}

	// What came of a request that is given up does not matter.
	b.cancel()
	b.wait()
	if b.body != nil {
		err = b.body.Close()
	}

	b.cancel, b.body = nil, nil
	b.r.c.placed.Add(-1)
	return err
}

// Close ends the request that is under way. A later ReadAt would begin another.
func (b *remoteBlob) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.end()
}

// Add makes later calls of Document return data for desc, without a request: a document that the
// registry does not have, such as an index of some of its images. data is not checked.
func (r *Repository) Add(desc oci.Descriptor, data []byte) { r.keep(desc, data) }

// Referrers returns everything that refers to images, to the manifests in them, and in turn to what
// was found. A manifest that the registry lists for a subject it does not have is left out, with a
// notice. Signatures that only a tag ties to their image are found, too.
func (r *Repository) Referrers(images []oci.Descriptor) ([]graph.Referrer, error) {
	f := &finder{r: r, seen: map[digest.Digest]bool{}}
	if err := f.add(images); err != nil {
		return nil, err
	}

	// What is found joins todo, so that the referrers of referrers are found as well. seen ends
	// circles.
	for len(f.todo) > 0 {
		subject := f.todo[0]
		f.todo = f.todo[1:]
		err := f.listed(subject)
		if err == nil {
			err = f.tagged(subject)
		}
		if err != nil {
			return nil, fmt.Errorf("referrers of %s: %w", subject, err)
		}
	}

	return f.found, nil
}

// A finder is one search for referrers.
type finder struct {
	r     *Repository
	seen  map[digest.Digest]bool // manifests of the images and of what was found
	todo  []digest.Digest        // those of them whose referrers were not asked for yet
	found []graph.Referrer
}

// add notes the manifests of images.
func (f *finder) add(images []oci.Descriptor) error {
	return graph.Walk(f.r, images, graph.Rules{Sparse: true}, func(n graph.Node) error {
		if n.Doc != nil && !f.seen[n.Desc.Digest] {
			f.seen[n.Desc.Digest] = true
			f.todo = append(f.todo, n.Desc.Digest)
		}
		return nil
	})
}

// listed finds what the registry lists as referrers of a manifest.
func (f *finder) listed(subject digest.Digest) error {
	list, err := f.r.c.Referrers(f.r.ctx, f.r.ref.Repo, subject, "")
	if err != nil {
		return err
	}

	for _, d := range list.Descriptors {
		if f.seen[d.Digest] || !oci.IsDocument(d.MediaType) {
			continue
		}

		// The list is a claim. Only the subject in the manifest itself says what it refers to. Where
		// clients keep the list under a tag, it outlives what it names.
		data, err := f.r.Document(d)
		if errors.Is(err, ErrNotFound) {
			f.r.c.notice("left out %s: the registry lists it as a referrer of %s, and does not have it", d.Digest, subject)
			continue
		}
		if err != nil {
			return err
		}
		if s := graph.Subject(data); s == nil || s.Digest != subject {
			f.r.c.notice("left out %s: the registry lists it as a referrer of %s, which it is not", d.Digest, subject)
			continue
		}

		// Annotations of the list are left behind: clients that keep it under a tag write what
		// they like into it.
		entry := oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: d.ArtifactType}
		f.found = append(f.found, graph.Referrer{Desc: entry, Subject: subject})
		if err := f.add([]oci.Descriptor{entry}); err != nil {
			return err
		}
	}

	return nil
}

// tagged finds the referrers that have no subject and are tied to a manifest by their tag alone:
// so cosign keeps signatures, attestations and SBOMs. The tag goes along as an annotation, because
// without it a copy would be tied to nothing.
func (f *finder) tagged(subject digest.Digest) error {
	for _, suffix := range []string{".sig", ".att", ".sbom"} {
		tag := graph.FallbackTag(subject) + suffix
		desc, err := f.r.Resolve(oci.ImageName{Tag: tag})
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDenied) {
			continue // some registries answer 403 for a tag that is not there
		}
		if err != nil {
			return err
		}
		if f.seen[desc.Digest] {
			continue
		}
		f.found = append(f.found, graph.Referrer{Desc: desc.WithAnnotation(oci.AnnotationRefName, tag), Subject: subject})
		if err := f.add([]oci.Descriptor{desc}); err != nil {
			return err
		}
	}

	return nil
}

// Watch has report called with the progress of each blob that is read. It must be called before the
// first Blob.
func (r *Repository) Watch(report func(progress.Event)) { r.report = report }

// Close does nothing, and never fails: the client belongs to the caller that made it.
func (r *Repository) Close() error { return nil }
