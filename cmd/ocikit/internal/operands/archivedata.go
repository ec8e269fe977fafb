package operands

import (
	"cmp"
	"context"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
	"ocikit/oci/archive/split"
	"ocikit/oci/registry"
	"ocikit/oci/source"
)

// ArchiveFile takes "oci-archive:" or "docker-archive:" off an operand that is an archive as a
// whole. An operand that names one image of it is an error.
func ArchiveFile(operand string) (string, error) {
	rest, ok := cutArchivePrefix(operand)
	if !ok || cli.Exists(operand) {
		return operand, nil
	}

	// FILE:NAME is one image of an archive, unless a file has that very name.
	if n, err := oci.ParseImageName(rest); err == nil && !cli.Exists(rest) && (n.Tag != "" || !n.Digest.IsZero()) {
		e := cli.Usagef("%q names an image, want an archive alone", operand)
		return "", cli.WithHint(e, "`ocikit copy %s LAYOUT` brings one image of an archive", operand)
	}
	return rest, nil
}

// ArchiveData opens an archive as a stream: a file, "-", or a directory with the parts of one,
// which are verified while they are read. The caller closes it.
func ArchiveData(ctx context.Context, env *cli.Env, name string) (io.ReadCloser, error) {
	if name == "-" && env.InTTY {
		return nil, cli.Usagef("standard input is a terminal: name a FILE, or pipe one in")
	}

	if name == "-" || !split.IsSet(name) {
		return env.Data(name)
	}

	set, err := split.Open(name)
	if err != nil {
		return nil, err
	}

	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		w.CloseWithError(set.Join(ctx, w))
		done <- set.Close()
	}()
	return joined{r, done}, nil
}

// joined are the parts of a file as one.
type joined struct {
	*io.PipeReader
	done <-chan error
}

func (j joined) Close() error {
	j.PipeReader.Close()
	return <-j.done
}

// List returns the entries of a place, as index.json lists them. The entries of a repository are
// its tags, in the order of the registry. With described they have the descriptors that the tags
// name, which costs a request for each.
func (p *Places) List(ctx context.Context, env *cli.Env, operand string, described bool) ([]oci.Descriptor, error) {
	src, n, err := p.Open(ctx, env, operand)
	if err != nil {
		return nil, err
	}
	defer src.Close()

	if n.Tag != "" || !n.Digest.IsZero() {
		return nil, cli.Usagef("%q names an image, want a layout, an archive or a repository alone", operand)
	}

	r, isRemote := src.(*repository)
	if !isRemote {
		x, err := src.Index()
		return x.Manifests, err
	}

	var tags []oci.Descriptor
	for tag, err := range r.Tags() {
		if err != nil {
			return nil, err
		}
		tags = append(tags, oci.Descriptor{}.WithAnnotation(oci.AnnotationRefName, tag))
	}

	if !described {
		return tags, nil
	}

	// A list of tags has no descriptors: each tag is asked for, several at a time.
	failed := source.Failures{Total: len(tags)}
	errs := make([]error, len(tags))
	err = registry.Parallel(ctx, len(tags), registry.Slots{}, func(_ context.Context, i int) error {
		tag := tags[i].Annotations.Get(oci.AnnotationRefName)
		if errs[i] = registry.CheckTag(tag); errs[i] == nil {
			var desc oci.Descriptor
			desc, errs[i] = r.Head(tag)
			tags[i] = desc.WithAnnotation(oci.AnnotationRefName, tag)
		}
		return nil
	})

	// A tag that cannot be asked for is missing in the list, and makes it fail in the end.
	var there []oci.Descriptor
	for i, tag := range tags {
		if failed.Add(NameOf(tag), errs[i]); errs[i] == nil {
			there = append(there, tag)
		}
	}

	return there, cmp.Or(err, failed.Err())
}
