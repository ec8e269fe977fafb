package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
	"ocikit/oci/graph"
)

// Index reads index.json, unless it is still the file that was read last. It takes no lock: the file
// is only ever replaced whole. The caller must not change its elements: other callers have them too.
func (l *Layout) Index() (oci.Index, error) {
	l.list.Lock()
	defer l.list.Unlock()
	info, err := l.root.Lstat(indexFile)
	if was := l.list.file; err == nil && was != nil && unchanged(was, info) {
		return l.list.x, nil
	}
	x, err := l.readIndex(nil)
	if err == nil && info != nil {
		x.Manifests = slices.Clip(x.Manifests)
		l.list.file, l.list.x = info, x
	}
	return x, err
}

// Roots returns the entries of index.json without their names, for callers that only follow what
// the entries lead to. Names take more than half the memory of a hundred thousand entries. name, if
// it is not nil, gets each entry as it is in the file. What Roots reads is not remembered.
func (l *Layout) Roots(name func(oci.Descriptor)) ([]oci.Descriptor, error) {
	x, err := l.readIndex(func(e *oci.Descriptor) bool {
		if name != nil {
			name(*e)
		}
		*e = e.WithAnnotation(oci.AnnotationRefName, "").WithAnnotation(oci.AnnotationImageName, "")
		return true
	})
	return x.Manifests, err
}

// Entries hands each entry of index.json to take, in their order, and remembers none.
func (l *Layout) Entries(take func(oci.Descriptor)) error {
	_, err := l.readIndex(func(e *oci.Descriptor) bool {
		take(*e)
		return false
	})
	return err
}

// readIndex reads index.json as [oci.ReadList] does.
func (l *Layout) readIndex(see func(*oci.Descriptor) bool) (oci.Index, error) {
	f, size, err := l.open(indexFile)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: no file %s", ErrNotLayout, indexFile)
	}
	if err != nil {
		return oci.Index{}, fmt.Errorf("layout %q: %w", l.dir, err)
	}
	defer f.Close()
	x, err := oci.ReadList(f, size, see)
	if err != nil {
		return oci.Index{}, fmt.Errorf("layout %q: %s: %w", l.dir, indexFile, cause(err))
	}
	return x, nil
}

// writeIndex writes index.json, with manifests in place of those in x.
func (l *Layout) writeIndex(x oci.Index, manifests []*oci.Descriptor) error {
	return l.writeFile(indexFile, func(w io.Writer) error {
		return x.EncodeTo(&limited{w: w, dir: l.dir}, slices.Values(manifests))
	})
}

// A limited writer takes what an index.json may hold.
type limited struct {
	w   io.Writer
	n   int
	dir string // of the layout, for messages
}

func (l *limited) Write(p []byte) (int, error) {
	if l.n += len(p); l.n > oci.MaxList {
		return 0, fmt.Errorf("layout %q: %s would have over %d bytes, the limit", l.dir, indexFile, oci.MaxList)
	}
	return l.w.Write(p)
}

// replace writes index.json as writeIndex does, unless it says just that already.
func (l *Layout) replace(x oci.Index, manifests []*oci.Descriptor) error {
	same, err := l.says(x, manifests)
	if same || err != nil {
		return err
	}
	return l.writeIndex(x, manifests)
}

// says reports whether index.json is what writeIndex would write, byte for byte. The file is closed again: Windows replaces no
// file that is open, unless the file system knows how.
func (l *Layout) says(x oci.Index, manifests []*oci.Descriptor) (bool, error) {
	f, _, err := l.open(indexFile)
	if err != nil {
		return false, err
	}
	defer f.Close()

	same := &comparer{r: f}
	err = x.EncodeTo(same, slices.Values(manifests))
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil && same.atEnd(), err
}

// errDiffers ends a comparison.
var errDiffers = errors.New("it differs")

// A comparer compares what is written to it with what r holds.
type comparer struct {
	r   io.Reader
	buf []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	c.buf = slices.Grow(c.buf[:0], len(p))[:len(p)]
	if _, err := io.ReadFull(c.r, c.buf); err != nil || !bytes.Equal(c.buf, p) {
		return 0, errDiffers
	}
	return len(p), nil
}

// atEnd reports whether r holds nothing else.
func (c *comparer) atEnd() bool {
	n, err := c.r.Read(make([]byte, 1))
	return n == 0 && err == io.EOF
}

// Update changes index.json: it takes the lock, reads the newest state, lets change edit it
// and writes the result, durably. If change fails or alters nothing, nothing is written.
// Waiting for the lock ends with ctx.
func (l *Layout) Update(ctx context.Context, change func(*oci.Index) error) error {
	return l.edit(ctx, nil, func(x *oci.Index) ([]*oci.Descriptor, error) {
		err := change(x)
		return pointers(x.Manifests), err
	})
}

// edit is Update, where see gets each entry that is read, as [oci.ReadList] says, and change returns
// the entries that are written.
func (l *Layout) edit(ctx context.Context, see func(*oci.Descriptor) bool, change func(*oci.Index) ([]*oci.Descriptor, error)) error {
	unlock, err := l.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	x, err := l.readIndex(see)
	if err != nil {
		return err
	}
	manifests, err := change(&x)
	if err != nil {
		return err
	}
	return l.replace(x, manifests)
}

// Expectation is what a tag must mean before it is changed: see [Expect] and [ExpectAbsent]. The
// zero Expectation demands nothing.
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
		if d.Annotations.Get(oci.AnnotationRefName) == tag {
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

// TagOptions say under what conditions a tag is set.
type TagOptions struct {
	Expect Expectation
	Rules  graph.Rules // what of the image may be absent
	Also   []string    // further names, set in the same update; Expect goes for each
}

// Tag makes tag name the image that desc describes, in place of what it named before. The
// image must be whole in the layout by the rules: an absent blob gives [ErrIncomplete]. A sparse
// index that index.json lists already may get another name.
func (l *Layout) Tag(ctx context.Context, tag string, desc oci.Descriptor, o TagOptions) error {
	if !oci.IsDocument(desc.MediaType) {
		return fmt.Errorf("tag %q: %s is of type %q, want a manifest or an index: %w", tag, desc.Digest, desc.MediaType, oci.ErrMalformed)
	}

	var entries []oci.Descriptor
	for _, name := range append([]string{tag}, o.Also...) {
		if err := oci.CheckTag(name); err != nil {
			return err
		}
		entries = append(entries, desc.WithAnnotation(oci.AnnotationRefName, name).WithAnnotation(oci.AnnotationDiffID, ""))
	}

	return l.Update(ctx, func(x *oci.Index) error {
		for _, e := range entries {
			if err := o.Expect.met(e.Annotations.Get(oci.AnnotationRefName), x); err != nil {
				return err
			}
		}

		rules := o.Rules
		if slices.ContainsFunc(x.Manifests, func(e oci.Descriptor) bool { return e.Digest == desc.Digest }) {
			rules.Sparse = true
		}

		// Under the lock, so that no GC comes between the check and the name.
		if err := graph.Check(l, desc, rules); err != nil {
			return fmt.Errorf("tag %q: %w", tag, err)
		}

		setEntries(x, entries...)
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
			return d.Annotations.Get(oci.AnnotationRefName) == tag
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

	f, err := disk.OpenLock(l.root)
	if err != nil {
		return nil, cause(err)
	}

	// A lock that blocks could not be given up when ctx ends, so it is tried again and again.
	for wait := time.Millisecond; !disk.TryLock(f); wait = min(2*wait, 20*time.Millisecond) {
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}

	return func() { f.Close() }, nil
}
