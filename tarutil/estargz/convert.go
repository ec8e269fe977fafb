package estargz

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"

	"ocikit/digest"
	"ocikit/tarutil"
	"ocikit/tarutil/gzip"
)

const (
	chunkSize       = 4 << 20 // of a regular file, in one gzip member
	tarBlock        = 512
	tocName         = "stargz.index.json"
	landmark        = ".prefetch.landmark"
	noLandmark      = ".no.prefetch.landmark"
	landmarkContent = "\x0f"
)

// converter reads a tar and writes the blob.
type converter struct {
	w     io.Writer // the blob
	z     *gzip.Writer
	plain *digest.Hasher // of everything given to z
	toc   toc
	paths *tarutil.PathTable
	taken []bool // by the number of a path: an entry has it, and another could not be told apart

	raw rawReader
	tr  *tar.Reader // reads from raw
	buf []byte
}

// rawReader keeps or forwards what a tar.Reader takes from its input. A tar.Reader takes
// nothing in advance, so what it has taken by the end of Next is the padding of the entry
// before and all header blocks of this one.
type rawReader struct {
	r    io.Reader
	size int64     // of all that was taken
	to   io.Writer // nil: keep
	kept []byte
}

func (r *rawReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.size += int64(n)
	if r.to == nil {
		r.kept = append(r.kept, p[:n]...)
	} else if _, werr := r.to.Write(p[:n]); werr != nil {
		return 0, werr
	}
	return n, err
}

func newConverter(w io.Writer, level, workers int) (*converter, error) {
	z, err := gzip.NewWriter(w, level, workers)
	if err != nil {
		return nil, err
	}
	budget := tarutil.NewBudget(0)
	return &converter{
		w: w, z: z,
		plain: digest.NewHasher(digest.SHA256),
		toc:   toc{budget: budget},
		paths: tarutil.NewPathTable(budget),
		buf:   make([]byte, 64<<10),
	}, nil
}

// Write adds bytes to the current gzip member.
func (c *converter) Write(p []byte) (int, error) {
	c.plain.Write(p)
	return c.z.Write(p)
}

// convert writes the whole blob for the tar in r.
func (c *converter) convert(r io.Reader) (Info, error) {
	if _, err := c.Write(tarHeader(noLandmark, len(landmarkContent))); err != nil {
		return Info{}, err
	}

	// The landmark takes the way of every file: the content is in the tar, and hashed by chunks.
	file := io.TeeReader(strings.NewReader(landmarkContent), c)
	if err := c.chunks(entry{Name: noLandmark, Type: "reg", Size: 1}, file); err != nil {
		return Info{}, err
	}

	if _, err := c.Write(zeros(tarutil.Padding(1))); err != nil {
		return Info{}, err
	}

	c.raw.r = r
	c.tr = tar.NewReader(&c.raw)
	if err := c.entries(); err != nil {
		return Info{}, err
	}

	if _, err := io.Copy(io.Discard, r); err != nil { // what follows the end of the tar
		return Info{}, err
	}

	return c.finish()
}

// entries copies the entries of the tar up to its end.
func (c *converter) entries() error {
	pad := 0      // bytes of padding before the next header
	keep := false // whether they belong into the output
	for {
		// Next takes the padding of the entry before it together with the header. So the header
		// blocks are kept until it is known whether the entry goes into the output, and the
		// padding goes with the entry before.
		c.raw.to, c.raw.kept = nil, c.raw.kept[:0]
		h, err := c.tr.Next()
		kept := c.raw.kept

		switch {
		case err == io.EOF:
			return c.end(kept, pad, keep)
		case err != nil:
			return fmt.Errorf("tar: %w", err)
		}

		if !keep {
			kept, pad = kept[pad:], 0
		}

		if keep = !reserved(h.Name); !keep {
			kept = kept[:pad]
		}

		if _, err := c.Write(kept); err != nil {
			return err
		}

		// From here on the reader takes content.
		c.raw.to = io.Discard
		if keep {
			c.raw.to = c
			err = c.entry(h)
		} else {
			_, err = io.Copy(io.Discard, c.tr)
		}
		if err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}

		// The size in the header would not do: a link or a directory may have one, though nothing
		// follows it, and of a global header or a sparse file the reader tells another.
		pad = tarutil.Padding(c.raw.size)
	}
}

