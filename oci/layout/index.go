package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"ocikit/digest"
	"ocikit/oci"
)

// Index reads index.json. It takes no lock: the file is only ever replaced whole.
func (l *Layout) Index() (oci.Index, error) {
	x, _, err := l.readIndex()
	return x, err
}

func (l *Layout) readIndex() (oci.Index, []byte, error) {
	var x oci.Index
	data, err := l.readFile(indexFile, oci.MaxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: no file %s", ErrNotLayout, indexFile)
	}
	if err == nil {
		if err = oci.Decode(data, &x); err != nil {
			err = fmt.Errorf("%s: %w", indexFile, err)
		}
	}
	if err != nil {
		return x, nil, fmt.Errorf("layout %q: %w", l.dir, err)
	}
	return x, data, nil
}

func (l *Layout) writeIndex(x oci.Index) error {
	data, err := oci.Encode(x)
	if err != nil {
		return err
	}
	if len(data) > oci.MaxDocument {
		return fmt.Errorf("layout %q: %s would have %d bytes, the limit is %d", l.dir, indexFile, len(data), oci.MaxDocument)
	}
	return l.writeFile(indexFile, data)
}

// Update changes index.json: it takes the lock, reads the newest state, lets change edit it
// and writes the result, durably. If change fails or alters nothing, nothing is written.
// Waiting for the lock ends with ctx.
func (l *Layout) Update(ctx context.Context, change func(*oci.Index) error) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return fmt.Errorf("layout %q: lock: %w", l.dir, err)
	}
	defer unlock()
	x, before, err := l.readIndex()
	if err != nil {
		return err
	}
	if err := change(&x); err != nil {
		return err
	}
	after, err := oci.Encode(x)
	if err != nil {
		return err
	}
	if string(after) == string(before) {
		return nil
	}
	return l.writeIndex(x)
}

// Expectation is what a tag must mean before it is changed: see [Expect] and [ExpectAbsent].
// The zero Expectation is none.
type Expectation struct {
	check  bool
	digest digest.Digest
}

// Expect demands that a tag has the digest d.
func Expect(d digest.Digest) Expectation { return Expectation{true, d} }

// ExpectAbsent demands that there is no such tag.
func ExpectAbsent() Expectation { return Expectation{check: true} }

func (e Expectation) met(tag string, x *oci.Index) error {
	if !e.check {
		return nil
	}
	got := "no such tag"
	ok := e.digest.IsZero()
	for _, d := range x.Manifests {
		if d.Annotations[oci.AnnotationRefName] == tag {
			got, ok = d.Digest.String(), d.Digest == e.digest
			break
		}
	}
	if ok {
		return nil
	}
	want := "no such tag"
	if !e.digest.IsZero() {
		want = e.digest.String()
	}
	return fmt.Errorf("tag %q: got %s, want %s: %w", tag, got, want, ErrConflict)
}

// Tag makes tag name the image that desc describes, in place of what it named before. The
// image must be whole in the layout: an absent blob gives [ErrIncomplete].
func (l *Layout) Tag(ctx context.Context, tag string, desc oci.Descriptor, expect Expectation) error {
	if err := oci.CheckTag(tag); err != nil {
		return err
	}
	if !oci.IsManifest(desc.MediaType) && !oci.IsIndex(desc.MediaType) {
		return fmt.Errorf("tag %q: %s is of type %q, want a manifest or an index: %w", tag, desc.Digest, desc.MediaType, oci.ErrMalformed)
	}
	entry := desc.WithAnnotation(oci.AnnotationRefName, tag).WithAnnotation(oci.AnnotationDiffID, "")
	return l.Update(ctx, func(x *oci.Index) error {
		if err := expect.met(tag, x); err != nil {
			return err
		}
		// Under the lock, so that no GC comes between the check and the name.
		if err := l.CheckComplete(desc); err != nil {
			return fmt.Errorf("tag %q: %w", tag, err)
		}
		setEntries(x, entry)
		return nil
	})
}

// Untag removes the tag; its blobs stay. No such tag gives [ErrNotFound].
func (l *Layout) Untag(ctx context.Context, tag string, expect Expectation) error {
	return l.Update(ctx, func(x *oci.Index) error {
		if err := expect.met(tag, x); err != nil {
			return err
		}
		n := len(x.Manifests)
		x.Manifests = slices.DeleteFunc(x.Manifests, func(d oci.Descriptor) bool {
			return d.Annotations[oci.AnnotationRefName] == tag
		})
		if len(x.Manifests) == n {
			return fmt.Errorf("tag %q: %w", tag, ErrNotFound)
		}
		return nil
	})
}

// lock takes the lock of index.json, waiting for other processes until ctx ends (a nil ctx
// never does), and returns what releases it.
func (l *Layout) lock(ctx context.Context) (unlock func(), err error) {
	if ctx == nil {
		ctx = context.Background()
	}
	f, err := l.openLock()
	if err != nil {
		return nil, cause(err)
	}
	for wait := time.Millisecond; !tryLock(f); wait = min(2*wait, 20*time.Millisecond) {
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	return func() { f.Close() }, nil
}
