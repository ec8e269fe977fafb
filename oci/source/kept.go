package source

import (
	"errors"
	"io"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/disk"
)

// Keep returns a source that keeps each layer read from src in a temporary file in dir. So the
// layer comes over the network once, however often it is read. If there is no room for the file,
// the layer is asked for again. Close removes the files, and closes src.
func Keep(src Source, dir string) Source {
	return &keeper{Source: src, dir: dir, files: map[digest.Digest]*disk.TempFile{}}
}

type keeper struct {
	Source
	dir string

	mu    sync.Mutex
	files map[digest.Digest]*disk.TempFile // of layers that were read to their end, and were right
}

// Unwrap returns the source below, see [Unwrap].
func (k *keeper) Unwrap() Source { return k.Source }

// Remote reports what the source below does, since layers that were not read yet cost requests.
func (k *keeper) Remote() bool { return Remote(k.Source) }

func (k *keeper) Blob(desc oci.Descriptor) (io.ReadCloser, error) {
	k.mu.Lock()
	f := k.files[desc.Digest]
	k.mu.Unlock()
	if f != nil {
		return io.NopCloser(digest.NewReader(io.NewSectionReader(f, 0, desc.Size), desc.Digest, desc.Size)), nil
	}

	body, err := k.Source.Blob(desc)
	if err != nil || !oci.IsLayer(desc.MediaType) {
		return body, err
	}

	if f, err = disk.CreateTemp(k.dir, "ocikit-layer-*"); err != nil {
		return body, nil
	}

	return &keeping{ReadCloser: body, k: k, d: desc.Digest, f: f}, nil
}

// Close closes the source below, and removes the files.
func (k *keeper) Close() error {
	err := k.Source.Close()
	for _, f := range k.files {
		err = errors.Join(err, f.Close())
	}
	k.files = nil
	return err
}

// keeping reads a blob for the first time.
type keeping struct {
	io.ReadCloser
	k *keeper
	d digest.Digest
	f *disk.TempFile // nil once it was given up, or is the keeper's
}

func (r *keeping) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if r.f == nil {
		return n, err
	}

	if _, writeErr := r.f.Write(p[:n]); writeErr != nil {
		r.f.Close()
		r.f = nil
		return n, err
	}

	if err == io.EOF { // so the digest is right
		r.k.mu.Lock()
		if r.k.files[r.d] == nil {
			r.k.files[r.d], r.f = r.f, nil
		}
		r.k.mu.Unlock()
	}

	return n, err
}

func (r *keeping) Close() error {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
	return r.ReadCloser.Close()
}
