package layout

import (
	"cmp"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
)

// A Referrer is an entry that belongs to an image: a signature, an SBOM, an attestation.
type Referrer struct {
	Desc    oci.Descriptor // as an entry of index.json; it has a name only if it was found by that
	Subject digest.Digest  // the manifest it belongs to
	List    bool           // it is the list of referrers under the fallback tag, not one itself
}

// Referrers finds what refers to images, to the manifests inside them, and to what it found.
// It knows the ways in which programs keep that in a layout:
//
//   - manifests with a subject, as entries of index.json without a name (oras), or in the
//     lists of other entries;
//   - lists under the tag that stands in for the referrers API, "sha256-HEX" (regctl);
//   - manifests under such a tag with a suffix, "sha256-HEX.sig" (cosign).
//
// The result is sorted by digest. What is absent or damaged refers to nothing.
func (l *Layout) Referrers(images []oci.Descriptor) ([]Referrer, error) {
	x, err := l.Index()
	if err != nil {
		return nil, err
	}
	f := &finder{l: l, bySubject: map[digest.Digest][]Referrer{}, tags: map[string]digest.Digest{}, in: map[digest.Digest]bool{}, done: map[string]bool{}}
	err = l.Scan(x.Manifests, func(desc oci.Descriptor, doc []byte, _ error) error {
		var d struct {
			Subject *oci.Descriptor `json:"subject"`
		}
		if doc != nil && oci.Decode(doc, &d) == nil && d.Subject != nil {
			f.bySubject[d.Subject.Digest] = append(f.bySubject[d.Subject.Digest], Referrer{Desc: desc, Subject: d.Subject.Digest})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := f.add(images); err != nil {
		return nil, err
	}
	for n := -1; n != len(f.found); {
		n = len(f.found)
		if err := f.follow(); err != nil {
			return nil, err
		}
		if err := f.byTag(x.Manifests); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(f.found, func(a, b Referrer) int {
		return cmp.Or(digest.Compare(a.Desc.Digest, b.Desc.Digest), strings.Compare(nameOf(a.Desc), nameOf(b.Desc)))
	})
	return f.found, nil
}

// CountReferrers returns how many manifests refer to others, lists aside.
func CountReferrers(found []Referrer) int {
	seen := map[digest.Digest]bool{}
	for _, r := range found {
		if !r.List {
			seen[r.Desc.Digest] = true
		}
	}
	return len(seen)
}

type finder struct {
	l         *Layout
	bySubject map[digest.Digest][]Referrer // manifests with a subject
	in        map[digest.Digest]bool       // manifests of the images and of what was found
	fresh     []digest.Digest              // those of them that were not looked up in bySubject yet
	tags      map[string]digest.Digest     // the tags that belong to them
	done      map[string]bool
	found     []Referrer
}

// add notes the manifests of images.
func (f *finder) add(images []oci.Descriptor) error {
	return f.l.Scan(images, func(desc oci.Descriptor, doc []byte, err error) error {
		if oci.IsManifest(desc.MediaType) || oci.IsIndex(desc.MediaType) {
			if !f.in[desc.Digest] {
				f.in[desc.Digest] = true
				f.fresh = append(f.fresh, desc.Digest)
			}
			encoded := desc.Digest.Encoded()
			f.tags[string(desc.Digest.Algorithm())+"-"+encoded[:min(len(encoded), 64)]] = desc.Digest
		}
		return nil
	})
}

// follow finds what refers to manifests by its subject, and what refers to that.
func (f *finder) follow() error {
	for len(f.fresh) > 0 {
		subject := f.fresh[0]
		f.fresh = f.fresh[1:]
		for _, r := range f.bySubject[subject] {
			key := r.Desc.Digest.String()
			if f.done[key] {
				continue
			}
			f.done[key] = true
			r.Desc = plainEntry(r.Desc)
			f.found = append(f.found, r)
			if err := f.add([]oci.Descriptor{r.Desc}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *finder) byTag(entries []oci.Descriptor) error {
	for _, e := range entries {
		tag := e.Annotations[oci.AnnotationRefName]
		key := tag + " " + e.Digest.String()
		base, _, suffixed := strings.Cut(tag[strings.LastIndexByte(tag, ':')+1:], ".")
		subject, ok := f.tags[base]
		if !ok || f.done[key] || !suffixed && !f.isList(e) {
			continue
		}
		f.done[key] = true
		f.found = append(f.found, Referrer{Desc: e, Subject: subject, List: !suffixed})
		// What a list names was found by its subject, or is found now.
		if err := f.add([]oci.Descriptor{e}); err != nil {
			return err
		}
		if suffixed {
			continue
		}
		list, err := f.children(e)
		if err != nil {
			return err
		}
		for _, c := range list {
			if !f.done[c.Digest.String()] {
				f.done[c.Digest.String()] = true
				f.found = append(f.found, Referrer{Desc: plainEntry(c), Subject: subject})
			}
		}
	}
	return nil
}

// isList reports whether an entry is a list of referrers. An index that names the parts of
// the image itself is none; registries have been seen to answer with one.
func (f *finder) isList(e oci.Descriptor) bool {
	if !oci.IsIndex(e.MediaType) {
		return false
	}
	list, err := f.children(e)
	return err == nil && !slices.ContainsFunc(list, func(c oci.Descriptor) bool { return f.in[c.Digest] && !f.done[c.Digest.String()] })
}

func (f *finder) children(e oci.Descriptor) ([]oci.Descriptor, error) {
	data, err := f.l.Document(e)
	if err != nil {
		return nil, err
	}
	x, err := oci.DecodeIndex(e, data)
	return x.Manifests, err
}

// plainEntry is an entry of index.json without a name and what lists of referrers add.
func plainEntry(d oci.Descriptor) oci.Descriptor {
	return oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

func nameOf(d oci.Descriptor) string { return d.Annotations[oci.AnnotationRefName] }
