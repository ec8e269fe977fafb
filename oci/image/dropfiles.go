package image

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/tarutil"
	"ocikit/tarutil/estargz"
	"ocikit/tarutil/gzip"
	"ocikit/tarutil/rewrite"
	"ocikit/tarutil/zstd"
)

// A Dropper takes files out of the layers that hold them. A layer without such files stays byte for
// byte. Any other layer is written again, in the compression it has, without the files that the
// patterns select. Whiteouts stay, so that nothing of lower layers comes back. A layer that several
// images share is made once.
type Dropper struct {
	l        *layout.Layout
	dry      bool
	patterns []string
	opts     rewrite.Options
	each     []rewrite.Options // by pattern, for what it selects by itself
	made     map[digest.Digest]dropped
	hits     map[digest.Digest][]bool // by manifest: the patterns that selected something
}

// dropped is what became of a layer.
type dropped struct {
	desc oci.Descriptor
	hits []bool // by pattern
}

// NewDropper returns a Dropper of the patterns, which are those of [tarutil.NewMatcher]. If dry is
// set, it finds out what the layers would become, and stores nothing.
func NewDropper(l *layout.Layout, patterns []string, dry bool) (*Dropper, error) {
	d := &Dropper{l: l, dry: dry, made: map[digest.Digest]dropped{}, hits: map[digest.Digest][]bool{}}

	// Nothing but what is selected changes: owners, times and whiteouts stay as they are.
	options := func(patterns ...string) (rewrite.Options, error) {
		m, err := tarutil.NewMatcher(patterns)
		return rewrite.Options{Exclude: m, KeepWhiteouts: true, Owner: tarutil.Owner{Keep: true}, MTime: tarutil.KeepMTime(), AllowNoEnd: true}, err
	}

	var err error
	if d.opts, err = options(patterns...); err != nil {
		return nil, err
	}

	for _, p := range patterns {
		if strings.HasPrefix(strings.TrimSpace(p), "!") {
			continue // it takes back what others select
		}
		one, err := options(p)
		if err != nil {
			return nil, err
		}
		d.patterns, d.each = append(d.patterns, p), append(d.each, one)
	}

	return d, nil
}

// Changes returns the changes of an image. The first takes the files out. Then each pattern has one
// that fails with an error matching [ErrNoLayer] if the pattern selects nothing in any layer.
func (d *Dropper) Changes(ctx context.Context) []Change {
	changes := []Change{func(im *Image) error { return d.drop(ctx, im) }}
	for i, p := range d.patterns {
		changes = append(changes, func(im *Image) error {
			if hits := d.hits[im.desc.Digest]; hits == nil || !hits[i] {
				return notInImage("no layer brings %q", p)
			}
			return nil
		})
	}
	return changes
}

func (d *Dropper) drop(ctx context.Context, im *Image) error {
	history, _, err := im.steps(false)
	if err != nil {
		return err
	}

	layers, hits := slices.Clone(im.layers), make([]bool, len(d.each))
	changed := false
	for i, old := range layers {
		if _, err := d.l.Stat(old.desc.Digest); err != nil && oci.IsForeignLayer(old.desc.MediaType) {
			continue // its bytes are elsewhere
		}

		got, err := d.layer(ctx, old.desc)
		if err != nil {
			return fmt.Errorf("layer %s: %w", old.desc.Digest, err)
		}

		for p, hit := range got.hits {
			hits[p] = hits[p] || hit
		}

		if got.desc.Digest == old.desc.Digest {
			continue
		}

		changed = true
		if err := im.swap(&layers[i], got.desc, im.family()); err != nil {
			return err
		}
	}

	d.hits[im.desc.Digest] = hits
	if !changed {
		return nil
	}

	return im.relayer(layers, history)
}

// layer returns what becomes of a layer.
func (d *Dropper) layer(ctx context.Context, desc oci.Descriptor) (dropped, error) {
	if got, ok := d.made[desc.Digest]; ok {
		return got, nil
	}

	got := dropped{desc, make([]bool, len(d.each))}
	any, links, err := d.look(ctx, desc, got.hits)
	if err == nil && any {
		got.desc, err = d.rewrite(ctx, desc, links)
	}
	if err != nil {
		return got, err
	}

	d.made[desc.Digest] = got
	return got, nil
}

// look reads a layer, verifies it, and says whether there is something to take out, and whether
// there are hard links.
func (d *Dropper) look(ctx context.Context, desc oci.Descriptor, hits []bool) (any, links bool, err error) {
	r, err := stackLayer(d.l, desc).Open()
	if err != nil {
		return false, false, err
	}
	defer r.Close()

	in, err := tarutil.NewEntryReader(ctx, r, tarutil.ReadOptions{AllowNoEnd: true})
	if err != nil {
		return false, false, err
	}

	for hdr, err := range in.All() {
		if err != nil {
			return false, false, err
		}

		links = links || hdr.Typeflag == tar.TypeLink
		if hdr.Name == "" || !d.opts.Excludes(hdr.Name) {
			continue
		}

		any = true
		for i := range d.each {
			hits[i] = hits[i] || d.each[i].Excludes(hdr.Name)
		}
	}
	return any, links, nil
}

// rewrite stores a layer without what is to go. It is read from its file, twice if there are hard
// links, which may lead to files that go; look has verified it.
func (d *Dropper) rewrite(ctx context.Context, desc oci.Descriptor, links bool) (oci.Descriptor, error) {
	f, err := d.l.BlobAt(desc)
	if err != nil {
		return desc, graph.Incomplete(err)
	}
	defer f.Close()

	to := d.l
	if d.dry {
		to = nil
	}

	w, err := NewLayerWriter(to, sameCompression(desc))
	if err != nil {
		return desc, err
	}
	defer w.Abort()

	// A hard link may lead to a file that goes, which takes a second reading. Without one the first
	// is enough.
	var in io.Reader = io.NewSectionReader(f, 0, desc.Size)
	if !links {
		in = struct{ io.Reader }{in} // which cannot seek
	}

	if err := rewrite.Tar(ctx, w, in, d.opts); err != nil {
		return desc, err
	}

	return w.Commit()
}

// sameCompression returns the options of a layer that is written again, compressed as it is. The level
// that it was made at is not known, so it is the usual one.
func sameCompression(desc oci.Descriptor) LayerOptions {
	o := LayerOptions{Compression: None, AllowNoEnd: true, Algorithm: desc.Digest.Algorithm()}
	_, star := desc.Annotations.Find(estargz.TOCDigestAnnotation)
	switch t, _ := oci.ParseLayerType(desc.MediaType); {
	case star:
		o.Compression, o.Level = Estargz, gzip.DefaultLevel
	case t.Compression == oci.Gzip:
		o.Compression, o.Level = Gzip, gzip.DefaultLevel
	case t.Compression == oci.Zstd:
		o.Compression, o.Level = Zstd, zstd.DefaultLevel
	}
	return o
}
