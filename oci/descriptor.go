package oci

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"ocikit/digest"
)

// A Descriptor names a blob with its type and size (descriptor.md of the image-spec).
// Members that the struct has no field for are kept in Extra and written again.
type Descriptor struct {
	MediaType    string        `json:"mediaType"`
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"` // bytes of the blob, as stored
	URLs         []string      `json:"urls,omitempty"`
	Annotations  Annotations   `json:"annotations,omitempty"`
	Data         []byte        `json:"data,omitempty"` // the blob itself, if embedded
	Platform     *Platform     `json:"platform,omitempty"`
	ArtifactType string        `json:"artifactType,omitempty"`
	Extra        Object        `json:"-"`
}

// Annotations that this program reads and writes.
const (
	// AnnotationRefName holds the name of an entry of index.json (annotations.md).
	AnnotationRefName = "org.opencontainers.image.ref.name"
	// AnnotationImageName holds the full name of an image, as containerd writes it. It is
	// read as a second name of an entry of index.json.
	AnnotationImageName = "io.containerd.image.name"
	// AnnotationDiffID carries the diff ID of a layer in a descriptor stream. It is never
	// written into a manifest.
	AnnotationDiffID = "containerd.io/uncompressed"
	// AnnotationAttestation marks an entry of an index that is not an image but says something
	// about another entry, whose digest AnnotationAttested holds. They are BuildKit's.
	AnnotationAttestation = "vnd.docker.reference.type"
	AnnotationAttested    = "vnd.docker.reference.digest"
	// AnnotationTitle is the name of the file that a blob of an artifact holds (annotations.md).
	AnnotationTitle = "org.opencontainers.image.title"
)

type plainDescriptor Descriptor

// UnmarshalJSON decodes and checks a descriptor, under the rules of [Decode]: media type, digest and
// a size of at least zero are required.
func (d *Descriptor) UnmarshalJSON(data []byte) (err error) {
	*d, err = newParser(data).descriptor()
	return err
}

// CheckData returns an error if the data embedded in d are not the blob that d names ("data" in
// descriptor.md). A descriptor without data passes. The errors are those of [digest.Reader].
func (d Descriptor) CheckData() error {
	if d.Data == nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, digest.NewReader(bytes.NewReader(d.Data), d.Digest, d.Size)); err != nil {
		return fmt.Errorf("embedded data: %w", err)
	}
	return nil
}

func (d *Descriptor) check() error {
	switch {
	case d.MediaType == "":
		return errors.New("no mediaType")
	case hasBlanks(d.MediaType):
		return fmt.Errorf("mediaType %.80q: it has blanks around it, or control characters", d.MediaType)
	case d.Digest.IsZero():
		return errors.New("no digest")
	case d.Size < 0:
		return fmt.Errorf("%s: size %d", d.Digest, d.Size)
	}
	return nil
}

// DiffID returns the diff ID that a layer's descriptor carries in a stream, and reports whether it
// carries one.
func (d Descriptor) DiffID() (digest.Digest, bool) {
	id, err := digest.Parse(d.Annotations.Get(AnnotationDiffID))
	return id, err == nil
}

// Bare returns what tells the blob apart: its type, digest and size.
func (d Descriptor) Bare() Descriptor {
	return Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// TotalSize returns how many bytes blobs have together.
func TotalSize(list []Descriptor) (n int64) {
	for _, d := range list {
		n += d.Size
	}
	return n
}

// WithAnnotation returns a copy of d with one annotation set, or removed if value is "".
func (d Descriptor) WithAnnotation(key, value string) Descriptor {
	d.Annotations = d.Annotations.With(key, value)
	return d
}

// CheckDocument returns an error that wraps [ErrMalformed] if a descriptor's document would be over
// [MaxDocument] bytes: it is not to be read then.
func (d Descriptor) CheckDocument() error {
	if d.Size > MaxDocument {
		return fmt.Errorf("blob %s: %d bytes, the limit for a document is %d: %w", d.Digest, d.Size, MaxDocument, ErrMalformed)
	}
	return nil
}

// maxLine bounds one line of a descriptor stream. Embedded data may make a line as long as
// a document.
const maxLine = 2 * MaxDocument

// ReadDescriptors reads a descriptor stream to its end: one JSON descriptor a line, blank lines
// skipped. Each line is decoded under the rules of [Decode]; an error gives the line that it is about,
// counted from 1.
func ReadDescriptors(r io.Reader) ([]Descriptor, error) {
	var descs []Descriptor
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	n := 1
	for ; s.Scan(); n++ {
		if len(s.Bytes()) == 0 {
			continue
		}

		var d Descriptor
		if err := Decode(s.Bytes(), &d); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		descs = append(descs, d)
	}

	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: %w: over %d bytes", n, ErrMalformed, MaxDocument)
	}

	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("descriptor stream: %w", err)
	}

	return descs, nil
}

// WriteDescriptors writes descs as a descriptor stream.
func WriteDescriptors(w io.Writer, descs ...Descriptor) error {
	for _, d := range descs {
		line, err := EncodeLine(d)
		if err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}
