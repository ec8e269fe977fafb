// Package zstd reads and writes Zstandard streams (RFC 8878), which image layers may be in:
// [NewReader] decompresses, [NewWriter] compresses.
//
// A stream is a row of frames. A frame has a header, which says how far back a match may reach
// (the window), blocks of at most 128 KiB, and perhaps a checksum. A block is raw, one byte
// repeated, or compressed: literals, which are raw, repeated or in a Huffman code, and
// sequences, each of which copies some literals and then bytes from earlier on.
//
// The output of a [Writer] depends on the input and the level alone. The number of processors,
// the sizes of the Writes, the machine and the release of Go change nothing, so a digest of
// it can be pinned. The levels are: 1 and 2 are fast and the same; 3 to 5 are the default and
// the same; 6 to 9 are small and the same.
//
// # Design
//
// The standard library has neither side of Zstandard, and this module has no dependencies.
//
// The reader decodes one frame in one goroutine, since a block needs the output of those before
// it. Input is hostile until its checksum was seen: each count and each offset is checked before
// it is used, and memory grows with what was decompressed, up to the window, never with what
// a header claims.
//
// The writer cuts its input into jobs of 2 MiB and compresses several of them at once, into
// blocks of one frame. The input lies in a ring, so that a job sees what comes before it without
// a copy: 1, 4 or 6 MiB, by the level. All else that lasts from block to block begins anew with a
// job: it refers to no distance and no table of another one.
//
// Three ways of finding matches make the three kinds of levels. fastParser asks one table,
// doubleParser two. lazyParser knows several places for each hash, and takes a match only if the
// next position has no better one. All of them hand sequences to the same encoder. The output
// of a level is frozen: golden digests in testdata hold it. The option not taken: one window over
// all of the input would find a little more, but leave all but one processor idle.
package zstd
