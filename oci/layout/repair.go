package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// A Source hands out blobs, of another layout or of a registry.
type Source interface {
	// Fetch opens a blob for reading; the caller closes it. The media type is "" and the
	// size -1 if they are not known. An absent blob gives an error that wraps [ErrNotFound].
	Fetch(ctx context.Context, desc oci.Descriptor) (io.ReadCloser, error)
}

// Fetch makes a layout a [Source].
func (l *Layout) Fetch(_ context.Context, desc oci.Descriptor) (io.ReadCloser, error) {
	if desc.Size < 0 {
		var err error
		if desc.Size, err = l.Stat(desc.Digest); err != nil {
			return nil, err
		}
	}
	return l.Blob(desc)
}

// Repairable reports whether a finding is about a blob that may be fetched again.
func (f Finding) Repairable() bool {
	return f.Digest != "" && f.Severity == SeverityError &&
		slices.Contains([]string{CodeBlobMissing, CodeManifestAbsent, CodeBlobSize, CodeBlobDigest, CodeBlobNotFile, CodeBlobUnreadable}, f.Code)
}

// Repair fetches again what findings say is bad or missing, by digest, and returns those of
// them that are repaired, marked so. A blob that the source lacks, or has only damaged, stays
// as it is. An error means that the source or the layout failed otherwise; what was repaired
// until then is returned as well.
func (l *Layout) Repair(ctx context.Context, findings []Finding, from Source) ([]Finding, error) {
	descs, err := l.named()
	if err != nil {
		return nil, err
	}

	// Two findings may want two sizes of one blob, so each wish is tried once.
	var repaired []Finding
	type attempt struct{ digest, want string }
	tried := map[attempt]bool{}
	for _, f := range findings {
		if !f.Repairable() {
			continue
		}
		try := attempt{f.Digest, f.Want}
		good, seen := tried[try]
		if !seen {
			if good, err = l.repair(ctx, descs, f, from); err != nil {
				return repaired, fmt.Errorf("repair blob %s: %w", f.Digest, err)
			}
			tried[try] = good
		}
		if good {
			f.Severity, f.Fix = SeverityRepaired, ""
			repaired = append(repaired, f)
		}
	}

	return repaired, nil
}

// named returns the descriptors of all blobs that the layout names, as far as it can be read.
func (l *Layout) named() (map[digest.Digest]oci.Descriptor, error) {
	descs := map[digest.Digest]oci.Descriptor{}
	x, err := l.Index()
	if err != nil {
		if errors.Is(err, oci.ErrMalformed) || errors.Is(err, ErrNotLayout) {
			return descs, nil
		}
		return nil, err
	}

	err = graph.Scan(l, x.Manifests, func(n graph.Node) error {
		if _, ok := descs[n.Desc.Digest]; !ok {
			descs[n.Desc.Digest] = n.Desc
		}
		return nil
	})

	return descs, err
}

// repair fetches one blob and reports whether it is good now.
func (l *Layout) repair(ctx context.Context, descs map[digest.Digest]oci.Descriptor, f Finding, from Source) (bool, error) {
	d, err := digest.Parse(f.Digest)
	if err != nil || !d.Verifiable() {
		return false, nil
	}

	desc, ok := descs[d]
	if !ok {
		desc = oci.Descriptor{Digest: d, Size: -1}
	}

	desc.Data = nil // what was embedded is no help
	if f.Code == CodeBlobSize {
		// Of several descriptors one may be wrong: each finding is about its own. Behind the number
		// it may say whose subject the blob is.
		want, _, _ := strings.Cut(f.Want, ",")
		if desc.Size, err = strconv.ParseInt(want, 10, 64); err != nil {
			return false, nil
		}
	}

	r, err := from.Fetch(ctx, desc)
	if err == nil {
		defer r.Close()
		if info, statErr := l.lstat(d); statErr == nil && info.IsDir() {
			l.sys.remove(l.root, blobPath(d)) // only if it is empty; otherwise the rename fails
		}
		_, _, err = l.Put(contextReader{ctx, r}, d)
	}

	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrNotFound), errors.Is(err, digest.ErrMismatch), errors.Is(err, oci.ErrMalformed):
		return false, nil
	}

	return false, err
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
