package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive/layerdelta"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
)

// maxTarSize bounds what the bases of one delta may say that they have together.
const maxTarSize = 1 << 42

// checkDelta checks what a bundle says of a delta.
func checkDelta(d layout.Delta) error {
	if d.Delta.IsZero() || !d.Digest.Verifiable() || d.Size < 0 || d.TarSize < 0 || d.TarSize > maxTarSize || d.DeltaSize < 0 || len(d.Bases) > maxBases {
		return fmt.Errorf("delta of %s: %w", d.Digest, oci.ErrMalformed)
	}
	var size int64
	for _, base := range d.Bases {
		if base.Digest.IsZero() || base.Size < 0 || base.Size > maxTarSize-size {
			return fmt.Errorf("delta of %s: base %s: %w", d.Digest, base.Digest, oci.ErrMalformed)
		}
		size += base.Size
	}
	return nil
}

// makeLayers makes layers that are not here of their deltas, until no more can be made.
func (u *unbundler) makeLayers(deltas []layout.Delta) error {
	// A layer that was made may be the base of another.
	done := map[digest.Digest]bool{}
	for again := true; again; {
		again = false
		for _, d := range deltas {
			if _, err := u.store.Stat(d.Digest); done[d.Digest] || !errors.Is(err, layout.ErrNotFound) {
				continue
			}
			ok, err := u.makeLayer(d)
			if err != nil {
				return fmt.Errorf("make %s of a delta: %w", d.Digest, err)
			}
			if ok {
				u.result.Made = append(u.result.Made, d)
				u.verified[d.Digest] = true
				again = true
			}
			done[d.Digest] = ok
		}
	}

	return nil
}

// makeLayer makes a layer of a delta. It reports false if that cannot be done with what is here,
// and says why if something is damaged.
func (u *unbundler) makeLayer(d layout.Delta) (bool, error) {
	// A delta or a base that is absent may come with another bundle, so nothing is said of it.
	if size, err := u.store.Stat(d.Delta); err != nil || size != d.DeltaSize {
		return false, nil
	}

	for _, base := range d.Bases {
		if _, err := u.store.Stat(base.Digest); err != nil {
			return false, nil
		}
	}

	if !u.isRight(oci.Descriptor{Digest: d.Delta, Size: d.DeltaSize}) {
		u.said(d, fmt.Sprintf("the delta %s is damaged", d.Delta))
		return false, context.Cause(u.ctx)
	}

	if u.plan != nil {
		u.plan.known(member{digest: d.Digest, size: d.Size})
		return true, nil
	}

	file, err := u.l.BlobAt(oci.Descriptor{Digest: d.Delta, Size: d.DeltaSize})
	if err != nil {
		return false, err
	}
	defer file.Close()

	w, err := u.l.NewWriterFor(d.Digest.Algorithm())
	if err != nil {
		return false, err
	}
	defer w.Abort()

	err = u.apply(d, file, w)

	// Where the system fails the run ends. Anything else is wrong with the bundle: its layer
	// counts as absent.
	var system *fs.PathError
	switch {
	case err == nil:
		return true, nil
	case context.Cause(u.ctx) != nil:
		return false, context.Cause(u.ctx)
	case errors.As(err, &system): // as a full disk
		return false, err
	}

	u.said(d, err.Error())
	return false, nil
}

// apply writes the layer that the delta in file makes of its bases.
func (u *unbundler) apply(d layout.Delta, file io.ReaderAt, w *layout.Writer) error {
	var parts []layerdelta.Base
	for _, base := range d.Bases {
		lazy := layerdelta.NewLazy(u.ctx, base.Digest, base.Size, func() (io.ReadCloser, error) { return u.base(base.Digest) }, func() (layerdelta.Blob, error) { return u.baseAt(base.Digest) })
		defer lazy.Close()
		parts = append(parts, lazy)
	}

	err := layerdelta.Apply(u.ctx, w, io.NewSectionReader(file, 0, d.DeltaSize), layerdelta.NewBases(parts...), d.TarSize, d.Size)
	if err == nil {
		_, _, err = w.Commit(d.Digest)
	}
	return err
}

// base opens a base.
func (u *unbundler) base(d digest.Digest) (io.ReadCloser, error) {
	size, err := u.l.Stat(d)
	if err != nil {
		return nil, err
	}
	return u.l.Blob(oci.Descriptor{Digest: d, Size: size})
}

// baseAt opens a base for reading at any offset.
func (u *unbundler) baseAt(d digest.Digest) (layerdelta.Blob, error) {
	size, err := u.l.Stat(d)
	if err != nil {
		return nil, err
	}
	return u.l.BlobAt(oci.Descriptor{Digest: d, Size: size})
}

func (u *unbundler) said(d layout.Delta, why string) {
	u.notice("%s cannot be made of what is here: %s", d.Digest, why)
}

// stillUseful returns the deltas of layers that waiting images lack.
func (u *unbundler) stillUseful(w *layout.Waiting, missing map[digest.Digest][]Blob) []layout.Delta {
	var list []layout.Delta
	for _, d := range slices.Concat(w.Deltas, u.deltas) {
		needed := slices.ContainsFunc(w.Images, func(e oci.Descriptor) bool {
			return slices.ContainsFunc(missing[e.Digest], func(m Blob) bool { return m.Digest == d.Digest })
		})
		if needed && !slices.ContainsFunc(list, func(o layout.Delta) bool { return o.Digest == d.Digest && o.Delta == d.Delta }) {
			list = append(list, d)
		}
	}

	slices.SortFunc(list, func(a, b layout.Delta) int {
		return cmp.Or(digest.Compare(a.Digest, b.Digest), digest.Compare(a.Delta, b.Delta))
	})

	return list
}

// dropDeltas removes deltas that nothing needs any more. A blob that an image refers to stays,
// even if a bundle calls it a delta.
func (u *unbundler) dropDeltas(deltas []layout.Delta) error {
	// A bundle may call any blob its delta, so only a file that begins as one is removed.
	var drop []digest.Digest
	for _, d := range deltas {
		if u.isDelta(d.Delta) && !slices.Contains(drop, d.Delta) {
			drop = append(drop, d.Delta)
		}
	}

	if len(drop) == 0 {
		return nil
	}

	// The lists are read anew, since other bundles may have been applied meanwhile, and under the
	// lock, so that no image is named between the look and the removal.
	return u.l.UpdateWaiting(u.ctx, func(x *oci.Index, w *layout.Waiting) error {
		needed := map[digest.Digest]bool{}
		for _, d := range w.Deltas {
			needed[d.Delta] = true
		}

		err := graph.Scan(u.l, slices.Concat(x.Manifests, w.Images), func(n graph.Node) error {
			needed[n.Desc.Digest] = true
			return context.Cause(u.ctx)
		})
		if err != nil {
			return err
		}

		for _, d := range drop {
			if needed[d] {
				continue
			}
			if err := u.l.RemoveBlob(d); err != nil && !errors.Is(err, layout.ErrNotFound) {
				return err
			}
		}

		return nil
	})
}

// isDelta reports whether a blob is here that begins as a delta.
func (u *unbundler) isDelta(d digest.Digest) bool {
	f, err := u.l.OpenBlob(d)
	if err != nil {
		return false
	}
	defer f.Close()
	return layerdelta.IsDelta(f)
}
