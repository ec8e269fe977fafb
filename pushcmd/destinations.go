package pushcmd

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry"
)

// Destinations says where images go below HOST[/PREFIX]. Their descriptors are entries of an
// index.json. An image goes to the repository and the tag of its full name, as rewritten, without
// its host. With host/mirror, the image "docker.io/library/alpine:3.20" goes to
// host/mirror/library/alpine:3.20. A referrer without a name goes where its image goes.
//
// If all images are of one repository, or none is known, HOST/PREFIX is that repository, and an
// image that is called by its tag goes to that tag there. This does not hold with rewrites, nor
// with HOST alone. An image that has no name, and refers to nothing here, goes to HOST/PREFIX by
// its digest.
//
// Images that would get the same name go nowhere, and so do those with a name that a registry does
// not take: the error of each image says so. An image that has an error already stays as it is.
func Destinations(images []Image, to registry.Reference, rewrites oci.Rewrites) ([]Image, error) {
	if to.Tag != "" || !to.Digest.IsZero() {
		return nil, fmt.Errorf("push all to %s: want a repository without tag or digest", to)
	}

	// HOST/PREFIX is the repository itself if nothing says that there are several.
	isOne := to.Repo != "" && len(rewrites) == 0 && repositories(images) < 2

	var all, unnamed []Image
	for _, im := range images {
		desc := im.Desc
		switch {
		case im.Err != nil:
			all = append(all, im)
			continue
		case !oci.IsDocument(desc.MediaType):
			continue
		}

		full, isFull := oci.NameOfEntry(desc)
		im.Name, im.To, im.from = desc.Digest.String(), to, full.Repo
		tag := desc.Annotations.Get(oci.AnnotationRefName)
		switch isTag := registry.CheckTag(tag) == nil; {
		case isTag && (isOne || !isFull):
			im.Name, im.To.Tag = tag, tag
			if to.Repo == "" {
				im.Err = errors.New("its name tells no repository to put it into")
			}
		case isFull || tag != "":
			// Anything else that an entry is called stands for a path below the prefix.
			if !isFull {
				full.Repo = tag
			}
			if !full.Digest.IsZero() {
				full.Digest = desc.Digest // an image that lost platforms has another digest than its name says
			}
			im.Name = cmp.Or(tag, full.String())
			im.To, im.Err = below(to, full, rewrites)
		default:
			unnamed = append(unnamed, im)
			continue
		}

		all = append(all, im)
	}

	refuseClashes(all)
	return placeReferrers(all, unnamed)
}

// repositories counts the repositories in the full names of images.
func repositories(images []Image) int {
	repos := map[string]bool{}
	for _, im := range images {
		if n, ok := oci.NameOfEntry(im.Desc); ok && im.Err == nil {
			repos[n.Repo] = true
		}
	}
	return len(repos)
}

// below returns the place of a full name below HOST[/PREFIX].
func below(to registry.Reference, full oci.Name, rewrites oci.Rewrites) (registry.Reference, error) {
	name := oci.SplitName(rewrites.Apply(full.String()))
	// The host says where the image came from, not where it goes.
	_, path := oci.CutHost(name.Repo)
	if to.Repo != "" {
		path = to.Repo + "/" + path
	}

	to.Repo, to.Tag, to.Digest = path, name.Tag, name.Digest
	if to.Tag == "" && to.Digest.IsZero() {
		to.Tag = "latest"
	}

	// A layout takes names that registries refuse, such as those with capitals.
	err := registry.CheckRepository(to.Repo)
	if err == nil && to.Tag != "" {
		err = registry.CheckTag(to.Tag)
	}
	if err != nil {
		err = fmt.Errorf("image named %q: %w", full, err)
	}

	return to, err
}

// refuseClashes marks images that would get one name.
func refuseClashes(all []Image) {
	first := map[string]int{}
	for i, im := range all {
		if im.Err != nil || im.To.Tag == "" {
			continue
		}
		at, taken := first[im.To.String()]
		if !taken {
			first[im.To.String()] = i
			continue
		}

		// Neither image has the better right to the name, so both are refused.
		if other := all[at]; other.Desc.Digest != im.Desc.Digest {
			all[i].Err = fmt.Errorf("%w: %s, too, would be %s", graph.ErrAmbiguous, other.Name, im.To)
			all[at].Err = fmt.Errorf("%w: %s, too, would be %s", graph.ErrAmbiguous, im.Name, im.To)
		}
	}
}

// places tells, for each manifest, the images that lead to it: one for each repository, since its
// referrers follow it into all of them.
type places map[digest.Digest][]Image

// note notes the manifests that an image leads to.
func (p places) note(im Image) error {
	return graph.Scan(im.Source, []oci.Descriptor{im.Desc}, func(n graph.Node) error {
		d := n.Desc.Digest
		if n.Doc != nil && !slices.ContainsFunc(p[d], func(o Image) bool { return o.To.Repo == im.To.Repo }) {
			p[d] = append(p[d], im)
		}
		return nil
	})
}

// placeReferrers adds the images without a name: each goes where what it refers to goes.
func placeReferrers(all, unnamed []Image) ([]Image, error) {
	if len(unnamed) == 0 {
		return all, nil
	}

	at := places{}
	for _, im := range all {
		if im.Err != nil {
			continue
		}
		if err := at.note(im); err != nil {
			return nil, err
		}
	}

	// A referrer may have referrers of its own, such as the signature of an SBOM, so the search
	// goes on until it places nothing more.
	for placed := true; placed; {
		placed = false
		unnamed = slices.DeleteFunc(unnamed, func(r Image) bool {
			doc, err := r.Source.Document(r.Desc)
			subject := graph.Subject(doc)
			if err != nil || subject == nil || len(at[subject.Digest]) == 0 {
				return false
			}
			for _, im := range at[subject.Digest] {
				r.To, r.from = im.To, im.from
				r.To.Tag, r.To.Digest = "", r.Desc.Digest
				all = append(all, r)
				if at.note(r) == nil {
					placed = true
				}
			}
			return true
		})
	}

	// An image that refers to nothing here goes by its digest, if the operand tells a
	// repository.
	for _, im := range unnamed {
		if im.To.Digest = im.Desc.Digest; im.To.Repo == "" {
			im.Err = errors.New("it has no name that tells a repository")
		}
		all = append(all, im)
	}

	return all, nil
}
