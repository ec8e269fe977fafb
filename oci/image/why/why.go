// Package why finds out why two images, or two blobs, have different digests. It goes from the top
// down: what has the same digest is left alone, a document that differs only in the digests of
// others leads to those, and on each branch only the lowest causes are told. So an answer names a
// time in a tar, and not the eight digests that follow from it.
//
// [Images] compares images and indexes, [Blobs] layers and other files. A [Cause] is data: the words
// are those of whoever shows it.
package why

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
	"ocikit/tarutil/cause"
)

// A Kind is a way in which images differ. Those of package cause are kinds too.
type Kind string

// The kinds of causes outside of tars.
const (
	Kinds         Kind = "kind"            // an index and an image, or an image and an artifact
	Algorithm     Kind = "algorithm"       // of digests
	Absent        Kind = "absent"          // what differs is not there to be compared
	Family        Kind = "media-types"     // OCI's and Docker's
	Member        Kind = "member"          // of a document
	MemberOrder   Kind = "member-order"    // of a list in a document
	JSON          Kind = "json"            // spelled otherwise
	Manifests     Kind = "manifest-order"  // of an index
	PlatformHere  Kind = "platform-here"   // an entry of the first index alone
	PlatformThere Kind = "platform-there"  // likewise
	LayerOrder    Kind = "layer-order"     // of the same layers
	LayersHere    Kind = "layers-here"     // that only the first image has
	LayersThere   Kind = "layers-there"    // likewise
	Layering      Kind = "layering"        // the same files, in other layers
	Files         Kind = "files"           // other files, in other layers
	Compression   Kind = "compression"     // of the same bytes, or in another format
	GzipHeader    Kind = "gzip-header"     // a member of it
	GzipEnd       Kind = "gzip-end"        // what stands behind the compressed bytes
	ClaimedDiffID Kind = "claimed-diff-id" // of layers that are the same
	Bytes         Kind = "bytes"           // of what is neither a tar nor a document
)

// A Cause is why two digests differ.
type Cause struct {
	// Where is the branch: "linux/arm64", "config", "layer 2", outer ones first; empty for the
	// things themselves.
	Where []string
	Kind  Kind
	// Count and Path say how many things it is about, and the first of them: a path in a tar, a
	// JSON pointer, a platform.
	Count int
	Path  string
	// Here and There are what it has on both sides; "" where it has nothing.
	Here, There string
	// More is by how much a list is longer there, of which Path is the first member that differs.
	More int
	// Tar is the cause in a tar; Kind is its kind then.
	Tar *cause.Cause
}

// An Image is an image or an index, and where it is.
type Image struct {
	Src  source.Source
	Desc oci.Descriptor
}

// A SideError says which of two inputs an error is about.
type SideError = cause.SideError

// both returns what read makes of each of the two sides. An error of read becomes a [SideError].
func both[In, Out any](here, there In, read func(In) (Out, error)) (x, y Out, err error) {
	if x, err = read(here); err != nil {
		return x, y, &SideError{There: false, Err: err}
	}
	if y, err = read(there); err != nil {
		return x, y, &SideError{There: true, Err: err}
	}
	return x, y, nil
}

// Images returns why two images differ in their digests: nothing, if they are the same. An error
// about one of the two is a [*SideError].
func Images(ctx context.Context, here, there Image) ([]Cause, error) {
	r := &run{ctx: ctx, a: here.Src, b: there.Src}
	err := r.images(nil, here.Desc, there.Desc)
	return r.causes, err
}

// Members returns the members in which the manifests and configs of two images differ. Those that
// lead to other blobs, digests and sizes, are left out, and so is how the documents are spelled.
// Layers are not read.
func Members(here, there Image) ([]Cause, error) {
	r := &run{ctx: context.Background(), a: here.Src, b: there.Src, documentsOnly: true}
	err := r.images(nil, here.Desc, there.Desc)
	return slices.DeleteFunc(r.causes, func(c Cause) bool { return c.Kind == JSON }), err
}

// A run is one comparison of images.
type run struct {
	ctx  context.Context
	a, b source.Source

	documentsOnly bool // layers are not read
	causes        []Cause
	depth         int
	detected      int // pairs of encoders
}

func (r *run) add(where []string, c Cause) {
	c.Where = slices.Clone(where)
	c.Count = cmp.Or(c.Count, 1)
	r.causes = append(r.causes, c)
}

// inside returns a branch of a branch.
func inside(where []string, name string) []string { return append(slices.Clone(where), name) }

