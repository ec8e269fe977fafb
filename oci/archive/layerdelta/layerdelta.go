// Package layerdelta writes a layer as the difference of its tar to the tars of layers that the
// other side has, with all that is needed to get the very same blob back.
//
// [Make] writes a delta, [Apply] the layer. A layer that does not come out bit for bit is an
// error of Make already: it follows the recipe that it wrote, and the difference, and compares.
//
// # Format
//
// A delta is a file: the bytes "okl", the version, 1, the length of a recipe as a varint, the
// recipe (package recipe), and the difference of the tars (package delta). Without a recipe the
// layer is the tar itself. The file does not say which bases there are, in which order, and how
// large the layer is: whoever carries it says so beside it.
package layerdelta

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"ocikit/digest"
	"ocikit/oci/disk"
	"ocikit/tarutil"
	"ocikit/tarutil/delta"
	"ocikit/tarutil/recipe"
)

// MediaType is the type of a delta.
const MediaType = "application/vnd.ocikit.layer.delta.v1"

const magic = "okl\x01" // with the version

var (
	// errDamaged means that a delta is none, or not for these bases.
	errDamaged = errors.New("damaged delta")
	// ErrNoUse means that a delta would be no smaller than the layer, or that the layer could
	// not be made of it.
	ErrNoUse = errors.New("a delta is of no use")
)

// A Layer is a layer to write as a delta.
type Layer struct {
	Digest digest.Digest
	Size   int64
	Tar    *Tar                          // its contents
	Open   func() (io.ReadCloser, error) // opens the blob, each time anew
}

// Make writes the delta of a layer to a file and returns how its blob was compressed. The file is
// read again for the proof. An error that wraps [ErrNoUse] says why the layer should travel whole.
func Make(ctx context.Context, out *os.File, l Layer, bases *Bases) (encoder string, err error) {
	if err := hasRecipe(l); err != nil {
		return "", err
	}

	diff, err := Temp()
	if err != nil {
		return "", err
	}
	defer diff.Close()

	m := &maker{Layer: l, bases: bases, kin: bases.kin(), diff: diff, w: &capped{w: diff, left: l.Size}}
	encoder, err = m.both(ctx, out)
	if errors.Is(err, errDamaged) || errors.Is(err, digest.ErrMismatch) {
		err = fmt.Errorf("%w: it does not give the layer: %v", ErrNoUse, err)
	}
	if err != nil {
		return "", err
	}

	if _, err := io.Copy(out, io.NewSectionReader(diff, 0, l.Size-m.w.left)); err != nil {
		return "", err
	}

	size, err := out.Seek(0, io.SeekEnd)
	if err == nil && size >= l.Size {
		err = fmt.Errorf("%w: it has %d bytes, the layer %d", ErrNoUse, size, l.Size)
	}
	return encoder, err
}

// A maker makes one delta.
type maker struct {
	Layer
	bases *Bases
	kin   *recipe.Kin
	diff  *disk.TempFile // the difference
	w     *capped        // writes to diff
}

// recipeLag is how much of the tar is left to the recipe when the difference is made. The last segments of
// that leave a processor idle, and so it has something to do then.
const recipeLag = 32 << 20

// both writes the difference, and the recipe to out, at the same time.
func (m *maker) both(ctx context.Context, out *os.File) (encoder string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := newPace()
	p.move(m.Tar.Size-recipeLag, false)
	made := make(chan error, 1)
	go func() {
		err := m.difference(ctx, m.Tar.reader())
		p.end()
		if err != nil {
			cancel(err)
		}
		made <- err
	}()

	// Where the encoder is ours, the recipe needs the tar alone. With another one it waits for the
	// difference, since what that copies is of help.
	waited := false
	contents := func() io.Reader { return p.behind(m.Tar.reader()) }
	encoder, err = writeRecipe(ctx, out, m.Layer, contents, func() (*recipe.Kin, error) {
		waited = true
		return m.kin, <-made
	})

	// A difference that fails ends the recipe by its error. A recipe that fails does not end the
	// difference: of two errors it is always the same one that is told.
	if !waited {
		err = cmp.Or(<-made, err)
	}
	return encoder, err
}

// hasRecipe tells early if there will be no recipe.
func hasRecipe(l Layer) error {
	format, err := sniff(l.Open)
	switch {
	case err != nil:
		return err
	case format == tarutil.FormatTar, format == tarutil.FormatGzip:
		return nil
	case format == tarutil.FormatZstd:
		names, err := recipe.Encoders(l.Open)
		if err == nil && len(names) == 0 {
			err = fmt.Errorf("%w: zstd of another encoder than ours", ErrNoUse)
		}
		return err
	}
	return fmt.Errorf("%w: %s cannot be made again", ErrNoUse, format)
}

// difference writes the difference of the tar, which plain reads, and proves it meanwhile.
func (m *maker) difference(ctx context.Context, plain io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	// The proof reads the file as far as it is written. One that fails ends the writing by its error.
	p := newPace()
	proven := make(chan error, 1)
	go func() {
		err := m.prove(ctx, p.behind(io.NewSectionReader(m.diff, 0, m.Size)))
		if err != nil {
			cancel(err)
		}
		proven <- err
	}()

	err := delta.Make(ctx, io.MultiWriter(m.w, p), plain, m.bases.Bases)
	if err != nil {
		cancel(err)
	}
	p.end()
	proof := <-proven
	return cmp.Or(err, proof)
}

