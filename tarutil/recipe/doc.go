// Package recipe makes a compressed file again from its uncompressed bytes, bit for bit, whatever
// program wrote it.
//
// The same bytes can be compressed in many ways. Each encoder chooses among them by rules of its
// own. A style imitates the rules of one encoder, and so predicts its output. A recipe names a
// style and holds corrections: the places where the file is not as the style predicts. With the
// style of the encoder that wrote the file, the corrections are nearly nothing. With another
// style they are longer, but they lead to the same file. So every valid gzip file has a recipe,
// with several members, stored blocks, header fields of all kinds and bytes behind the end. A
// Zstandard file has one only if package zstd wrote it.
//
// Other files may foretell what a style cannot. Most encoders write the same tokens for the same
// bytes, so where two files have contents in common, the one, compressed, says how the other was
// compressed. A [Kin] holds such files. With it nobody need run an encoder over what did not
// change, which takes most of the time, and what no style knows costs little.
//
// [Make] writes a recipe and also the file that comes of it. [Run] follows a recipe. Both work in
// one pass with flat memory, on several processors. [Encoders] names the encoders that a file may
// come from, without a recipe.
//
// # Format
//
// A recipe begins with the bytes "okr" and the version, 1. Numbers are unsigned varints (as
// of package encoding/binary). Then comes either
//
//	2, level, number of members, size of each, length of the tail, tail
//
// for a file that package gzip writes at this level, with a tail of other bytes;
//
//	3, level
//
// for one that package zstd writes at this level; or, for each segment of the file,
//
//	1, family and level of the style, flags, bytes, bits, distance to the begin of the member,
//	distance to the last flush, length of the corrections, corrections
//
// and a 0 behind the last. Flags are how many bits of the first byte belong to the segment
// before (3 bits), whether the segment begins inside a member (8), inside a block (16), and whether
// the tokens of other files count where their contents surely are enough for the encoder (32), or
// wherever they are the same (64). A segment has 4 MiB at most. Corrections are written by package rangecoder; codec.run is their
// grammar.
//
// Which tokens of other files count is settled by the numbers in kin.go and index.go, which are part of
// the format: how far from the ends of a stretch, how many for one segment, from which blocks on.
//
// A reader refuses another version, a style that it does not know, a segment that does not
// come to the bytes and bits that it should, and a file that gets larger than it was said to be.
//
// # Design
//
// The idea, to code the difference between predicted and actual tokens, is that of the
// program preflate. What is new is that segments are independent, so that several are made at
// once. An encoder forgets what is more than two of its blocks back, so each segment first runs
// the imitated encoder over the bytes that far before it.
//
// A style must never change, or old recipes would make other bytes. Therefore encoders are
// imitated here, and none is called. A better imitation gets a number of its own.
package recipe
