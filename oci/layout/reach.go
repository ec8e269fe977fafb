package layout

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
)

// A reach is the set of blobs that index.json leads to.
type reach struct {
	l      *Layout
	sparse bool // what is absent is no doubt
	leaves bool // configs and layers may be absent, documents may not
	blobs  map[digest.Digest]bool
	order  []digest.Digest // the same, as they were reached
	docs   map[docKey]bool // documents that were followed
}

type docKey struct {
	d         digest.Digest
	mediaType string
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
	stack := append([]oci.Descriptor(nil), roots...)
	for len(stack) > 0 {
		desc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		r.add(desc.Digest)
		key := docKey{desc.Digest, desc.MediaType}
		if r.docs[key] {
			continue
		}
		r.docs[key] = true
		refs, err := r.document(desc)
		switch {
		case errors.Is(err, ErrNotFound) && r.sparse:
		case err != nil:
			return err
		}
		stack = append(stack, refs...)
	}
	return nil
}

// document returns what a manifest, an index, or an entry of one of unknown type leads to.
func (r *reach) document(desc oci.Descriptor) ([]oci.Descriptor, error) {
	if !oci.IsManifest(desc.MediaType) && !oci.IsIndex(desc.MediaType) {
		return r.mentioned(desc)
	}
	doc, err := r.l.Document(desc)
	if err != nil {
		return nil, err
	}
	var refs []oci.Descriptor
	var subject *oci.Descriptor
	if oci.IsManifest(desc.MediaType) {
		m, err := oci.DecodeManifest(desc, doc)
		if err != nil {
			return nil, err
		}
		subject = m.Subject
		for _, leaf := range append(m.Layers, m.Config) {
			r.add(leaf.Digest)
			if err := r.l.checkSize(leaf); err != nil && (!r.sparse && !r.leaves || !errors.Is(err, ErrNotFound)) {
				return nil, err
			}
		}
	} else {
		x, err := oci.DecodeIndex(desc, doc)
		if err != nil {
			return nil, err
		}
		refs, subject = x.Manifests, x.Subject
	}
	if subject == nil {
		return refs, nil
	}
	if _, err := r.l.Stat(subject.Digest); !errors.Is(err, ErrNotFound) {
		refs = append(refs, *subject)
	}
	return refs, nil
}

// followWaiting adds what has come of images that are not whole yet. While one of their
// documents is to come, nobody knows which of the blobs that are here it needs.
func (r *reach) followWaiting() error {
	w, err := r.l.Waiting()
	if err != nil {
		return err
	}
	for _, b := range w.Rebuild {
		r.add(b.From)
		r.add(b.Digest)
	}
	r.leaves = true
	defer func() { r.leaves = false }()
	return r.follow(w.Images)
}

var anyDigest = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}`) })

// mentioned returns the blobs whose digests occur in a document of a type that this program
// does not know: it may need them.
func (r *reach) mentioned(desc oci.Descriptor) ([]oci.Descriptor, error) {
	if err := r.l.checkSize(desc); err != nil || desc.Size > oci.MaxDocument || !desc.Digest.Verifiable() {
		return nil, err
	}
	doc, err := r.l.Document(desc)
	if err != nil || !bytes.HasPrefix(bytes.TrimSpace(doc), []byte("{")) {
		return nil, err
	}
	var found []oci.Descriptor
	for _, text := range anyDigest().FindAll(doc, -1) {
		d, err := digest.Parse(string(text))
		if err != nil || r.blobs[d] {
			continue
		}
		ref, err := r.l.Describe(d)
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

// followReferrers adds the manifests among the other blobs whose subject is reached, and
// what they lead to, until there are no more. Such a manifest need not be listed in
// index.json. What it needs may be absent: it is nobody's image.
func (r *reach) followReferrers(others []blobFile) error {
	bySubject := map[digest.Digest][]oci.Descriptor{}
	for i := range others {
		b := &others[i]
		if r.blobs[b.d] || b.info.Size() > oci.MaxDocument || !b.d.Verifiable() {
			continue
		}
		desc, err := r.l.Describe(b.d)
		if err != nil || !oci.IsManifest(desc.MediaType) && !oci.IsIndex(desc.MediaType) {
			continue // what is damaged refers to nothing
		}
		b.document = true
		doc, err := r.l.Document(desc)
		if err != nil {
			continue
		}
		var x struct {
			Subject *oci.Descriptor `json:"subject"`
		}
		if oci.Decode(doc, &x) == nil && x.Subject != nil {
			bySubject[x.Subject.Digest] = append(bySubject[x.Subject.Digest], desc)
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

// A blobFile is a file below blobs whose name is a digest.
type blobFile struct {
	d        digest.Digest
	info     fs.FileInfo
	document bool // a manifest or an index, as far as that is known
}

// blobFiles lists the regular files among the blobs that have digests for names.
func (l *Layout) blobFiles() ([]blobFile, error) {
	algs, err := l.readDir(blobsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("layout %q: %s: %w", l.dir, blobsDir, cause(err))
	}
	var found []blobFile
	for _, alg := range algs {
		if !alg.IsDir() {
			continue
		}
		dir := path.Join(blobsDir, alg.Name())
		files, err := l.readDir(dir)
		if err != nil {
			return nil, fmt.Errorf("layout %q: %s: %w", l.dir, dir, cause(err))
		}
		for _, f := range files {
			d, err := digest.Parse(alg.Name() + ":" + f.Name())
			if err != nil || !f.Type().IsRegular() {
				continue
			}
			info, err := f.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // it went while we looked
			}
			if err != nil {
				return nil, fmt.Errorf("layout %q: blob %s: %w", l.dir, d, cause(err))
			}
			found = append(found, blobFile{d: d, info: info})
		}
	}
	return found, nil
}
