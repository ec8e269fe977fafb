package graph

import (
	"cmp"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
)

// A Referrer is a manifest that belongs to an image: a signature, an SBOM, an attestation.
type Referrer struct {
	Desc    oci.Descriptor // as an entry of index.json; it has a name only if it was found by that
	Subject digest.Digest  // the manifest it belongs to
	List    bool           // it is the list of referrers under the fallback tag, not one itself
}

// Subject returns the descriptor of what a manifest or an index says it refers to. It returns nil
// if the document has no subject, or cannot be decoded.
func Subject(doc []byte) *oci.Descriptor {
	var d oci.Referring
	if oci.Decode(doc, &d) != nil {
		return nil
	}
	return d.Subject
}

// FallbackTag returns the tag under which the list of what refers to d is kept where there is no
// other way to find it: algorithm and encoded part, cut to 32 and 64 characters (distribution-spec,
// "Referrers Tag Schema"). Cosign adds a suffix, as ".sig", for a manifest of its own.
func FallbackTag(d digest.Digest) string {
	clean := func(s string, n int) string {
		s = s[:min(len(s), n)]
		return strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c) {
				return c
			}
			return '-'
		}, s)
	}
	return clean(string(d.Algorithm()), 32) + "-" + clean(d.Encoded(), 64)
}

// CutFallbackTag takes apart a name whose tag may be one of [FallbackTag], with a suffix or
// without. It reports whether the tag has that form.
func CutFallbackTag(name string) (base, suffix string, ok bool) {
	tag := name[strings.LastIndexByte(name, ':')+1:] // a fallback tag may have no repository in front
	base, suffix, _ = strings.Cut(tag, ".")
	alg, encoded, _ := strings.Cut(base, "-")
	isHex := len(encoded) == 64 && strings.Trim(encoded, "0123456789abcdef") == ""
	return base, suffix, isHex && digest.Algorithm(alg).Available()
}

// IsReferrersList reports whether an index that was found under the fallback tag of subject is
// a list of what refers to it. Registries have been seen to answer with the image itself, whose
// index then names the parts of the image (oras-project/oras-go#1396): isPart reports whether a
// digest is one of those.
func IsReferrersList(found oci.Descriptor, doc []byte, subject digest.Digest, isPart func(digest.Digest) bool) (oci.Index, bool) {
	if !oci.IsIndex(found.MediaType) || found.Digest == subject {
		return oci.Index{}, false
	}
	x, err := oci.DecodeIndex(found, doc)
	if err != nil {
		return x, false
	}
	return x, !slices.ContainsFunc(x.Manifests, func(c oci.Descriptor) bool { return isPart(c.Digest) })
}

// Referrers finds the manifests that refer to images, to the manifests inside them, and to other
// referrers that it found. It looks among entries, those of index.json, and knows the ways in which
// programs keep referrers in a layout:
//
//   - manifests with a subject, as entries of index.json without a name (oras, ocikit), or in the
//     lists of other entries;
//   - lists under the tag that stands in for the referrers API, "sha256-HEX" (regctl);
//   - manifests under such a tag with a suffix, "sha256-HEX.sig" (cosign).
//
// An attestation that an index lists beside its image goes with the index, and is not found again.
// The result is sorted by digest. A document that is absent or damaged counts as referring to
// nothing.
func Referrers(s Store, entries, images []oci.Descriptor) ([]Referrer, error) {
	f := &finder{
		store:     s,
		bySubject: map[digest.Digest][]Referrer{},
		parts:     map[digest.Digest]bool{},
		inside:    map[digest.Digest]bool{},
		tags:      map[string]digest.Digest{},
		done:      map[string]bool{},
	}

	// Each document is read once for its subject. What follows looks it up.
	err := Documents(s, entries, func(n Node) error {
		if n.Doc == nil {
			return nil
		}
		if subject := Subject(n.Doc); subject != nil {
			f.bySubject[subject.Digest] = append(f.bySubject[subject.Digest], Referrer{Desc: n.Desc, Subject: subject.Digest})
		}
		return nil
	})
	if err == nil {
		err = f.add(images)
	}

	// A referrer may have referrers of its own, found in either way, so the search goes on until
	// there is nothing new.
	for n := -1; err == nil && n != len(f.found); {
		n = len(f.found)
		if err = f.follow(); err == nil {
			err = f.byTag(entries)
		}
	}

	if err != nil {
		return nil, err
	}

	slices.SortFunc(f.found, func(a, b Referrer) int {
		return cmp.Or(digest.Compare(a.Desc.Digest, b.Desc.Digest), strings.Compare(nameOf(a.Desc), nameOf(b.Desc)))
	})

	return f.found, nil
}

