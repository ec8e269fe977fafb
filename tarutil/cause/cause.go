// Package cause finds out why two tars differ in their bytes, though they may hold the same files:
// by order, times, owners, the form of headers, padding. [Tars] returns the causes. Each comes once,
// with the first entry that shows it and how many do; there is never a list of files. [Bytes] finds
// where two streams of any kind part.
//
// # Design
//
// Both tars are read in lock step. Most pairs have their entries in one order; then headers and
// contents are compared as bytes, nothing is hashed and nothing kept. An entry that has no
// counterpart at its place is kept as a record, its content as a hash, until the counterpart comes.
// So memory grows with how far the orders lie apart. Over a limit the comparison ends, with the
// cause [Apart].
//
// A header is compared by what it says, and separately by how it is spelled (see spelling.go).
// Otherwise a time that differs would be told twice, as a time and as a header.
package cause

import (
	"context"
	"io"
	"time"

	"ocikit/tarutil"
)

// A Kind is a way in which two tars differ.
type Kind string

// The kinds, in the order in which causes are returned.
const (
	OnlyHere    Kind = "only-here"    // entries of the first tar alone
	OnlyThere   Kind = "only-there"   // entries of the second one alone
	Order       Kind = "order"        // of the entries that both have
	Types       Kind = "type"         // another type of file
	Content     Kind = "content"      // bytes of files
	Links       Kind = "link"         // targets of links
	Devices     Kind = "device"       // numbers of devices
	Modes       Kind = "mode"         // permissions
	Owners      Kind = "owner"        // numbers
	OwnerNames  Kind = "owner-names"  // names of owner and group
	Times       Kind = "times"        // of modification
	AccessTimes Kind = "access-times" // of access and of change
	Xattrs      Kind = "xattrs"       // extended attributes
	Names       Kind = "names"        // spelled otherwise: "./a" and "a"
	Form        Kind = "form"         // of headers: GNU, PAX, ustar, or how fields are written
	Padding     Kind = "padding"      // between entries
	End         Kind = "end"          // what stands behind the last entry
	Apart       Kind = "apart"        // the orders lie too far apart for a comparison
)

// A Cause is one reason why two tars differ.
type Cause struct {
	Kind  Kind
	Count int    // of the entries that it is about
	Path  string // of the first of them
	// Here and There are what the first entry has in the first tar and in the second. For [Order]
	// they are the entries at the first place that differs, for [Content] the sizes in bytes.
	Here, There string
	// SameHere says that all of these entries have one value in the first tar, such as a time from
	// SOURCE_DATE_EPOCH or an owner that was set; SameThere says so of the second. For [Order] they
	// say that the entries of that tar are sorted.
	SameHere, SameThere bool
	// Shift is the time in the second tar minus that in the first, if it is the same for all
	// entries, and else 0.
	Shift time.Duration
	// Detail says more about what differs: the field of a header, the name of an attribute,
	// "fraction" for times, "umask" for modes.
	Detail string
	Offset int64  // where the first content differs, in bytes; -1 if that is not known
	Inside Inside // what differs inside the first file
}

// Options say how to compare.
type Options struct {
	MaxMemory int // in bytes, for entries that wait for their counterpart; 0 stands for 32 MiB
}

const maxMemory = 32 << 20

// Tars compares two tars that are not compressed, and returns the causes in the order of the kinds. No
// cause means that the bytes are the same. Tars reads both to their ends and closes neither. An error
// of reading, or about a stream that is not a tar, is a [*SideError]; the latter wraps an error of package
// tarutil such as [tarutil.ErrMalformed].
func Tars(ctx context.Context, here, there io.Reader, o Options) ([]Cause, error) {
	if o.MaxMemory == 0 {
		o.MaxMemory = maxMemory
	}
	c := newComparer(here, there, o.MaxMemory)
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	return c.causes(), nil
}

// A SideError says which of two inputs an error is about.
type SideError struct {
	There bool // it is about the second
	Err   error
}

func (e *SideError) Error() string { return e.Err.Error() }
func (e *SideError) Unwrap() error { return e.Err }

// A FirstDifference is where two streams part.
type FirstDifference struct {
	Same        bool
	Offset      int64 // of the first byte that differs or is missing; -1 if Same
	Here, There int64 // the sizes of both streams, in bytes
}

// Bytes compares two streams of any kind to their ends. An error of reading is a [*SideError]. It
// closes neither.
func Bytes(here, there io.Reader) (FirstDifference, error) {
	d := FirstDifference{Offset: -1}
	a, b := make([]byte, chunk), make([]byte, chunk)
	for {
		n, err := readChunk(here, a)
		if err != nil {
			return d, &SideError{false, err}
		}
		m, err := readChunk(there, b)
		if err != nil {
			return d, &SideError{true, err}
		}

		// Both are read on behind the first difference, for their sizes.
		if at := firstDifference(a[:n], b[:m]); at >= 0 && d.Offset < 0 {
			d.Offset = d.Here + int64(at)
		}

		d.Here += int64(n)
		d.There += int64(m)

		if n == 0 && m == 0 {
			d.Same = d.Offset < 0
			return d, nil
		}
	}
}

// chunk is how much is compared at once.
const chunk = 128 << 10

// readChunk fills p, or as much of it as there is.
func readChunk(r io.Reader, p []byte) (int, error) {
	n, err := io.ReadFull(r, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return n, err
}

// firstDifference returns where a and b part, or -1 if they are the same.
func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	if string(a[:n]) == string(b[:n]) {
		if len(a) == len(b) {
			return -1
		}
		return n
	}
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// cleanName returns the path that a name in a tar means.
func cleanName(name string) string {
	if clean, err := tarutil.CleanPath(name); err == nil {
		return clean
	}
	return name
}
