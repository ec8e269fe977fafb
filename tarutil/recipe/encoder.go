package recipe

import (
	"errors"
	"io"

	"ocikit/tarutil/rangecoder"
	"ocikit/tarutil/zstd"
)

// Encoders names the encoders that may have written a gzip or zstd file, with their levels, the
// best fit first. It looks at the beginning only, so a file that is short, or that many encoders
// write alike, gets several names. It returns none if no known encoder comes near; of zstd files
// only those of package zstd are known. A file that is neither is an error wrapping [ErrFormat].
// Encoders calls open several times, and closes what it gets.
func Encoders(open func() (io.ReadCloser, error)) ([]string, error) {
	m := &maker{open: open}
	if is, err := isZstd(open); err != nil {
		return nil, err
	} else if is {
		return m.zstdEncoders()
	}

	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()

	first, err := newParser(r).next()
	if errors.Is(err, ErrUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	// Our own levels are tried first, by compressing: they have no style.
	if len(first.events) > 0 && string(first.events[0].raw) == defaultHeader {
		for _, level := range []int{6, 1, 9, 0} {
			if ok, err := m.isOwn(first, level); err != nil || ok {
				return []string{ownName(level)}, err
			}
		}
	}

	var names []string
	for _, st := range nearStyles(first) {
		if st.family != plain && fits(first, st) {
			names = append(names, st.String())
		}
	}

	return names, nil
}

// zstdEncoders returns the level of package zstd by which a file begins.
func (m *maker) zstdEncoders() ([]string, error) {
	const enough = 4 << 20 // more than one job: the header of a file that is shorter says its size
	for _, level := range zstdLevels() {
		r, err := m.open()
		if err != nil {
			return nil, err
		}

		want, err := m.open()
		if err != nil {
			r.Close()
			return nil, err
		}

		// The beginning is compressed again, as in isOwn.
		same := &comparer{want: want}
		z, err := zstd.NewWriter(same, level, 1)
		if err == nil {
			_, err = io.Copy(writerOnly{z}, io.LimitReader(zstd.NewReader(r), enough))
			z.Close() // of what comes of the end, nothing need be right
		}

		r.Close()
		want.Close()
		switch {
		case same.failure != nil:
			return nil, same.failure
		case same.n >= 512 || same.err == nil && err == nil:
			return []string{zstdName(level)}, nil
		}
	}

	return nil, nil
}

// fits reports whether a style predicts a segment so well that its encoder is likely the one: the
// corrections may take 64 bytes and a thousandth of the contents.
func fits(s *segment, st style) bool {
	sample := s.sample(128 << 10)
	c := rangecoder.NewWriter(nil)
	if (*codec)(nil).of(st).run(c, sample) != nil {
		return false
	}
	return len(c.Finish()) < 64+(sample.end-sample.start)/1000
}