// A finder is one search for referrers.
type finder struct {
	store     Store
	bySubject map[digest.Digest][]Referrer // manifests with a subject
	parts     map[digest.Digest]bool       // manifests of the images and of what was found
	inside    map[digest.Digest]bool       // those of them that an index lists
	fresh     []digest.Digest              // those of them that were not looked up in bySubject yet
	tags      map[string]digest.Digest     // the fallback tags that belong to them
	done      map[string]bool              // what was found already
	found     []Referrer
}

// add notes the manifests of images.
func (f *finder) add(images []oci.Descriptor) error {
	return Documents(f.store, images, func(n Node) error {
		d := n.Desc.Digest
		f.inside[d] = f.inside[d] || n.Depth > 0
		if !f.parts[d] {
			f.parts[d] = true
			f.fresh = append(f.fresh, d)
		}
		f.tags[FallbackTag(d)] = d
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
			// A manifest that an index lists goes with the index.
			if f.done[key] || f.inside[r.Desc.Digest] {
				continue
			}
			f.done[key] = true

			r.Desc = r.Desc.Bare() // without a name and what lists of referrers add
			f.found = append(f.found, r)
			if err := f.add([]oci.Descriptor{r.Desc}); err != nil {
				return err
			}
		}
	}

	return nil
}

// byTag finds what stands under the fallback tags.
func (f *finder) byTag(entries []oci.Descriptor) error {
	for _, e := range entries {
		base, suffix, _ := CutFallbackTag(nameOf(e))
		subject, ok := f.tags[base]
		key := nameOf(e) + " " + e.Digest.String()
		if !ok || f.done[key] {
			continue
		}

		// Under the plain tag there must be a list. Under one with a suffix there is the referrer
		// itself.
		var list []oci.Descriptor
		if suffix == "" {
			if list, ok = f.list(e, subject); !ok {
				continue
			}
		}

		f.done[key] = true
		f.found = append(f.found, Referrer{Desc: e, Subject: subject, List: suffix == ""})

		// A manifest that the list names was found by its subject, or is found now.
		for _, c := range list {
			if !f.done[c.Digest.String()] && !f.inside[c.Digest] {
				f.done[c.Digest.String()] = true
				f.found = append(f.found, Referrer{Desc: c.Bare(), Subject: subject})
			}
		}

		// The manifest that was found may have referrers of its own.
		if err := f.add([]oci.Descriptor{e}); err != nil {
			return err
		}
	}

	return nil
}

// list returns what an entry lists, and whether it is a list of referrers.
func (f *finder) list(e oci.Descriptor, subject digest.Digest) ([]oci.Descriptor, bool) {
	if !oci.IsIndex(e.MediaType) {
		return nil, false
	}
	doc, err := f.store.Document(e)
	if err != nil {
		return nil, false
	}

	isListed := func(d digest.Digest) bool {
		return f.done[d.String()] || slices.ContainsFunc(f.bySubject[subject], func(r Referrer) bool { return r.Desc.Digest == d })
	}

	// The parts include what was found so far, which a list names rightly. Only other parts of the
	// image show that it is not a list.
	x, ok := IsReferrersList(e, doc, subject, func(d digest.Digest) bool { return f.parts[d] && !isListed(d) })
	return x.Manifests, ok
}

func nameOf(d oci.Descriptor) string { return d.Annotations.Get(oci.AnnotationRefName) }
