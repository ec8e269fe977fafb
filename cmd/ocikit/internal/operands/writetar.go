package operands

import (
	"errors"
	"flag"
	"io"
	"slices"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/tarutil/gzip"
	"ocikit/tarutil/zstd"
)

// BindTarOutput declares -o of a command that writes a tar, for [WriteTar].
func BindTarOutput(fs *flag.FlagSet) *string {
	name := new(tarName)
	fs.Var(name, "o", "write to `FILE` instead of standard output; a tar is compressed if FILE ends in .gz, .tgz or .zst")
	return (*string)(name)
}

// A tarName is the name of a file for a tar.
type tarName string

func (n *tarName) String() string { return string(*n) }

func (n *tarName) Set(text string) error {
	*n = tarName(text)
	return checkTarName(text)
}

// checkTarName refuses a name that asks for a compression which nothing here writes.
func checkTarName(name string) error {
	if hasEnd(name, ".xz", ".txz", ".bz2", ".tbz", ".tbz2", ".lzma", ".lz4") {
		return errors.New("the name asks for a compression that is not written here: gzip (.gz) and zstd (.zst) are")
	}
	return nil
}

func hasEnd(name string, ends ...string) bool {
	return slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(name, end) })
}

// WriteTar writes a tar to a file, as [cli.Env.ToOutput] does, or to standard output for "" and "-",
// compressed as [Compressed] does.
func WriteTar(env *cli.Env, file string, write func(io.Writer) error) error {
	return env.ToOutput(file, true, func(w io.Writer) error { return Compressed(file, w, write) })
}

// Compressed runs write on what goes into w, the file of that name. A file whose name says that it is
// compressed is: the name was chosen by the user, and other programs go by it. What is compressed has
// the same bytes on every machine, too.
func Compressed(file string, w io.Writer, write func(io.Writer) error) error {
	var z io.WriteCloser
	var err error
	switch {
	case hasEnd(file, ".gz", ".tgz"):
		z, err = gzip.NewWriter(w, gzip.DefaultLevel, 0)
	case hasEnd(file, ".zst"):
		z, err = zstd.NewWriter(w, zstd.DefaultLevel, 0)
	default:
		return write(w)
	}
	if err != nil {
		return err
	}

	// After an error there is no Close: the output must not look whole.
	if err := write(z); err != nil {
		return err
	}
	return z.Close()
}
