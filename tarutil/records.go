package tarutil

import (
	"archive/tar"
	"fmt"
	"strings"
)

// The limits of Linux for one extended attribute, and our own for all of a tar together, in bytes. All
// are kept in memory when trees are compared or applied.
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
	maxXattrs     = 32 << 20
)

// A RecordsBudget counts the PAX records that are kept in memory, and refuses more of them
// than any image needs. Its zero value is ready for use.
type RecordsBudget struct{ used int }

// Take counts records. The error wraps [ErrMalformed] if there are too many with those before.
func (b *RecordsBudget) Take(records map[string]string) error {
	if b.used += RecordsSize(records); b.used > maxXattrs {
		return fmt.Errorf("%w: extended attributes of over %d bytes in all", ErrMalformed, maxXattrs)
	}
	return nil
}

// RecordsSize returns how many bytes the keys and values of PAX records have.
func RecordsSize(records map[string]string) int {
	n := 0
	for key, value := range records {
		n += len(key) + len(value)
	}
	return n
}

// ImageRecords returns copies of those PAX records that belong in an image, with their values as they
// belong there; see [XattrsAll] and [ImageXattr]. The result is nil if there are none.
func ImageRecords(records map[string]string) map[string]string {
	var kept map[string]string
	for key, value := range records {
		attr, ok := strings.CutPrefix(key, XattrPrefix)
		if ok && !XattrsAll.Keeps(attr) || !keepRecord(key) {
			continue
		}
		if kept == nil {
			kept = make(map[string]string)
		}
		if ok {
			value = ImageXattr(attr, value)
		}
		kept[strings.Clone(key)] = strings.Clone(value)
	}

	return kept
}

// HardLink returns the header of a hard link to target that has the name, owner, permissions and time of
// hdr. hdr itself stays as it is.
func HardLink(hdr tar.Header, target string) *tar.Header {
	hdr.Typeflag, hdr.Linkname, hdr.Size, hdr.PAXRecords = tar.TypeLink, target, 0, nil
	return &hdr
}
