package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/progress"
	"ocikit/oci/source"
)

// VerifyOptions say how much to verify.
type VerifyOptions struct {
	Roots   []oci.Descriptor // the images to verify; nil: everything in the layout
	Fast    bool             // existence, size and shape only, no layer is read
	Deep    bool             // names, nesting, subjects and files that do not belong as well
	Workers int              // blobs that are read at once; 0: one for each processor
	Rules   graph.Rules      // what may be absent

	// Visit, if not nil, gets each node of the walk over the images, see [graph.Scan], before it is
	// checked.
	Visit func(graph.Node)

	// Inspect, if not nil, gets the bytes of each blob while they are hashed. The bytes that it
	// leaves are hashed all the same. It is called by several goroutines at once, and must not
	// trust what it reads: whether the digest is right is known only afterwards.
	Inspect func(d digest.Digest, r io.Reader)

	// ReadFirst, if not nil, is called before blobs are hashed, unless Fast is set. The blobs
	// that it returns are not hashed again: it has read and verified them.
	ReadFirst func(ctx context.Context) (map[digest.Digest]bool, error)
}

// A Summary counts what was verified.
type Summary struct {
	Images int   // entries of index.json, or roots
	Blobs  int   // blobs that were looked at
	Bytes  int64 // bytes that were read and hashed
}

// Verify checks a layout, or some of its images, and returns what is wrong, in the order in
// which the images name it. An error means that it could not check, not that something is
// wrong. Each blob is read once.
func (l *Layout) Verify(ctx context.Context, opts VerifyOptions) ([]Finding, Summary, error) {
	return Verify(ctx, l, opts)
}

// Verify is [Layout.Verify] for any source that lists its names. Files that no image names are looked
// at in a layout alone.
func Verify(ctx context.Context, src source.Source, opts VerifyOptions) ([]Finding, Summary, error) {
	l, _ := src.(*Layout)
	v := &verifier{src: src, l: l, opts: opts, known: map[digest.Digest]blobState{}, said: map[string]bool{}}
	roots := opts.Roots
	if roots == nil {
		var err error
		if roots, err = v.roots(); err != nil {
			return nil, Summary{}, err
		}
	}

	v.sum.Images = len(roots)
	if err := v.walk(ctx, roots); err != nil {
		return nil, v.sum, err
	}

	if opts.Deep {
		v.checkNesting(roots)
	}

	// All of a layout was asked for, so blobs that no image names are looked at, too.
	if opts.Roots == nil && l != nil {
		if err := v.listBlobs(); err != nil {
			return nil, v.sum, err
		}
	}

	v.sum.Blobs = len(v.known)
	if !opts.Fast {
		if err := v.hash(ctx); err != nil {
			return nil, v.sum, err
		}
	}

	return v.findings, v.sum, nil
}

type verifier struct {
	src      source.Source
	l        *Layout // the same, if it is a layout
	opts     VerifyOptions
	findings []Finding
	said     map[string]bool // digests that findings are about
	sum      Summary
	known    map[digest.Digest]blobState // the blobs that are there and can be hashed
	blobs    []digest.Digest             // those that are to be hashed
}

// A blobState is what is known of a blob that is there.
type blobState struct {
	size int64
	read bool // it is a document that was verified by the walk, and need not be hashed again
}

// roots returns the entries of index.json, and checks their names. An index.json that cannot be used is
// a finding like others: the blobs that are there can be hashed all the same.
func (v *verifier) roots() ([]oci.Descriptor, error) {
	names := nameCheck{deep: v.opts.Deep, first: map[string]digest.Digest{}}
	roots, err := v.entries(names.check)
	switch {
	case err == nil:
	case errors.Is(err, oci.ErrMalformed), errors.Is(err, ErrNotLayout):
		v.add(CodeIndexMalformed, Finding{Path: indexFile, Got: cause(err).Error()})
		roots, names.found = nil, nil
	default:
		return nil, err
	}

	if v.l != nil {
		if _, err := v.l.Waiting(); errors.Is(err, oci.ErrMalformed) {
			v.add(CodeWaitingMalformed, Finding{Path: WaitingFile, Got: cause(err).Error()})
		}
	}

	for _, f := range names.found {
		v.add(f.Code, f)
	}

	if v.opts.Deep && v.l != nil {
		v.checkFiles()
	}

	return roots, nil
}

