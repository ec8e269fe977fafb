package estargz

import (
	"archive/tar"
	"encoding/base64"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"ocikit/digest"
	"ocikit/tarutil"
)

// toc is the table of contents, called TOC in the eStargz specification.
//
// An entry takes a third of the room when it is JSON, so it becomes that as soon as all of it is known,
// which settle is told. All that is held is taken from the budget.
type toc struct {
	budget  *tarutil.Budget
	waiting []*entry // the last ones
	held    int      // of the budget, for them
	parts   [][]byte // the JSON of those before
	size    int      // of all parts

	users  map[int]string // the name last written for a number
	groups map[int]string
}

const (
	maxWaiting = 1 << 14 // entries, but for the chunks of one file
	partSize   = 1 << 20 // of the JSON
	entryRoom  = 400     // of an entry besides its strings
)

// entry is a TOCEntry of the specification, its fields in the order they are written.
type entry struct {
	Name        string
	Type        string
	Size        int64
	ModTime     string
	LinkName    string
	Mode        int64
	UID, GID    int
	UserName    string
	GroupName   string
	Offset      int64 // of the gzip member in the blob
	DevMajor    int64
	DevMinor    int64
	Xattrs      map[string]string
	Digest      digest.Digest // of a whole regular file
	ChunkOffset int64
	ChunkSize   int64 // 0 for the last chunk of a file
	ChunkDigest digest.Digest
}

func (e *entry) setOffset(at int64) { e.Offset = at }

// add appends a copy of e and returns it for what is known only later. The error wraps
// [tarutil.ErrTooMany].
func (t *toc) add(e entry) (*entry, error) {
	room := entryRoom + len(e.Name) + len(e.LinkName) + tarutil.RecordsMemory(e.Xattrs)
	if err := t.budget.Take(room); err != nil {
		return nil, err
	}
	t.held += room

	// The names of users and groups stay, to be compared with.
	if kept := len(e.UserName) + len(e.GroupName); kept > 0 {
		if err := t.budget.Take(2*entryMapRoom + kept); err != nil {
			return nil, err
		}
	}

	t.waiting = append(t.waiting, &e)
	return &e, nil
}

// entryMapRoom is about what a name takes in a map besides itself.
const entryMapRoom = 60

// typeName returns what the specification calls a tar type, or "" for one it lacks.
func typeName(flag byte) string {
	switch flag {
	case tar.TypeReg:
		return "reg"
	case tar.TypeDir:
		return "dir"
	case tar.TypeLink:
		return "hardlink"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeChar:
		return "char"
	case tar.TypeBlock:
		return "block"
	case tar.TypeFifo:
		return "fifo"
	}

	return ""
}

// describe returns the entry for h, or an error for what eStargz cannot express.
func (t *toc) describe(h *tar.Header) (entry, error) {
	e := entry{
		Name:      h.Name,
		Type:      typeName(h.Typeflag),
		Mode:      h.Mode,
		UID:       h.Uid,
		GID:       h.Gid,
		UserName:  changed(&t.users, h.Uid, h.Uname),
		GroupName: changed(&t.groups, h.Gid, h.Gname),
		ModTime:   modTime(h.ModTime),
	}

	if tarutil.IsSparse(h) {
		return entry{}, ErrSparse
	}

	if e.Type == "" {
		return entry{}, fmt.Errorf("%w: type %q", errUnsupported, h.Typeflag)
	}

	if !utf8.ValidString(h.Name) || !utf8.ValidString(h.Linkname) {
		return entry{}, fmt.Errorf("%w: a name that is not UTF-8", errUnsupported)
	}

	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, tarutil.XattrPrefix); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[name] = value
		}
	}

	switch h.Typeflag {
	case tar.TypeReg:
		e.Size = h.Size
	case tar.TypeLink, tar.TypeSymlink:
		e.LinkName = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		e.DevMajor, e.DevMinor = h.Devmajor, h.Devminor
	}

	return e, nil
}

