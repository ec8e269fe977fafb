package graph

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
)

// A Choice is the one image that a command works on.
type Choice struct {
	Desc oci.Descriptor // as its index names it
	// Absent are the platforms of the index whose images are not in the store. They are told
	// only where the choice was made because the others are absent.
	Absent []string
	Near   *Near // set if there is only an image for an earlier variant than was wished
}

// Choose returns the image that root stands for: root itself, or the one image of an index. With a
// platform, it is the first image for that platform, or the one that comes nearest to it, see
// [oci.Platform.Serves]. Without one, it is the only image of the index, or the only one that is
// there. Attestations do not count as images. The platform of an image is what its entry says; the
// manifest is read only if the entry says nothing.
//
// Choose returns [ErrPlatform] if there is no such image, or several where one is needed. It
// returns [ErrNotFound] if the image is named and absent.
func Choose(s Store, root oci.Descriptor, wish *oci.Platform) (Choice, error) {
	entries, err := Entries(s, root)
	if err != nil {
		return Choice{}, err
	}
	if wish != nil {
		return choosePlatform(s, root, entries, *wish)
	}
	return chooseLone(s, root, entries)
}

// Entries returns the manifests that root leads to, root itself or those of an index and the
// indexes in it, each once, without attestations. The manifests need not be in the store. An index
// inside root is left out if it is absent.
func Entries(s Store, root oci.Descriptor) ([]oci.Descriptor, error) {
	if !oci.IsIndex(root.MediaType) {
		return []oci.Descriptor{root}, nil
	}

	return leaves(s, root, func(d oci.Descriptor) bool { return oci.IsManifest(d.MediaType) && !IsAttestation(d) })
}

// leaves returns what takes accepts among what an index and the indexes in it name, each once. An index inside
// root is left out if it is absent, since nothing is known of it. Nothing but indexes is read.
func leaves(s Store, root oci.Descriptor, takes func(oci.Descriptor) bool) ([]oci.Descriptor, error) {
	var found []oci.Descriptor
	seen := map[digest.Digest]bool{}
	w := NewWalker(s, DefaultLimits())
	w.Documents = true
	w.Reads = isIndex
	err := w.Walk([]oci.Descriptor{root}, func(n Node) error {
		switch {
		case errors.Is(n.Err, ErrNotFound) && n.Depth > 0:
		case n.Err != nil:
			return Incomplete(n.Err)
		case takes(n.Desc) && !seen[n.Desc.Digest]:
			seen[n.Desc.Digest] = true
			found = append(found, n.Desc)
		}
		return nil
	})

	return found, err
}

func isIndex(d oci.Descriptor) bool { return oci.IsIndex(d.MediaType) }

