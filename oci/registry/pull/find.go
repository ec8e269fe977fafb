// Package pull brings images from a registry into a layout. [Find] reads the manifests of an
// image and stores nothing; [Image.Pull] fetches the blobs that the layout lacks, and names the
// image when it is whole.
//
// # Design
//
// What breaks off is gone on with, by the same process or another: the bytes of a blob that
// came are kept in the layout, hashed again, and the registry is asked for the rest. Whether
// the two halves belong together is for the digest to say, and if it says no the blob is
// fetched once more from its start. What the layout has already is read and verified before it
// is believed.
package pull

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
)

// Options of a pull. The zero value is a good one.
type Options struct {
	// Platforms of an index: with one the image for it is pulled, alone; with several an index
	// of those, which is another one than the registry's unless it has no more.
	Platforms []oci.Platform
	Referrers bool           // pull what refers to the image too: signatures, SBOMs
	Jobs      int            // blobs at a time; 0 is 4 large ones, or up to 16 small ones
	Local     *layout.Layout // manifests that are here are not fetched; nil is none

	Progress func(Progress)    // is called for each step, never concurrently
	Notice   func(text string) // is told what the user should know
}

const (
	maxDepth = 16     // of nested indexes
	maxNodes = 10_000 // manifests of one pull
)

// An Image is what a reference names, and all the manifests that it leads to.
type Image struct {
	Desc oci.Descriptor

	c         *registry.Client
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

// Find reads the manifests of the image that ref names: by its digest if it has one, else by
// its tag, else by the tag "latest". Nothing is stored.
func Find(ctx context.Context, c *registry.Client, ref registry.Reference, o Options) (*Image, error) {
	im := &Image{c: c, ref: ref, o: o, known: map[digest.Digest]bool{}, sizes: map[digest.Digest]int64{}}
	desc, data, err := c.GetManifest(ctx, ref.Repo, ref.Name())
	if err != nil {
		return nil, err
	}
	switch len(o.Platforms) {
	case 0:
	case 1:
		desc, data, err = im.choose(ctx, desc, data, o.Platforms[0])
	default:
		desc, data, err = im.strip(ctx, desc, data)
	}
	if err != nil {
		return nil, err
	}
	im.Desc = desc
	if err := im.add(ctx, desc, data, 0); err != nil {
		return nil, err
	}
	if o.Referrers {
		if err := im.findReferrers(ctx); err != nil {
			return nil, err
		}
	}
	return im, nil
}

// strip returns the index without the images for other platforms than those asked for.
func (im *Image) strip(ctx context.Context, desc oci.Descriptor, data []byte) (oci.Descriptor, []byte, error) {
	left, data, err := oci.ForPlatforms(desc, data, im.o.Platforms, func(d oci.Descriptor) (*oci.Platform, error) {
		if d.Platform != nil {
			return d.Platform, nil
		}
		doc, err := im.get(ctx, d)
		if err != nil {
			return nil, err
		}
		return im.platform(ctx, d, doc)
	})
	if err == nil && left.Digest != desc.Digest {
		im.notice("the images for other platforms are left out of the index %s, so its digest is another one", desc.Digest)
	}
	return left, data, err
}

// choose returns the manifest for the platform.
func (im *Image) choose(ctx context.Context, desc oci.Descriptor, data []byte, wish oci.Platform) (oci.Descriptor, []byte, error) {
	var offered []string
	var visit func(desc oci.Descriptor, data []byte, depth int) (oci.Descriptor, []byte, error)
	visit = func(desc oci.Descriptor, data []byte, depth int) (oci.Descriptor, []byte, error) {
		if depth > maxDepth {
			return desc, nil, tooMuch(desc)
		}
		if oci.IsManifest(desc.MediaType) {
			p, err := im.platform(ctx, desc, data)
			if err != nil || p == nil {
				return desc, nil, err
			}
			offered = append(offered, p.String())
			if p.Matches(wish) {
				return desc, data, nil
			}
			return desc, nil, nil
		}
		x, err := oci.DecodeIndex(desc, data)
		if err != nil {
			return desc, nil, err
		}
		for _, d := range x.Manifests {
			if oci.IsManifest(d.MediaType) && d.Platform != nil && !d.Platform.Matches(wish) {
				offered = append(offered, d.Platform.String())
				continue
			}
			if !oci.IsManifest(d.MediaType) && !oci.IsIndex(d.MediaType) || len(offered) > maxNodes {
				continue
			}
			child, err := im.get(ctx, d)
			if err != nil {
				return desc, nil, err
			}
			if found, data, err := visit(d, child, depth+1); err != nil || data != nil {
				return found, data, err
			}
		}
		return desc, nil, nil
	}
	found, doc, err := visit(desc, data, 0)
	if err == nil && doc == nil {
		err = fmt.Errorf("%s: %w %s: it has %q", desc.Digest, oci.ErrPlatform, wish, offered)
	}
	return bare(found), doc, err
}

// bare drops what an entry of an index says beyond what the blob is.
func bare(d oci.Descriptor) oci.Descriptor {
	return oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// platform returns what a manifest is for: what its entry says, else its config.
func (im *Image) platform(ctx context.Context, desc oci.Descriptor, data []byte) (*oci.Platform, error) {
	if desc.Platform != nil {
		return desc.Platform, nil
	}
	m, err := oci.DecodeManifest(desc, data)
	if err != nil || !oci.IsConfig(m.Config.MediaType) {
		return nil, err
	}
	if m.Config.Size > oci.MaxDocument {
		return nil, fmt.Errorf("config %s: %d bytes: %w", m.Config.Digest, m.Config.Size, oci.ErrMalformed)
	}
	r, err := im.c.OpenBlob(ctx, im.ref.Repo, m.Config)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	doc, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	config, err := oci.ParseConfig(doc)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	v, err := config.View()
	p := v.Platform()
	return &p, err
}

func tooMuch(desc oci.Descriptor) error {
	return fmt.Errorf("image %s: over %d levels or %d manifests: %w", desc.Digest, maxDepth, maxNodes, oci.ErrMalformed)
}

// get returns a manifest that another one names, from the layout if it is there.
func (im *Image) get(ctx context.Context, desc oci.Descriptor) ([]byte, error) {
	if im.o.Local != nil {
		if data, err := im.o.Local.Document(desc); err == nil {
			return data, nil
		}
	}
	if desc.Size > oci.MaxDocument {
		return nil, fmt.Errorf("manifest %s: %d bytes, the limit is %d: %w", desc.Digest, desc.Size, oci.MaxDocument, oci.ErrMalformed)
	}
	got, data, err := im.c.GetManifest(ctx, im.ref.Repo, desc.Digest.String())
	switch {
	case err != nil:
		return nil, err
	case got.Size != desc.Size:
		return nil, fmt.Errorf("manifest %s: got %d bytes, want %d: %w", desc.Digest, got.Size, desc.Size, digest.ErrMismatch)
	case got.MediaType != desc.MediaType:
		return nil, fmt.Errorf("manifest %s: got %q, want %q: %w", desc.Digest, got.MediaType, desc.MediaType, oci.ErrMalformed)
	}
	return data, nil
}

// add collects a manifest and what it leads to.
func (im *Image) add(ctx context.Context, desc oci.Descriptor, data []byte, depth int) error {
	if depth > maxDepth || len(im.known) >= maxNodes {
		return tooMuch(desc)
	}
	im.known[desc.Digest] = true
	refs, err := oci.References(desc, data)
	if err != nil {
		return err
	}
	for _, d := range refs {
		if !oci.IsManifest(d.MediaType) && !oci.IsIndex(d.MediaType) {
			if err := im.addBlob(d); err != nil {
				return err
			}
			continue
		}
		if im.known[d.Digest] {
			continue
		}
		child, err := im.get(ctx, d)
		if err != nil {
			return err
		}
		if err := im.add(ctx, d, child, depth+1); err != nil {
			return err
		}
	}
	im.docs = append(im.docs, document{bare(desc), data})
	return nil
}

// addBlob collects a blob, once.
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

// findReferrers collects what refers to the manifests, and to that.
func (im *Image) findReferrers(ctx context.Context) error {
	for i := 0; i < len(im.docs); i++ {
		subject := im.docs[i].desc
		list, err := im.c.Referrers(ctx, im.ref.Repo, subject.Digest, "")
		if err != nil {
			return fmt.Errorf("referrers of %s: %w", subject.Digest, err)
		}
		for _, d := range list.Descriptors {
			if im.known[d.Digest] || !oci.IsManifest(d.MediaType) && !oci.IsIndex(d.MediaType) {
				continue
			}
			data, err := im.get(ctx, d)
			if err != nil {
				return fmt.Errorf("referrer of %s: %w", subject.Digest, err)
			}
			var doc struct {
				Subject *oci.Descriptor `json:"subject"`
			}
			if err := oci.Decode(data, &doc); err != nil {
				return fmt.Errorf("referrer %s: %w", d.Digest, err)
			}
			if doc.Subject == nil || doc.Subject.Digest != subject.Digest {
				im.notice("left out %s: the registry lists it as a referrer of %s, which it is not", d.Digest, subject.Digest)
				continue
			}
			if err := im.add(ctx, d, data, 0); err != nil {
				return err
			}
			entry := bare(d)
			entry.ArtifactType = d.ArtifactType
			im.referrers = append(im.referrers, entry)
		}
		if err := im.findTagged(ctx, subject); err != nil {
			return fmt.Errorf("referrers of %s: %w", subject.Digest, err)
		}
	}
	return nil
}

func (im *Image) notice(format string, args ...any) {
	if im.o.Notice != nil {
		im.o.Notice(fmt.Sprintf(format, args...))
	}
}

// Referrers returns what refers to the image, as far as it was asked for.
func (im *Image) Referrers() []oci.Descriptor { return slices.Clone(im.referrers) }

// store puts the manifests into the layout.
func (im *Image) store(l *layout.Layout, step func(Step)) error {
	for _, doc := range im.docs {
		if _, err := l.Document(doc.desc); err == nil {
			continue
		}
		if _, _, err := l.Put(bytes.NewReader(doc.data), doc.desc.Digest); err != nil {
			return err
		}
		step(Step{Action: "manifest", Digest: doc.desc.Digest, MediaType: doc.desc.MediaType, Size: doc.desc.Size})
	}
	return nil
}
