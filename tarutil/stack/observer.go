package stack

import (
	"archive/tar"

	"ocikit/tarutil"
)

// An EntryID is an entry of a [Stack]: the number of its layer, and its own number in that.
type EntryID struct{ Layer, Entry int }

// An Observer is told by [Apply] what becomes of each entry, in the order in which that
// happens. Whiteouts are not entries, nor are directories that no entry is for.
type Observer interface {
	// Placed says that an entry has the real path given, a number of [Options].Paths. Its content is
	// that of file, which is the entry itself unless it is a hard link. The header is not to be
	// changed. An error ends Apply.
	Placed(id, file EntryID, path tarutil.PathID, hdr *tar.Header) error
	// Gone says that a layer removed what the entry had placed: with a whiteout, or by putting
	// something else there.
	Gone(id EntryID, layer int, whiteout bool)
}

// placed tells the observer of the entry that is being applied, and gave n its file.
func (t *stackTree) placed(n *node, hdr *tar.Header) error {
	t.placedLast = n
	if t.watch == nil {
		return nil
	}
	id := EntryID{int(t.layer), int(t.entry)}
	f := t.file(n)
	return t.watch.Placed(id, EntryID{int(f.layer), int(f.entry)}, n.id, hdr)
}

// gone tells the observer that n is losing its file.
func (t *stackTree) gone(n *node, whiteout bool) {
	f := t.file(n)
	t.disturbed = t.disturbed || !f.implied || f.walk > 0
	if t.watch == nil || f.implied {
		return
	}
	id := EntryID{int(n.layer), int(n.entry)}
	if f.flag == tar.TypeDir { // its name may be older than the entry that counts
		id = EntryID{int(f.layer), int(f.entry)}
	}
	t.watch.Gone(id, int(t.layer), whiteout)
}
