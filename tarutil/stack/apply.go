package stack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"ocikit/tarutil"
)

// A Layer is one change set of a [Stack].
type Layer struct {
	// Name is what errors call it: its digest, or its number.
	Name string
	// Open returns its tar, not compressed, from the start. It is called up to twice for
	// [Apply] and one walk, and once for each further walk, and several layers may be open at
	// a time. What the reader says in place of io.EOF, as that a digest is wrong, makes the
	// whole operation fail.
	Open func() (io.ReadCloser, error)
	// Check, if there is one, returns what all bytes of that reader are written to, and what says
	// at the end, by the error of Close, whether they are right. It may return nil. It works while
	// the bytes that follow are being read: what takes time, as a hash does, is better done here.
	Check func() io.WriteCloser
}

// Options say how [Apply] reads layers. The zero value is ready for use.
type Options struct {
	// Base is how many of the lowest layers are not part of the result, but lie below it. The
	// [Stack] then is one layer, which does to them what all further layers do together, with
	// whiteouts for what those remove. With 0 the stack is the whole file system.
	Base int
	// MaxEntries is how many files the stack may have at any time; 0 stands for
	// [tarutil.DefaultMaxEntries].
	MaxEntries int
	// MaxSparse is how large all sparse files together may be; 0 stands for
	// [tarutil.DefaultMaxSparse].
	MaxSparse int64
	// Paths is a table that the names of all layers are kept in. Others may be in it. Its budget bounds the memory
	// that the stack takes. An Observer may use both, too; nil stands for a new one of
	// [tarutil.DefaultMaxMemory].
	Paths *tarutil.PathTable
	// Workers is how many layers are read at once; 0 stands for one a processor.
	Workers int
	// Observer, if there is one, is told what becomes of each entry.
	Observer Observer
	// Surprise, if there is one, is told what layers do that is rarely meant. Of each kind it is
	// told only the first few of a layer.
	Surprise func(Surprise)
}

// Apply reads the headers of all entries of the layers, the lowest layer first, and finds
// out what file system they make up by the rules of "Applying Changesets" in layer.md. It
// writes nothing: [Stack.Walk] and [Stack.WriteTar] read the layers a second time for the contents
// that are left. Memory grows with the number of files, not with their contents.
//
//   - A name is resolved as by a process whose root is the root of the image: links in its
//     directory are followed and never lead outside, its last component is not followed.
//     Missing directories are made, 0755 and of 0:0.
//   - A directory over a directory replaces its attributes; anything else replaces what is
//     there, with all that it holds. A file of a lower layer gives way to a directory that
//     an entry needs; one of the same layer does not, and that is an error.
//   - A whiteout hides what lower layers have, wherever in its layer it stands; entries of its
//     own layer are left. Hiding nothing is not an error. Names that begin with ".wh..wh." are
//     those of AUFS and mean nothing, but for the opaque whiteout.
//   - A hard link shares the file that has the name at that moment; whatever later becomes of
//     that name, the file is kept. It must not lead to a directory, nor to nothing.
//   - Of several entries for one path in a layer the last counts.
//   - Names that climb with "..", names and link targets that no Linux system can hold (a
//     component of over 255 bytes, a path of over 4,095), links that lead in circles, and
//     whatever [tarutil.Checker] refuses are errors. A missing end marker is not.
//
// An error names the layer, the entry and its offset. It is an [EntryError] if it is about the entry, and
// not about what reads it, or about how much there is in all.
func Apply(ctx context.Context, layers []Layer, opts Options) (*Stack, error) {
	return apply(ctx, layers, opts, nil)
}

// apply applies layers, and puts contents on a stage, if there is one.
func apply(ctx context.Context, layers []Layer, opts Options, st *stage) (*Stack, error) {
	if opts.MaxEntries <= 0 {
		opts.MaxEntries = tarutil.DefaultMaxEntries
	}
	if opts.MaxSparse <= 0 {
		opts.MaxSparse = tarutil.DefaultMaxSparse
	}
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	if opts.Paths == nil {
		opts.Paths = tarutil.NewPathTable(tarutil.NewBudget(0))
	}

	s := &Stack{layers: layers, opts: opts, tree: newStackTree(opts.Paths, opts.MaxEntries, opts.Base, opts.Observer)}
	if opts.Surprise != nil {
		s.tree.surprise = &surpriser{t: s.tree, tell: opts.Surprise}
	}

	if st != nil {
		s.tree.discard = st.discard
	}

	if err := s.scan(ctx, st); err != nil {
		return nil, err
	}

	s.tree.surprise, s.tree.discard = nil, nil // what is asked of the tree later surprises nobody
	s.index()
	return s, nil
}

