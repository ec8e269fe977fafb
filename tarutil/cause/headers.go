package cause

import (
	"archive/tar"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ocikit/tarutil"
)

// A finding gathers the entries that a cause is about.
type finding struct {
	cause               Cause
	here, there         string // of the first
	shift               time.Duration
	timeHere, timeThere time.Time // of the first
	fractions           bool      // times differ in their fractions alone
	bitsA, bitsB        int64     // permissions that one side alone has
}

// note adds an entry to a cause. here and there are what it has in the first tar and the second.
func (c *comparer) note(kind Kind, path, here, there string) *finding {
	c.noted++
	f := c.found[kind]
	if f == nil {
		f = &finding{cause: Cause{Kind: kind, Path: path, Here: here, There: there, SameHere: true, SameThere: true, Offset: -1}, here: here, there: there}
		c.found[kind] = f
	}
	f.cause.Count++
	f.cause.SameHere = f.cause.SameHere && here == f.here
	f.cause.SameThere = f.cause.SameThere && there == f.there
	return f
}

// finish makes a cause of what was gathered.
func (f *finding) finish() Cause {
	c := f.cause
	switch c.Kind {
	case Times:
		if c.Shift = f.shift; f.fractions {
			c.Shift, c.Detail = 0, "fraction"
		}
	case Modes:
		const umask = 0o077
		if (f.bitsA == 0 || f.bitsB == 0) && (f.bitsA|f.bitsB)&^umask == 0 {
			c.Detail = "umask"
		}
	}
	return c
}

// headers compares the headers of two entries of one path: what they say, and how they say it.
func (c *comparer) headers(x, y *record) {
	a, b := &x.header, &y.header
	before := c.noted
	defer func() { // a difference that no rule knows must not go untold
		if c.noted == before && x.blocks != y.blocks && x.size == y.size {
			c.noteForm(x.path, "other bytes", "", "")
		}
	}()

	if a.Name != b.Name && (a.Type == b.Type) {
		c.note(Names, x.path, a.Name, b.Name)
	}

	if typeOf(a) != typeOf(b) {
		c.note(Types, x.path, TypeName(a.Type), TypeName(b.Type))
	}

	if a.Link != b.Link && typeOf(a) == typeOf(b) {
		c.note(Links, x.path, a.Link, b.Link)
	}

	if a.Devmajor != b.Devmajor || a.Devminor != b.Devminor {
		c.note(Devices, x.path, fmt.Sprintf("%d:%d", a.Devmajor, a.Devminor), fmt.Sprintf("%d:%d", b.Devmajor, b.Devminor))
	}

	switch { // other numbers have other names, mostly
	case a.UID != b.UID || a.GID != b.GID:
		c.note(Owners, x.path, fmt.Sprintf("%d:%d", a.UID, a.GID), fmt.Sprintf("%d:%d", b.UID, b.GID))
	case a.Uname != b.Uname || a.Gname != b.Gname:
		c.note(OwnerNames, x.path, fmt.Sprintf("%s:%s", a.Uname, a.Gname), fmt.Sprintf("%s:%s", b.Uname, b.Gname))
	}

	c.mode(x, y)
	c.times(x, y)
	c.records(x, y)
	if x.odd != y.odd {
		c.note(Padding, x.path, "", "")
	}

	c.form(x, y)
}

// typeOf returns the type of an entry. Old programs wrote 0 for a file, and for a directory with a
// slash at the end of its name.
func typeOf(h *tarutil.RawHeader) byte {
	if h.Type == 0 {
		if strings.HasSuffix(h.Name, "/") {
			return tar.TypeDir
		}
		return tar.TypeReg
	}
	return h.Type
}

// TypeName returns what people call a type of entry.
func TypeName(flag byte) string {
	switch flag {
	case tar.TypeReg, 0, tar.TypeCont:
		return "file"
	case tar.TypeDir:
		return "directory"
	case tar.TypeSymlink:
		return "symlink"
	case tar.TypeLink:
		return "hardlink"
	case tar.TypeFifo:
		return "fifo"
	case tar.TypeChar, tar.TypeBlock:
		return "device"
	case tar.TypeGNUSparse:
		return "sparse file"
	case tar.TypeXGlobalHeader:
		return "global header"
	}

	return fmt.Sprintf("type %q", flag)
}

// mode compares permissions, and gathers which bits only one side has.
func (c *comparer) mode(x, y *record) {
	a, b := x.header.Mode, y.header.Mode
	if a == b {
		return
	}
	f := c.note(Modes, x.path, fmt.Sprintf("%04o", a), fmt.Sprintf("%04o", b))
	f.bitsA |= a &^ b
	f.bitsB |= b &^ a
}

// times compares the times of two entries. They may differ in every entry, so only those of the first
// are formatted, and the others are compared as times.
func (c *comparer) times(x, y *record) {
	a, b := x.header.MTime, y.header.MTime
	if a.Equal(b) {
		return
	}

	// A fraction that one side alone has may be due to the form of its headers; see fold.
	shift := b.Sub(a)
	cut := a.Truncate(time.Second).Equal(b) || b.Truncate(time.Second).Equal(a)
	f := c.found[Times]
	if f == nil {
		f = c.note(Times, x.path, a.Format(time.RFC3339Nano), b.Format(time.RFC3339Nano))
		f.timeHere, f.timeThere, f.shift, f.fractions = a, b, shift, cut
		return
	}

	c.noted++
	f.cause.Count++
	f.cause.SameHere = f.cause.SameHere && a.Equal(f.timeHere)
	f.cause.SameThere = f.cause.SameThere && b.Equal(f.timeThere)
	f.fractions = f.fractions && cut
	if f.shift != shift {
		f.shift = 0
	}
}

