// Package gunzip decompresses gzip (RFC 1952, RFC 1951), for everything here that reads layers.
//
// A stream is a row of members. A member has a header, blocks of DEFLATE, and a trailer with the
// checksum and the size of its content. [NewReader] gives the content of all members, one after
// the other.
//
// # Design
//
// The package takes the place of compress/gzip, which reads one byte at a time from its source.
// Here bits are loaded eight bytes at a time, and one look into a table finds a symbol of up to
// eleven bits. Decompressing layers is most of the work of most commands, and this doubles its
// speed. It accepts what compress/gzip accepts, no more and no less: tests compare the two.
package gunzip
