package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// UnbundleOptions say how to apply a bundle.
type UnbundleOptions struct {
	// Replace gives names to the images of this bundle whatever had them.
	Replace bool
	Notice  func(text string)
}

// A Result says what became of a bundle.
type Result struct {
	Named   []oci.Descriptor // entries that the layout lists, of the bundle and of what waited for it
	Missing []Wanted         // images of the bundle that are not whole
	Waiting []Wanted         // images of earlier bundles that are not whole

	Blobs int   // that the bundle held
	Bytes int64 // their size
}

// Unbundle brings the blobs of the tar of a layout into l, each verified while it passes, and
// gives the images in it their names, if they are whole: what the tar lacks may be here
// already, or come later. Images that are not whole wait, see [layout.Waiting], and get their
// names when another bundle brings the rest. So bundles may come in any order, and each of
// them any number of times; a run that was killed is simply repeated.
//
// If an image of this bundle is not whole the error wraps [layout.ErrIncomplete] and
// Result.Missing says what it lacks. A blob that is here already is hashed before a name relies
// on it; one that is damaged counts as missing.
//
// # Two images of one name
//
// The image that was created later has the name. If they do not say when they were created,
// the name goes to the one that became whole last, but an image that lost a name does not get
// it back by coming again. Lists of referrers under one fallback tag are merged.
func Unbundle(ctx context.Context, l *layout.Layout, r io.Reader, o UnbundleOptions) (Result, error) {
	u := newUnbundler(ctx, l, o)
	// A writer sweeps what killed ones left behind, also if this bundle brings nothing new.
	w, err := l.NewWriter()
	if err != nil {
		return u.result, err
	}
	w.Abort()
	a := &members{blob: u.blob}
	err = a.read(ctx, r)
	if err == nil {
		err = u.roots(a)
	}
	if err == nil {
		err = u.settle()
	}
	return u.result, err
}

// Settle names the images that wait and have become whole by other means than a bundle, and
// returns what the others lack.
func Settle(ctx context.Context, l *layout.Layout, o UnbundleOptions) (Result, error) {
	u := newUnbundler(ctx, l, o)
	err := u.settle()
	return u.result, err
}

// Forget drops the images that wait, and what lost names are remembered.
func Forget(ctx context.Context, l *layout.Layout) error {
	return l.UpdateWaiting(ctx, func(_ *oci.Index, w *layout.Waiting) error {
		*w = layout.Waiting{}
		return nil
	})
}

// An unbundler applies one bundle.
type unbundler struct {
	ctx context.Context
	l   *layout.Layout
	o   UnbundleOptions

	incoming []oci.Descriptor
	rebuild  []layout.Rebuild
	verified map[digest.Digest]bool // blobs that were hashed by this run, and are right
	damaged  map[digest.Digest]bool // and those that are not
	hopeless map[digest.Digest]bool // images that wait and can never be whole
	result   Result
}

func newUnbundler(ctx context.Context, l *layout.Layout, o UnbundleOptions) *unbundler {
	return &unbundler{ctx: ctx, l: l, o: o, verified: map[digest.Digest]bool{}, damaged: map[digest.Digest]bool{}, hopeless: map[digest.Digest]bool{}}
}

func (u *unbundler) notice(format string, args ...any) {
	if u.o.Notice != nil {
		u.o.Notice(fmt.Sprintf(format, args...))
	}
}

// blob stores a blob of the bundle. One that is here already, and right, is not written again.
func (u *unbundler) blob(d digest.Digest, size int64, r io.Reader) error {
	u.result.Blobs++
	u.result.Bytes += size
	if is, err := u.l.Stat(d); err == nil && is == size && u.isRight(oci.Descriptor{Digest: d, Size: size}) {
		_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, digest.NewReader(r, d, size), make([]byte, 256<<10))
		return err
	}
	if err := context.Cause(u.ctx); err != nil {
		return err
	}
	if _, _, err := u.l.Put(r, d); err != nil {
		return err
	}
	u.verified[d] = true
	delete(u.damaged, d)
	return nil
}

// isRight hashes a blob that is here, once.
func (u *unbundler) isRight(desc oci.Descriptor) bool {
	if u.verified[desc.Digest] {
		return true
	}
	if !desc.Digest.Verifiable() {
		return false
	}
	bad, err := isDamaged(u.ctx, u.l, oci.Descriptor{Digest: desc.Digest, Size: desc.Size})
	if bad || err != nil {
		u.damaged[desc.Digest] = bad
		return false
	}
	u.verified[desc.Digest] = true
	return true
}

