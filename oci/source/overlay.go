package source

import (
	"bytes"
	"io"

	"ocikit/digest"
	"ocikit/oci"
)

// With returns a source that has all of src and one document more, for example an index of some of
// the images that an index in src lists. Close closes src.
//
// A source that finds referrers itself has to know the document too, to find the referrers of the
// images in it. If src has a method Add(oci.Descriptor, []byte), With calls it for that.
func With(src Source, desc oci.Descriptor, doc []byte) Source {
	if below, ok := Unwrap(src).(interface {
		Add(desc oci.Descriptor, data []byte)
	}); ok {
		below.Add(desc, doc)
	}
	return &overlay{Source: src, desc: desc, doc: doc}
}

// Unwrap returns the source that [With] or [Keep] was given, or s itself.
func Unwrap(s Source) Source {
	if o, ok := s.(interface{ Unwrap() Source }); ok {
		return Unwrap(o.Unwrap())
	}
	return s
}

type overlay struct {
	Source
	desc oci.Descriptor
	doc  []byte
}

func (o *overlay) Document(desc oci.Descriptor) ([]byte, error) {
	if desc.Digest == o.desc.Digest {
		return o.doc, nil
	}
	return o.Source.Document(desc)
}

func (o *overlay) Stat(d digest.Digest) (int64, error) {
	if d == o.desc.Digest {
		return int64(len(o.doc)), nil
	}
	return o.Source.Stat(d)
}

func (o *overlay) Blob(desc oci.Descriptor) (io.ReadCloser, error) {
	if desc.Digest == o.desc.Digest {
		return embedded{bytes.NewReader(o.doc)}, nil
	}
	return o.Source.Blob(desc)
}

func (o *overlay) BlobAt(desc oci.Descriptor) (BlobAt, error) {
	if desc.Digest == o.desc.Digest {
		return embedded{bytes.NewReader(o.doc)}, nil
	}
	return o.Source.BlobAt(desc)
}

// Unwrap returns the source below.
func (o *overlay) Unwrap() Source { return o.Source }

// Remote is that of the source below.
func (o *overlay) Remote() bool { return Remote(o.Source) }
