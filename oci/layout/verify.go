package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
)

// Codes of findings. They are part of the contract of [Layout.Verify].
const (
	CodeIndexMalformed    = "index-malformed"    // index.json cannot be used
	CodeNameAmbiguous     = "name-ambiguous"     // one tag names two images
	CodeBlobMissing       = "blob-missing"       // a descriptor names a blob that is absent
	CodeBlobSize          = "blob-size"          // a blob has another size than a descriptor says
	CodeBlobDigest        = "blob-digest"        // a blob's bytes do not have the digest of its name
	CodeBlobNotFile       = "blob-not-file"      // a blob is a link, a pipe, a directory …
	CodeBlobUnreadable    = "blob-unreadable"    // a blob cannot be read
	CodeBlobName          = "blob-name"          // a file among the blobs has no digest for a name
	CodeDigestUnsupported = "digest-unsupported" // a digest that cannot be verified
	CodeDataMismatch      = "data-mismatch"      // embedded data is not what the descriptor names
	CodeDocumentMalformed = "document-malformed" // a manifest, index or config is not what it should be
)

// A Finding is one thing that is wrong with a layout.
type Finding struct {
	Code   string `json:"code"`
	Digest string `json:"digest,omitempty"` // of the blob in question
	Got    string `json:"got,omitempty"`
	Path   string `json:"path,omitempty"` // of the file, below the layout
	Want   string `json:"want,omitempty"`
}

// VerifyOptions say how much to verify.
type VerifyOptions struct {
	Roots   []oci.Descriptor // the images to verify; nil: everything in the layout
	Fast    bool             // existence, size and shape only, no layer is read
	Workers int              // blobs that are read at once; 0: one for each processor
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
	v := &verifier{l: l, sizes: map[digest.Digest]bool{}}
	roots := opts.Roots
	if roots == nil {
		x, err := l.Index()
		if err != nil {
			if errors.Is(err, oci.ErrMalformed) || errors.Is(err, ErrNotLayout) {
				v.add(Finding{Code: CodeIndexMalformed, Path: indexFile, Got: cause(err).Error()})
			} else {
				return nil, Summary{}, err
			}
		}
		roots = x.Manifests
		v.checkNames(x)
	}
	v.sum.Images = len(roots)
	if err := l.walk(roots, v.visit); err != nil {
		return nil, v.sum, err
	}
	if opts.Roots == nil {
		if err := v.listBlobs(); err != nil {
			return nil, v.sum, err
		}
	}
	v.sum.Blobs = len(v.blobs)
	if !opts.Fast {
		if err := v.hash(ctx, opts.Workers); err != nil {
			return nil, v.sum, err
		}
	}
	return v.findings, v.sum, nil
}

type verifier struct {
	l        *Layout
	findings []Finding
	sum      Summary
	blobs    []digest.Digest        // that are there and can be hashed
	sizes    map[digest.Digest]bool // those in blobs
}

func (v *verifier) add(f Finding) { v.findings = append(v.findings, f) }

// checkNames reports tags that name more than one image.
func (v *verifier) checkNames(x oci.Index) {
	first := map[string]digest.Digest{}
	for _, e := range x.Manifests {
		tag := e.Annotations[oci.AnnotationRefName]
		if d, ok := first[tag]; ok && tag != "" && d != e.Digest {
			v.add(Finding{Code: CodeNameAmbiguous, Path: indexFile, Digest: e.Digest.String(),
				Got: fmt.Sprintf("%q", tag), Want: "one image, it names " + d.String() + " too"})
		} else if !ok {
			first[tag] = e.Digest
		}
	}
}