// images compares what two descriptors name: indexes or manifests.
func (r *run) images(where []string, a, b oci.Descriptor) error {
	if a.Digest == b.Digest {
		return nil
	}

	// Digests make circles impossible, but not endless work.
	if r.depth++; r.depth > graph.DefaultLimits().Documents {
		return fmt.Errorf("over %d manifests: %w", graph.DefaultLimits().Documents, oci.ErrMalformed)
	}

	if oci.IsIndex(a.MediaType) != oci.IsIndex(b.MediaType) {
		return r.kinds(where, a, b)
	}

	docA, docB, ok, err := r.documents(where, a, b)
	if err != nil || !ok {
		return err
	}

	if x, y := a.Digest.Algorithm(), b.Digest.Algorithm(); x != y {
		r.add(where, Cause{Kind: Algorithm, Here: string(x), There: string(y)})
	}

	if bytes.Equal(docA, docB) {
		return nil
	}

	if oci.IsIndex(a.MediaType) {
		return r.indexes(where, document{a, docA}, document{b, docB})
	}

	return r.manifests(where, document{a, docA}, document{b, docB})
}

// kinds tells that one side is an index and the other an image. The Path is the platform of the
// image, if it is in the index. If it is not, and the index has one image, that is compared with it.
func (r *run) kinds(where []string, a, b oci.Descriptor) error {
	c := Cause{Kind: Kinds, Here: kindOf(a), There: kindOf(b)}
	src, index, image := r.a, a, b
	if !oci.IsIndex(a.MediaType) {
		src, index, image = r.b, b, a
	}

	entries, err := graph.Entries(src, index)
	if err != nil {
		return &SideError{There: index.Digest == b.Digest, Err: err}
	}

	for _, e := range entries {
		if e.Digest == image.Digest {
			c.Path = entryName(e)
		}
	}

	r.add(where, c)

	if c.Path != "" || len(entries) != 1 {
		return nil
	}

	if index.Digest == a.Digest {
		return r.images(inside(where, "image"), entries[0], b)
	}

	return r.images(inside(where, "image"), a, entries[0])
}

func kindOf(d oci.Descriptor) string {
	if oci.IsIndex(d.MediaType) {
		return "index"
	}
	return "image"
}

// documents reads a document of both sides. If one is not there it tells so, and reports false.
func (r *run) documents(where []string, a, b oci.Descriptor) (docA, docB []byte, ok bool, err error) {
	docA, errA := r.a.Document(a)
	docB, errB := r.b.Document(b)
	switch {
	case errors.Is(errA, graph.ErrNotFound) || errors.Is(errB, graph.ErrNotFound):
		r.absent(where, a, b, errA == nil, errB == nil)
		return nil, nil, false, nil
	case errA != nil:
		return nil, nil, false, &SideError{There: false, Err: errA}
	case errB != nil:
		return nil, nil, false, &SideError{There: true, Err: errB}
	}
	return docA, docB, true, nil
}

// A document is a manifest or an index, with what names it.
type document struct {
	desc oci.Descriptor
	data []byte
}

func (d document) index() (oci.Index, error)       { return oci.DecodeIndex(d.desc, d.data) }
func (d document) manifest() (oci.Manifest, error) { return oci.DecodeManifest(d.desc, d.data) }

// absent tells that what differs is not there.
func (r *run) absent(where []string, a, b oci.Descriptor, hasA, hasB bool) {
	c := Cause{Kind: Absent, Here: a.Digest.String(), There: b.Digest.String()}
	if hasA {
		c.Here = ""
	}
	if hasB {
		c.There = ""
	}
	r.add(where, c)
}

// members compares two documents, without the members that skip accepts: those that lead to other
// documents.
func (r *run) members(where []string, docA, docB []byte, skip func(string) bool) error {
	changes, err := compareDocuments(docA, docB, skip)
	if err != nil {
		return err
	}

	same := true // in shape
	for _, c := range changes {
		kind := Member
		if c.Order {
			kind = MemberOrder
		}
		same = same && c.Here != "" && c.There != "" && c.More == 0
		r.add(where, Cause{Kind: kind, Path: c.Pointer, Here: c.Here, There: c.There, More: c.More})
	}

	// A member that one side alone has changes the text as well. The spelling is told where there is
	// none.
	if s := spell(docA, docB); same && s != spelledAlike {
		r.add(where, Cause{Kind: JSON, Here: string(s)})
	}

	return nil
}

// families tells once that the media types are those of two families. It returns a function that
// reports whether two values differ for that reason alone.
func (r *run) families(where []string, a, b oci.Descriptor) func(pointer string, here, there string) bool {
	x, y := oci.FamilyOf(a.MediaType), oci.FamilyOf(b.MediaType)
	if x == y {
		return func(string, string, string) bool { return false }
	}
	r.add(where, Cause{Kind: Family, Here: x.String(), There: y.String()})
	return func(_, here, there string) bool {
		twin, err := y.MediaType(here)
		return err == nil && twin == there
	}
}

