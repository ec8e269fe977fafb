package operands

import (
	"io"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/tarutil/gzip"
	"ocikit/tarutil/zstd"
)

// WriteArchive writes an archive of images to a file, as [cli.Env.ToOutput] does, or to standard output
// for "" and "-". A file whose name says that it is compressed is: the name was chosen by the user, and
// other programs go by it. What is compressed has the same bytes on every machine, too.
func WriteArchive(env *cli.Env, file string, write func(io.Writer) error) error {
	return env.ToOutput(file, true, func(w io.Writer) error {
		z, err := compress(file, w)
		if err != nil {
			return err
		}
		if z == nil {
			return write(w)
		}

		// After an error there is no Close: the output must not look whole.
		if err := write(z); err != nil {
			return err
		}
		return z.Close()
	})
}

// compress returns a writer that compresses to w as the name of the file asks for; nil if it does not.
func compress(file string, w io.Writer) (io.WriteCloser, error) {
	switch {
	case strings.HasSuffix(file, ".tar.gz"), strings.HasSuffix(file, ".tgz"):
		return gzip.NewWriter(w, gzip.DefaultLevel, 0)
	case strings.HasSuffix(file, ".tar.zst"):
		return zstd.NewWriter(w, zstd.DefaultLevel, 0)
	}
	return nil, nil
}
