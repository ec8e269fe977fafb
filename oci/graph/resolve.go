package graph

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
)

// Resolve returns the descriptor that a name means in a store whose index.json is x; n.Dir is not
// looked at. A tag is looked for among the names of index.json, then among the full names that
// containerd writes, then among the tags at the end of full names, then as Docker shows full names, with
// app:v1 for docker.io/library/app:v1. A digest names a manifest or index whether index.json lists it or
// not, and with a tag asserts what the tag means. Without either, a lone image is meant, else the tag
// "latest".
//
// No such name gives [ErrNotFound], two images under one name [ErrAmbiguous].
func Resolve(s Store, x oci.Index, n oci.ImageName) (oci.Descriptor, error) {
	switch {
	case n.Tag != "":
		desc, err := findTag(x, n.Tag)
		if err == nil && !n.Digest.IsZero() && desc.Digest != n.Digest {
			err = fmt.Errorf("tag %q: got %s, want %s: %w", n.Tag, desc.Digest, n.Digest, digest.ErrMismatch)
		}
		return desc, err
	case !n.Digest.IsZero():
		return findDigest(s, x, n.Digest)
	}
	return findLone(s, x)
}

func findTag(x oci.Index, tag string) (oci.Descriptor, error) {
	full, isShown := oci.FullName(tag)

	// The ways to read a tag, the plainest first. The first one that finds anything decides.
	for _, match := range []func(oci.Descriptor) bool{
		func(d oci.Descriptor) bool { return isName(d, oci.AnnotationRefName, tag) },
		func(d oci.Descriptor) bool { return isName(d, oci.AnnotationImageName, tag) },
		func(d oci.Descriptor) bool {
			return isFullName(d.Annotations.Get(oci.AnnotationRefName), tag) || isFullName(d.Annotations.Get(oci.AnnotationImageName), tag)
		},
		func(d oci.Descriptor) bool {
			return isShown && (isName(d, oci.AnnotationRefName, full) || isName(d, oci.AnnotationImageName, full))
		},
	} {
		found := distinct(x.Manifests, match)
		if len(found) == 1 {
			return found[0], nil
		}
		if len(found) > 1 {
			return oci.Descriptor{}, fmt.Errorf("tag %q: %w: it names %s and %s", tag, ErrAmbiguous, found[0].Digest, found[1].Digest)
		}
	}

	return oci.Descriptor{}, fmt.Errorf("tag %q: %w", tag, ErrNotFound)
}

// CheckNames gives [ErrAmbiguous] if two entries of an index.json would have the same name. By such
// a name a reader finds neither image, and a writer keeps only one of them.
func CheckNames(entries iter.Seq[oci.Descriptor]) error {
	taken := map[string]digest.Digest{}
	for e := range entries {
		name := e.EntryName()
		if other, ok := taken[name]; ok && other != e.Digest {
			return fmt.Errorf("%w: %q would name %s and %s", ErrAmbiguous, name, other, e.Digest)
		}
		taken[name] = e.Digest
	}
	return nil
}

// isName reports whether the name in an annotation of an entry is tag, its digest aside.
func isName(d oci.Descriptor, annotation, tag string) bool {
	name := d.Annotations.Get(annotation)
	base, _ := oci.CutDigest(name)
	return name == tag || name != "" && base == tag
}

// isFullName reports whether name is a reference with a repository and the given tag.
func isFullName(name, tag string) bool {
	n := oci.SplitName(name)
	return n.Tag == tag && strings.Contains(n.Repo, "/")
}

func findDigest(s Store, x oci.Index, d digest.Digest) (oci.Descriptor, error) {
	if i := slices.IndexFunc(x.Manifests, func(e oci.Descriptor) bool { return e.Digest == d }); i >= 0 {
		return x.Manifests[i], nil
	}
	desc, err := Describe(s, d)
	if err != nil {
		return desc, err
	}
	if !oci.IsDocument(desc.MediaType) {
		return desc, fmt.Errorf("blob %s: neither a manifest nor an index: %w", d, ErrNotFound)
	}
	return desc, nil
}

// findLone finds the image that is meant where none is named: the only one, or the tag "latest". An
// entry that refers to another image, such as a signature, is not counted.
func findLone(s Store, x oci.Index) (oci.Descriptor, error) {
	found := distinct(x.Manifests, func(oci.Descriptor) bool { return true })

	// Signatures and the like are counted only where there is nothing else.
	if len(found) > 1 {
		if images := slices.DeleteFunc(slices.Clone(found), func(e oci.Descriptor) bool { return isReferrer(s, e) }); len(images) > 0 {
			found = images
		}
	}

	switch len(found) {
	case 0:
		return oci.Descriptor{}, fmt.Errorf("it holds no image: %w", ErrNotFound)
	case 1:
		return found[0], nil
	}

	desc, err := findTag(x, "latest")
	if err != nil {
		err = fmt.Errorf("it holds %d images, name one by tag: %w", len(found), err)
	}

	return desc, err
}

// isReferrer reports whether an entry stands in index.json for what it says about an image: it has
// the fallback tag of one, or no name and a subject.
func isReferrer(s Store, e oci.Descriptor) bool {
	if name := nameOf(e); name != "" {
		_, _, ok := CutFallbackTag(name)
		return ok
	}
	if e.Annotations.Get(oci.AnnotationImageName) != "" || !oci.IsDocument(e.MediaType) {
		return false
	}
	doc, err := s.Document(e)
	return err == nil && Subject(doc) != nil
}

// distinct returns the entries that match, the first of each digest.
func distinct(entries []oci.Descriptor, match func(oci.Descriptor) bool) []oci.Descriptor {
	var found []oci.Descriptor
	seen := map[digest.Digest]bool{}
	for _, e := range entries {
		if match(e) && !seen[e.Digest] {
			seen[e.Digest] = true
			found = append(found, e)
		}
	}
	return found
}

// Describe returns the descriptor of a blob that is known by its digest alone; an absent one gives
// [ErrNotFound]. The media type is read from the document. It is "" for a blob that is none, or that
// is longer than a document may be.
func Describe(s Store, d digest.Digest) (oci.Descriptor, error) {
	size, err := s.Stat(d)
	if err != nil {
		return oci.Descriptor{}, err
	}

	desc := oci.Descriptor{Digest: d, Size: size}
	if size > oci.MaxDocument {
		return desc, nil
	}
	data, err := s.Document(desc)
	if err != nil {
		return desc, err
	}

	desc.MediaType = oci.SniffDocument(data)
	return desc, nil
}
