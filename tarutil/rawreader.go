package tarutil

import (
	"archive/tar"
	"fmt"
	"io"
	"strconv"
	"time"
)

// A RawEntry is an entry of a tar as its bytes stand there. It is valid until the next call of
// [RawReader.Next].
type RawEntry struct {
	// Blocks are the header, with the extended headers and GNU long names before it.
	Blocks []byte
	// Size is how many bytes of content are stored; the holes of a sparse file are not.
	Size   int64
	Offset int64 // of Blocks, in bytes from the start of the tar
}

// A RawReader reads the entries of a tar as bytes, while a [Checker] verifies them. It accepts any names,
// unknown types and a tar without its end marker, and reads sparse files as they are stored, so it suits
// comparisons. Memory is constant, but for extended headers. A RawReader is not safe for concurrent use.
type RawReader struct {
	r      io.Reader
	check  Checker
	blocks []byte
	left   int64 // of content
	pad    int   // behind it
	odd    bool
	block  [blockSize]byte
}

// NewRawReader reads a tar that is not compressed from r. The caller closes r.
func NewRawReader(r io.Reader) *RawReader {
	return &RawReader{r: r, check: Checker{AllowNoEnd: true, AllowUnknownTypes: true}}
}

// Next returns the next entry; global headers are entries too. It passes over what was not read of the
// content before. At the end marker, or at the end of a tar without one, it returns io.EOF, and leaves
// unread what follows. Other errors wrap one of this package, or come from the stream.
func (r *RawReader) Next() (RawEntry, error) {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return RawEntry{}, err
	}

	r.blocks = r.blocks[:0]
	r.odd = false
	if err := r.skipPadding(); err != nil {
		return RawEntry{}, err
	}

	// Blocks are gathered until the Checker has counted an entry, since it knows which of them
	// belong to one.
	entries, at := r.check.entries, r.check.offset
	for r.check.entries == entries {
		n, err := io.ReadFull(r.r, r.block[:])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return RawEntry{}, err
		}
		if _, err := r.check.Write(r.block[:n]); err != nil {
			return RawEntry{}, err
		}
		if err != nil { // it ends here, which may be right
			if err := r.check.Close(); err != nil {
				return RawEntry{}, err
			}
			return RawEntry{}, io.EOF
		}
		if r.check.state == ended {
			return RawEntry{}, io.EOF
		}

		// Extended headers are bounded one by one by the Checker, but any number of them may
		// follow each other.
		if r.blocks = append(r.blocks, r.block[:]...); len(r.blocks) > 4*maxMeta {
			return RawEntry{}, r.check.entryError(fmt.Errorf("%w: extended headers of over %d bytes", ErrMalformed, 4*maxMeta))
		}
	}

	// What the Checker wants to skip now is content and padding. A global header has all of its content
	// among the blocks.
	r.pad = 0
	if r.check.raw.flag != tar.TypeXGlobalHeader {
		r.pad = int(r.check.pad)
	}

	r.left = r.check.skip - int64(r.pad)
	return RawEntry{Blocks: r.blocks, Size: r.left, Offset: at}, nil
}

// skipPadding reads the padding behind a content, and notes whether it is all zeros.
func (r *RawReader) skipPadding() error {
	n, err := io.ReadFull(r.r, r.block[:r.pad])
	if _, err := r.check.Write(r.block[:n]); err != nil {
		return err
	}
	for _, c := range r.block[:n] {
		r.odd = r.odd || c != 0
	}
	r.pad = 0
	if err == io.EOF || err == io.ErrUnexpectedEOF { // some programs leave it out at the end
		return nil
	}
	return err
}

// OddPadding reports whether the padding of the entry before the one that Next returned last held
// anything but zeros.
func (r *RawReader) OddPadding() bool { return r.odd }

// Read reads the stored content of the entry that Next returned last.
func (r *RawReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}

	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if _, err := r.check.Write(p[:n]); err != nil {
		return n, err
	}

	if err == io.EOF {
		if err = r.check.Close(); err == nil { // it lacks its padding alone
			err = io.EOF
		}
		r.left, r.pad = 0, 0
	}

	return n, err
}

// Offset returns how many bytes of the tar were read.
func (r *RawReader) Offset() int64 { return r.check.offset }

// Ended reports whether the end marker was seen.
func (r *RawReader) Ended() bool { return r.check.Ended() }

// A RawHeader is what the blocks of an entry say. Where an extended header and the header itself differ,
// the former counts, as for every reader.
type RawHeader struct {
	Type               byte
	Form               Form
	Name, Link         string
	Uname, Gname       string
	Mode, UID, GID     int64
	Devmajor, Devminor int64
	MTime              time.Time
	// Records are those of the PAX header before the entry, or of the entry if it is a global header.
	Records map[string]string
	// LongName says that GNU long names, or links, stand before the header.
	LongName bool
	// Before are the extended headers and long names that stand before the header, and Main is the
	// header itself. They are parts of the Blocks of the entry.
	Before []ExtendedBlock
	Main   []byte
}

// An ExtendedBlock is an extended header or a GNU long name: a header of its own and a content.
type ExtendedBlock struct{ Block, Content []byte }

// A Form is a way to write headers.
type Form string