// entries returns the entries of index.json. name gets each as it is there.
func (v *verifier) entries(name func(oci.Descriptor)) ([]oci.Descriptor, error) {
	if v.l != nil {
		return v.l.Roots(name)
	}
	x, err := v.src.Index()
	for _, e := range x.Manifests {
		name(e)
	}
	return x.Manifests, err
}

// walk checks what roots lead to.
func (v *verifier) walk(ctx context.Context, roots []oci.Descriptor) error {
	visit := v.visit
	if v.opts.Visit != nil {
		visit = func(n graph.Node) error {
			v.opts.Visit(n)
			return v.visit(n)
		}
	}
	if v.l != nil {
		return v.l.Scan(ctx, roots, visit)
	}
	return graph.Scan(v.src, roots, visit)
}

// add adds a finding with the severity and the fix of its code.
func (v *verifier) add(code string, f Finding) {
	known := NewFinding(code)
	f.Code, f.Severity, f.Fix = known.Code, known.Severity, known.Fix
	v.said[f.Digest] = true
	v.findings = append(v.findings, f)
}

// visit checks what can be said of one descriptor without hashing its blob. A document that the walk
// could use was hashed by it.
func (v *verifier) visit(n graph.Node) error {
	desc, doc, err := n.Desc, n.Doc, n.Err
	d := desc.Digest
	if err := desc.CheckData(); err != nil {
		v.add(CodeDataMismatch, Finding{Digest: d.String(), Got: err.Error()})
	}

	if !d.Verifiable() {
		v.add(CodeDigestUnsupported, Finding{Digest: d.String(), Got: string(d.Algorithm()), Want: "sha256 or sha512"})
	}

	size, statErr := v.stat(n)
	switch {
	case errors.Is(statErr, ErrNotFound):
		v.absent(n)
		return nil
	case errors.Is(statErr, oci.ErrMalformed):
		v.add(CodeBlobNotFile, Finding{Digest: d.String(), Path: blobPath(d), Got: statErr.Error()})
		return nil
	case statErr != nil:
		v.add(CodeBlobUnreadable, Finding{Digest: d.String(), Path: blobPath(d), Got: statErr.Error()})
		return nil
	}

	// A file of the wrong size is hashed too: its bytes may be those of its name, and the
	// descriptor wrong.
	read := doc != nil
	if err == nil && size == desc.Size && oci.IsConfig(desc.MediaType) {
		read, err = v.checkConfig(desc)
	}
	v.note(d, size, read)
	if size != desc.Size {
		v.add(CodeBlobSize, Finding{Digest: d.String(), Path: blobPath(d), Got: fmt.Sprint(size), Want: fmt.Sprint(desc.Size)})
		return nil
	}

	switch {
	case err == nil && doc != nil && v.opts.Deep:
		v.checkSubject(desc, doc)
	case err == nil, errors.Is(err, digest.ErrUnsupported):
	case !errors.Is(err, digest.ErrMismatch):
		v.add(CodeDocumentMalformed, Finding{Digest: d.String(), Path: blobPath(d), Got: err.Error()})
	case v.opts.Fast: // otherwise it will be said when all blobs are hashed
		v.add(CodeBlobDigest, Finding{Digest: d.String(), Path: blobPath(d), Got: "other bytes", Want: d.String()})
	}

	return nil
}

// stat returns the size of the file of a blob. A document that was read has the right one, unless it
// may have been read from its descriptor.
func (v *verifier) stat(n graph.Node) (int64, error) {
	if n.Doc != nil && n.Desc.Data == nil {
		return n.Desc.Size, nil
	}
	return v.src.Stat(n.Desc.Digest)
}