// visit checks what can be said of one descriptor without hashing its blob. A document was
// hashed by the walk already, but its file is hashed with the others all the same: they are
// small, and the report stays simple.
func (v *verifier) visit(desc oci.Descriptor, doc []byte, err error) error {
	d := desc.Digest
	if desc.Data != nil {
		if err := checkData(desc); err != nil {
			v.add(Finding{Code: CodeDataMismatch, Digest: d.String(), Got: err.Error()})
		}
	}
	if !d.Verifiable() {
		v.add(Finding{Code: CodeDigestUnsupported, Digest: d.String(), Got: string(d.Algorithm()), Want: "sha256 or sha512"})
	}
	size, statErr := v.l.Stat(d)
	switch {
	case errors.Is(statErr, ErrNotFound):
		if desc.Data == nil && !oci.IsForeignLayer(desc.MediaType) {
			v.add(Finding{Code: CodeBlobMissing, Digest: d.String(), Path: blobPath(d)})
		}
		return nil
	case errors.Is(statErr, oci.ErrMalformed):
		v.add(Finding{Code: CodeBlobNotFile, Digest: d.String(), Path: blobPath(d), Got: statErr.Error()})
		return nil
	case statErr != nil:
		v.add(Finding{Code: CodeBlobUnreadable, Digest: d.String(), Path: blobPath(d), Got: statErr.Error()})
		return nil
	}
	v.hashLater(d)
	if size != desc.Size {
		v.add(Finding{Code: CodeBlobSize, Digest: d.String(), Path: blobPath(d), Got: fmt.Sprint(size), Want: fmt.Sprint(desc.Size)})
		return nil
	}
	if err == nil && oci.IsConfig(desc.MediaType) {
		err = v.checkConfig(desc)
	}
	if err != nil && !errors.Is(err, digest.ErrMismatch) && !errors.Is(err, digest.ErrUnsupported) {
		v.add(Finding{Code: CodeDocumentMalformed, Digest: d.String(), Path: blobPath(d), Got: err.Error()})
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

func (v *verifier) hashLater(d digest.Digest) {
	if d.Verifiable() && !v.sizes[d] {
		v.sizes[d] = true
		v.blobs = append(v.blobs, d)
	}
}

// listBlobs adds the blobs that no image names: their names must be true as well.
func (v *verifier) listBlobs() error {
	algs, err := fs.ReadDir(v.l.root.FS(), blobsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an empty layout may lack it
	}
	if err != nil {
		return fmt.Errorf("layout %q: %s: %w", v.l.dir, blobsDir, cause(err))
	}
	for _, alg := range algs {
		dir := path.Join(blobsDir, alg.Name())
		if !alg.IsDir() {
			v.add(Finding{Code: CodeBlobName, Path: dir, Got: "a " + kindOf(alg), Want: "a directory named by an algorithm"})
			continue
		}
		files, err := fs.ReadDir(v.l.root.FS(), dir)
		if err != nil {
			return fmt.Errorf("layout %q: %s: %w", v.l.dir, dir, cause(err))
		}
		for _, f := range files {
			d, err := digest.Parse(alg.Name() + ":" + f.Name())
			switch {
			case err != nil:
				v.add(Finding{Code: CodeBlobName, Path: path.Join(dir, f.Name()), Got: err.Error()})
			case !f.Type().IsRegular() && !v.known(d):
				v.add(Finding{Code: CodeBlobNotFile, Digest: d.String(), Path: blobPath(d), Got: "a " + kindOf(f)})
			case f.Type().IsRegular():
				v.hashLater(d)
			}
		}
	}
	return nil
}

func (v *verifier) known(d digest.Digest) bool {
	return slices.ContainsFunc(v.findings, func(f Finding) bool { return f.Digest == d.String() })
}

func kindOf(e fs.DirEntry) string {
	if e.Type().IsRegular() {
		return "file"
	}
	return kind(e.Type())
}

// hash reads every blob once and adds what is wrong in the order of v.blobs.
func (v *verifier) hash(ctx context.Context, workers int) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	results := make([]*Finding, len(v.blobs))
	next := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range min(workers, len(v.blobs)) {
		wg.Go(func() {
			buf := make([]byte, 256<<10)
			for i := range next {
				f, n := v.l.hashBlob(ctx, v.blobs[i], buf)
				results[i] = f
				mu.Lock()
				v.sum.Bytes += n
				mu.Unlock()
			}
		})
	}
	for i := range v.blobs {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	for _, f := range results {
		if f != nil {
			v.add(*f)
		}
	}
	return context.Cause(ctx)
}

func (l *Layout) hashBlob(ctx context.Context, d digest.Digest, buf []byte) (*Finding, int64) {
	f, err := l.OpenBlob(d)
	if err != nil {
		return &Finding{Code: CodeBlobUnreadable, Digest: d.String(), Path: blobPath(d), Got: err.Error()}, 0
	}
	defer f.Close()
	h := digest.NewHasher(d.Algorithm())
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return &Finding{Code: CodeBlobUnreadable, Digest: d.String(), Path: blobPath(d), Got: cause(err).Error()}, h.Size()
		}
	}
	if got := h.Digest(); got != d && ctx.Err() == nil {
		return &Finding{Code: CodeBlobDigest, Digest: d.String(), Path: blobPath(d), Got: got.String(), Want: d.String()}, h.Size()
	}
	return nil, h.Size()
}
