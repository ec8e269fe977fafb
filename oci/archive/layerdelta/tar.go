package layerdelta

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"sync"

	"ocikit/digest"
	"ocikit/oci/disk"
	"ocikit/tarutil"
	"ocikit/tarutil/delta"
	"ocikit/tarutil/recipe"
)

// A Tar is the contents of a layer, uncompressed in a file for as long as they are needed: the
// only place where a base of any size can be read anywhere.
type Tar struct {
	Size   int64
	DiffID digest.Digest // of a layer that [Unpack] read

	f     *disk.TempFile
	index *recipe.Index
	blob  Blob
}

// A Blob is a layer as it is stored, compressed or not.
type Blob interface {
	io.ReaderAt
	io.Closer
}

// Keep has the Tar keep the blob that it was unpacked from, and close it. Bases that have theirs
// foretell how a layer was compressed.
func (t *Tar) Keep(b Blob) { t.blob = b }

// Temp returns a temporary file for [Make]. The caller closes it, which removes it.
func Temp() (*disk.TempFile, error) { return disk.CreateTemp("", "ocikit-delta-*") }

// Unpack reads a layer, compressed or not, to its end; the caller closes the Tar.
func Unpack(ctx context.Context, r io.Reader) (*Tar, error) {
	h := digest.NewHasher(digest.SHA256)
	t, err := unpack(ctx, r, -1, h)
	if err == nil {
		t.DiffID = h.Digest()
	}
	return t, err
}

// UnpackBase is Unpack for a layer that is only copied from: the Tar has no DiffID. A tar of over limit
// bytes is an error; a limit below 0 is none.
func UnpackBase(ctx context.Context, r io.Reader, limit int64) (*Tar, error) {
	return unpack(ctx, r, limit, io.Discard)
}

// unpack reads a layer to its end, and writes its tar to a file, and to w.
func unpack(ctx context.Context, r io.Reader, limit int64, w io.Writer) (*Tar, error) {
	in := bufio.NewReaderSize(tarutil.ContextReader(ctx, r), 64<<10)
	plain, indexer, err := decompress(in)
	if err != nil {
		return nil, err
	}

	f, err := Temp()
	if err != nil {
		return nil, err
	}

	// One byte more tells that the limit was passed.
	if limit >= 0 {
		plain = io.LimitReader(plain, limit+1)
	}

	// Decompressing goes on while the bytes are written.
	ahead := tarutil.NewReadAhead(ctx, io.NopCloser(plain))
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, w)}, struct{ io.Reader }{ahead}, make([]byte, 256<<10))
	ahead.Close()
	if err == nil && limit >= 0 && n > limit {
		err = fmt.Errorf("%w: a base has over %d bytes", errDamaged, limit)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, in) // verified to its end
	}
	if err != nil {
		f.Close()
		return nil, err
	}

	t := &Tar{Size: n, f: f}
	if indexer != nil {
		t.index = indexer.Index()
	}
	return t, nil
}

// decompress is [tarutil.Decompress], with an index of a gzip file.
func decompress(in *bufio.Reader) (io.Reader, *recipe.Indexer, error) {
	head, err := in.Peek(tarutil.SniffLen)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	if tarutil.Sniff(head) != tarutil.FormatGzip {
		plain, _, err := tarutil.Decompress(in)
		return plain, nil, err
	}
	x, err := recipe.NewIndexer(in)
	return x, x, err
}

// Part returns the tar as a base.
func (t *Tar) Part() delta.Part { return delta.Part{ReaderAt: t.f, Size: t.Size} }

func (t *Tar) reader() io.Reader { return io.NewSectionReader(t.f, 0, t.Size) }

func (t *Tar) kin() (recipe.KinFile, bool) {
	open := func() (io.ReaderAt, *recipe.Index) { return t.blob, t.index }
	return recipe.KinFile{Size: t.Size, Open: open}, t.blob != nil
}

// Close removes the file.
func (t *Tar) Close() {
	t.f.Close()
	if t.blob != nil {
		t.blob.Close()
	}
}

// Bases are the layers that a delta is made from.
type Bases struct {
	*delta.Bases
	files []recipe.KinFile // if they can be read compressed too
}

// A Base is a [Tar] or a [Lazy].
type Base interface {
	Part() delta.Part
	kin() (file recipe.KinFile, ok bool)
}

// NewBases joins bases, which the caller closes.
func NewBases(list ...Base) *Bases {
	b := &Bases{}
	var parts []delta.Part
	all := true
	for _, base := range list {
		parts = append(parts, base.Part())
		file, ok := base.kin()
		b.files = append(b.files, file)
		all = all && ok
	}
	b.Bases = delta.NewBases(parts...)
	if !all {
		b.files = nil
	}
	return b
}

// kin returns what the bases may tell of the compression, or nil.
func (b *Bases) kin() *recipe.Kin {
	if b.files == nil {
		return nil
	}
	return recipe.NewKin(b.files...)
}

// adder returns what fills kin.
func adder(kin *recipe.Kin) func(pos, n, off int64) {
	if kin == nil {
		return nil
	}
	return kin.Add
}

// A Lazy is a base that is unpacked when it is first read: not every base that a delta could
// use is used.
type Lazy struct {
	ctx  context.Context
	base digest.Digest
	open func() (io.ReadCloser, error)
	at   func() (Blob, error)
	size int64

	once sync.Once
	tar  *Tar
	err  error
}

// NewLazy returns the layer base as a base. Its tar has size bytes; another size is an error
// when the base is read. open is called once, and not before that. at opens the same blob for
// reading anywhere, after open. The caller closes the Lazy when nothing reads it any more.
func NewLazy(ctx context.Context, base digest.Digest, size int64, open func() (io.ReadCloser, error), at func() (Blob, error)) *Lazy {
	return &Lazy{ctx: ctx, base: base, open: open, at: at, size: size}
}

func (l *Lazy) kin() (recipe.KinFile, bool) {
	open := func() (io.ReaderAt, *recipe.Index) { return l.tar.blob, l.tar.index } // it was unpacked to be copied from
	return recipe.KinFile{Size: l.size, Open: open}, true
}

// Part returns the base.
func (l *Lazy) Part() delta.Part { return delta.Part{ReaderAt: l, Size: l.size} }

// ReadAt unpacks the layer first.
func (l *Lazy) ReadAt(p []byte, off int64) (int, error) {
	l.once.Do(func() {
		if l.err = l.unpack(); l.err != nil {
			l.err = fmt.Errorf("base %s: %w", l.base, l.err)
		}
	})
	if l.err != nil {
		return 0, l.err
	}
	return l.tar.f.ReadAt(p, off)
}

func (l *Lazy) unpack() error {
	r, err := l.open()
	if err != nil {
		return err
	}
	defer r.Close()
	if l.tar, err = UnpackBase(l.ctx, r, l.size); err == nil && l.tar.Size != l.size {
		err = fmt.Errorf("%w: a base has %d bytes, not %d", errDamaged, l.tar.Size, l.size)
	}
	if err != nil {
		return err
	}
	l.tar.blob, err = l.at()
	return err
}

// Close removes what was unpacked.
func (l *Lazy) Close() {
	if l.tar != nil {
		l.tar.Close()
	}
}