// absent judges a blob that is named and not there. A manifest that only an index names is told from
// one without which an image is damaged: an index of today often has platforms that nobody fetched.
func (v *verifier) absent(n graph.Node) {
	d := n.Desc.Digest
	switch {
	case n.Desc.Data != nil, oci.IsForeignLayer(n.Desc.MediaType):
	case oci.IsDocument(n.Desc.MediaType) && oci.IsIndex(n.Parent.MediaType):
		f := Finding{Digest: d.String(), Path: blobPath(d), Got: "absent", Want: "in the index " + n.Parent.Digest.String()}
		if n.Desc.Platform != nil {
			f.Want = n.Desc.Platform.String() + ", " + f.Want
		}
		v.add(CodeManifestAbsent, f)
		if v.opts.Rules.Sparse {
			v.findings[len(v.findings)-1].Severity = SeverityNote
			v.findings[len(v.findings)-1].Fix = ""
		}
	default:
		v.add(CodeBlobMissing, Finding{Digest: d.String(), Path: blobPath(d)})
	}
}

// checkConfig checks the shape of a config, and reports whether its bytes were read and are right.
func (v *verifier) checkConfig(desc oci.Descriptor) (read bool, err error) {
	data, err := v.src.Document(desc)
	if err != nil {
		return false, err
	}
	_, err = oci.ParseConfig(data)
	return true, err
}

// note notes a blob that is there. It is hashed later unless it was read, as a document. A blob that
// some name as a document and others as a layer is hashed, too, for whoever inspects layers.
func (v *verifier) note(d digest.Digest, size int64, read bool) {
	if !d.Verifiable() {
		return
	}
	was, known := v.known[d]
	if !known && !read || was.read && !read {
		v.blobs = append(v.blobs, d)
	}
	if !known || was.read && !read {
		v.known[d] = blobState{size, read}
	}
}

// listBlobs adds the blobs that no image names: their names must be true as well.
func (v *verifier) listBlobs() error {
	// The directory is read in its own order, and only what is to be told of is sorted.
	type file struct {
		path    string
		d       digest.Digest
		finding *Finding
	}
	var found []file
	err := v.l.eachBlob(func(f blobEntry) error {
		_, known := v.known[f.d]
		bad := func(code, digest, got, want string) {
			found = append(found, file{f.path, f.d, &Finding{Code: code, Digest: digest, Path: f.path, Got: got, Want: want}})
		}
		switch {
		case f.err != nil && f.dir:
			bad(CodeBlobName, "", "a "+kindOf(f.entry), "a directory named by an algorithm")
		case f.err != nil:
			bad(CodeBlobName, "", f.err.Error(), "")
		// If an image names it, it was said already.
		case !f.entry.Type().IsRegular() && !v.said[f.d.String()]:
			bad(CodeBlobNotFile, f.d.String(), "a "+kindOf(f.entry), "")
		case f.entry.Type().IsRegular() && !known:
			found = append(found, file{path: f.path, d: f.d})
		}
		return nil
	})
	if err != nil {
		return err
	}

	slices.SortFunc(found, func(a, b file) int { return cmp.Compare(a.path, b.path) })
	for _, f := range found {
		if f.finding != nil {
			v.add(f.finding.Code, *f.finding)
			continue
		}
		size, _ := v.l.Stat(f.d)
		v.note(f.d, size, false)
	}

	return nil
}

func kindOf(e fs.DirEntry) string {
	if e.Type().IsRegular() {
		return "file"
	}
	return kind(e.Type())
}

// hash reads every blob once, the large ones first so that no worker is left alone with one
// at the end, and adds what is wrong in the order of v.blobs.
func (v *verifier) hash(ctx context.Context) error {
	workers := v.opts.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}

	order := make([]int, len(v.blobs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(v.known[v.blobs[b]].size, v.known[v.blobs[a]].size) })

	if v.l != nil {
		v.l.plan(len(v.blobs), v.total())
	}

	// Documents were read, and hashed, when the images were walked.
	for _, b := range v.known {
		if b.read {
			v.sum.Bytes += b.size
		}
	}

	verified, err := v.readFirst(ctx)
	if err != nil {
		return err
	}

	// What the caller has read to its end for a reason of its own is not read again.
	order = slices.DeleteFunc(order, func(i int) bool { return verified[v.blobs[i]] })
	for _, f := range v.hashAll(ctx, order, workers) {
		if f != nil {
			v.add(f.Code, *f)
		}
	}

	return context.Cause(ctx)
}

