// Package gzip writes gzip streams whose bytes depend on the input and the level alone. The
// number of processors, the sizes of the Writes, the machine and the release of Go change
// nothing, so a digest of the output can be pinned. That is why the package has a DEFLATE
// encoder of its own: the one in compress/flate may change its output from release to
// release, and has. Read the output with compress/gzip or any other gzip reader.
//
// A [Writer] cuts its input into blocks of 480 KiB and compresses several of them at once,
// each with the 32 KiB before it as its window, which is as far as a DEFLATE match may reach.
// All but the last block of a member end at a byte boundary (with an empty stored block, RFC
// 1951, section 3.2.4, where one is missing), so that the results need only be joined. All
// this is one gzip member (RFC 1952) with a header of fixed bytes: no name, no time, no
// system. [Writer.EndMember] ends a member early for formats which need more than one.
//
// The levels are: 0 stores the bytes as they are; 1 to 3 are fast and the same; 4 to 6 are
// the default and the same; 7 to 9 are small and the same.
//
// # Design
//
// The output of a level is frozen, and golden digests in testdata hold it. A better encoding goes to
// a level that equals its neighbour today.
//
// Three ways of finding matches make the three kinds of levels. fastParser asks one table,
// doubleParser two, and chainParser walks a chain of all candidates. All of them hand tokens
// to the same encoder, which cuts them into DEFLATE blocks where the statistics change and
// writes each block in the shortest of the three ways there are.
//
// Assembly and package unsafe would save a few instructions per byte. Masked indices into arrays save
// most of them too, and the same code runs everywhere.
package gzip
