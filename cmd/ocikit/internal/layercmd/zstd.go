package layercmd

import (
	"context"
	"flag"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/tarutil"
	"ocikit/tarutil/zstd"
)

func zstdCommand() cli.Command {
	return cli.Command{
		Name: "zstd", Args: "[FILE]", Group: cli.GroupLayer, Progress: true,
		Short: "compress with Zstandard, with bytes that never change",
		Long: `Zstd compresses FILE, or standard input, to standard output, smaller than "ocikit gzip" in the
same time. The output depends on the input and the level alone: not on the number of processors, the
machine, the release of Go or of ocikit. Every decoder takes it; it needs a window of 8 MiB at most.
FILE is kept. With --decompress it does the opposite, to all frames that there are.

The levels are three: 1 and 2, 3 to 5, and 6 to 9 are the same.`,
		Example: "printf hello | ocikit zstd | ocikit zstd --decompress",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := bindFilter(fs, tarutil.FormatZstd, 1, zstd.DefaultLevel)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				return f.run(ctx, env, args, func(w io.Writer, level, workers int) (packer, error) {
					return zstd.NewWriter(w, level, workers)
				})
			}
		},
	}
}