// hashAll hashes the blobs in that order and counts their bytes. What is wrong with blob i of v.blobs
// comes to place i, so that the report is the same whichever worker was first.
func (v *verifier) hashAll(ctx context.Context, order []int, workers int) []*Finding {
	results := make([]*Finding, len(v.blobs))
	next := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range min(workers, len(order)) {
		wg.Go(func() {
			buf := make([]byte, 256<<10)
			for i := range next {
				f, n := v.hashBlob(ctx, v.blobs[i], buf)
				results[i] = f
				mu.Lock()
				v.sum.Bytes += n
				mu.Unlock()
			}
		})
	}

	// After an interrupt no more blobs are handed out. Those under way end by themselves.
	for _, i := range order {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}

	close(next)
	wg.Wait()
	return results
}

// readFirst returns the blobs that need not be hashed, and counts their bytes.
func (v *verifier) readFirst(ctx context.Context) (map[digest.Digest]bool, error) {
	if v.opts.ReadFirst == nil {
		return nil, nil
	}
	verified, err := v.opts.ReadFirst(ctx)
	for d := range verified {
		v.sum.Bytes += v.known[d].size
	}
	return verified, err
}

// total returns how many bytes are to be hashed.
func (v *verifier) total() int64 {
	var n int64
	for _, d := range v.blobs {
		n += v.known[d].size
	}
	return n
}

// open opens a blob as it is, right or wrong.
func (v *verifier) open(d digest.Digest) (io.ReadCloser, error) {
	if v.l != nil {
		return v.l.OpenBlob(d)
	}

	f, err := v.src.BlobAt(oci.Descriptor{Digest: d, Size: v.known[d].size})
	if err != nil {
		return nil, err
	}
	return oci.ReadCloser(io.NewSectionReader(f, 0, v.known[d].size), f), nil
}

func (v *verifier) hashBlob(ctx context.Context, d digest.Digest, buf []byte) (*Finding, int64) {
	f, err := v.open(d)
	if err != nil {
		return &Finding{Code: CodeBlobUnreadable, Digest: d.String(), Path: blobPath(d), Got: err.Error()}, 0
	}
	defer f.Close()

	var task *progress.Task // other sources tell of their reading themselves
	if v.l != nil {
		task = progress.NewTask(v.l.report, progress.Event{Digest: d, Size: v.known[d].size})
		defer task.Stop()
	}

	h := &hashingReader{ctx: ctx, f: f, h: digest.NewHasher(d.Algorithm()), task: task}
	if v.opts.Inspect != nil {
		v.opts.Inspect(d, h)
	}

	// Inspect may have left bytes, and the digest is that of all.
	for h.err == nil {
		h.Read(buf)
	}

	switch got := h.h.Digest(); {
	case ctx.Err() != nil:
	case h.err != io.EOF:
		return &Finding{Code: CodeBlobUnreadable, Digest: d.String(), Path: blobPath(d), Got: cause(h.err).Error()}, h.h.Size()
	case got != d:
		return &Finding{Code: CodeBlobDigest, Digest: d.String(), Path: blobPath(d), Got: got.String(), Want: d.String()}, h.h.Size()
	default:
		task.Done()
	}

	return nil, h.h.Size()
}

// A hashingReader hashes what is read through it, and keeps the first error.
type hashingReader struct {
	ctx  context.Context
	f    io.Reader
	h    *digest.Hasher
	task *progress.Task
	err  error
}

func (r *hashingReader) Read(p []byte) (int, error) {
	if r.err == nil {
		r.err = context.Cause(r.ctx)
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.f.Read(p)
	r.h.Write(p[:n])
	r.task.Add(n)
	r.err = err
	return n, err
}