// IsAttestation reports whether an entry of an index says something about another entry, as
// BuildKit's attestations, and is not an image of its own.
func IsAttestation(d oci.Descriptor) bool {
	return d.Annotations.Get(oci.AnnotationAttestation) != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

func choosePlatform(s Store, root oci.Descriptor, entries []oci.Descriptor, wish oci.Platform) (Choice, error) {
	var offered []string
	var best nearest

	for _, d := range entries {
		p, err := PlatformOf(s, d)
		switch {
		case errors.Is(err, ErrNotFound) && len(entries) > 1:
			continue // nobody knows what it is for
		case err != nil:
			return Choice{}, err
		case p == nil:
			continue
		}

		offered = append(offered, p.String())
		if best.take(d, p, wish); best.is != nil && best.steps == 0 {
			break
		}
	}

	if best.is == nil {
		return Choice{}, fmt.Errorf("%s: %w", root.Digest, noImage(wish, offered))
	}

	// The image for the platform is this one. If it is absent, no other takes its place.
	if _, err := s.Stat(best.desc.Digest); err != nil && best.desc.Data == nil {
		return Choice{}, fmt.Errorf("image for %s: %w", best.is, err)
	}

	if best.is.Matches(wish) {
		return Choice{Desc: best.desc}, nil
	}
	return Choice{Desc: best.desc, Near: &Near{wish, *best.is}}, nil
}

// A nearest is the image of an index that comes nearest to a wish.
type nearest struct {
	desc  oci.Descriptor
	is    *oci.Platform // nil if none was found
	steps int
}

// take looks at one more image. Of two that are as near, the first stays.
func (n *nearest) take(d oci.Descriptor, p *oci.Platform, wish oci.Platform) {
	if steps, ok := p.Serves(wish); ok && (n.is == nil || steps < n.steps) {
		*n = nearest{d, p, steps}
	}
}

// noImage is the error that nothing is for a platform. It matches [ErrPlatform].
func noImage(wish oci.Platform, offered []string) error {
	return platformError(fmt.Sprintf("no image for %s: it has %s", wish, list(offered)))
}

// A platformError matches [ErrPlatform] and says more than that.
type platformError string

func (e platformError) Error() string        { return string(e) }
func (e platformError) Is(target error) bool { return target == ErrPlatform }

func chooseLone(s Store, root oci.Descriptor, entries []oci.Descriptor) (Choice, error) {
	if len(entries) == 1 {
		return Choice{Desc: entries[0]}, nil
	}

	var present, offered, absent []string
	var lone oci.Descriptor

	for _, d := range entries {
		name := d.Digest.String()
		p, err := PlatformOf(s, d)
		if err == nil && p != nil {
			name = p.String()
		}
		offered = append(offered, name)

		// Two that are there are too many already; the rest is asked for nothing but its name.
		if len(present) > 1 {
			continue
		}
		switch _, err := s.Stat(d.Digest); {
		case errors.Is(err, ErrNotFound) && d.Data == nil:
			absent = append(absent, name)
		case err != nil && d.Data == nil:
			return Choice{}, err
		default:
			present, lone = append(present, name), d
		}
	}

	switch {
	case len(present) == 1:
		return Choice{Desc: lone, Absent: absent}, nil
	case len(present) == 0 && len(entries) > 0:
		return Choice{}, fmt.Errorf("%s: %w: all images of the index are absent: %s", root.Digest, ErrIncomplete, list(offered))
	}

	return Choice{}, fmt.Errorf("%s: %w: it is an index of %d, for %s", root.Digest, ErrPlatform, len(entries), list(offered))
}

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// PlatformOf returns the platform of a manifest: what its entry in an index says, else its config,
// or nil if it is not an image for one.
func PlatformOf(s Store, desc oci.Descriptor) (*oci.Platform, error) {
	if desc.Platform != nil {
		return desc.Platform, nil
	}

	m, err := Manifest(s, desc)
	if err != nil || !oci.IsConfig(m.Config.MediaType) {
		return nil, err
	}

	v, err := View(s, m.Config)
	if err != nil || v.OS == "" && v.Architecture == "" {
		return nil, err
	}

	return new(v.Platform()), nil
}

// A Narrowed is what is left of an image for some platforms.
type Narrowed struct {
	Desc oci.Descriptor
	Doc  []byte // the bytes of Desc if the store does not have it, else nil
	Near []Near // the wishes for which nothing but an earlier variant is there
}

// A Near is a wish for which an earlier variant is taken, which runs there.
type Near struct{ Wish, Is oci.Platform }

func (n Near) String() string {
	return fmt.Sprintf("there is no image for %s: that for %s runs there and is taken", n.Wish, n.Is)
}

// Narrow reduces an image to the platforms of wishes. One wish gives the image for it. Several give
// an index of the images for them. Without wishes the result is desc itself.
//
// Not every member of a set is for a platform: a signature, for example, is for none. With
// isMember, a desc that is not an index stays as it is if it runs on one of the platforms, or is for
// none at all.
func Narrow(s Store, desc oci.Descriptor, wishes []oci.Platform, isMember bool) (Narrowed, error) {
	switch {
	case len(wishes) == 0:
		return Narrowed{Desc: desc}, nil
	case isMember && !oci.IsIndex(desc.MediaType):
		return narrowMember(s, desc, wishes)
	case len(wishes) > 1:
		return narrowIndex(s, desc, wishes)
	}

	choice, err := Choose(s, desc, &wishes[0])
	left := Narrowed{Desc: choice.Desc}
	if choice.Near != nil {
		left.Near = []Near{*choice.Near}
	}

	return left, err
}

// narrowMember returns one image as it is, if it may stay.
func narrowMember(s Store, desc oci.Descriptor, wishes []oci.Platform) (Narrowed, error) {
	left := Narrowed{Desc: desc}
	p, err := PlatformOf(s, desc)
	if err != nil || p == nil || slices.ContainsFunc(wishes, p.Matches) {
		return left, err
	}

	for _, wish := range wishes {
		if _, ok := p.Serves(wish); ok {
			left.Near = append(left.Near, Near{wish, *p})
		}
	}

	if left.Near == nil {
		return left, fmt.Errorf("%s: %w", desc.Digest, noImage(wishes[0], []string{p.String()}))
	}

	return left, nil
}

// narrowIndex takes the images for other platforms out of the index desc. Every image that matches a
// wish stays, with its attestations. If nothing is taken out, the result is desc. A wish that nothing
// serves gives [ErrPlatform], and so does a desc that is not an index.
func narrowIndex(s Store, desc oci.Descriptor, wishes []oci.Platform) (Narrowed, error) {
	left := Narrowed{Desc: desc}
	if !oci.IsIndex(desc.MediaType) {
		return left, fmt.Errorf("%s: %w", desc.Digest, platformError("it is one image, not an index of several"))
	}

	doc, err := s.Document(desc)
	if err != nil {
		return left, err
	}

	x, err := oci.DecodeIndex(desc, doc)
	if err != nil {
		return left, err
	}

	if x.Manifests, err = withInner(s, desc, x.Manifests); err != nil {
		return left, err
	}

	all := len(x.Manifests)
	if x.Manifests, left.Near, err = forPlatforms(s, x.Manifests, wishes); err != nil {
		return left, fmt.Errorf("%s: %w", desc.Digest, err)
	}

	if len(x.Manifests) == all {
		return left, nil
	}

	if left.Doc, err = oci.Encode(x); err != nil {
		return left, err
	}

	// What was embedded is the old index.
	left.Desc.Digest, left.Desc.Size = desc.Digest.Algorithm().FromBytes(left.Doc), int64(len(left.Doc))
	left.Desc.Data = nil
	return left, nil
}

// withInner returns the entries of an index with those of the indexes in it in their place, since an
// image may be in any of them; see leaves.
func withInner(s Store, index oci.Descriptor, entries []oci.Descriptor) ([]oci.Descriptor, error) {
	if !slices.ContainsFunc(entries, isIndex) {
		return entries, nil
	}
	return leaves(s, index, func(d oci.Descriptor) bool { return !isIndex(d) })
}

// forPlatforms returns the entries that are left for some wishes. Of each wish all images stay that
// match it, or, if there are none, the one that comes nearest to it, which is told.
func forPlatforms(s Store, entries []oci.Descriptor, wishes []oci.Platform) ([]oci.Descriptor, []Near, error) {
	kept := map[string]bool{}
	best := make([]nearest, len(wishes))
	var offered []string

	for _, d := range entries {
		if !oci.IsManifest(d.MediaType) || IsAttestation(d) {
			continue
		}
		p, err := PlatformOf(s, d)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, nil, err
		}
		if p == nil {
			continue
		}

		offered = append(offered, p.String())
		for i, wish := range wishes {
			best[i].take(d, p, wish)
			if p.Matches(wish) {
				kept[d.Digest.String()] = true
			}
		}
	}

	var near []Near
	for i, b := range best {
		if b.is == nil {
			return nil, nil, noImage(wishes[i], offered)
		}
		if !b.is.Matches(wishes[i]) {
			near = append(near, Near{wishes[i], *b.is})
		}
		kept[b.desc.Digest.String()] = true
	}

	// An attestation stays where the image stays that it is about.
	entries = slices.DeleteFunc(entries, func(d oci.Descriptor) bool {
		return !kept[d.Digest.String()] && !kept[d.Annotations.Get(oci.AnnotationAttested)]
	})
	return entries, near, nil
}

// Manifest reads a manifest.
func Manifest(s Store, desc oci.Descriptor) (oci.Manifest, error) {
	data, err := s.Document(desc)
	if err != nil {
		return oci.Manifest{}, err
	}
	return oci.DecodeManifest(desc, data)
}

// Index reads an index.
func Index(s Store, desc oci.Descriptor) (oci.Index, error) {
	data, err := s.Document(desc)
	if err != nil {
		return oci.Index{}, err
	}
	return oci.DecodeIndex(desc, data)
}

// Config reads the config of an image.
func Config(s Store, desc oci.Descriptor) (*oci.Config, error) {
	data, err := s.Document(desc)
	if err != nil {
		return nil, err
	}
	c, err := oci.ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", desc.Digest, err)
	}
	return c, nil
}

// View reads what the config of an image says.
func View(s Store, desc oci.Descriptor) (oci.View, error) {
	c, err := Config(s, desc)
	if err != nil {
		return oci.View{}, err
	}
	return c.View()
}