// A scanned is one entry on its way from the reader of a layer to the tree.
type scanned struct {
	hdr    *tar.Header
	at     int64  // offset of its header
	index  int32  // number in its layer
	sparse int64  // its size, if it is sparse
	mark   string // an attribute of overlays that it has

	stagedFile // if it is one
}

// size returns about how much memory the entry needs beyond its structs.
func (s scanned) size() int {
	return len(s.hdr.Name) + len(s.hdr.Linkname) + len(s.mark) + tarutil.RecordsSize(s.hdr.PAXRecords)
}

// A scanBatch is entries of a layer that travel together, in order. Those on a stage are written
// while it waits for its turn.
type scanBatch struct {
	layer   int32
	entries []scanned
	size    int // of their names and records

	files   []outgoing // small files that are still to be written, with their contents
	data    *[stageData]byte
	used    int           // of data
	written chan struct{} // closed when they are written; nil if there are none
	err     error         // of writing them
}

func newScanBatch(layer int32) *scanBatch {
	return &scanBatch{layer: layer, entries: make([]scanned, 0, scanEntries)}
}

// full reports whether an entry, with content that goes on a stage or not, has to wait for the next
// batch.
func (b *scanBatch) full(hdr *tar.Header, staged bool) bool {
	return len(b.entries) == scanEntries || b.size > scanBytes || staged && hdr.Size <= smallFile && b.used+int(hdr.Size) > stageData
}

// wait returns when all files are written, and what went wrong.
func (b *scanBatch) wait() error {
	if b.written != nil {
		<-b.written
	}
	return b.err
}

const (
	scanEntries = 128      // entries that travel together
	scanBytes   = 64 << 10 // of their names and records, after which no more join
	scanAhead   = 64       // batches that a layer may be ahead of the tree
)

// scan reads all layers, several at once, and applies their entries in order.
func (s *Stack) scan(ctx context.Context, st *stage) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	type result struct {
		batches chan *scanBatch
		err     error // once batches is closed
	}

	// Each layer is read by a goroutine of its own, which may run ahead. Entries are applied
	// here, in the order of the layers.
	results := make([]*result, len(s.layers))
	for i := range results {
		results[i] = &result{batches: make(chan *scanBatch, scanAhead)}
	}

	slots := make(chan struct{}, s.opts.Workers)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i, r := range results {
			slots <- struct{}{} // in order, so that the one that is waited for always runs
			go func() {
				defer func() { <-slots }()
				defer close(r.batches)
				r.err = s.scanLayer(ctx, i, st, r.batches)
			}()
		}
	}()

	// After an error the readers are told to stop, and what they sent is dropped, so that none
	// waits for ever.
	defer func() {
		cancel()
		<-done
		for _, r := range results {
			for range r.batches {
			}
		}
	}()

	// A reader bounds what its own layer holds; here it is bounded for all layers together.
	left := allowance{sparse: s.opts.MaxSparse}
	for i, r := range results {
		s.tree.layer, s.tree.last = int32(i), nil // each layer is told by itself which links it follows
		s.tree.surprise.start()
		for batch := range r.batches {
			if err := batch.wait(); err != nil {
				return err
			}
			for _, e := range batch.entries {
				if err := s.applyEntry(i, e, &left); err != nil {
					return err
				}
			}
		}

		// An error of the reader comes behind all entries that it sent.
		if r.err != nil {
			return layerError(s.layers[i], r.err)
		}

		s.tree.surprise.end()
	}

	return ctx.Err()
}

// An allowance is how much more all layers together may hold of what each reader bounds for its own.
type allowance struct {
	sparse  int64 // bytes of sparse files
	records tarutil.RecordsBudget
}

