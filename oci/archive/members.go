package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
)

// members reads the tar of a layout that may lack blobs. Unlike a loader it needs no more than
// the blobs that are there, and does not care for Docker's half of an archive.
type members struct {
	// blob takes a blob; it must verify it.
	blob func(d digest.Digest, size int64, r io.Reader) error

	control map[string][]byte
}

// bundleFile says what a bundle wants and what it leaves out.
const bundleFile = "ocikit-bundle.json"

// read reads an archive, compressed or not, to its end.
func (a *members) read(ctx context.Context, r io.Reader) error {
	a.control = map[string][]byte{}
	return eachMember(ctx, r, a.member)
}

// member takes one entry of the tar.
func (a *members) member(name string, hdr *tar.Header, r io.Reader) error {
	isControl := name == layoutFile || name == indexFile || name == bundleFile
	encoded, isBlob := strings.CutPrefix(name, blobsDir+"/")
	switch {
	case hdr.Typeflag == tar.TypeDir && !isControl:
		return nil
	case hdr.Typeflag != tar.TypeReg && (isControl || isBlob):
		return fmt.Errorf("it is not a file: %w", oci.ErrMalformed)
	case isControl:
		return a.keep(name, r)
	case !isBlob:
		return nil // of Docker, or of somebody else
	}
	alg, encoded, ok := strings.Cut(encoded, "/")
	if !ok {
		return fmt.Errorf("it is no digest: %w", oci.ErrMalformed)
	}
	d, err := digest.Parse(alg + ":" + encoded)
	if err == nil && !d.Verifiable() {
		err = fmt.Errorf("%s: %w", d, digest.ErrUnsupported)
	}
	if err != nil {
		return err
	}
	return a.blob(d, hdr.Size, r)
}

// keep keeps a file that says what is in the archive.
func (a *members) keep(name string, r io.Reader) error {
	data, err := readAll(r, name)
	if err != nil {
		return err
	}
	if was, ok := a.control[name]; ok && !bytes.Equal(was, data) {
		return fmt.Errorf("it occurs twice, and readers disagree which one counts: %w", oci.ErrMalformed)
	}
	a.control[name] = append([]byte{}, data...)
	return nil
}

// layoutIndex returns index.json, if the archive is that of a layout.
func (a *members) layoutIndex() (oci.Index, error) {
	var x oci.Index
	data, ok := a.control[indexFile]
	if !ok {
		return x, fmt.Errorf("%w: it has no %s", ErrNoImage, indexFile)
	}
	if err := (&loader{control: a.control}).checkVersion(); err != nil {
		return x, err
	}
	if err := oci.Decode(data, &x); err != nil {
		return x, fmt.Errorf("%s: %w", indexFile, err)
	}
	return x, nil
}
