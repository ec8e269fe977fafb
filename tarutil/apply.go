package tarutil

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
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
}

// ApplyOptions say how [Apply] reads layers. The zero value is ready for use.
type ApplyOptions struct {
	// Base is how many of the lowest layers are not part of the result, but lie below it. The
	// [Stack] then is one layer that does to them what all further layers do: with whiteouts for
	// what these remove. It is 0 for the whole file system.
	Base int
	// MaxEntries is how many files the stack may have at any time; 0 stands for
	// [DefaultMaxEntries].
	MaxEntries int
	// MaxSparse is how large all sparse files together may be; 0 stands for
	// [DefaultMaxSparse].
	MaxSparse int64
	// Workers is how many layers are read at once; 0 stands for one a processor.
	Workers int
	// Watch, if there is one, is told what becomes of each entry.
	Watch Watcher
}

// DefaultMaxEntries is the number of files at which a stack is refused if no limit is set.
const DefaultMaxEntries = 1 << 20

// ErrTooMany says that layers hold more files than the limit allows.
var ErrTooMany = errors.New("too many files")

// Apply reads the headers of all entries of the layers, the lowest layer first, and finds
// out what file system they make up by the rules of "Applying Changesets" in layer.md. It
// writes nothing: [Stack.Walk], [Stack.WriteTar] and [Stack.Extract] read the layers a second
// time for the contents that are left. Memory grows with the number of files, not with their
// contents.
//
//   - A name is resolved as by a process whose root is the root of the image: links in its
//     directory are followed and never lead outside, its last component is not followed.
//     Missing directories are made, 0755 and of 0:0.
//   - A directory over a directory replaces its attributes; anything else replaces what is
//     there, with all that it holds. A file of a lower layer gives way to a directory that
//     an entry needs; one of the same layer does not, and that is an error.
//   - A whiteout hides what lower layers have, wherever in its layer it stands; entries of its
//     own layer are left. Hiding nothing is no error. Names that begin with ".wh..wh." are
//     those of AUFS and mean nothing, but for the opaque whiteout.
//   - A hard link shares the file that has the name at that moment; whatever later becomes of
//     that name, the file is kept. It must not lead to a directory, nor to nothing.
//   - Of several entries for one path in a layer the last counts.
//   - Names that climb with "..", names and link targets that no Linux system can hold (a
//     component of over 255 bytes, a path of over 4,095), links that lead in circles, and
//     whatever [Checker] refuses are errors. A missing end marker is not.
//
// An error names the layer, the entry and its offset.
func Apply(ctx context.Context, layers []Layer, opts ApplyOptions) (*Stack, error) {
	if opts.MaxEntries <= 0 {
		opts.MaxEntries = DefaultMaxEntries
	}
	if opts.MaxSparse <= 0 {
		opts.MaxSparse = DefaultMaxSparse
	}
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	s := &Stack{layers: layers, opts: opts, tree: newStackTree(opts.MaxEntries, opts.Base, opts.Watch)}
	if err := s.scan(ctx); err != nil {
		return nil, err
	}
	s.index()
	return s, nil
}

// A scanned is one entry on its way from the reader of a layer to the tree.
type scanned struct {
	hdr    *tar.Header
	at     int64 // offset of its header
	index  int32 // number in its layer
	sparse int64 // its size, if it is sparse
}

// size returns about how much memory the entry needs beyond its structs.
func (s scanned) size() int {
	return len(s.hdr.Name) + len(s.hdr.Linkname) + recordsSize(s.hdr.PAXRecords)
}

func recordsSize(records map[string]string) int {
	n := 0
	for key, value := range records {
		n += len(key) + len(value)
	}
	return n
}

const (
	scanBatch = 128      // entries that travel together
	scanBytes = 64 << 10 // of their names and records, after which no more join
	scanAhead = 64       // batches that a layer may be ahead of the tree
)

// scan reads all layers, several at once, and applies their entries in order.
func (s *Stack) scan(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		batches chan []scanned
		err     error // once batches is closed
	}
	results := make([]*result, len(s.layers))
	for i := range results {
		results[i] = &result{batches: make(chan []scanned, scanAhead)}
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
				r.err = scanLayer(ctx, s.layers[i], s.opts.MaxSparse, r.batches)
			}()
		}
	}()
	defer func() {
		cancel()
		<-done
		for _, r := range results {
			for range r.batches {
			}
		}
	}()
	sparse, xattrs := s.opts.MaxSparse, maxXattrs
	for i, r := range results {
		s.tree.layer = int32(i)
		for batch := range r.batches {
			for _, e := range batch {
				err := s.tree.apply(e.hdr, e.index)
				if sparse -= e.sparse; sparse < 0 && err == nil {
					err = fmt.Errorf("%w: sparse files of over %d bytes", ErrMalformed, s.opts.MaxSparse)
				}
				if xattrs -= recordsSize(e.hdr.PAXRecords); xattrs < 0 && err == nil {
					err = errXattrs
				}
				if err != nil {
					return layerError(s.layers[i], fmt.Errorf("entry %q at offset %d: %w", e.hdr.Name, e.at, err))
				}
			}
		}
		if r.err != nil {
			return layerError(s.layers[i], r.err)
		}
	}
	return ctx.Err()
}

func layerError(l Layer, err error) error {
	return fmt.Errorf("layer %s: %w", l.Name, err)
}

// scanLayer sends the entries of a layer. It reads the layer to its end, so that it is
// verified.
func scanLayer(ctx context.Context, l Layer, maxSparse int64, to chan<- []scanned) error {
	in, err := openEntries(ctx, l, maxSparse)
	if err != nil {
		return err
	}
	defer in.Close()
	var batch []scanned
	var size int
	var sparse int64
	send := func() error {
		select {
		case to <- batch:
			batch, size = make([]scanned, 0, scanBatch), 0
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		hdr, err := in.next()
		if err == io.EOF {
			return send()
		}
		if err != nil {
			return err
		}
		if isRegular(hdr.Typeflag) {
			hdr.PAXRecords = nil // they are read again with the content
		}
		e := scanned{hdr, in.check.at, in.index, in.sparse - sparse}
		sparse = in.sparse
		batch = append(batch, e)
		if size += e.size(); len(batch) == scanBatch || size > scanBytes {
			if err := send(); err != nil {
				return err
			}
		}
	}
}

// layerEntries reads the entries of one layer, and counts them.
type layerEntries struct {
	entryReader
	index int32 // of the entry that next returned last
	ahead *readAhead
}

// openEntries opens a layer.
func openEntries(ctx context.Context, l Layer, maxSparse int64) (*layerEntries, error) {
	r, err := l.Open()
	if err != nil {
		return nil, err
	}
	in := &layerEntries{index: -1, ahead: newReadAhead(ctx, r)}
	in.check.AllowNoEnd = true
	in.maxSparse = maxSparse
	in.src = io.TeeReader(bufio.NewReaderSize(in.ahead, copySize), &in.check)
	in.tr = tar.NewReader(in.src)
	return in, nil
}

func (in *layerEntries) next() (*tar.Header, error) {
	if in.index == 1<<31-1 {
		return nil, ErrTooMany
	}
	in.index++
	return in.entryReader.next()
}

// Close closes the layer.
func (in *layerEntries) Close() error { return in.ahead.Close() }