// applyEntry applies an entry of layer i to the tree.
func (s *Stack) applyEntry(i int, e scanned, left *allowance) error {
	s.tree.staged = e.stagedFile
	err := s.tree.apply(e.hdr, e.index)
	misplaced := err != nil && !errors.Is(err, tarutil.ErrTooMany)
	if left.sparse -= e.sparse; left.sparse < 0 && err == nil {
		err = fmt.Errorf("%w: sparse files of over %d bytes", tarutil.ErrMalformed, s.opts.MaxSparse)
	}
	if over := left.records.Take(e.hdr.PAXRecords); err == nil {
		err = over
	}

	if err != nil {
		err = layerError(s.layers[i], fmt.Errorf("entry %q at offset %d: %w", e.hdr.Name, e.at, err))
	}
	if misplaced {
		err = &EntryError{Layer: i, err: err}
	}
	if err == nil && e.mark != "" {
		s.tree.surprise.marked(e.hdr.Name, e.mark)
	}

	return err
}

// An EntryError is an entry of a layer that has no place among what is there: the layer can be read, and
// not be put on those below it.
type EntryError struct {
	Layer int // its number, from the lowest
	err   error
}

func (e *EntryError) Error() string { return e.err.Error() }

func (e *EntryError) Unwrap() error { return e.err }

func layerError(l Layer, err error) error {
	return fmt.Errorf("layer %s: %w", l.Name, err)
}

// scanLayer sends the entries of layer i. It reads the layer to its end, so that it is verified.
// With a stage, contents go there.
func (s *Stack) scanLayer(ctx context.Context, i int, st *stage, to chan<- *scanBatch) error {
	in, err := openEntries(ctx, s.layers[i], s.opts.MaxSparse)
	if err != nil {
		return err
	}
	defer in.Close()

	// Entries go in batches, since handing over each by itself would cost more than to apply it.
	b := newScanBatch(int32(i))
	send := func() error {
		if err := st.send(ctx, b); err != nil {
			return err
		}
		select {
		case to <- b:
			b = newScanBatch(int32(i))
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}

	var sparse int64
	for {
		hdr, err := in.next()
		if err == io.EOF {
			return send()
		}
		if err != nil {
			return err
		}

		staged := st != nil && stages(hdr)
		if b.full(hdr, staged) {
			if err := send(); err != nil {
				return err
			}
		}

		// The attributes of a file are put on the stage too, or read again with its content.
		if isRegular(hdr.Typeflag) && !staged {
			hdr.PAXRecords = nil
		}

		e := scanned{hdr: hdr, at: in.Offset(), index: in.index, sparse: in.SparseSize() - sparse, mark: in.OverlayMark()}
		sparse = in.SparseSize()
		b.entries = append(b.entries, e)
		b.size += e.size()

		if staged {
			if err := st.add(ctx, b, in); err != nil {
				return err
			}
			hdr.PAXRecords = nil
		}
	}
}

// layerEntries reads the entries of one layer, and counts them.
type layerEntries struct {
	*tarutil.EntryReader
	index int32 // of the entry that next returned last
	ahead *tarutil.ReadAhead
}

// openEntries opens a layer, unless ctx is done: opening one may take a while.
func openEntries(ctx context.Context, l Layer, maxSparse int64) (*layerEntries, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}

	r, err := l.Open()
	if err != nil {
		return nil, err
	}
	in := &layerEntries{index: -1, ahead: tarutil.NewReadAhead(ctx, r)}
	if l.Check != nil {
		if w := l.Check(); w != nil {
			in.ahead.Check(w)
		}
	}
	in.EntryReader = tarutil.NewPlainEntryReader(in.ahead, tarutil.ReadOptions{AllowNoEnd: true, MaxSparse: maxSparse})
	return in, nil
}

func (in *layerEntries) next() (*tar.Header, error) {
	if in.index == 1<<31-1 {
		return nil, tarutil.ErrTooMany
	}
	in.index++
	return in.EntryReader.Next()
}

// Close closes the layer.
func (in *layerEntries) Close() error { return in.ahead.Close() }
