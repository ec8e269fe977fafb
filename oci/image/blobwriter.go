package image

import (
	"cmp"
	"io"

	"ocikit/digest"
	"ocikit/oci/layout"
)

// A blobWriter takes one blob: a [layout.Writer], or something that only hashes.
type blobWriter interface {
	io.Writer
	Commit(want digest.Digest) (digest.Digest, int64, error)
	Abort()
}

func newBlobWriter(l *layout.Layout, alg digest.Algorithm) (blobWriter, error) {
	alg = cmp.Or(alg, digest.SHA256)
	if l == nil {
		return dryWriter{digest.NewHasher(alg)}, nil
	}
	return l.NewWriterFor(alg)
}

// A dryWriter finds out what a blob would be called.
type dryWriter struct{ *digest.Hasher }

func (w dryWriter) Commit(digest.Digest) (digest.Digest, int64, error) {
	return w.Digest(), w.Size(), nil
}

func (w dryWriter) Abort() {}

// A teeWriter writes its blob elsewhere as well.
type teeWriter struct {
	blobWriter
	both io.Writer
}

func (w teeWriter) Write(p []byte) (int, error) { return w.both.Write(p) }
