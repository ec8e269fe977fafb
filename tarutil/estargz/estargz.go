// Package estargz turns a layer tar into an eStargz blob. Read from its start, the blob is a gzip layer
// like any other, but a snapshotter can also fetch single files of it. [NewWriter] is the entry point.
//
// An eStargz blob consists of gzip members. Each chunk of a regular file, 4 MiB or what is
// left, begins a member of its own; the tar headers that follow the chunk are in the same
// member. The last member but one holds the table of contents, a JSON file named
// stargz.index.json, which says where each chunk is. The last member, 51 bytes, is empty and
// has the offset of the table in its header.
//
// A [Writer] takes a plain tar and keeps the bytes of every entry as they are. In front it puts a
// landmark file, .no.prefetch.landmark, which says that nothing is worth fetching early, and behind
// it the table. So the blob has another diff ID than the tar: [Writer.Close] returns it, with what
// else a manifest says of the layer. A table and landmarks in the input, from an earlier conversion,
// are left out.
//
// The output depends on the input and the level alone, as that of package gzip does. The format is that
// of docs/estargz.md in the stargz-snapshotter project.
package estargz

import (
	"errors"
	"fmt"
	"io"

	"ocikit/digest"
)

// Annotations of a layer descriptor which hold fields of an [Info].
const (
	TOCDigestAnnotation        = "containerd.io/snapshot/stargz/toc.digest"
	UncompressedSizeAnnotation = "io.containers.estargz.uncompressed-size"
)

// Info holds what a manifest and a config say of an eStargz layer.
type Info struct {
	DiffID           digest.Digest // of the uncompressed tar, with the landmark and the table
	UncompressedSize int64         // of the same, in bytes
	TOCDigest        digest.Digest // of the JSON of the table of contents
}

var (
	// errAborted is what the methods of a [Writer] return after [Writer.Abort].
	errAborted = errors.New("eStargz conversion aborted")

	// errUnsupported is wrapped by errors about a tar that is sound but that eStargz has
	// no way to describe.
	errUnsupported = errors.New("not possible in eStargz")

	// ErrSparse wraps errUnsupported for a sparse file, as bsdtar and `tar -S` write them.
	ErrSparse = fmt.Errorf("%w: a sparse file", errUnsupported)
)

// Writer converts the tar that is written to it. Call Close when the tar is complete, and Abort when
// it never will be: one of them ends the goroutine of the Writer. The underlying writer is called from
// that goroutine, but not after Close or Abort has returned. The methods of a Writer must not be called
// concurrently.
//
// Memory does not grow with the sizes of files. The table of contents is held until Close, with some
// hundred bytes for each entry and each chunk. One that takes over [tarutil.DefaultMaxMemory] is an error
// wrapping [tarutil.ErrTooMany].
type Writer struct {
	pipe *io.PipeWriter
	done chan struct{} // closed when the conversion has ended
	info Info          // set before done is closed
	err  error         // likewise
}

// NewWriter returns a Writer which sends an eStargz blob to w. Level and workers mean what they mean to
// NewWriter of package tarutil/gzip. It is an error if the level does not exist.
func NewWriter(w io.Writer, level, workers int) (*Writer, error) {
	c, err := newConverter(w, level, workers)
	if err != nil {
		return nil, err
	}
	r, pipe := io.Pipe()
	z := &Writer{pipe: pipe, done: make(chan struct{})}
	go func() {
		defer close(z.done)
		z.info, z.err = c.convert(r)
		if z.err != nil {
			r.CloseWithError(z.err)
		}
	}()
	return z, nil
}

// Write converts more of the tar. An error about the tar or of the underlying writer may
// come back from a later Write than the one that caused it, but at the latest from Close.
func (z *Writer) Write(p []byte) (int, error) {
	return z.pipe.Write(p)
}

// Close ends the tar, and does not close the underlying writer. Without an error the blob is whole and
// Info describes it. After an error no footer was written, so no reader takes the output for eStargz.
// A tar without its two final blocks of zeros is an error wrapping io.ErrUnexpectedEOF; an entry that
// eStargz cannot describe is an error, too.
func (z *Writer) Close() (Info, error) {
	z.pipe.Close()
	<-z.done
	return z.info, z.err
}

// Abort ends the conversion without completing the blob. After Close it does nothing.
func (z *Writer) Abort() {
	z.pipe.CloseWithError(errAborted)
	<-z.done
}
