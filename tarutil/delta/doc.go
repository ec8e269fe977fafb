// Package delta writes a stream as the difference to others that the reader has, such as the tar
// of a layer as the difference to the tars of the layers before it.
//
// All bases together are one long run of bytes ([Bases]), and so is the target. A delta builds the
// target from copies of the bases, copies of the target itself, and literals. [Make] writes a
// delta, and [Apply] follows it. A base may be of any size: it is read where it is needed, not
// loaded. A writer that does not have the bases can still make a delta from a list of their
// checksums; see [Chunks] and [Known].
//
// # Format
//
// A delta begins with the bytes "okd", the version, 1, a byte of flags, and the size of the
// bases together. Numbers are unsigned varints (as of package encoding/binary). For each segment
// of at most 8 MiB follow the number of its bytes and the length of its payload, and the
// payload; a 0 stands behind the last.
//
// A payload is a sequence of steps, written by package rangecoder: state.codeStep and
// state.codeLiteral are its grammar. Copies name the place they are from by an alignment, the
// difference between the places in the bases and in the target, or by a distance in the segment.
// The last four of these are remembered. A literal that stands a few bytes behind a copy is coded
// with the help of the expected byte, the one that the copy would have had there if it were
// longer: when a program is built again, many addresses in it change by a little. The flag 1 says
// that expected bytes of the bases are not used, since the writer knew these by their checksums
// alone.
//
// Segments depend on the bases and not on each other, so several are made at once. A reader refuses
// another version, unknown flags, bases of another total size, a copy from a place that does not
// exist, and a delta that makes another number of bytes than it should.
//
// # Design
//
// Long copies are found by hashes of 32 bytes at places that the content itself selects, one in
// 32 to 256 or fewer, so that the index of bases of any size has room. The gaps between them are searched
// for short copies from the bytes that stood in their place, by a table of the latest places of four bytes.
// A suffix array would find the same, in ten times the memory.
package delta