// roots reads what images the archive names.
func (u *unbundler) roots(a *members) error {
	x, err := a.layoutIndex()
	if err != nil {
		return err
	}
	named := map[string]digest.Digest{}
	for _, e := range x.Manifests {
		if !oci.IsManifest(e.MediaType) && !oci.IsIndex(e.MediaType) {
			u.notice("left out %s of type %q, which is no image", e.Digest, e.MediaType)
			continue
		}
		if tag := e.Annotations[oci.AnnotationRefName]; tag != "" {
			if err := oci.CheckTag(tag); err != nil {
				return fmt.Errorf("%s: %w: %w", indexFile, err, oci.ErrMalformed)
			}
		}
		if n := entryName(e); n != "" {
			if other, ok := named[n]; ok && other != e.Digest {
				return fmt.Errorf("%s: %q names both %s and %s: %w", indexFile, n, other, e.Digest, oci.ErrMalformed)
			}
			named[n] = e.Digest
		}
		u.incoming = append(u.incoming, e.WithAnnotation(oci.AnnotationDiffID, ""))
	}
	if len(u.incoming) == 0 {
		return fmt.Errorf("%w: %s lists none", ErrNoImage, indexFile)
	}
	data, ok := a.control[bundleFile]
	if !ok {
		return nil // of another program
	}
	var doc bundleDoc
	if err := oci.Decode(data, &doc); err != nil {
		return fmt.Errorf("%s: %w", bundleFile, err)
	}
	if doc.MediaType != bundleType || doc.SchemaVersion != 1 {
		return fmt.Errorf("%s: mediaType %q, schemaVersion %d: made by a later version of this program", bundleFile, doc.MediaType, doc.SchemaVersion)
	}
	for _, r := range doc.Roots {
		if !slices.ContainsFunc(x.Manifests, func(e oci.Descriptor) bool { return e.Digest == r.Digest && entryName(e) == entryName(r) }) {
			return fmt.Errorf("%s names %s, and %s does not: %w", bundleFile, r.Digest, indexFile, oci.ErrMalformed)
		}
	}
	for _, rb := range doc.Rebuild {
		if rb.DiffID.IsZero() || rb.Digest.IsZero() || rb.From.IsZero() || rb.Size < 0 || rb.Level < Uncompressed || rb.Level > 9 || !rb.Digest.Verifiable() {
			return fmt.Errorf("%s: rebuild of %s: %w", bundleFile, rb.Digest, oci.ErrMalformed)
		}
	}
	u.rebuild = doc.Rebuild
	return nil
}

// settle names what is whole and remembers what is not, in one update. What can take long,
// making layers and hashing, comes before it, without the lock.
func (u *unbundler) settle() error {
	w, err := u.l.Waiting()
	if err != nil {
		return err
	}
	for _, rb := range slices.Concat(u.rebuild, w.Rebuild) {
		if _, err := u.l.Stat(rb.Digest); !errors.Is(err, layout.ErrNotFound) {
			continue
		}
		ok, err := rebuild(u.ctx, u.l, rb)
		if err != nil {
			return fmt.Errorf("rebuild %s: %w", rb.Digest, err)
		}
		if ok {
			u.verified[rb.Digest] = true
		}
	}
	missing := map[digest.Digest][]Blob{}
	for i, e := range slices.Concat(w.Images, u.incoming) {
		if lacks, known := missing[e.Digest]; known && len(lacks) == 0 {
			continue // under another name; update checks each entry by itself
		}
		missing[e.Digest], err = u.missing(e)
		switch {
		case errors.Is(err, oci.ErrMalformed) && i < len(w.Images):
			u.notice("%s does not wait any longer: %v", e.Digest, err)
			u.hopeless[e.Digest] = true
		case err != nil:
			return fmt.Errorf("image %s: %w", e.Digest, err)
		}
	}
	err = u.l.UpdateWaiting(u.ctx, func(x *oci.Index, w *layout.Waiting) error {
		return u.update(x, w, missing)
	})
	if err == nil && len(u.result.Missing) > 0 {
		return fmt.Errorf("layout %q: %w", u.l.Dir(), layout.ErrIncomplete)
	}
	return err
}

// missing returns the blobs that an image lacks. What looks right by its size is hashed, once
// nothing else is missing.
func (u *unbundler) missing(root oci.Descriptor) ([]Blob, error) {
	list, err := u.absent(root)
	if err != nil || len(list) > 0 {
		return list, err
	}
	err = u.l.Walk([]oci.Descriptor{root}, func(d oci.Descriptor, doc []byte) error {
		if err := context.Cause(u.ctx); err != nil {
			return err
		}
		if _, err := u.l.Stat(d.Digest); errors.Is(err, layout.ErrNotFound) {
			return nil // embedded, or not distributed
		}
		if !u.isRight(d) {
			list = append(list, Blob{d.Digest, d.MediaType, d.Size})
		}
		return nil
	})
	if err == nil && len(list) == 0 {
		err = u.l.CheckComplete(root)
	}
	return list, err
}

