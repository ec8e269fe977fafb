package recipe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"ocikit/tarutil"
	"ocikit/tarutil/zstd"
)

// zstdLevels are one of each kind that package zstd has, the default first.
func zstdLevels() []int { return []int{3, 1, 9} }

// zstdName names a level of package zstd for people.
func zstdName(level int) string { return fmt.Sprintf("ocikit zstd -%d", level) }

// isZstd reports whether a file begins as Zstandard does.
func isZstd(open func() (io.ReadCloser, error)) (bool, error) {
	r, err := open()
	if err != nil {
		return false, err
	}
	defer r.Close()

	head := make([]byte, tarutil.SniffLen)
	n, err := io.ReadFull(r, head)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil // the parser says what is wrong with it
	}
	return tarutil.Sniff(head[:n]) == tarutil.FormatZstd, err
}

// zstd writes the recipe of a file that package zstd wrote. For what others wrote there is none.
func (m *maker) zstd() error {
	for _, level := range zstdLevels() {
		err := m.zstdLevel(level)
		if errors.Is(err, errDiffers) {
			continue
		}
		if err == nil {
			m.info.Encoder = zstdName(level)
			err = m.write(append([]byte(magic), zstdTag, byte(level)))
		}
		return err
	}
	return fmt.Errorf("%w: zstd of another encoder than ours", ErrUnknown)
}

// zstdLevel compresses the contents again, or returns errDiffers.
func (m *maker) zstdLevel(level int) error {
	want, err := m.open()
	if err != nil {
		return err
	}
	defer want.Close()

	// Contents that give the file bit for bit are its own, so nothing need be uncompressed for them.
	var plain io.Reader
	if m.contents != nil {
		plain = m.contents()
	} else {
		r, err := m.open()
		if err != nil {
			return err
		}
		defer r.Close()
		plain = io.TeeReader(zstd.NewReader(r), m.plain)
	}

	same := &comparer{want: want}
	z, err := zstd.NewWriter(same, level, 0)
	if err != nil {
		return err
	}

	m.plain.Reset()
	m.info.Size, err = io.CopyBuffer(writerOnly{z}, tarutil.ContextReader(m.ctx, plain), make([]byte, 256<<10))
	if err == nil {
		err = z.Close()
	}

	if same.failure != nil {
		err = same.failure
	}
	if err != nil {
		return err
	}

	// Nothing may follow what was written.
	if err := same.end(); err != nil {
		return err
	}

	if m.contents == nil {
		m.plain.Sum(m.info.Contents[:0])
	}
	return nil
}

// zstd makes a file as package zstd does.
func (f *formatReader) zstd(ctx context.Context, out *joiner, in *bufio.Reader) error {
	level := f.byte()
	z, err := zstd.NewWriter(out, int(level), 0)
	if err != nil || f.err != nil {
		return errorf("level %d of zstd", level)
	}
	if _, err := io.CopyBuffer(writerOnly{z}, tarutil.ContextReader(ctx, in), make([]byte, 256<<10)); err != nil {
		return err
	}
	return z.Close()
}
