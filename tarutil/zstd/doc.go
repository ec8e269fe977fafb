// Package zstd decompresses Zstandard streams (RFC 8878), which image layers may be in.
//
// [NewReader] is all there is. A stream is a row of frames. A frame has a header, which
// says how far back a match may reach (the window), blocks of at most 128 KiB, and perhaps a
// checksum. A block is raw, one byte repeated, or compressed: literals, which are raw,
// repeated or in a Huffman code, and sequences, each of which copies some literals and then
// bytes from earlier on.
//
// # Design
//
// The standard library has no decoder for Zstandard, and this module has no dependencies. It
// decodes one frame in one goroutine, since a block needs the output of those before it.
// Input is hostile until its checksum was seen: each count and each offset is checked before
// it is used, and memory grows with what was decompressed, up to the window, never with what
// a header claims.
package zstd
