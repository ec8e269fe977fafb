package commonflags

import (
	"flag"
	"fmt"
	"strconv"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci/image"
	"ocikit/tarutil/gzip"
	"ocikit/tarutil/zstd"
)

// BindCompression declares the flags that say how layers are compressed, as one of the words, the
// first of which is the default. The function that it returns reads them; a level that the format
// does not have is a usage error.
func BindCompression(fs *flag.FlagSet, words ...string) func() (image.LayerOptions, error) {
	def, _, _ := strings.Cut(words[0], " (")
	compress := cli.Choice(fs, "compress", def, "store layers as `HOW`", words...)
	level := Level{cli.OptionalFlag(fs, "level", "", fmt.Sprintf("compress with level `N`: 1 (fast) to 9 (small), 0 of gzip for none (default %d, of zstd %d)", gzip.DefaultLevel, zstd.DefaultLevel))}
	workers := BindWorkers(fs)
	return func() (image.LayerOptions, error) {
		o := image.LayerOptions{Compression: image.Compression(*compress), Workers: *workers}

		// Level 0 is gzip's word for no compression at all.
		least, usual := 0, gzip.DefaultLevel
		if o.Compression == image.Zstd {
			least, usual = 1, zstd.DefaultLevel
		}
		var err error
		o.Level, err = level.Value(least, usual)
		return o, err
	}
}

// A Level is the flag of a level of compression, which depends on the format.
type Level struct{ given *cli.Optional }

// BindLevel declares the level of one format: from least to 9, or else the usual one.
func BindLevel(fs *flag.FlagSet, least, usual int) Level {
	none := ""
	if least == 0 {
		none = ", 0 for none"
	}
	return Level{cli.OptionalFlag(fs, "level", "", fmt.Sprintf("compress with level `N`: 1 (fast) to 9 (small)%s (default %d)", none, usual))}
}

// Value returns the level that was given, from least to 9, or else the usual one.
func (l Level) Value(least, usual int) (int, error) {
	if !l.given.Given {
		return usual, nil
	}
	n, err := strconv.Atoi(l.given.Value)
	if err != nil || n < least || n > 9 {
		return 0, cli.Usagef("flag --level: %q: want %d to 9", l.given.Value, least)
	}
	return n, nil
}

// BindWorkers declares the flag that says how many blocks are compressed at once. The bytes do not
// depend on it.
func BindWorkers(fs *flag.FlagSet) *int {
	return fs.Int("j", 0, "work on up to `N` blocks at once (0: one for each processor); the result is the same")
}