// The forms of headers. FormPAX is ustar with an extended header before it, as POSIX has it.
const (
	FormV7    Form = "V7"
	FormUSTAR Form = "ustar"
	FormSTAR  Form = "star"
	FormGNU   Form = "GNU"
	FormPAX   Form = "PAX"
)

// Parse reads the blocks of an entry, which a [RawReader] has verified. Main and Before of the result are
// valid as long as the entry.
func (e RawEntry) Parse() (RawHeader, error) {
	h := RawHeader{}
	rest := e.Blocks
	var longName, longLink string
	for len(rest) >= blockSize {
		block := (*[blockSize]byte)(rest)
		raw, err := parseRaw(block)
		if err != nil {
			return h, err
		}

		rest = rest[blockSize:]
		var content []byte
		switch raw.flag {
		case tar.TypeXHeader, tar.TypeXGlobalHeader, tar.TypeGNULongName, tar.TypeGNULongLink:
			padded := raw.size + int64(Padding(raw.size))
			if raw.size < 0 || padded > int64(len(rest)) {
				return h, fmt.Errorf("%w: extended header of %d bytes", ErrMalformed, raw.size)
			}
			content, rest = rest[:raw.size], rest[padded:]
			h.Before = append(h.Before, ExtendedBlock{block[:], content})
		}

		// Only the header of the entry itself gets past this switch, and a global header, which
		// is an entry.
		switch raw.flag {
		case tar.TypeXHeader, tar.TypeXGlobalHeader:
			h.Records = map[string]string{} // a second extended header replaces the first
			for text := string(content); text != ""; {
				key, value, after, err := parseRecord(text)
				if err != nil {
					return h, err
				}
				h.Records[key], text = value, after
			}

			if raw.flag == tar.TypeXHeader {
				continue
			}
		case tar.TypeGNULongName:
			longName, h.LongName = cString(content), true
			continue
		case tar.TypeGNULongLink:
			longLink, h.LongName = cString(content), true
			continue
		}

		h.fromBlock(block, raw)
		if raw.flag == tar.TypeXGlobalHeader {
			return h, nil
		}

		return h, h.override(longName, longLink)
	}

	return h, fmt.Errorf("%w: extended header without an entry", ErrMalformed)
}

// fromBlock reads the header itself. Its numbers were verified by parseRaw.
func (h *RawHeader) fromBlock(b *[blockSize]byte, raw rawHeader) {
	number := func(at, n int) int64 {
		v, _ := parseNumber(b[at : at+n])
		return v
	}

	h.Main = b[:]
	h.Type = raw.flag
	h.Form = [...]Form{FormV7, FormV7, FormUSTAR, FormSTAR, FormGNU}[raw.format]
	if h.Records != nil && raw.format != formatGNU {
		h.Form = FormPAX
	}

	h.Name, h.Link = rawName(b), cString(b[atLink:atLink+lenLink])
	h.Mode, h.UID, h.GID = number(atMode, 8), number(atUID, 8), number(atGID, 8)
	h.MTime = time.Unix(number(atMTime, 12), 0).UTC()
	if raw.format > formatV7 {
		h.Uname, h.Gname = cString(b[atUname:atUname+lenUname]), cString(b[atGname:atGname+lenUname])
		h.Devmajor, h.Devminor = number(atDevmajor, 8), number(atDevminor, 8)
	}
}

// override replaces fields of the header by what stands before it. A GNU long name counts more than a
// record, as in archive/tar.
func (h *RawHeader) override(longName, longLink string) (err error) {
	for key, value := range h.Records {
		if value == "" {
			continue
		}

		// Sizes were taken by the Checker.
		switch key {
		case keyPath:
			h.Name = value
		case keyLink:
			h.Link = value
		case keyUname:
			h.Uname = value
		case keyGname:
			h.Gname = value
		case keyUID:
			h.UID, err = strconv.ParseInt(value, 10, 64)
		case keyGID:
			h.GID, err = strconv.ParseInt(value, 10, 64)
		case keyMTime:
			h.MTime, err = parseTime(value)
			h.MTime = h.MTime.UTC()
		}
		if err != nil {
			return fmt.Errorf("%w: record %q: %.40q", ErrMalformed, key, value)
		}
	}

	if longName != "" {
		h.Name = longName
	}

	if longLink != "" {
		h.Link = longLink
	}

	return nil
}

// A HeaderField is a part of a header block: the bytes from From up to To.
type HeaderField struct {
	Name     string
	From, To int
}

// HeaderFields returns the parts of a ustar header block in their order. Together they are the whole
// block; "prefix" has the unused bytes at its end.
func HeaderFields() [15]HeaderField {
	return [...]HeaderField{
		{"name", atName, atMode}, {"mode", atMode, atUID}, {"uid", atUID, atGID}, {"gid", atGID, atSize},
		{"size", atSize, atMTime}, {"mtime", atMTime, atSum}, {"checksum", atSum, atType}, {"type", atType, atLink}, {"linkname", atLink, atMagic},
		{"magic", atMagic, atUname}, {"uname", atUname, atGname}, {"gname", atGname, atDevmajor},
		{"devmajor", atDevmajor, atDevminor}, {"devminor", atDevminor, atPrefix}, {"prefix", atPrefix, blockSize},
	}
}
