package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
	"ocikit/tarutil/stack"
)

// annotationUnpack is what oras puts on a directory, which it packs as a tar.
const annotationUnpack = "io.deis.oras.content.unpack"

// ErrArtifact means that a manifest is that of an artifact, which has no file system.
var ErrArtifact = errors.New("it is an artifact, not an image with a file system")

// An ArtifactFile is a file of an artifact.
type ArtifactFile struct {
	Path   string // clean, relative, with slashes
	Desc   oci.Descriptor
	Layer  int  // its place in the manifest
	Packed bool // it is a directory, packed as a tar whose entries begin with Path
}

// ArtifactFiles lists the files of an artifact: the blobs of its manifest that have a title, in
// their order. Titles are hostile names: one that leads out of where files are written, that names
// no file, or that occurs twice, is an error that wraps [oci.ErrMalformed].
func ArtifactFiles(m oci.Manifest) ([]ArtifactFile, error) {
	var files []ArtifactFile
	seen := map[string]bool{}
	for i, desc := range m.Layers {
		title := desc.Annotations.Get(oci.AnnotationTitle)
		if title == "" {
			continue
		}

		// The name has to be safe on Windows too, where a backslash is a slash and a colon follows a
		// drive.
		name := path.Clean(title)
		bad := path.IsAbs(name) || name == "." || name == ".." || strings.HasPrefix(name, "../") ||
			strings.ContainsAny(title, "\\\x00") || strings.Contains(strings.SplitN(name, "/", 2)[0], ":")
		if bad || strings.HasSuffix(title, "/") {
			return nil, fmt.Errorf("blob %s: title %.80q is not a name of a file: %w", desc.Digest, title, oci.ErrMalformed)
		}

		if seen[name] {
			return nil, fmt.Errorf("blob %s: title %.80q occurs twice: %w", desc.Digest, title, oci.ErrMalformed)
		}

		seen[name] = true
		files = append(files, ArtifactFile{Path: name, Desc: desc, Layer: i, Packed: desc.Annotations.Get(annotationUnpack) == "true" && oci.IsLayer(desc.MediaType)})
	}

	return files, nil
}

// ExtractArtifact writes the files of an artifact below root, which must be empty, by their titles,
// each verified, and returns them. Directories that oras packed are unpacked, as the layers of an
// image are. Blobs without a title are left out; with none at all it is an error.
func ExtractArtifact(ctx context.Context, src source.Source, desc oci.Descriptor, root *os.Root, opts stack.ExtractOptions) ([]ArtifactFile, error) {
	m, err := graph.Manifest(src, desc)
	if err != nil {
		return nil, err
	}

	files, err := ArtifactFiles(m)
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("manifest %s: %w, and no blob of it has a title", desc.Digest, ErrArtifact)
	}

	if err != nil {
		return nil, err
	}

	// What is packed comes first, since the stack of layers wants an empty directory.
	var packed []oci.Descriptor
	for _, f := range files {
		if f.Packed {
			packed = append(packed, f.Desc)
		}
	}

	if len(packed) > 0 {
		if _, _, err := extractLayers(ctx, src, packed, root, opts); err != nil {
			return nil, err
		}
	}

	for _, f := range files {
		if f.Packed {
			continue
		}
		if err := writeFile(ctx, src, f, root); err != nil {
			return nil, fmt.Errorf("file %q: %w", f.Path, err)
		}
	}

	return files, nil
}

// writeFile writes one file of an artifact under a name that must be free.
func writeFile(ctx context.Context, src source.Source, f ArtifactFile, root *os.Root) error {
	if dir := path.Dir(f.Path); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}

	r, err := src.Blob(f.Desc)
	if err != nil {
		return graph.Incomplete(err)
	}
	defer r.Close()

	w, err := root.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}

	_, err = oci.CopyUntil(ctx, w, r)
	return errors.Join(err, w.Close())
}