// end checks what Next took before it said io.EOF, which it also says when the tar just
// stops: padding and two blocks of zeros. Only the padding belongs into the output, since
// the table of contents follows.
func (c *converter) end(kept []byte, pad int, keep bool) error {
	if len(kept) < pad+2*tarBlock || !bytes.Equal(kept[pad:], zeros(2*tarBlock)) {
		return fmt.Errorf("tar: no end mark: %w", io.ErrUnexpectedEOF)
	}
	if !keep {
		return nil
	}
	_, err := c.Write(kept[:pad])
	return err
}

// entry enters h into the table of contents and copies its payload.
func (c *converter) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader { // says nothing of a file
		return nil
	}

	// All that the entries before lack by now is where the members of their chunks begin.
	if len(c.toc.waiting) >= maxWaiting {
		err := c.z.Sync()
		if err == nil {
			err = c.toc.settle()
		}
		if err != nil {
			return err
		}
	}

	// The tar keeps the type that it has, which means a regular file to all.
	if h.Typeflag == tar.TypeCont {
		h.Typeflag = tar.TypeReg
	}

	e, err := c.toc.describe(h)
	if err != nil {
		return err
	}

	// A reader finds entries by their names, and would take the content of one for the other.
	if h.Typeflag != tar.TypeDir {
		if err := c.takeName(cleanName(h.Name)); err != nil {
			return err
		}
	}

	if h.Typeflag != tar.TypeReg {
		_, err := c.toc.add(e)
		return err
	}

	return c.chunks(e, c.tr)
}

// takeName refuses the name of an entry before.
func (c *converter) takeName(name string) error {
	id, err := c.paths.AddPath(name)
	if err != nil {
		return err
	}
	if grow := int(id) + 1 - len(c.taken); grow > 0 {
		c.taken = append(c.taken, make([]bool, grow)...)
	}
	if c.taken[id] {
		return fmt.Errorf("%w: it appears twice", errUnsupported)
	}
	c.taken[id] = true
	return nil
}

// chunks enters the regular file e into the table of contents and reads its payload from r. Whatever is
// read from r goes into the blob by itself. Each chunk begins a gzip member.
func (c *converter) chunks(e entry, r io.Reader) error {
	whole := digest.NewHasher(digest.SHA256)
	size := e.Size
	first, err := c.toc.add(e)
	if err != nil {
		return err
	}
	at := first

	for off := int64(0); off < size; off += chunkSize {
		n := min(size-off, chunkSize)
		if off > 0 {
			if at, err = c.toc.add(entry{Type: "chunk", Name: e.Name, ChunkOffset: off}); err != nil {
				return err
			}
		}

		if n == chunkSize {
			at.ChunkSize = n
		}

		// The offset is known once the member before it was written, which may be later; see
		// finish.
		if err := c.z.EndMember(at.setOffset); err != nil {
			return err
		}

		// A file of one chunk need not be hashed twice.
		part := digest.NewHasher(digest.SHA256)
		to := io.Writer(part)
		if size > chunkSize {
			to = io.MultiWriter(part, whole)
		}

		got, err := io.CopyBuffer(to, io.LimitReader(r, n), c.buf)
		if err == nil && got < n {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}

		at.ChunkDigest = part.Digest()
	}

	first.Digest = whole.Digest()
	if 0 < size && size <= chunkSize { // the same bytes
		first.Digest = first.ChunkDigest
	}

	return nil
}

// finish writes the table of contents in a member of its own, then the footer.
func (c *converter) finish() (Info, error) {
	var start int64
	if err := c.z.EndMember(func(at int64) { start = at }); err != nil {
		return Info{}, err
	}

	if err := c.z.Sync(); err != nil { // from here on all offsets are known
		return Info{}, err
	}

	if err := c.toc.end(); err != nil {
		return Info{}, err
	}

	// The table is a file like the others, so that the blob is a whole tar to a reader that knows
	// nothing of it.
	table := digest.NewHasher(digest.SHA256)
	c.Write(tarHeader(tocName, c.toc.size)) // an error stays, and comes from the last Write
	for _, p := range c.toc.parts {
		table.Write(p)
		c.Write(p)
	}
	if _, err := c.Write(zeros(tarutil.Padding(int64(c.toc.size)) + 2*tarBlock)); err != nil {
		return Info{}, err
	}

	if err := c.z.Close(); err != nil {
		return Info{}, err
	}

	if _, err := c.w.Write(footer(start)); err != nil {
		return Info{}, err
	}

	return Info{
		DiffID:           c.plain.Digest(),
		UncompressedSize: c.plain.Size(),
		TOCDigest:        table.Digest(),
	}, nil
}
