// Package pull brings images from a registry into a layout. [Find] reads the manifests of an image
// and stores nothing; [Image.Plan] says what a pull would do; [Image.Pull] fetches the blobs that
// the layout lacks, and names the image when it is whole. [Rest] fetches a single blob.
//
// # Design
//
// A pull that breaks off can be taken up by the same process or another: the bytes of a blob that
// came are kept in the layout, hashed again, and only the rest is asked for. The digest decides
// whether the two halves belong together; if they do not, the blob is fetched once more from its
// start. A blob that the layout has already is read and verified before it counts.
package pull

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
)

// Options are the settings of a pull. The zero value pulls the whole image, without its referrers.
type Options struct {
	// Platforms are those to pull of an index. With one, its image is pulled alone. With several,
	// an index of them is made, whose digest differs from the registry's if any were left out.
	Platforms []oci.Platform
	As        string         // the full name that the image gets as one of a set; "" if it is pulled alone
	Rules     graph.Rules    // what of the image the registry may lack
	Referrers bool           // pull what refers to the image too: signatures, SBOMs
	Jobs      int            // blobs at a time; 0 is up to 16, and 4 large ones of them
	Local     *layout.Layout // manifests that are here are not fetched; nil is none
	Verified  *Verified      // what Local has that was read already; nil remembers nothing

	// Name adds the entries of an image that is whole to the layout; nil is
	// [layout.Layout.AddEntries]. A caller that pulls many images can collect them here, and write
	// index.json once.
	Name func(ctx context.Context, entries []oci.Descriptor, rules graph.Rules) error

	// Progress is called for each step, never concurrently. The first one is the plan, which counts all
	// blobs of the image, also those that are there already.
	Progress func(progress.Event)
	Notice   func(text string) // is told what the user should know
}

// An Image is what a reference names, and all the manifests that it leads to.
type Image struct {
	Desc  oci.Descriptor
	Named digest.Digest // what the reference names: Desc, or the index that Desc was chosen from

	c         *registry.Client
	repo      *registry.Repository
	ref       registry.Reference
	o         Options
	docs      []document // children before parents
	known     map[digest.Digest]bool
	blobs     []oci.Descriptor
	sizes     map[digest.Digest]int64
	referrers []oci.Descriptor
}

// A document is a manifest or an index.
type document struct {
	desc oci.Descriptor
	data []byte
}

// Find reads the manifests of the image that ref names, by its digest if it has one, else by its tag,
// else by the tag "latest". Nothing is stored. An image that is absent gives
// [registry.ErrNotFound]. The Image is bound to ctx and c.
func Find(ctx context.Context, c *registry.Client, ref registry.Reference, o Options) (*Image, error) {
	var local graph.Store
	if o.Local != nil {
		local = o.Local
	}

	im := &Image{
		c: c, repo: registry.NewRepository(ctx, c, ref, local), ref: ref, o: o,
		known: map[digest.Digest]bool{}, sizes: map[digest.Digest]int64{},
	}

	im.repo.CalledHere(o.As)

	// The digest counts. Its tag need not name the same image any more, and is not asked for.
	if !ref.Digest.IsZero() {
		ref.Tag = ""
	}

	desc, err := im.repo.Resolve(oci.ImageName{Tag: ref.Tag, Digest: ref.Digest})
	if err != nil {
		return nil, err
	}

	im.Named = desc.Digest
	if im.Desc, err = im.choose(desc); err != nil {
		return nil, err
	}

	if err := im.add(im.Desc); err != nil {
		return nil, err
	}

	if o.Referrers {
		if err := im.findReferrers(); err != nil {
			return nil, err
		}
	}

	return im, nil
}

// choose returns the descriptor of the image without the platforms that were not asked for. If that
// is an index of our own, the repository learns it, since the registry does not have it.
func (im *Image) choose(desc oci.Descriptor) (oci.Descriptor, error) {
	left, err := graph.Narrow(im.repo, desc, im.o.Platforms, im.o.As != "")
	if err != nil {
		return oci.Descriptor{}, err
	}

	for _, near := range left.Near {
		im.notice("%s: %s", im.ref, near)
	}

	if left.Doc != nil {
		im.repo.Add(left.Desc, left.Doc)
		im.notice("the images for other platforms are left out of the index %s, so its digest is another one", desc.Digest)
	}
	return left.Desc.Bare(), nil
}

// add collects a manifest and everything below it.
func (im *Image) add(desc oci.Descriptor) error {
	return graph.Walk(im.repo, []oci.Descriptor{desc}, im.o.Rules, func(n graph.Node) error {
		if n.Doc == nil {
			return im.addBlob(n.Desc)
		}
		if !im.known[n.Desc.Digest] {
			im.known[n.Desc.Digest] = true
			im.docs = append(im.docs, document{n.Desc.Bare(), n.Doc})
		}
		return nil
	})
}

// addBlob collects a blob, once. It refuses one that could not be verified before anything is fetched.
func (im *Image) addBlob(d oci.Descriptor) error {
	size, ok := im.sizes[d.Digest]
	switch {
	case ok && size != d.Size:
		return fmt.Errorf("blob %s: %d bytes in one place, %d in another: %w", d.Digest, size, d.Size, oci.ErrMalformed)
	case ok:
		return nil
	case !d.Digest.Verifiable():
		return fmt.Errorf("blob %s: %w", d.Digest, digest.ErrUnsupported)
	}
	im.sizes[d.Digest] = d.Size
	im.blobs = append(im.blobs, d)
	return nil
}

// findReferrers collects what refers to the manifests, and what refers to that.
func (im *Image) findReferrers() error {
	found, err := im.repo.Referrers([]oci.Descriptor{im.Desc})
	if err != nil {
		return err
	}
	for _, r := range found {
		if im.known[r.Desc.Digest] {
			continue
		}
		if err := im.add(r.Desc); err != nil {
			return fmt.Errorf("referrer of %s: %w", r.Subject, err)
		}
		im.referrers = append(im.referrers, r.Desc)
	}
	return nil
}

func (im *Image) notice(format string, args ...any) {
	if im.o.Notice != nil {
		im.o.Notice(fmt.Sprintf(format, args...))
	}
}

// Referrers returns the manifests that refer to the image; none unless [Options.Referrers] was set.
func (im *Image) Referrers() []oci.Descriptor { return slices.Clone(im.referrers) }

// store puts the manifests that the layout lacks into it, children before parents.
func (im *Image) store(l *layout.Layout, step func(Step)) error {
	for _, doc := range im.docs {
		if _, err := l.Document(doc.desc); err == nil {
			continue
		}
		if _, _, err := l.Put(bytes.NewReader(doc.data), doc.desc.Digest); err != nil {
			return err
		}
		step(stepOf("manifest", doc.desc))
	}
	return nil
}
