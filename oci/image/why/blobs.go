package why

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/tarutil"
	"ocikit/tarutil/cause"
	"ocikit/tarutil/recipe"
)

// Blobs returns why two blobs differ: layers, plain or compressed, documents, or any other files. It
// returns nothing if they are the same. An error about one of the two is a [*SideError].
func Blobs(ctx context.Context, here, there Blob) ([]Cause, error) {
	r := &run{ctx: ctx}
	err := r.blobs(nil, here, there)
	return r.causes, err
}

// An opened blob is read once.
type opened struct {
	blob    Blob
	head    []byte
	format  tarutil.Format
	content *tarutil.ReadAhead // uncompressed
	isTar   bool
}

// open begins to read a blob. The reader it makes goes on behind the content to the end of the blob,
// so that its digest is verified.
func (r *run) open(b Blob) (*opened, error) {
	blob, err := b.Open()
	if err != nil {
		return nil, err
	}

	o := &opened{blob: b}
	in := bufio.NewReaderSize(blob, 256<<10)
	if err := o.begin(r.ctx, in, blob); err != nil {
		blob.Close()
		return nil, err
	}

	return o, nil
}

// begin looks at the first bytes, compressed and not.
func (o *opened) begin(ctx context.Context, in *bufio.Reader, blob io.Closer) error {
	head, err := in.Peek(tarutil.SniffLen)
	if err != nil && err != io.EOF {
		return err
	}

	o.head = bytes.Clone(head)
	o.format = tarutil.Sniff(head)

	// A compressed blob is compared as what its content is.
	content := in
	if o.isCompressed() {
		plain, _, err := tarutil.Decompress(in)
		if err != nil {
			return err
		}
		content = bufio.NewReaderSize(plain, 64<<10)
		if head, err = content.Peek(tarutil.SniffLen); err != nil && err != io.EOF {
			return err
		}
	}

	o.isTar = tarutil.Sniff(head) == tarutil.FormatTar
	o.content = tarutil.NewReadAhead(ctx, wholeReader{content, in, blob})
	return nil
}

// A wholeReader reads what is in a blob, and then what is left of the blob.
type wholeReader struct {
	io.Reader
	blob io.Reader
	io.Closer
}

func (w wholeReader) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err == io.EOF {
		if _, drained := io.Copy(io.Discard, w.blob); drained != nil {
			err = drained
		}
	}
	return n, err
}

// blobs compares two blobs: what is in them, and how it is compressed.
func (r *run) blobs(where []string, here, there Blob) error {
	a, err := r.open(here)
	if err != nil {
		return &SideError{There: false, Err: err}
	}
	defer a.content.Close()

	b, err := r.open(there)
	if err != nil {
		return &SideError{There: true, Err: err}
	}
	defer b.content.Close()

	before := len(r.causes)
	if err := r.contents(where, a, b); err != nil {
		return err
	}

	// Two formats are the cause already, so there is no question of encoders.
	if a.format != b.format && (a.isCompressed() || b.isCompressed()) {
		r.add(where, Cause{Kind: Compression, Path: sameContent(len(r.causes) == before), Here: a.formatName(), There: b.formatName()})
		return nil
	}

	return r.compression(where, a, b, len(r.causes) == before)
}

// SameContent is the Path of a [Compression] if what is inside is the same.
const SameContent = "same content"

func sameContent(yes bool) string {
	if yes {
		return SameContent
	}
	return ""
}

func (o *opened) isCompressed() bool {
	return o.format == tarutil.FormatGzip || o.format == tarutil.FormatZstd || o.format == tarutil.FormatBzip2
}

func (o *opened) formatName() string {
	if !o.isCompressed() {
		return "none"
	}
	return o.format.String()
}