// changed returns name if it is not the one last written for id, and else "": a reader remembers the
// names.
func changed(last *map[int]string, id int, name string) string {
	if *last == nil {
		*last = map[int]string{}
	}
	if name == "" || (*last)[id] == name {
		return ""
	}
	(*last)[id] = name
	return name
}

// modTime returns a time as the specification has it, or "" for none.
func modTime(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return ""
	}
	return t.UTC().Round(time.Second).Format(time.RFC3339)
}

// cleanName brings a name to the form in which readers look it up.
func cleanName(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// reserved reports whether an entry of this name is made by eStargz writers and not by users.
func reserved(name string) bool {
	switch cleanName(name) {
	case tocName, landmark, noLandmark:
		return true
	}
	return false
}

// settle writes the entries that wait as JSON, one a line. It does not use encoding/json, whose
// output could change with a release of Go.
func (t *toc) settle() error {
	var line []byte
	for _, e := range t.waiting {
		begin := ",\n"
		if t.size == 0 {
			begin = `{"version":1,"entries":[` + "\n"
		}
		line = e.appendJSON(append(line[:0], begin...))
		if err := t.write(line); err != nil {
			return err
		}
	}

	t.budget.Give(t.held)
	t.held = 0
	clear(t.waiting)
	t.waiting = t.waiting[:0]
	return nil
}

// end settles the last entries and ends the table. It must have one.
func (t *toc) end() error {
	if err := t.settle(); err != nil {
		return err
	}
	return t.write([]byte("\n]}\n"))
}

// write appends to the parts, which are never copied to grow.
func (t *toc) write(b []byte) error {
	last := len(t.parts) - 1
	if last < 0 || len(t.parts[last])+len(b) > cap(t.parts[last]) {
		room := max(partSize, len(b))
		if err := t.budget.Take(room); err != nil {
			return err
		}
		t.parts = append(t.parts, make([]byte, 0, room))
		last++
	}
	t.parts[last] = append(t.parts[last], b...)
	t.size += len(b)
	return nil
}

// appendJSON appends an entry. Fields that are zero or empty are left out, as in the reference
// writer. Xattrs are base64, since their values are bytes.
func (e *entry) appendJSON(b []byte) []byte {
	b = append(quote(append(b, `{"name":`...), e.Name), `,"type":"`+e.Type+`"`...)
	b = number(b, "size", e.Size)
	b = text(b, "modtime", e.ModTime)
	b = text(b, "linkName", e.LinkName)
	b = number(b, "mode", e.Mode)
	b = number(b, "uid", int64(e.UID))
	b = number(b, "gid", int64(e.GID))
	b = text(b, "userName", e.UserName)
	b = text(b, "groupName", e.GroupName)
	b = number(b, "offset", e.Offset)
	b = number(b, "devMajor", e.DevMajor)
	b = number(b, "devMinor", e.DevMinor)

	for i, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		if i == 0 {
			b = append(b, `,"xattrs":{`...)
		} else {
			b = append(b, ',')
		}
		b = append(quote(b, name), ':', '"')
		b = append(base64.StdEncoding.AppendEncode(b, []byte(e.Xattrs[name])), '"')
	}

	if len(e.Xattrs) > 0 {
		b = append(b, '}')
	}

	b = text(b, "digest", e.Digest.String())
	b = number(b, "chunkOffset", e.ChunkOffset)
	b = number(b, "chunkSize", e.ChunkSize)
	b = text(b, "chunkDigest", e.ChunkDigest.String())
	return append(b, '}')
}

// number appends a field unless it is zero, and text one unless it is empty.
func number(b []byte, name string, v int64) []byte {
	if v == 0 {
		return b
	}
	return strconv.AppendInt(append(b, `,"`+name+`":`...), v, 10)
}

func text(b []byte, name, v string) []byte {
	if v == "" {
		return b
	}
	return quote(append(b, `,"`+name+`":`...), v)
}

// quote appends s as a JSON string (RFC 8259, section 7), bytes that are not UTF-8 replaced.
func quote(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
