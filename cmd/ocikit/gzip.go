package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"ocikit/tarutil/estargz"
	"ocikit/tarutil/gzip"
)

func gzipCommand() Command {
	return Command{
		Name: "gzip", Args: "[FILE]", Group: groupLayer, Progress: true,
		Short: "compress, with bytes that never change",
		Long: `Gzip compresses FILE, or standard input, to standard output. The output depends on the
input and the level alone: not on the number of processors, the machine, the release of Go or of
ocikit. FILE is kept.

With --estargz the input is a plain tar, and the output a gzip layer of which a snapshotter can fetch
single files; "ocikit layer --compress estargz" also says what the manifest needs.`,
		Example: "printf hello | ocikit gzip | gunzip",
		Bind: func(fs *flag.FlagSet) Action {
			level := levelFlag(fs)
			workers := workersFlag(fs)
			star := fs.Bool("estargz", false, "write an eStargz layer")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				name, err := oneOperand(args)
				if err != nil {
					return err
				}
				if err := checkLevel(*level); err != nil {
					return err
				}
				in, err := env.data(name)
				if err != nil {
					return err
				}
				defer in.Close()
				return env.toOutput(*out, true, func(w io.Writer) error {
					if *star {
						if err := writeEstargz(ctx, w, in, *level, *workers); err != nil {
							return fmt.Errorf("%s: make eStargz of a tar: %w", inputName(name), err)
						}
						return nil
					}
					z, err := gzip.NewWriter(w, *level, *workers)
					if err != nil {
						return err
					}
					if _, err := copyTo(ctx, z, in); err != nil {
						return err // without Close: a torn stream must not look whole
					}
					return z.Close()
				})
			}
		},
	}
}

func writeEstargz(ctx context.Context, w io.Writer, r io.Reader, level, workers int) error {
	z, err := estargz.NewWriter(w, level, workers)
	if err != nil {
		return err
	}
	defer z.Abort()
	if _, err := copyTo(ctx, z, r); err != nil {
		return err
	}
	_, err = z.Close()
	return err
}

func levelFlag(fs *flag.FlagSet) *int {
	return fs.Int("level", gzip.DefaultLevel, "compress with level `n`: 1 (fast) to 9 (small), 0 for none")
}

func checkLevel(level int) error {
	if level < 0 || level > 9 {
		return usagef("flag --level: %d: want 0 to 9", level)
	}
	return nil
}

func workersFlag(fs *flag.FlagSet) *int {
	return fs.Int("j", 0, "work on up to `n` blocks at once (0: one for each processor); the result is the same")
}