// contents compares what two blobs hold.
func (r *run) contents(where []string, a, b *opened) error {
	switch {
	case a.isTar && b.isTar:
		causes, err := cause.Tars(r.ctx, a.content, b.content, cause.Options{})
		for _, c := range causes {
			r.add(where, Cause{Kind: Kind(c.Kind), Count: c.Count, Path: c.Path, Here: c.Here, There: c.There, Tar: &c})
		}
		return err
	case !a.isCompressed() && !b.isCompressed() && isObject(a.head) && isObject(b.head):
		return r.files(where, a, b)
	}

	d, err := cause.Bytes(a.content, b.content)
	if err == nil && !d.Same {
		r.add(where, Cause{Kind: Bytes, Path: fmt.Sprint(d.Offset), Here: fmt.Sprint(d.Here), There: fmt.Sprint(d.There)})
	}

	return err
}

func isObject(head []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("{")) }

// files compares two documents in files.
func (r *run) files(where []string, a, b *opened) error {
	docA, docB, err := both(a, b, func(o *opened) ([]byte, error) { return oci.ReadDocument(o.content) })
	if err != nil {
		return err
	}

	if bytes.Equal(docA, docB) {
		return nil
	}

	before := len(r.causes)
	if err := r.members(where, docA, docB, nil); err != nil {
		return err
	}

	r.group(before)
	r.unexplained(where, before)
	return nil
}

// maxDetected is for how many pairs of blobs the encoders are looked for: that takes a second.
const maxDetected = 4

// compression compares how two blobs of one format are compressed. same says that their contents are.
func (r *run) compression(where []string, a, b *opened, same bool) error {
	if !a.isCompressed() {
		return nil
	}

	x, err := compressed(a.blob)
	if err != nil {
		return &SideError{There: false, Err: err}
	}
	defer x.Close()

	y, err := compressed(b.blob)
	if err != nil {
		return &SideError{There: true, Err: err}
	}
	defer y.Close()

	before := len(r.causes)
	if a.format == tarutil.FormatGzip {
		r.gzipHeaders(where, x.gzip, y.gzip)
	}

	if same {
		if found, err := r.sameBytes(where, x, y); found || err != nil {
			return err
		}
	}

	// The encoders of a few pairs have been looked for. For others the names of the formats have to
	// do.
	if r.detected++; r.detected > maxDetected {
		if same {
			r.add(where, Cause{Kind: Compression, Path: SameContent, Here: a.formatName(), There: b.formatName()})
		}
		return nil
	}

	nameA, nameB, err := encoders(a, b)
	if err != nil {
		return err
	}

	// Other contents have other compressed bytes. Then the encoders are a cause only if both are
	// known.
	if same || nameA != nameB && nameA != a.formatName() && nameB != b.formatName() {
		// The flags of a header follow from the encoder.
		if n := len(r.causes); n > before && r.causes[n-1].Path == gzipFlags {
			r.causes = r.causes[:n-1]
		}
		r.add(where, Cause{Kind: Compression, Path: sameContent(same), Here: nameA, There: nameB})
	}

	return nil
}

// sameBytes reports whether it is known now why the same content has other bytes: compressed to the same
// bytes, it differs in its headers alone, or in what stands behind its end.
func (r *run) sameBytes(where []string, x, y io.Reader) (bool, error) {
	d, err := cause.Bytes(x, y)
	if err != nil || d.Same {
		return true, err
	}

	// One is the beginning of the other, so something stands behind its end.
	if d.Offset == min(d.Here, d.There) {
		r.add(where, Cause{Kind: GzipEnd, Here: fmt.Sprint(d.Here), There: fmt.Sprint(d.There)})
		return true, nil
	}
	return false, nil
}

// The parts of the header of a gzip file that may differ, as the Path of a cause names them.
const (
	gzipTime  = "time"
	gzipName  = "name"
	gzipBoth  = "time and name"
	gzipFlags = "flags"
)

// gzipHeaders compares the headers of two gzip files.
func (r *run) gzipHeaders(where []string, a, b cause.GzipHeader) {
	c := Cause{Kind: GzipHeader}
	sameTime, sameName := a.TimeText() == b.TimeText(), a.Name == b.Name
	switch {
	case !sameTime && !sameName:
		c.Path, c.Here, c.There = gzipBoth, strings.TrimSpace(a.TimeText()+" "+a.Name), strings.TrimSpace(b.TimeText()+" "+b.Name)
	case !sameTime:
		c.Path, c.Here, c.There = gzipTime, a.TimeText(), b.TimeText()
	case !sameName:
		c.Path, c.Here, c.There = gzipName, a.Name, b.Name
	case a != b:
		flags := func(h cause.GzipHeader) string {
			return fmt.Sprintf("flags %#02x, time %#x, level %d, system %d", h.Flags, h.Time, h.Extra, h.OS)
		}
		c.Path, c.Here, c.There = gzipFlags, flags(a), flags(b)
	default:
		return
	}

	r.add(where, c)
}

