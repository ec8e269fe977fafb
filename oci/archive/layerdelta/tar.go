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
	t, err := unpack(ctx, r, h)
	if err == nil {
		t.DiffID = h.Digest()
	}
	return t, err
}

// UnpackPlain is Unpack for a layer whose diff ID nobody asks for, such as one that is only copied from: the
// Tar has none.
func UnpackPlain(ctx context.Context, r io.Reader) (*Tar, error) {
	return unpack(ctx, r, io.Discard)
}

// unpack reads a layer to its end, and writes its tar to a file, and to w.
func unpack(ctx context.Context, r io.Reader, w io.Writer) (*Tar, error) {
	u, err := newUnpacker(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := u.run(ctx, -1, w); err != nil {
		u.tar.Close()
		return nil, err
	}
	return u.tar, nil
}

// An unpacker makes a Tar of a layer. Its index can be used while it runs.
type unpacker struct {
	in      *bufio.Reader
	plain   io.Reader
	indexer *recipe.Indexer // of a gzip file
	tar     *Tar
}

// newUnpacker reads how a layer begins.
func newUnpacker(ctx context.Context, r io.Reader) (*unpacker, error) {
	u := &unpacker{in: bufio.NewReaderSize(tarutil.ContextReader(ctx, r), 64<<10)}
	var err error
	if u.plain, u.indexer, err = decompress(u.in); err != nil {
		return nil, err
	}

	f, err := Temp()
	if err != nil {
		return nil, err
	}
	u.tar = &Tar{f: f}
	if u.indexer != nil {
		u.tar.index = u.indexer.Index()
	}
	return u, nil
}

// run reads the layer to its end. What it writes to w is in the file already. A tar of over limit bytes is an
// error; a limit below 0 is none.
func (u *unpacker) run(ctx context.Context, limit int64, w io.Writer) error {
	if u.indexer != nil {
		defer u.indexer.End()
	}

	// One byte more tells that the limit was passed.
	plain := u.plain
	if limit >= 0 {
		plain = io.LimitReader(plain, limit+1)
	}

	// Decompressing goes on while the bytes are written.
	ahead := tarutil.NewReadAhead(ctx, io.NopCloser(plain))
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(u.tar.f, w)}, struct{ io.Reader }{ahead}, make([]byte, 256<<10))
	ahead.Close()
	if err == nil && limit >= 0 && n > limit {
		err = fmt.Errorf("%w: a base has over %d bytes", errDamaged, limit)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, u.in) // verified to its end
	}
	u.tar.Size = n
	return err
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

func (t *Tar) finish() error { return nil }

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
	list  []Base
	files []recipe.KinFile // if they can be read compressed too
}

// A Base is a [Tar] or a [Lazy].
type Base interface {
	Part() delta.Part
	kin() (file recipe.KinFile, ok bool)
	finish() error
}

// NewBases joins bases, which the caller closes.
func NewBases(list ...Base) *Bases {
	b := &Bases{list: list}
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

// finish waits for bases that are still being unpacked, and returns the first that is not right.
func (b *Bases) finish() error {
	for _, base := range b.list {
		if err := base.finish(); err != nil {
			return err
		}
	}
	return nil
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
// use is used. What is read is waited for, no more, so that a layer is made of it meanwhile.
type Lazy struct {
	ctx    context.Context
	cancel context.CancelFunc
	base   digest.Digest
	open   func() (io.ReadCloser, error)
	at     func() (Blob, error)
	size   int64

	once   sync.Once
	tar    *Tar          // or nil
	filled *pace         // how much of it is there
	done   chan struct{} // closed when the unpacking has ended
	err    error         // of the unpacking, once that has ended
}

// NewLazy returns the layer base as a base. Its tar has size bytes; another size is an error
// when the base is read, or of [Apply]. open is called once, and not before that. at opens the same
// blob for reading anywhere, after open. The caller closes the Lazy when nothing reads it any more.
func NewLazy(ctx context.Context, base digest.Digest, size int64, open func() (io.ReadCloser, error), at func() (Blob, error)) *Lazy {
	ctx, cancel := context.WithCancel(ctx)
	return &Lazy{ctx: ctx, cancel: cancel, base: base, open: open, at: at, size: size, filled: newPace()}
}

func (l *Lazy) kin() (recipe.KinFile, bool) {
	open := func() (io.ReaderAt, *recipe.Index) { return l.tar.blob, l.tar.index } // it was read, to be copied from
	return recipe.KinFile{Size: l.size, Open: open}, true
}

// Part returns the base.
func (l *Lazy) Part() delta.Part { return delta.Part{ReaderAt: l, Size: l.size} }

// ReadAt begins to unpack the layer, if that is not done yet.
func (l *Lazy) ReadAt(p []byte, off int64) (int, error) {
	l.once.Do(l.start)
	l.filled.wait(min(off+int64(len(p)), l.size) - 1)
	select {
	case <-l.done:
		if l.err != nil {
			return 0, l.err
		}
	default:
	}
	return l.tar.f.ReadAt(p, off)
}

// start unpacks the layer in a goroutine.
func (l *Lazy) start() {
	l.done = make(chan struct{})
	ended := func(err error) {
		if err != nil {
			l.err = fmt.Errorf("base %s: %w", l.base, err)
		}
		close(l.done)
		l.filled.end()
	}

	r, err := l.open()
	if err != nil {
		ended(err)
		return
	}

	u, err := newUnpacker(l.ctx, r)
	if err == nil {
		l.tar = u.tar
		l.tar.blob, err = l.at()
	}
	if err != nil {
		r.Close()
		ended(err)
		return
	}

	go func() {
		err := u.run(l.ctx, l.size, l.filled)
		r.Close() // now, since Close returns when the unpacking has ended
		if err == nil && l.tar.Size != l.size {
			err = fmt.Errorf("%w: a base has %d bytes, not %d", errDamaged, l.tar.Size, l.size)
		}
		ended(err)
	}()
}

// finish waits until the layer is unpacked, if anything of it was read, and returns what was wrong with it.
func (l *Lazy) finish() error {
	if l.done == nil {
		return nil
	}
	<-l.done
	return l.err
}

// Close removes what was unpacked.
func (l *Lazy) Close() {
	l.cancel()
	l.finish()
	if l.tar != nil {
		l.tar.Close()
	}
}
