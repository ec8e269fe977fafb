// Package entropy holds what the compressors of this module share: [CodeLengths] makes prefix
// codes, [Logs] estimates how many bits symbols will take, and a [BitWriter] writes them. All compute with
// integers alone, in a fixed order, so that the same counts give the same code on every machine.
package entropy
