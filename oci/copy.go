package oci

import (
	"context"
	"io"
)

// Copy copies r to w through one buffer of 256 KiB, whatever shortcuts w and r know. io.Copy
// would take them: io.Discard reads 8 KiB at a time, and a file writes 32 KiB, which costs
// hashing and decompression more than the copy itself.
func Copy(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 256<<10))
}

// ReadCloser returns r with a Close that closes c, for a reader of what c holds.
func ReadCloser(r io.Reader, c io.Closer) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{r, c}
}

// CopyUntil is [Copy] until r or ctx ends. If ctx ends first, the error is its cause.
func CopyUntil(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	buf := make([]byte, 256<<10)
	var total int64
	for ctx.Err() == nil {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}

	return total, context.Cause(ctx)
}