// A compressedBody is a blob without the header of its compression.
type compressedBody struct {
	io.Reader
	io.Closer
	gzip cause.GzipHeader
}

// compressed opens a blob and passes over its gzip header, if it has one.
func compressed(b Blob) (*compressedBody, error) {
	blob, err := b.Open()
	if err != nil {
		return nil, err
	}

	in := bufio.NewReaderSize(blob, 256<<10)
	head, err := in.Peek(64 << 10)
	if err != nil && err != io.EOF {
		blob.Close()
		return nil, err
	}

	c := &compressedBody{Reader: in, Closer: blob}
	if h, rest, ok := cause.ParseGzipHeader(head); ok {
		c.gzip = h
		if _, err := in.Discard(len(head) - len(rest)); err != nil {
			blob.Close()
			return nil, err
		}
	}

	return c, nil
}

// encoders names what wrote two blobs, as far as it can be told.
func encoders(a, b *opened) (nameA, nameB string, err error) {
	if a.format != tarutil.FormatGzip && a.format != tarutil.FormatZstd {
		return a.formatName(), b.formatName(), nil
	}

	listA, listB, err := both(a.blob.Open, b.blob.Open, recipe.Encoders)
	if err != nil {
		return "", "", err
	}

	if a.format == tarutil.FormatZstd {
		return zstdEncoder(listA, a.head), zstdEncoder(listB, b.head), nil
	}

	// The encoders that can have written one file and not the other tell most, above all the likely
	// ones.
	if bestA, bestB := likely(listA), likely(listB); !slices.Equal(bestA, bestB) {
		return encoderName(without(bestA, bestB)), encoderName(without(bestB, bestA)), nil
	}

	return encoderName(likely(without(listA, listB))), encoderName(likely(without(listB, listA))), nil
}

// without returns the names that are not in other, or list if none is left.
func without(list, other []string) []string {
	only := slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
	if len(only) == 0 {
		return list
	}
	return only
}

// likely returns the names with the level of the first.
func likely(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	_, level, _ := strings.Cut(list[0], " -")
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !strings.HasSuffix(s, " -"+level) })
}

// encoderName joins the names of encoders of one level: "zlib or GNU gzip -6".
func encoderName(list []string) string {
	if len(list) == 0 {
		return "gzip"
	}
	var names []string
	_, level, _ := strings.Cut(list[0], " -")
	for _, s := range list {
		names = append(names, strings.TrimSuffix(s, " -"+level))
	}
	return strings.Join(names, " or ") + " -" + level
}

// zstdEncoder names what wrote a zstd file: us, or somebody who chose what stands in its header.
func zstdEncoder(list []string, head []byte) string {
	if len(list) > 0 {
		return list[0]
	}
	return zstdFrame(head)
}

// zstdFrame says what the header of a zstd frame says of its encoder (RFC 8878, section 3.1.1.1).
func zstdFrame(head []byte) string {
	if len(head) < 6 || binary.LittleEndian.Uint32(head) != 0xfd2fb528 {
		return "zstd"
	}

	// The descriptor of the frame. Bit 5: one segment, and no window. Bit 2: a checksum. Bits 6 and
	// 7: how long the size is.
	d := head[4]
	name := "zstd"
	if d&0x20 == 0 {
		// Five bits are the exponent of the window, three are eighths on top (section 3.1.1.1.2).
		w := head[5]
		base := int64(1) << (10 + w>>3)
		name = fmt.Sprintf("zstd with a window of %d KiB", (base+base/8*int64(w&7))>>10)
	}

	if d&4 != 0 {
		name += ", with a checksum"
	}

	if d>>6 != 0 || d&0x20 != 0 {
		name += ", with its size"
	}

	return name
}