// records compares those PAX records that say more than the fields of a header can.
func (c *comparer) records(x, y *record) {
	a, b := x.header.Records, y.header.Records
	for _, key := range differing(a, b) {
		v, inA := a[key]
		w, inB := b[key]
		switch {
		case isXattr(key):
			f := c.note(Xattrs, x.path, presence(inA), presence(inB))
			if f.cause.Count == 1 {
				f.cause.Detail = xattrName(key)
			}
		case key == "atime" || key == "ctime":
			if inA && inB {
				if f := c.note(AccessTimes, x.path, v, w); f.cause.Detail == "" {
					f.cause.Detail = key
				}
			}
		// A record that only one side has is told by the keys in the spelling.
		case inA && inB:
			c.noteForm(x.path, "record "+key, shortText(v), shortText(w))
		}
	}
}

// differing returns, sorted, the keys of the records in which two headers differ. Records that stand
// for a field are left out.
func differing(a, b map[string]string) (keys []string) {
	for key := range merged(a, b) {
		v, inA := a[key]
		w, inB := b[key]
		if (inA != inB || v != w) && !isHeaderRecord(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// merged returns the records of both headers. Only its keys are of use.
func merged(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	if all == nil {
		return b
	}
	maps.Copy(all, b)
	return all
}

const libarchiveXattr = "LIBARCHIVE.xattr."

func isXattr(key string) bool {
	return strings.HasPrefix(key, tarutil.XattrPrefix) || strings.HasPrefix(key, libarchiveXattr)
}

func xattrName(key string) string {
	return strings.TrimPrefix(strings.TrimPrefix(key, tarutil.XattrPrefix), libarchiveXattr)
}

func presence(has bool) string {
	if has {
		return "set"
	}
	return "none"
}

// isHeaderRecord reports whether a record stands for a field of the header that has no room for it.
func isHeaderRecord(key string) bool {
	switch key {
	case "path", "linkpath", "uname", "gname", "uid", "gid", "size", "mtime":
		return true
	}
	return false
}

// shortText returns a value, cut so that it fits a message.
func shortText(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}

// noteForm adds an entry to [Form]. The detail of the first entry stays.
func (c *comparer) noteForm(path, detail, here, there string) {
	if f := c.note(Form, path, here, there); f.cause.Detail == "" && f.cause.Count == 1 {
		f.cause.Detail = detail
	}
}

// form compares how headers are spelled, apart from what they say.
func (c *comparer) form(x, y *record) {
	a, b := &x.header, &y.header
	if a.Form != b.Form && !explained(x, y) {
		c.noteForm(x.path, "", string(a.Form), string(b.Form))
		return
	}

	if a.Form != b.Form || x.spelling == y.spelling {
		return
	}

	// The first part that differs is told. Lists of records differ with what the records say, and
	// are passed over then.
	p, q := strings.Split(x.spelling, "\n"), strings.Split(y.spelling, "\n")
	for i := range min(len(p), len(q)) {
		if p[i] == q[i] {
			continue
		}
		name, here, _ := strings.Cut(p[i], "=")
		_, there, _ := strings.Cut(q[i], "=")
		if name == "records" && explained(x, y) {
			continue
		}
		c.noteForm(x.path, name, numberWords(here), numberWords(there))
		return
	}
}

// explained reports whether the records that only one of two headers has are there because the values
// differ: a long name, for one, makes a PAX header out of a ustar one. That is no other spelling.
func explained(x, y *record) bool {
	a, b := &x.header, &y.header

	// Such a record makes PAX of an older form, and never GNU of PAX.
	if a.Form != b.Form && (a.Form != tarutil.FormPAX && b.Form != tarutil.FormPAX || a.Form == tarutil.FormGNU || b.Form == tarutil.FormGNU) {
		return false
	}

	for key := range merged(a.Records, b.Records) {
		_, inA := a.Records[key]
		_, inB := b.Records[key]
		if inA == inB {
			continue
		}

		differs := false
		switch key {
		case "path":
			differs = a.Name != b.Name
		case "linkpath":
			differs = a.Link != b.Link
		case "uname":
			differs = a.Uname != b.Uname
		case "gname":
			differs = a.Gname != b.Gname
		case "uid":
			differs = a.UID != b.UID
		case "gid":
			differs = a.GID != b.GID
		case "mtime":
			differs = !a.MTime.Equal(b.MTime)
		case "size":
			differs = x.size != y.size
		default:
			differs = isXattr(key)
		}

		if !differs {
			return false
		}
	}

	return true
}

// fold takes out the causes that follow from another form of headers: only PAX keeps fractions of
// seconds, and V7 has no names of owners. Form then tells of them in its Detail.
func (c *comparer) fold() {
	form := c.found[Form]
	if form == nil || form.cause.Detail != "" {
		return
	}
	forms := []string{form.cause.Here, form.cause.There}
	if t := c.found[Times]; t != nil && t.fractions && slices.Contains(forms, string(tarutil.FormPAX)) {
		delete(c.found, Times)
		form.cause.Detail = "fractions"
	}
	if n := c.found[OwnerNames]; n != nil && slices.Contains(forms, string(tarutil.FormV7)) {
		delete(c.found, OwnerNames)
		form.cause.Detail = "owner-names"
	}
}