// prove makes the tar of its difference to the bases, and tells kin what is copied.
func (m *maker) prove(ctx context.Context, diff io.Reader) error {
	return damaged(delta.Apply(ctx, recipe.Same(m.Tar.reader()), diff, m.bases.Bases, m.Tar.Size, adder(m.kin)))
}

// IsDelta reports whether a file begins as a delta does.
func IsDelta(r io.ReaderAt) bool {
	head := make([]byte, len(magic))
	_, err := r.ReadAt(head, 0)
	return err == nil && string(head) == magic
}

// writeRecipe writes what comes before the difference of the tars.
func writeRecipe(ctx context.Context, out *os.File, l Layer, contents func() io.Reader, kin func() (*recipe.Kin, error)) (encoder string, err error) {
	format, err := sniff(l.Open)
	if err != nil {
		return "", err
	}

	if format == tarutil.FormatTar {
		_, err = out.Write(append([]byte(magic), 0))
		return "tar", err
	}

	temp, err := Temp()
	if err != nil {
		return "", err
	}
	defer temp.Close()

	// A recipe counts if it makes the blob, bit for bit. Its contents are compared with the very tar that
	// the difference gives.
	h := digest.NewHasher(l.Digest.Algorithm())
	info, err := recipe.Make(ctx, &capped{w: temp, left: l.Size}, h, recipe.Source{Open: l.Open, Contents: contents}, kin)
	if err == nil && info.Proven && h.Digest() != l.Digest {
		err = fmt.Errorf("%w: its recipe makes another layer, of %d bytes", ErrNoUse, info.Size)
	}
	if err != nil {
		// A compression that is not known here is not a failure: the layer travels whole.
		if errors.Is(err, recipe.ErrUnknown) || errors.Is(err, recipe.ErrFormat) || errors.Is(err, recipe.ErrRecipe) {
			err = fmt.Errorf("%w: %v", ErrNoUse, err)
		}
		return "", err
	}

	_, err = out.Write(binary.AppendUvarint([]byte(magic), uint64(info.Recipe)))
	if err == nil {
		_, err = io.Copy(out, io.NewSectionReader(temp, 0, info.Recipe))
	}

	return info.Encoder, err
}

func sniff(open func() (io.ReadCloser, error)) (tarutil.Format, error) {
	r, err := open()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	head := make([]byte, tarutil.SniffLen)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return 0, err
	}
	return tarutil.Sniff(head[:n]), nil
}

// Apply writes the layer that a delta makes of its bases: size bytes, of a tar of tarSize bytes,
// and never more. Whether it is the right one is for the caller to check. A delta that is none,
// or not for these bases, is an error, and a base that is damaged is one that names it.
func Apply(ctx context.Context, w io.Writer, file *io.SectionReader, bases *Bases, tarSize, size int64) error {
	err := apply(ctx, w, file, bases, tarSize, size)

	// A base is used while it is unpacked, so what is wrong with it may show only now. It is the cause of all
	// that went wrong.
	if baseErr := bases.finish(); baseErr != nil {
		err = baseErr
	}
	return err
}

func apply(ctx context.Context, w io.Writer, file *io.SectionReader, bases *Bases, tarSize, size int64) error {
	head := make([]byte, len(magic)+binary.MaxVarintLen64)
	n, err := file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}

	head = head[:n]
	if n < len(magic) || string(head[:len(magic)]) != magic {
		return fmt.Errorf("%w: it does not begin as one of this version", errDamaged)
	}

	length, k := binary.Uvarint(head[len(magic):])
	at := int64(len(magic) + k)
	if k <= 0 || length > uint64(file.Size()-at) {
		return fmt.Errorf("%w: it is cut", errDamaged)
	}

	diff := io.NewSectionReader(file, at+int64(length), file.Size()-at-int64(length))
	if length == 0 {
		if tarSize != size {
			return fmt.Errorf("%w: it makes %d bytes, not %d", errDamaged, tarSize, size)
		}
		return damaged(delta.Apply(ctx, w, diff, bases.Bases, size, nil))
	}

	// The difference gives the tar and the recipe compresses it, both at once: the tar is never
	// held.
	r, p := io.Pipe()
	kin := bases.kin()
	done := make(chan error, 1)
	go func() {
		err := delta.Apply(ctx, p, diff, bases.Bases, tarSize, adder(kin))
		p.CloseWithError(err)
		done <- err
	}()

	err = recipe.Run(ctx, w, r, io.NewSectionReader(file, at, int64(length)), size, kin)
	r.CloseWithError(io.ErrClosedPipe)
	if diffErr := <-done; diffErr != nil && !errors.Is(diffErr, io.ErrClosedPipe) {
		err = diffErr // the recipe only saw its input end
	}

	return damaged(err)
}

func damaged(err error) error {
	if errors.Is(err, delta.ErrDelta) || errors.Is(err, recipe.ErrRecipe) {
		return fmt.Errorf("%w: %v", errDamaged, err)
	}
	return err
}

// A capped writer fails when a delta gets as large as the layer.
type capped struct {
	w    io.Writer
	left int64
}

func (c *capped) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		return 0, fmt.Errorf("%w: it is no smaller than the layer", ErrNoUse)
	}
	return c.w.Write(p)
}
