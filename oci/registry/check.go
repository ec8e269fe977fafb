package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
)

// A Lack is something that an image needs and a registry does not have as it should.
type Lack struct {
	Descriptor oci.Descriptor
	Err        error // [ErrNotFound], or what is wrong with what came
}

// Check returns what a registry lacks of the image that ref names, and the descriptor of the image.
// It reads every manifest and asks for every blob; with deep it reads and verifies the blobs, too.
// An error means that this could not be found out, not that something is missing. Layers that are
// not distributed with their image may be absent.
func (c *Client) Check(ctx context.Context, ref Reference, deep bool) (oci.Descriptor, []Lack, error) {
	r := NewRepository(ctx, c, ref, nil)
	root, err := r.Resolve(oci.ImageName{Tag: ref.Tag, Digest: ref.Digest})
	if err != nil {
		return root, nil, err
	}

	var (
		lacks []Lack
		blobs []oci.Descriptor
	)

	// Manifests are read one after the other, since each names the next. Blobs are collected
	// for later, when many can be asked for at once.
	err = graph.Scan(r, []oci.Descriptor{root}, func(n graph.Node) error {
		switch {
		case n.Err != nil && !isAbout(n.Err):
			return n.Err
		case n.Err != nil:
			lacks = append(lacks, Lack{n.Desc, n.Err})
		case n.Doc == nil:
			blobs = append(blobs, n.Desc)
		}
		return nil
	})
	if err != nil {
		return root, nil, err
	}

	// Each call writes its own element, so the order of the result is that of the image.
	found := make([]error, len(blobs))
	err = Parallel(ctx, len(blobs), Slots{}, func(ctx context.Context, i int) error {
		found[i] = c.checkBlob(ctx, ref.Repo, blobs[i], deep)
		if found[i] != nil && !isAbout(found[i]) {
			return found[i]
		}
		return nil
	})

	for i, err := range found {
		if err != nil && !(errors.Is(err, ErrNotFound) && oci.IsForeignLayer(blobs[i].MediaType)) {
			lacks = append(lacks, Lack{blobs[i], err})
		}
	}

	return root, lacks, err
}

// A SizeError says that a registry has something of another size under the digest of a blob. It wraps
// [digest.ErrMismatch].
type SizeError struct{ Got, Want int64 }

func (e *SizeError) Error() string { return fmt.Sprintf("got %d bytes, want %d", e.Got, e.Want) }

func (e *SizeError) Unwrap() error { return digest.ErrMismatch }

// isAbout reports whether an error is a finding about a blob or manifest. Any other one, such as a
// broken connection, says nothing about what the registry has.
func isAbout(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrMalformed) ||
		errors.Is(err, digest.ErrMismatch) || errors.Is(err, graph.ErrIncomplete)
}

// checkBlob asks for a blob, or reads it.
func (c *Client) checkBlob(ctx context.Context, repo string, desc oci.Descriptor, deep bool) error {
	var read error
	if deep {
		read = c.readBlob(ctx, repo, desc)
		if !errors.Is(read, digest.ErrMismatch) {
			return read
		}
	}

	// Of a blob that is not what it should be, the size is told if that is wrong.
	size, err := c.HeadBlob(ctx, repo, desc.Digest)
	if err == nil && !graph.Fits(size, desc) {
		return &SizeError{Got: size, Want: desc.Size}
	}
	return cmp.Or(read, err)
}

// readBlob reads a blob for its digest alone.
func (c *Client) readBlob(ctx context.Context, repo string, desc oci.Descriptor) error {
	body, err := c.OpenBlob(ctx, repo, desc)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}
