package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/progress"
)

// VerifyOptions say how much to verify.
type VerifyOptions struct {
	Roots   []oci.Descriptor // the images to verify; nil: everything in the layout
	Fast    bool             // existence, size and shape only, no layer is read
	Deep    bool             // names, nesting, subjects and files that do not belong as well
	Workers int              // blobs that are read at once; 0: one for each processor

	// Inspect, if not nil, gets the bytes of each blob while they are hashed. What it does
	// not read is hashed all the same. It is called by several goroutines at once, and must
	// not trust what it reads: whether the digest is right is known only afterwards.
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
	v := &verifier{l: l, opts: opts, sizes: map[digest.Digest]int64{}, said: map[string]bool{}}
	roots := opts.Roots
	if roots == nil {
		x, err := l.Index()
		if err != nil {
			if errors.Is(err, oci.ErrMalformed) || errors.Is(err, ErrNotLayout) {
				v.add(CodeIndexMalformed, Finding{Path: indexFile, Got: cause(err).Error()})
			} else {
				return nil, Summary{}, err
			}
		}
		roots = x.Manifests
		v.checkNames(x)
		if opts.Deep {
			v.checkFiles()
		}
	}
	v.sum.Images = len(roots)
	if err := l.Scan(roots, v.visit); err != nil {
		return nil, v.sum, err
	}
	if opts.Deep {
		v.checkNesting(roots)
	}
	if opts.Roots == nil {
		if err := v.listBlobs(); err != nil {
			return nil, v.sum, err
		}
	}
	v.sum.Blobs = len(v.blobs)
	if !opts.Fast {
		if err := v.hash(ctx); err != nil {
			return nil, v.sum, err
		}
	}
	return v.findings, v.sum, nil
}

type verifier struct {
	l        *Layout
	opts     VerifyOptions
	findings []Finding
	said     map[string]bool // digests that findings are about
	sum      Summary
	blobs    []digest.Digest         // that are there and can be hashed
	sizes    map[digest.Digest]int64 // of those in blobs
}

// add adds a finding with the severity and the fix of its code.
func (v *verifier) add(code string, f Finding) {
	known := NewFinding(code)
	f.Code, f.Severity, f.Fix = known.Code, known.Severity, known.Fix
	v.said[f.Digest] = true
	v.findings = append(v.findings, f)
}

// visit checks what can be said of one descriptor without hashing its blob. A document was
// hashed by the walk already, but its file is hashed with the others all the same: they are
// small, and the report stays simple.
func (v *verifier) visit(desc oci.Descriptor, doc []byte, err error) error {
	d := desc.Digest
	if err := desc.CheckData(); err != nil {
		v.add(CodeDataMismatch, Finding{Digest: d.String(), Got: err.Error()})
	}
	if !d.Verifiable() {
		v.add(CodeDigestUnsupported, Finding{Digest: d.String(), Got: string(d.Algorithm()), Want: "sha256 or sha512"})
	}
	size, statErr := v.l.Stat(d)
	switch {
	case errors.Is(statErr, ErrNotFound):
		if desc.Data == nil && !oci.IsForeignLayer(desc.MediaType) {
			v.add(CodeBlobMissing, Finding{Digest: d.String(), Path: blobPath(d)})
		}
		return nil
	case errors.Is(statErr, oci.ErrMalformed):
		v.add(CodeBlobNotFile, Finding{Digest: d.String(), Path: blobPath(d), Got: statErr.Error()})
		return nil
	case statErr != nil:
		v.add(CodeBlobUnreadable, Finding{Digest: d.String(), Path: blobPath(d), Got: statErr.Error()})
		return nil
	}
	v.hashLater(d, size)
	if size != desc.Size {
		v.add(CodeBlobSize, Finding{Digest: d.String(), Path: blobPath(d), Got: fmt.Sprint(size), Want: fmt.Sprint(desc.Size)})
		return nil
	}
	if err == nil && oci.IsConfig(desc.MediaType) {
		err = v.checkConfig(desc)
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

func (v *verifier) checkConfig(desc oci.Descriptor) error {
	data, err := v.l.Document(desc)
	if err == nil {
		_, err = oci.ParseConfig(data)
	}
	return err
}

func (v *verifier) hashLater(d digest.Digest, size int64) {
	if _, known := v.sizes[d]; d.Verifiable() && !known {
		v.sizes[d] = size
		v.blobs = append(v.blobs, d)
	}
}

// listBlobs adds the blobs that no image names: their names must be true as well.
func (v *verifier) listBlobs() error {
	algs, err := v.l.readDir(blobsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an empty layout may lack it
	}
	if err != nil {
		return fmt.Errorf("layout %q: %s: %w", v.l.dir, blobsDir, cause(err))
	}
	for _, alg := range algs {
		dir := path.Join(blobsDir, alg.Name())
		if !alg.IsDir() {
			v.add(CodeBlobName, Finding{Path: dir, Got: "a " + kindOf(alg), Want: "a directory named by an algorithm"})
			continue
		}
		files, err := v.l.readDir(dir)
		if err != nil {
			return fmt.Errorf("layout %q: %s: %w", v.l.dir, dir, cause(err))
		}
		for _, f := range files {
			d, err := digest.Parse(alg.Name() + ":" + f.Name())
			switch {
			case err != nil:
				v.add(CodeBlobName, Finding{Path: path.Join(dir, f.Name()), Got: err.Error()})
			case !f.Type().IsRegular() && !v.said[d.String()]:
				v.add(CodeBlobNotFile, Finding{Digest: d.String(), Path: blobPath(d), Got: "a " + kindOf(f)})
			case f.Type().IsRegular():
				size, _ := v.l.Stat(d)
				v.hashLater(d, size)
			}
		}
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
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(v.sizes[v.blobs[b]], v.sizes[v.blobs[a]]) })
	v.l.plan(len(v.blobs), v.total())
	verified, err := v.readFirst(ctx)
	if err != nil {
		return err
	}
	results := make([]*Finding, len(v.blobs))
	next := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range min(workers, len(v.blobs)) {
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
	for _, i := range order {
		if ctx.Err() != nil {
			break
		}
		if verified[v.blobs[i]] {
			continue
		}
		next <- i
	}
	close(next)
	wg.Wait()
	for _, f := range results {
		if f != nil {
			v.add(f.Code, *f)
		}
	}
	return context.Cause(ctx)
}

// readFirst returns the blobs that need not be hashed, and counts their bytes.
func (v *verifier) readFirst(ctx context.Context) (map[digest.Digest]bool, error) {
	if v.opts.ReadFirst == nil {
		return nil, nil
	}
	verified, err := v.opts.ReadFirst(ctx)
	for d := range verified {
		v.sum.Bytes += v.sizes[d]
	}
	return verified, err
}

func (v *verifier) total() int64 {
	var n int64
	for _, size := range v.sizes {
		n += size
	}
	return n
}

func (v *verifier) hashBlob(ctx context.Context, d digest.Digest, buf []byte) (*Finding, int64) {
	f, err := v.l.OpenBlob(d)
	if err != nil {
		return &Finding{Code: CodeBlobUnreadable, Digest: d.String(), Path: blobPath(d), Got: err.Error()}, 0
	}
	defer f.Close()
	task := progress.NewTask(v.l.report, progress.Event{Digest: d, Size: v.sizes[d]})
	defer task.Stop()
	h := &hashingReader{ctx: ctx, f: f, h: digest.NewHasher(d.Algorithm()), task: task}
	if v.opts.Inspect != nil {
		v.opts.Inspect(d, h)
	}
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
	f    *os.File
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
