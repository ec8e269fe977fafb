// Package gunzip decompresses gzip (RFC 1952, RFC 1951), for all that reads layers.
//
// # Design
//
// It takes the place of compress/gzip, which takes one byte at a time from its source, and
// takes what that does, no more and no less: tests hold the one against the other. Here bits
// are loaded eight bytes at a time, and a symbol is found by one look into a table for codes
// of up to eleven bits. To unpack layers is most of the work of most commands, and this
// doubles its speed.
package gunzip
