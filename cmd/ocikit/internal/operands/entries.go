package operands

import (
	"errors"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/source"
)

// NameOf returns what an entry of index.json is called, for the eyes.
func NameOf(d oci.Descriptor) string { return show.Printable(d.EntryName()) }

// Unnamed returns a descriptor without the names that index.json gave it: they belong to the
// entry, not to the image.
func Unnamed(d oci.Descriptor) oci.Descriptor {
	return d.WithAnnotation(oci.AnnotationRefName, "").WithAnnotation(oci.AnnotationImageName, "")
}

// ParseDigest reads the value of a flag that is a digest; the name is without dashes.
func ParseDigest(flagName, s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return d, cli.Usagef("flag %s: %v", cli.Dashed(flagName), err)
	}
	return d, nil
}

// ArchiveHint adds to the error of a tar that is not an archive of images how one is made of it. Other
// errors stay as they are.
func ArchiveHint(name string, err error) error {
	var other *archive.OtherTarError
	switch {
	case !errors.As(err, &other):
		return err
	case other.Inner != "":
		depth := 1 + strings.Count(other.Inner, "/")
		return cli.WithHint(err, "`ocikit retar --strip-components %d` takes %q off: pipe what it writes in", depth, other.Inner)
	case other.RootFS:
		return cli.WithHint(err, "a layer is made of it: `ocikit layer LAYOUT %s | ocikit config LAYOUT | ocikit manifest LAYOUT | ocikit tag LAYOUT:TAG`", name)
	}
	return err
}

// IncompleteHint adds to the error of an image that lacks blobs how they get into the layout.
func IncompleteHint(l source.Source, err error) error {
	err = graph.Incomplete(err)
	if errors.Is(err, image.ErrNotDistributed) {
		return cli.WithHint(err, "the manifest has addresses of it, which are never asked: `ocikit put %s FILE` stores what they give", l.Name())
	}
	if errors.Is(err, graph.ErrIncomplete) {
		return cli.WithHint(err, "`ocikit verify %s` lists what is missing, `ocikit verify --repair-from` fetches it, `ocikit put` stores a blob", OperandOf(l))
	}
	return err
}

// OperandOf returns what a command line calls a source.
func OperandOf(src source.Source) string {
	if name := src.Name(); name != cli.InputName("-") {
		return name
	}
	return "-"
}

// TagHint adds to an error of naming an image what to do about a tag that has moved, or about blobs
// that are missing.
func TagHint(l *layout.Layout, err error) error {
	if errors.Is(err, layout.ErrConflict) {
		return cli.WithHint(err, "somebody moved it: look with `ocikit resolve`, then expect what is there")
	}
	return IncompleteHint(l, err)
}