// absent returns the blobs that are not here with the size that they should have.
func (u *unbundler) absent(root oci.Descriptor) ([]Blob, error) {
	list := []Blob{}
	listed := map[digest.Digest]bool{}
	err := u.l.Scan([]oci.Descriptor{root}, func(d oci.Descriptor, doc []byte, err error) error {
		bad := errors.Is(err, layout.ErrNotFound) || errors.Is(err, digest.ErrMismatch)
		if err != nil && !bad {
			return err
		}
		if !bad && doc == nil {
			size, err := u.l.Stat(d.Digest)
			embedded := d.Data != nil || oci.IsForeignLayer(d.MediaType)
			if err != nil && !errors.Is(err, layout.ErrNotFound) {
				return err
			}
			bad = err != nil && !embedded || err == nil && size != d.Size || u.damaged[d.Digest]
		}
		if size, err := u.l.Stat(d.Digest); bad && err == nil && size != d.Size && u.isRight(oci.Descriptor{Digest: d.Digest, Size: size}) {
			return fmt.Errorf("blob %s has %d bytes, its descriptor says %d: %w", d.Digest, size, d.Size, oci.ErrMalformed)
		}
		if bad && !listed[d.Digest] {
			listed[d.Digest] = true
			list = append(list, Blob{d.Digest, d.MediaType, d.Size})
		}
		return nil
	})
	slices.SortFunc(list, func(a, b Blob) int { return digest.Compare(a.Digest, b.Digest) })
	return list, err
}

// update runs under the lock of the layout.
func (u *unbundler) update(x *oci.Index, w *layout.Waiting, missing map[digest.Digest][]Blob) error {
	u.result.Missing, u.result.Waiting, u.result.Named = nil, nil, nil
	claims := slices.Clone(w.Images)
	claimed, incoming := map[claim]bool{}, map[claim]bool{}
	for _, e := range claims {
		claimed[claimOf(e)] = true
	}
	for _, e := range u.incoming {
		incoming[claimOf(e)] = true
		if !claimed[claimOf(e)] {
			claimed[claimOf(e)] = true
			claims = append(claims, e)
		}
	}
	w.Images = nil
	list := newListing(x.Manifests, len(claims))
	for _, e := range claims {
		if u.hopeless[e.Digest] {
			continue
		}
		lacks, known := missing[e.Digest]
		if known && len(lacks) == 0 && u.l.CheckComplete(e) == nil {
			if err := u.name(list, w, e); err != nil {
				return err
			}
			continue
		}
		w.Images = append(w.Images, e)
		if len(lacks) == 0 { // it came, or went, just now
			var err error
			if lacks, err = u.absent(e); err != nil {
				return err
			}
		}
		lack := Wanted{lacks, e}
		if incoming[claimOf(e)] {
			u.result.Missing = append(u.result.Missing, lack)
		} else {
			u.result.Waiting = append(u.result.Waiting, lack)
		}
	}
	x.Manifests = list.entries()
	slices.SortFunc(w.Images, compareEntries)
	w.Rebuild = u.stillUseful(w, missing)
	return nil
}

// stillUseful returns the recipes for blobs that waiting images lack.
func (u *unbundler) stillUseful(w *layout.Waiting, missing map[digest.Digest][]Blob) []layout.Rebuild {
	var list []layout.Rebuild
	for _, rb := range slices.Concat(w.Rebuild, u.rebuild) {
		needed := slices.ContainsFunc(w.Images, func(e oci.Descriptor) bool {
			return slices.ContainsFunc(missing[e.Digest], func(m Blob) bool { return m.Digest == rb.Digest })
		})
		if needed && !slices.Contains(list, rb) {
			list = append(list, rb)
		}
	}
	slices.SortFunc(list, func(a, b layout.Rebuild) int {
		return cmp.Or(digest.Compare(a.Digest, b.Digest), digest.Compare(a.From, b.From))
	})
	return list
}

// A claim is an image that wants a name. An index may hold thousands.
type claim struct {
	digest digest.Digest
	name   string
}

func claimOf(e oci.Descriptor) claim { return claim{e.Digest, entryName(e)} }

func compareEntries(a, b oci.Descriptor) int {
	return cmp.Or(strings.Compare(entryName(a), entryName(b)), digest.Compare(a.Digest, b.Digest))
}