// indexes compares two indexes.
func (r *run) indexes(where []string, a, b document) error {
	x, y, err := both(a, b, document.index)
	if err != nil {
		return err
	}

	before := r.beginning(where)
	twin := r.families(where, a.desc, b.desc)
	branch := inside(where, "index")
	err = r.members(branch, a.data, b.data, func(p string) bool {
		return p == "/manifests" || p == "/mediaType" && twin(p, x.MediaType, y.MediaType)
	})
	if err != nil {
		return err
	}

	pairs := r.entries(branch, x.Manifests, y.Manifests)
	for _, p := range pairs {
		name := entryName(p.a)
		if err := r.descriptors(inside(branch, name), p.a, p.b, twin); err != nil {
			return err
		}

		if err := r.images(inside(where, name), p.a, p.b); err != nil {
			return err
		}
	}

	r.unexplained(branch, before)
	return nil
}

// beginning returns how many causes there are that do not explain what is compared next: another
// algorithm of its digest does.
func (r *run) beginning(where []string) int {
	n := len(r.causes)
	if n > 0 && r.causes[n-1].Kind == Algorithm && slices.Equal(r.causes[n-1].Where, where) {
		n--
	}
	return n
}

// unexplained tells of documents that differ, if no cause was found since there were before causes.
func (r *run) unexplained(where []string, before int) {
	if len(r.causes) == before {
		r.add(where, Cause{Kind: JSON, Here: string(Escapes)})
	}
}

// entryName is what an entry of an index is called.
func entryName(d oci.Descriptor) string {
	switch {
	case graph.IsAttestation(d):
		return "attestation"
	case d.Platform != nil:
		return d.Platform.String()
	}
	return "image"
}

type entryPair struct{ a, b oci.Descriptor }

// entries pairs the entries of two indexes: those that are the same, then those for the same
// platform. It tells of entries that are left, and of another order.
func (r *run) entries(where []string, a, b []oci.Descriptor) []entryPair {
	other := make([]int, len(a)) // place in b, counted from 1; 0 is none
	used := make([]bool, len(b))
	match := func(same func(x, y oci.Descriptor) bool) {
		for i := range a {
			for j := range b {
				if other[i] == 0 && !used[j] && same(a[i], b[j]) {
					other[i], used[j] = j+1, true
				}
			}
		}
	}

	match(func(x, y oci.Descriptor) bool { return x.Digest == y.Digest && entryName(x) == entryName(y) })
	match(func(x, y oci.Descriptor) bool { return entryName(x) == entryName(y) })

	// Entries that are left are paired in their order: an image whose platform was changed is such a
	// one. An attestation is no image, and has no files to compare with those of one.
	if len(a) == len(b) {
		match(func(x, y oci.Descriptor) bool { return graph.IsAttestation(x) == graph.IsAttestation(y) })
	}

	var pairs []entryPair
	var places []int // of the pairs, in b
	for i, j := range other {
		if j == 0 {
			r.add(where, Cause{Kind: PlatformHere, Path: entryName(a[i])})
			continue
		}
		places = append(places, j-1)
		pairs = append(pairs, entryPair{a[i], b[j-1]})
	}

	for j := range b {
		if !used[j] {
			r.add(where, Cause{Kind: PlatformThere, Path: entryName(b[j])})
		}
	}

	r.order(where, pairs, places, b)
	return pairs
}

// order tells of the first pair that stands elsewhere in b; places are those of the pairs in it. Entries
// that one side alone has do not count. Two of the same name, as attestations are, are told by their
// digests.
func (r *run) order(where []string, pairs []entryPair, places []int, b []oci.Descriptor) {
	for i, j := range slices.Sorted(slices.Values(places)) {
		if places[i] == j {
			continue
		}
		x, y := pairs[i].a, b[j]
		here, there := entryName(x), entryName(y)
		if here == there {
			here, there = x.Digest.String(), y.Digest.String()
		}
		r.add(where, Cause{Kind: Manifests, Here: here, There: there})
		return
	}
}

// descriptors compares what two descriptors say beside the digest and the size. What twin accepts is
// left out.
func (r *run) descriptors(where []string, a, b oci.Descriptor, twin func(pointer, here, there string) bool) error {
	docA, err := descriptorDocument(a)
	if err != nil {
		return err
	}

	docB, err := descriptorDocument(b)
	if err != nil {
		return err
	}

	// The digest of the image that an attestation is about follows from that image.
	changes, err := compareDocuments(docA, docB, func(p string) bool {
		return p == "/mediaType" && twin(p, a.MediaType, b.MediaType) || p == "/annotations/"+escapePointer(oci.AnnotationAttested)
	})

	for _, c := range changes {
		r.add(where, Cause{Kind: Member, Path: c.Pointer, Here: c.Here, There: c.There})
	}

	return err
}

