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
	"ocikit/oci/graph"
	"ocikit/oci/layout"
)

// UnbundleOptions say how to apply a bundle.
type UnbundleOptions struct {
	// Replace gives the images of this bundle their names, also where an image that was created
	// later has one of them.
	Replace bool

	// Rules say what an image of this bundle may lack, and for [Settle] one that waits. A sparse index gets
	// its name only if one image of it is here.
	Rules graph.Rules

	DryRun bool              // find out what would be done, and do nothing
	Notice func(text string) // is told what the user should know; nil for nobody
}

// A Result says what became of a bundle.
type Result struct {
	Named   []oci.Descriptor // entries that the layout lists, of the bundle and of what waited for it
	Missing []Wanted         // images of the bundle that are not whole
	Waiting []Wanted         // images of earlier bundles that are not whole

	Blobs int   // that the bundle held
	Bytes int64 // their size

	Brought []Brought      // of a dry run: blobs that the layout would have then, without deltas that do not stay
	Made    []layout.Delta // layers that were made of deltas
}

// A Brought is a blob that comes with a bundle.
type Brought struct {
	Blob
	How layout.How // kept, copied or repaired
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
// For a dry run l may be nil, for a layout that does not exist yet. Nothing is written then, so a
// layer whose delta and bases are there counts as made; whether the delta fits is not found out.
//
// # Two images of one name
//
// The image that was created later has the name. If they do not say when they were created,
// the name goes to the one that became whole last, but an image that lost a name does not get
// it back by coming again. Lists of referrers under one fallback tag are merged.
func Unbundle(ctx context.Context, l *layout.Layout, r io.Reader, o UnbundleOptions) (Result, error) {
	u := newUnbundler(ctx, l, o)

	// A writer sweeps what killed ones left behind, also if this bundle brings nothing new.
	if !o.DryRun {
		w, err := l.NewWriter()
		if err != nil {
			return u.result, err
		}
		w.Abort()
	}

	// Each blob goes into the layout while it passes. Names follow when the tar has come to its
	// end.
	c := newContents(func(f tarEntry, d digest.Digest) (member, error) {
		return member{digest: d, size: f.hdr.Size}, u.blob(f, d)
	})
	c.onlyLayout = true

	err := scanStream(ctx, r, c.take)
	if err == nil {
		c.notices(u.notice)
		err = u.roots(c)
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

// An unbundler applies one bundle.
type unbundler struct {
	ctx context.Context
	l   *layout.Layout
	o   UnbundleOptions

	// store is the layout; in a dry run that and, before it, plan: what would be brought and made.
	store graph.Store
	plan  *Archive

	incoming   []oci.Descriptor
	isIncoming map[claim]bool
	deltas     []layout.Delta
	verified   map[digest.Digest]bool // blobs that were hashed by this run, and are right
	damaged    map[digest.Digest]bool // and those that are not
	hopeless   map[claim]bool         // images that wait and can never be whole
	result     Result
}

func newUnbundler(ctx context.Context, l *layout.Layout, o UnbundleOptions) *unbundler {
	u := &unbundler{
		ctx: ctx, l: l, o: o, store: l,
		isIncoming: map[claim]bool{}, verified: map[digest.Digest]bool{}, damaged: map[digest.Digest]bool{}, hopeless: map[claim]bool{},
	}
	if o.DryRun {
		u.planOnly()
	}
	return u
}

func (u *unbundler) notice(format string, args ...any) {
	if u.o.Notice != nil {
		u.o.Notice(fmt.Sprintf(format, args...))
	}
}

// blob stores a blob of the bundle. One that is here already, and right, is not written again.
func (u *unbundler) blob(f tarEntry, d digest.Digest) error {
	size := f.hdr.Size
	u.result.Blobs++
	u.result.Bytes += size

	// A blob that is not stored is read all the same: a bundle that is damaged is an error,
	// also where it brings nothing new.
	passed := u.verified[d]
	is, err := u.store.Stat(d)
	isHere := err == nil
	if isHere && is == size && u.isRight(oci.Descriptor{Digest: d, Size: size}) {
		if !passed {
			u.brought(d, size, layout.HowKept)
		}
		_, err := oci.Copy(io.Discard, digest.NewReader(f.r, d, size))
		return err
	}

	if err := context.Cause(u.ctx); err != nil {
		return err
	}

	if err := u.put(f, d); err != nil {
		return err
	}

	how := layout.HowCopied
	if isHere {
		how = layout.HowRepaired
	}
	u.brought(d, size, how)

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

// roots reads what images the archive names, and what deltas it has.
func (u *unbundler) roots(c *contents) error {
	x, ok, err := c.index()
	if err == nil && !ok {
		err = c.noImage()
	}
	if err != nil {
		return err
	}

	if err := u.takeEntries(x); err != nil {
		return err
	}
	if data, ok := c.control[bundleFile]; ok { // or another program made it
		return u.takeDeltas(data, x)
	}
	return nil
}

// takeEntries takes the images of index.json. One bad entry refuses the bundle as a whole, before
// anything is named.
func (u *unbundler) takeEntries(x oci.Index) error {
	named := map[string]digest.Digest{}
	for _, e := range x.Manifests {
		if !oci.IsDocument(e.MediaType) {
			u.notice("left out %s of type %q, which is not an image", e.Digest, e.MediaType)
			continue
		}
		if tag := e.Annotations.Get(oci.AnnotationRefName); tag != "" {
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
		e = e.WithAnnotation(oci.AnnotationDiffID, "")
		u.incoming = append(u.incoming, e)
		u.isIncoming[claimOf(e)] = true
	}

	if len(u.incoming) == 0 {
		return fmt.Errorf("%w: %s lists none", ErrNoImage, indexFile)
	}
	return nil
}

// takeDeltas takes the deltas that the document of the bundle describes.
func (u *unbundler) takeDeltas(data []byte, x oci.Index) error {
	var doc bundleDoc
	if err := oci.Decode(data, &doc); err != nil {
		return fmt.Errorf("%s: %w", bundleFile, err)
	}

	if doc.MediaType != bundleType || doc.SchemaVersion != 1 {
		return fmt.Errorf("%s: mediaType %q, schemaVersion %d: made by a later version of this program", bundleFile, doc.MediaType, doc.SchemaVersion)
	}

	// Both documents must tell of the same images: index.json is what other programs go by.
	listed := map[claim]bool{}
	for _, e := range x.Manifests {
		listed[claimOf(e)] = true
	}

	for _, r := range doc.Roots {
		if !listed[claimOf(r)] {
			return fmt.Errorf("%s names %s, and %s does not: %w", bundleFile, r.Digest, indexFile, oci.ErrMalformed)
		}
	}

	for _, d := range doc.Deltas {
		if err := checkDelta(d); err != nil {
			return fmt.Errorf("%s: %w", bundleFile, err)
		}
	}

	u.deltas = doc.Deltas
	return nil
}

// settle names what is whole and remembers what is not, in one update. Making layers and
// hashing can take long, so they come before it, without the lock.
func (u *unbundler) settle() error {
	w, err := u.waiting()
	if err != nil {
		return err
	}

	deltas := slices.Concat(u.deltas, w.Deltas)
	if err := u.makeLayers(deltas); err != nil {
		return err
	}

	// A malformed image of an earlier bundle must not stop this one, so it goes with a notice.
	// One of this bundle is an error, also if it waited already.
	missing := map[digest.Digest][]Blob{}
	for i, e := range slices.Concat(w.Images, u.incoming) {
		if lacks, known := missing[e.Digest]; known && len(lacks) == 0 {
			continue // under another name; update checks each entry by itself
		}
		missing[e.Digest], err = u.missing(e)
		switch {
		case errors.Is(err, oci.ErrMalformed) && i < len(w.Images):
			u.notice("%s does not wait any longer: %v", e.Digest, err)
			u.hopeless[claimOf(e)] = true
			delete(missing, e.Digest) // of what is known nothing holds for another entry of this digest
		case err != nil:
			return fmt.Errorf("image %s: %w", e.Digest, err)
		}
	}

	update := func(x *oci.Index, w *layout.Waiting) error { return u.update(x, w, missing) }
	if u.plan != nil {
		err = u.planUpdate(deltas, update)
	} else {
		err = u.l.UpdateWaiting(u.ctx, update)
	}

	// Deltas go last: a run that is killed before finds them when it is repeated.
	if err == nil && u.plan == nil {
		err = u.dropDeltas(deltas)
	}
	if err == nil && len(u.result.Missing) > 0 {
		return layout.ErrIncomplete
	}

	return err
}

// rules returns what an image may lack.
func (u *unbundler) rules(e oci.Descriptor) graph.Rules {
	if len(u.incoming) > 0 && !u.isIncoming[claimOf(e)] {
		return graph.Rules{} // it waits, and what it lacks may still come
	}
	return u.o.Rules
}

// missing returns the blobs that an image lacks. Blobs of the right size are hashed as well,
// once none is absent.
func (u *unbundler) missing(root oci.Descriptor) ([]Blob, error) {
	list, err := u.absent(root)
	if err != nil || len(list) > 0 {
		return list, err
	}

	err = graph.Walk(u.store, []oci.Descriptor{root}, u.rules(root), func(n graph.Node) error {
		d := n.Desc
		if err := context.Cause(u.ctx); err != nil {
			return err
		}
		if _, err := u.store.Stat(d.Digest); errors.Is(err, layout.ErrNotFound) {
			return nil // embedded, or not distributed
		}
		if !u.isRight(d) {
			list = append(list, Blob{d.Digest, d.MediaType, d.Size})
		}
		return nil
	})

	// The check by which update gives names has the last word.
	if err == nil && len(list) == 0 {
		err = graph.Check(u.store, root, u.rules(root))
	}

	return list, err
}

// absent returns the blobs that are not here with the size that they should have, but for those that the
// image may lack.
func (u *unbundler) absent(root oci.Descriptor) ([]Blob, error) {
	rules := u.rules(root)
	if rules.Sparse {
		if here, _ := u.images(root); len(here) == 0 {
			rules = graph.Rules{}
		}
	}

	list := []Blob{}
	listed := map[digest.Digest]bool{}
	err := graph.Scan(u.store, []oci.Descriptor{root}, func(n graph.Node) error {
		d, doc, err := n.Desc, n.Doc, n.Err
		if state, _ := rules.StateOf(u.store, n.Parent.MediaType, d); state == graph.Optional {
			return nil
		}

		// A document that is absent or damaged is on the list, as a layer would be. The blobs
		// that it leads to are not known before it comes.
		bad := errors.Is(err, layout.ErrNotFound) || errors.Is(err, digest.ErrMismatch)
		if err != nil && !bad {
			return err
		}

		if !bad && doc == nil {
			size, err := u.store.Stat(d.Digest)
			if err != nil && !errors.Is(err, layout.ErrNotFound) {
				return err
			}
			bad = err != nil && d.Data == nil || err == nil && size != d.Size || u.damaged[d.Digest]
		}

		// The blob is right, and the descriptor has another size for it: no bundle can make the
		// image whole.
		if size, err := u.store.Stat(d.Digest); bad && err == nil && size != d.Size && u.isRight(oci.Descriptor{Digest: d.Digest, Size: size}) {
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

// images returns which of the images that root leads to are here, and which are not.
func (u *unbundler) images(root oci.Descriptor) (here, absent []oci.Descriptor) {
	entries, err := graph.Entries(u.store, root)
	if err != nil {
		return nil, nil
	}

	for _, d := range entries {
		if isHere(u.store, d) {
			here = append(here, d)
		} else {
			absent = append(absent, d)
		}
	}
	return here, absent
}

// update runs under the lock of the layout.
func (u *unbundler) update(x *oci.Index, w *layout.Waiting, missing map[digest.Digest][]Blob) error {
	u.result.Missing, u.result.Waiting, u.result.Named = nil, nil, nil
	claims := u.claims(w.Images)
	w.Images = nil
	list := newListing(x.Manifests, len(claims))
	for _, e := range claims {
		// The blobs were hashed without the lock. A collection of garbage may have come in
		// between, so what is there is checked once more.
		lacks, known := missing[e.Digest]
		if known && len(lacks) == 0 && graph.Check(u.store, e, u.rules(e)) == nil {
			if _, absent := u.images(e); len(absent) > 0 {
				u.notice("%s is sparse: the layout does not hold %s", e.Digest, namesOf(absent))
			}
			if err := u.name(list, w, e); err != nil {
				return err
			}
			continue
		}

		w.Images = append(w.Images, e)
		if len(lacks) == 0 { // the layout changed since it was looked at
			var err error
			if lacks, err = u.absent(e); err != nil {
				return err
			}
		}

		lack := Wanted{lacks, e}
		if u.isIncoming[claimOf(e)] {
			u.result.Missing = append(u.result.Missing, lack)
		} else {
			u.result.Waiting = append(u.result.Waiting, lack)
		}
	}

	x.Manifests = list.entries()
	slices.SortFunc(w.Images, compareEntries)
	w.Deltas = u.stillUseful(w, missing)
	return nil
}

// claims returns the images that want a name: those that waited, and those that come now. One that waited
// under a name and comes again has one claim to it.
func (u *unbundler) claims(waiting []oci.Descriptor) []oci.Descriptor {
	var claims []oci.Descriptor
	claimed := map[claim]bool{}
	for _, e := range waiting {
		if !u.hopeless[claimOf(e)] {
			claimed[claimOf(e)] = true
			claims = append(claims, e)
		}
	}

	for _, e := range u.incoming {
		if !claimed[claimOf(e)] {
			claimed[claimOf(e)] = true
			claims = append(claims, e)
		}
	}
	return claims
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

	// Two lists of referrers do not compete for their fallback tag: both are right.
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

	// The dates decide the same way when the loser comes again. Any other decision has to be
	// remembered.
	if dated {
		return nil
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
	if u.o.Replace && u.isIncoming[claimOf(e)] {
		return e, old, false, nil
	}

	after, err := created(u.store, e, u.rules(e))
	if err != nil {
		return old, e, false, err
	}

	before, err := created(u.store, old, u.rules(e)) // if it cannot be read there is no time
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
func created(s graph.Store, root oci.Descriptor, rules graph.Rules) (time.Time, error) {
	var latest, said time.Time
	configs := map[digest.Digest]bool{}
	first := true
	err := graph.Descend(s, []oci.Descriptor{root}, rules, func(n graph.Node) error {
		d, doc := n.Desc, n.Doc
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
			// The date of the root itself counts more than those of the images in it.
			if text = x.Annotations[annotationCreated]; first {
				said = parseTime(text)
			}
			if x.Config != nil && oci.IsConfig(x.Config.MediaType) {
				configs[x.Config.Digest] = true
			}
		case configs[d.Digest]:
			data, err := s.Document(d)
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
	if _, suffix, ok := graph.CutFallbackTag(name); !ok || suffix != "" || !oci.IsIndex(a.MediaType) || !oci.IsIndex(b.MediaType) {
		return a, false, nil
	}

	var all []oci.Descriptor
	for _, d := range []oci.Descriptor{a, b} {
		x, err := graph.Index(u.store, d)
		if err != nil {
			return a, false, err
		}
		all = append(all, x.Manifests...)
	}

	// The order is that of digests and texts, so that bundles that come in any order give one
	// list.
	key := func(d oci.Descriptor) string { data, _ := oci.Encode(d); return d.Digest.String() + string(data) }
	slices.SortFunc(all, func(x, y oci.Descriptor) int { return strings.Compare(key(x), key(y)) })
	all = slices.CompactFunc(all, func(x, y oci.Descriptor) bool { return x.Digest == y.Digest })
	doc, err := oci.Encode(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: all})
	if err != nil {
		return a, false, err
	}

	desc := oci.Describe(oci.MediaTypeIndex, doc)
	if err := u.putDocument(desc, doc); err != nil {
		return a, false, err
	}

	desc.Annotations = a.Annotations
	return desc, true, nil
}
