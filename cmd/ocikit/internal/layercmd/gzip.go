package layercmd

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci"
	"ocikit/tarutil"
	"ocikit/tarutil/estargz"
	"ocikit/tarutil/gzip"
)

func gzipCommand() cli.Command {
	return cli.Command{
		Name: "gzip", Args: "[FILE]", Group: cli.GroupLayer, Progress: true,
		Short: "compress, with bytes that never change",
		Long: `Gzip compresses FILE, or standard input, to standard output. The output depends on the
input and the level alone: not on the number of processors, the machine, the release of Go or of
ocikit. FILE is kept. With --decompress it does the opposite, to all members that there are.

With --estargz the input is a plain tar, and the output a gzip layer of which a snapshotter can fetch
single files; "ocikit layer --compress estargz" also says what the manifest needs.`,
		Example: "printf hello | ocikit gzip | ocikit gzip --decompress",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := bindFilter(fs, tarutil.FormatGzip, 0, gzip.DefaultLevel)
			star := fs.Bool("estargz", false, "write an eStargz layer")
			return func(ctx context.Context, env *cli.Env, args []string) error {
				if *star && *f.decompress {
					return cli.Usagef("flags --estargz and --decompress exclude each other")
				}
				if *star {
					f.doing = "make eStargz of a tar"
					f.plain = true
				}
				return f.run(ctx, env, args, func(w io.Writer, level, workers int) (packer, error) {
					if *star {
						z, err := estargz.NewWriter(w, level, workers)
						return starPacker{z}, err
					}
					return gzip.NewWriter(w, level, workers)
				})
			}
		},
	}
}

// A packer compresses what is written to it. Only Close makes the output whole.
type packer interface {
	io.Writer
	Close() error
}

// A starPacker is a packer of eStargz. Its Close drops what the manifest would need to know of the
// layer.
type starPacker struct{ *estargz.Writer }

func (p starPacker) Close() error {
	_, err := p.Writer.Close()
	return err
}

// filterFlags are the flags of the filters that compress.
type filterFlags struct {
	format     tarutil.Format
	doing      string // for errors, if it is more than to compress
	plain      bool   // the input must not be compressed
	decompress *bool
	level      commonflags.Level
	least      int // the lowest level
	usual      int // the level without the flag
	workers    *int
	out        *string
}

func bindFilter(fs *flag.FlagSet, format tarutil.Format, least, usual int) *filterFlags {
	return &filterFlags{
		format:     format,
		least:      least,
		usual:      usual,
		decompress: fs.Bool("decompress", false, "decompress instead"),
		level:      commonflags.BindLevel(fs, least, usual),
		workers:    commonflags.BindWorkers(fs),
		out:        commonflags.BindOutput(fs),
	}
}

// run sends the input through what open makes of a writer, a level and a number of workers, or
// through a decompressor.
func (f *filterFlags) run(ctx context.Context, env *cli.Env, args []string, open func(w io.Writer, level, workers int) (packer, error)) error {
	name := cli.FileOperand(args)
	level, err := f.level.Value(f.least, f.usual)
	if err != nil {
		return err
	}

	in, err := env.Data(name)
	if err != nil {
		return err
	}
	defer in.Close()

	return env.ToOutput(*f.out, true, func(w io.Writer) error {
		if *f.decompress {
			return f.expand(ctx, w, in, name)
		}

		data, err := f.uncompressed(in)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", cli.InputName(name), f.doing, err)
		}

		z, err := open(w, level, *f.workers)
		if err != nil {
			return err
		}

		// Without Close the goroutines of eStargz would wait for input; after Close, Abort does
		// nothing.
		if a, ok := z.(interface{ Abort() }); ok {
			defer a.Abort()
		}

		_, err = oci.CopyUntil(ctx, z, data)

		// After an error there is no Close: the output must not look whole.
		if err == nil {
			err = z.Close()
		}
		if err != nil && f.doing != "" {
			err = fmt.Errorf("%s: %s: %w", cli.InputName(name), f.doing, err)
		}

		return err
	})
}

// uncompressed returns the input, of which it has looked at the beginning if that must not be one of
// compressed bytes.
func (f *filterFlags) uncompressed(in io.Reader) (io.Reader, error) {
	if !f.plain {
		return in, nil
	}

	// An error of reading comes again from the reader itself.
	r := bufio.NewReader(in)
	head, _ := r.Peek(tarutil.SniffLen)
	switch format := tarutil.Sniff(head); format {
	case tarutil.FormatTar, tarutil.FormatUnknown:
		return r, nil
	default:
		return nil, fmt.Errorf("the input is %s: decompress it first", format)
	}
}

// expand decompresses the input, which must be in the format of the filter.
func (f *filterFlags) expand(ctx context.Context, w io.Writer, in io.Reader, name string) error {
	r, format, err := tarutil.Decompress(in)
	if err == nil && format != f.format {
		err = fmt.Errorf("it is %s, not %s", format, f.format)
		if format == tarutil.FormatUnknown {
			err = fmt.Errorf("it is not in the format of %s", f.format)
		}
	}
	if err == nil {
		_, err = oci.CopyUntil(ctx, w, r)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", cli.InputName(name), err)
	}
	return nil
}