func descriptorDocument(d oci.Descriptor) ([]byte, error) {
	data, err := oci.Encode(d)
	if err != nil {
		return nil, err
	}
	var o oci.Object
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, err
	}
	delete(o, "digest")
	delete(o, "size")
	if d.Data != nil { // it is the blob, so that it is there is all that counts
		o["data"] = json.RawMessage(`"embedded"`)
	}
	return oci.Encode(o)
}

// manifests compares two manifests.
func (r *run) manifests(where []string, a, b document) error {
	x, y, err := both(a, b, document.manifest)
	if err != nil {
		return err
	}

	// Of an image and an artifact nothing else can be compared, and what is in them follows from that.
	if x.IsImage() != y.IsImage() {
		r.add(where, Cause{Kind: Kinds, Here: manifestKind(x), There: manifestKind(y)})
		return nil
	}

	before := r.beginning(where)
	twin := r.families(where, a.desc, b.desc)
	branch := inside(where, "manifest")

	// With two families the types differ, or one side has none, and that was told.
	err = r.members(branch, a.data, b.data, func(p string) bool {
		return p == "/config" || p == "/layers" || p == "/mediaType" && (twin(p, x.MediaType, y.MediaType) || len(r.causes) > before)
	})
	if err != nil {
		return err
	}

	if err := r.descriptors(inside(branch, "config"), x.Config, y.Config, twin); err != nil {
		return err
	}

	idsA, idsB, err := r.configs(inside(where, "config"), x, y)
	if err != nil {
		return err
	}

	if err := r.layers(where, layersOf(a, x, idsA), layersOf(b, y, idsB), twin); err != nil {
		return err
	}

	r.unexplained(branch, before)
	return nil
}

func manifestKind(m oci.Manifest) string {
	if m.IsImage() {
		return "image"
	}
	return "artifact"
}

// configs compares two configs and returns the diff IDs that they claim.
func (r *run) configs(where []string, x, y oci.Manifest) (idsA, idsB []digest.Digest, err error) {
	isConfig := x.IsImage() && y.IsImage()

	// A config that is none, as that of an artifact, is a file like any other.
	if x.Config.Digest == y.Config.Digest && !isConfig {
		return nil, nil, nil
	}

	if !isConfig && r.documentsOnly {
		return nil, nil, nil
	}

	if !isConfig {
		return nil, nil, r.blobs(where, blobOf(r.a, x.Config), blobOf(r.b, y.Config))
	}

	// Even if they are the same they are read: layers are compared by their diff IDs.
	docA, docB, ok, err := r.documents(where, x.Config, y.Config)
	if err != nil || !ok {
		return nil, nil, err
	}

	idsA, idsB = diffIDs(docA), diffIDs(docB)
	// The same bytes may have digests of two algorithms, which the manifest was told to have.
	if bytes.Equal(docA, docB) {
		return idsA, idsB, nil
	}

	before := len(r.causes)
	err = r.members(where, docA, docB, func(p string) bool { return p == "/rootfs/diff_ids" })
	if err == nil && slices.Equal(idsA, idsB) {
		r.unexplained(where, before)
	}

	r.group(before)
	return idsA, idsB, err
}

// diffIDs are those of a config, or nothing if it is damaged, which it is not for us to say.
func diffIDs(doc []byte) []digest.Digest {
	c, err := oci.ParseConfig(doc)
	if err != nil {
		return nil
	}
	ids, err := c.DiffIDs()
	if err != nil {
		return nil
	}
	return ids
}

// group makes one cause of the same member of many history entries.
func (r *run) group(from int) {
	first := map[string]int{}
	kept := r.causes[:from]
	for _, c := range r.causes[from:] {
		parts := strings.Split(c.Path, "/")
		if c.Kind == Member && c.More == 0 && len(parts) == 4 && parts[1] == "history" {
			if i, again := first[parts[3]]; again {
				kept[i].Count++
				continue
			}
			first[parts[3]] = len(kept)
		}
		kept = append(kept, c)
	}
	r.causes = kept
}

// A Blob is a layer or another file, opened as often as need be.
type Blob struct {
	Open func() (io.ReadCloser, error)
}

func blobOf(src source.Source, d oci.Descriptor) Blob {
	return Blob{func() (io.ReadCloser, error) { return src.Blob(d) }}
}