// name lists a whole image.
func (u *unbundler) name(s *listing, w *layout.Waiting, e oci.Descriptor) error {
	name := entryName(e)
	at := s.at[name]
	if name == "" && s.count[e.Digest] == 0 || name != "" && at == nil {
		s.add(e)
		at = &e
	}
	if name == "" || at.Digest == e.Digest {
		u.result.Named = append(u.result.Named, e)
		return nil
	}
	old := *at
	if merged, ok, err := u.merge(old, e); err != nil {
		return err
	} else if ok {
		s.replace(merged)
		u.result.Named = append(u.result.Named, merged)
		return nil
	}
	winner, loser, dated, err := u.choose(w, name, old, e)
	if err != nil {
		return err
	}
	s.replace(winner)
	u.result.Named = append(u.result.Named, winner)
	if dated {
		return nil // the same will be said next time
	}
	if w.Replaced == nil {
		w.Replaced = map[string][]digest.Digest{}
	}
	lost := slices.DeleteFunc(w.Replaced[name], func(d digest.Digest) bool { return d == winner.Digest || d == loser.Digest })
	lost = append(lost, loser.Digest)
	slices.SortFunc(lost, digest.Compare)
	w.Replaced[name] = lost
	return nil
}

// choose decides between the image that has a name and another one, and reports whether their
// times of creation decided it.
func (u *unbundler) choose(w *layout.Waiting, name string, old, e oci.Descriptor) (winner, loser oci.Descriptor, dated bool, err error) {
	isNew := slices.ContainsFunc(u.incoming, func(in oci.Descriptor) bool { return claimOf(in) == claimOf(e) })
	if u.o.Replace && isNew {
		return e, old, false, nil
	}
	after, err := created(u.l, e)
	if err != nil {
		return old, e, false, err
	}
	before, err := created(u.l, old) // if it cannot be read there is no time
	dated = err == nil && !before.IsZero() && !after.IsZero() && !before.Equal(after)
	switch {
	case dated && after.Before(before):
		u.notice("%q stays %s, which was created later than %s; --replace moves it", name, old.Digest, e.Digest)
		return old, e, dated, nil
	case !dated && slices.Contains(w.Replaced[name], e.Digest):
		u.notice("%q stays %s, which replaced %s; --replace moves it back", name, old.Digest, e.Digest)
		return old, e, dated, nil
	}
	u.notice("%q is %s now, no longer %s", name, e.Digest, old.Digest)
	return e, old, dated, nil
}

// annotationCreated is the time at which an image was made (annotations.md).
const annotationCreated = "org.opencontainers.image.created"

// created returns when an image was made: as its manifest or index says, else its config, else
// the latest of the images in it. Zero means that nothing says so.
func created(l *layout.Layout, root oci.Descriptor) (time.Time, error) {
	var latest, said time.Time
	configs := map[digest.Digest]bool{}
	first := true
	err := l.Walk([]oci.Descriptor{root}, func(d oci.Descriptor, doc []byte) error {
		var text string
		switch {
		case doc != nil:
			var x struct {
				Annotations map[string]string `json:"annotations"`
				Config      *oci.Descriptor   `json:"config"`
			}
			if err := oci.Decode(doc, &x); err != nil {
				return err
			}
			if text = x.Annotations[annotationCreated]; first {
				said = parseTime(text)
			}
			if x.Config != nil && oci.IsConfig(x.Config.MediaType) {
				configs[x.Config.Digest] = true
			}
		case configs[d.Digest]:
			data, err := l.Document(d)
			if err != nil {
				return err
			}
			var c struct {
				Created string `json:"created"`
			}
			if oci.Decode(data, &c) == nil {
				text = c.Created
			}
		}
		first = false
		if t := parseTime(text); t.After(latest) {
			latest = t
		}
		return nil
	})
	if !said.IsZero() {
		return said, err
	}
	return latest, err
}

// parseTime reads a time; the epoch means that it was not known.
func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Unix() == 0 {
		return time.Time{}
	}
	return t.UTC()
}

// merge joins two lists of referrers that have one fallback tag.
func (u *unbundler) merge(a, b oci.Descriptor) (oci.Descriptor, bool, error) {
	name := entryName(a)
	alg, hex, ok := strings.Cut(name[strings.LastIndexByte(name, ':')+1:], "-")
	if !ok || alg != "sha256" && alg != "sha512" || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" || !oci.IsIndex(a.MediaType) || !oci.IsIndex(b.MediaType) {
		return a, false, nil
	}
	var all []oci.Descriptor
	for _, d := range []oci.Descriptor{a, b} {
		data, err := u.l.Document(d)
		if err != nil {
			return a, false, err
		}
		x, err := oci.DecodeIndex(d, data)
		if err != nil {
			return a, false, err
		}
		all = append(all, x.Manifests...)
	}
	key := func(d oci.Descriptor) string { data, _ := oci.Encode(d); return d.Digest.String() + string(data) }
	slices.SortFunc(all, func(x, y oci.Descriptor) int { return strings.Compare(key(x), key(y)) })
	all = slices.CompactFunc(all, func(x, y oci.Descriptor) bool { return x.Digest == y.Digest })
	doc, err := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: all})
	if err != nil {
		return a, false, err
	}
	desc, err := u.l.PutDocument(oci.MediaTypeIndex, doc)
	desc.Annotations = a.Annotations
	return desc, err == nil, err
}
