package operands

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/disk"
	"ocikit/oci/graph"
	"ocikit/oci/source"
	"ocikit/tarutil"
)

// HoldsImages reports whether a file, or standard input for "-", is an archive of images, and not a
// tar of files. Its first entries must have the names that such archives have, and there must be
// images in it; for the latter a compressed one, or a stream, is not looked into. A file that cannot
// be read is none. Of standard input all stays to be read.
func HoldsImages(ctx context.Context, env *cli.Env, name string) bool {
	o := archive.OpenOptions{InPlace: true}
	var a *archive.Archive
	var err error
	switch {
	case name == "-":
		if !beginsAsArchive(stdinHead(env)) {
			return false
		}
		a, err = archive.OpenStream(ctx, env.Stdin, name, o)
	case fileBeginsAsArchive(name):
		a, err = archive.Open(ctx, name, o)
	default:
		return false
	}

	if err != nil {
		return errors.Is(err, errors.ErrUnsupported) // it is compressed, or a stream
	}
	a.Close()
	return true
}

// stdinHead returns what standard input begins with, and leaves it there to be read. At a terminal
// that is nothing: nobody types an archive.
func stdinHead(env *cli.Env) io.Reader {
	const most = 256 << 10
	if file, ok := env.Stdin.(interface {
		io.ReaderAt
		io.Seeker
	}); ok {
		if at, err := file.Seek(0, io.SeekCurrent); err == nil {
			return io.NewSectionReader(file, at, most)
		}
	}

	if env.InTTY {
		return strings.NewReader("")
	}

	b := bufio.NewReaderSize(env.Stdin, most)
	head, _ := b.Peek(most) // less if there is no more
	env.Stdin = b
	return bytes.NewReader(head)
}

// fileBeginsAsArchive is [beginsAsArchive] of a file, or of the parts of one in a directory.
func fileBeginsAsArchive(name string) bool {
	if ok, err := archive.IsArchive(name); err != nil || !ok {
		return false
	}

	if info, err := os.Stat(name); err != nil || info.IsDir() {
		return err == nil // the parts of an archive
	}

	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	return beginsAsArchive(f)
}

// beginsAsArchive reports whether the first entries of a tar are those of an archive of images.
func beginsAsArchive(r io.Reader) bool {
	plain, _, err := tarutil.Decompress(r)
	if err != nil {
		return false
	}

	// Directories may stand first, as "./" and "blobs/", the files behind them decide.
	raw := tarutil.NewRawReader(plain)
	for range 4 {
		e, err := raw.Next()
		if err != nil {
			return false
		}
		h, err := e.Parse()
		if err != nil {
			return false
		}
		name, err := tarutil.CleanPath(h.Name)
		switch {
		case err != nil || name != "" && !isArchiveEntry(name):
			return false
		case e.Size > 0:
			return true
		}
	}

	return false
}

// isArchiveEntry reports whether an entry may be one of an archive of images, of OCI or Docker.
func isArchiveEntry(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	switch name {
	case "oci-layout", "index.json", "manifest.json", "repositories", "blobs", "blobs/sha256", "blobs/sha512":
		return true
	}
	if strings.HasPrefix(name, "blobs/sha256/") || strings.HasPrefix(name, "blobs/sha512/") {
		return true
	}
	hex, _, _ := strings.Cut(first, ".")
	return len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// A Subject is what a command works on that takes an image, several of them, or a blob that is
// none. The caller calls Close.
type Subject struct {
	Src  source.Source // of an image, and of a blob in a place
	Desc oci.Descriptor
	// Blob opens a blob, as often as need be; nil for an image.
	Blob func() (io.ReadCloser, error)
	// Several says that the operand is a layout or an archive alone, that it holds several images,
	// and that none of them is meant by itself. Desc is zero then.
	Several bool
	Close   func() error
}

// spool copies a stream to a temporary file, since a blob is read more than once.
func spool(ctx context.Context, env *cli.Env, operand string) (*Subject, error) {
	in, err := env.Data(operand)
	if err != nil {
		return nil, err
	}
	defer in.Close()

	f, err := disk.CreateTemp(env.Getenv("TMPDIR"), "ocikit-why-*")
	if err != nil {
		return nil, err
	}

	n, err := oci.CopyUntil(ctx, f, in)
	// A command in front that failed has written nothing.
	if err == nil && n == 0 && operand == "-" {
		err = fmt.Errorf("standard input: %w", tarutil.ErrEmpty)
	}
	if err != nil {
		f.Close()
		return nil, err
	}

	blob := func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(f, 0, n)), nil }
	return &Subject{Blob: blob, Close: f.Close}, nil
}

// Subject opens an image wherever it is, a blob that a digest names in a layout or an archive, or a
// file. A stream is copied to a temporary file, which Close removes.
func (p *Places) Subject(ctx context.Context, env *cli.Env, operand, platform string) (*Subject, error) {
	// What holds no images is the blob itself.
	if operand == "-" && !HoldsImages(ctx, env, operand) {
		return spool(ctx, env, operand)
	}

	if info, err := os.Stat(operand); operand != "-" && err == nil && !IsImage(operand) && !info.IsDir() {
		switch {
		case !info.Mode().IsRegular():
			return spool(ctx, env, operand)
		case !HoldsImages(ctx, env, operand):
			return &Subject{Blob: func() (io.ReadCloser, error) { return env.Data(operand) }, Close: func() error { return nil }}, nil
		}
	}

	wish, err := ParsePlatformFlag(platform)
	if err != nil {
		return nil, err
	}

	src, n, err := p.Open(ctx, env, operand)
	if err != nil {
		return nil, err
	}

	subject, err := subjectIn(env, src, n, operand, wish)
	if err != nil {
		src.Close()
		return nil, err
	}

	env.Watch(src)
	subject.Src, subject.Close = src, src.Close
	return subject, nil
}

// subjectIn finds the subject in its place. Src and Close are for the caller to fill in.
func subjectIn(env *cli.Env, src source.Source, n oci.ImageName, operand string, wish *oci.Platform) (*Subject, error) {
	// A digest alone may be that of a layer.
	if n.Tag == "" && !n.Digest.IsZero() && wish == nil {
		desc, err := graph.Describe(src, n.Digest)
		if err == nil && !oci.IsDocument(desc.MediaType) {
			return &Subject{Desc: desc, Blob: func() (io.ReadCloser, error) { return src.Blob(desc) }}, nil
		}
		if err != nil && !errors.Is(err, graph.ErrNotFound) {
			return nil, err
		}
	}

	// A place with several images means all of them, unless one is called latest.
	desc, err := resolve(src, n)
	if err != nil && n.Tag == "" && n.Digest.IsZero() && wish == nil && !source.Remote(src) {
		if x, indexErr := src.Index(); indexErr == nil && len(x.Manifests) > 1 {
			return &Subject{Several: true}, nil
		}
	}
	if err == nil && wish != nil {
		desc, err = choose(env, src, operand, desc, wish)
	}
	if err != nil {
		return nil, err
	}

	return &Subject{Desc: desc}, nil
}
