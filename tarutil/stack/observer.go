package stack

import "archive/tar"

// An EntryID is an entry of a [Stack]: the number of its layer, and its own number in that.
type EntryID struct{ Layer, Entry int }

// An Observer is told by [Apply] what becomes of each entry, in the order in which that
// happens. Whiteouts are not entries, nor are directories that no entry is for.
type Observer interface {
	// Placed says that an entry has the real path given. Its content is that of file, which is
	// the entry itself unless it is a hard link. The header is not to be changed. An error ends
	// Apply.
	Placed(id, file EntryID, path string, hdr *tar.Header) error
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
	file := EntryID{int(n.file.layer), int(n.file.entry)}
	return t.watch.Placed(id, file, n.path(), hdr)
}

// gone tells the observer that n is losing its file.
func (t *stackTree) gone(n *node, whiteout bool) {
	t.disturbed = t.disturbed || !n.file.implied || n.file.walk > 0
	if t.watch == nil || n.file.implied {
		return
	}
	id := EntryID{int(n.layer), int(n.entry)}
	if n.file.flag == tar.TypeDir { // its name may be older than the entry that counts
		id = EntryID{int(n.file.layer), int(n.file.entry)}
	}
	t.watch.Gone(id, int(t.layer), whiteout)
}
