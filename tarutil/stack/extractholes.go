package stack

import (
	"bytes"
	"context"
	"io"
)

// holeSize is the length of zeros, at a multiple of itself in the file, from which on they become a
// hole. Below, a hole costs more than it saves.
const holeSize = 64 << 10

// copyContent copies exactly size bytes to an empty file, through a buffer of some times holeSize. Long
// runs of zeros are left out: what was never written reads as zeros, and takes no room where the file
// system knows holes.
func copyContent(ctx context.Context, f *outFile, r io.Reader, size int64, buf []byte) error {
	inHole := false
	for left := size; left > 0; {
		n, err := io.ReadFull(r, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return err
		}
		if inHole, err = writeHoles(f, buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}

	if inHole {
		return f.Truncate(size)
	}

	return nil
}

// writeHoles writes p, and passes over the holes in it. It reports whether it ends in one.
func writeHoles(f *outFile, p []byte) (inHole bool, err error) {
	for len(p) > 0 {
		inHole = isHole(p)

		// Neighbours of one kind take one call.
		n := min(holeSize, len(p))
		for n < len(p) && isHole(p[n:]) == inHole {
			n = min(n+holeSize, len(p))
		}

		if inHole {
			_, err = f.Seek(int64(n), io.SeekCurrent)
		} else {
			_, err = f.Write(p[:n])
		}
		if err != nil {
			return inHole, err
		}
		p = p[n:]
	}

	return inHole, nil
}

// isHole reports whether p begins with a block that can be a hole.
func isHole(p []byte) bool {
	if len(p) < holeSize || p[0] != 0 {
		return false
	}
	// All are the same if each is as the one before.
	return bytes.Equal(p[1:holeSize], p[:holeSize-1])
}
