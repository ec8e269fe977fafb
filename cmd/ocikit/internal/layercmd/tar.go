package layercmd

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/tarutil"
	"ocikit/tarutil/pack"
)

func tarCommand() cli.Command {
	return cli.Command{
		Name: "tar", Args: "SRC[:DEST]...", Group: cli.GroupLayer, Progress: true, AnyOperands: true,
		Short: "write a deterministic tar of directories and files",
		Long: `Tar writes one tar of everything below each SRC, on standard output. The content of a
directory goes to DEST, or to the root; a file goes to DEST under its own name if DEST ends in a
slash, else under the name DEST; the last colon splits, so a SRC that holds one is written SRC: with
another at its end. The same tree gives the same bytes on every machine: entries are
in the order of their names, the owner is 0:0 and times are 0 unless flags say otherwise.

If SOURCE_DATE_EPOCH is set, times are kept, but none is later than it; with --mtime epoch all are it. Symbolic links are never
followed, hard links are kept, sockets are skipped with a notice. -:DEST makes standard input the
file DEST. A file whose name begins with
".wh." is refused: in a layer it would mean a deletion. --whiteout and --opaque write deletions,
with or without any SRC.

Directories that DEST and --prefix name, and no SRC holds, have no entry, so those of the image below
stay as they are; --parents writes entries for them, 0755 and of 0:0, for an image that has none.

What the upper directory of an overlay has for deletions, devices 0:0 and attributes, is none in a tar: a
notice names the first. "ocikit diff OLD NEW --layer" writes what an overlay changes.`,
		Example: "ocikit tar ./rootfs -o layer.tar\nocikit tar hello:/bin/ | ocikit digest\necho hello | ocikit tar -:etc/motd | ocikit digest\nocikit tar --whiteout usr/share/nginx/html | ocikit digest",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(tarFlags)
			f.bind = commonflags.BindPack(fs)
			f.whiteouts = cli.List(fs, "whiteout", "", "delete `PATH` of the layers below (repeatable)")
			f.whiteoutsFrom = cli.List(fs, "whiteout-from", "", "delete the paths in `FILE`, one a line, of the layers below (repeatable)")
			f.opaques = cli.List(fs, "opaque", "", "hide what the layers below have in `DIR` (repeatable)")
			f.out = operands.BindTarOutput(fs)
			return f.run
		},
	}
}

// tarFlags are the flags of tar.
type tarFlags struct {
	bind          func(*cli.Env) (pack.Options, error)
	whiteouts     *[]string
	whiteoutsFrom *[]string
	opaques       *[]string
	out           *string
}

// run packs the sources, and the whiteouts that the flags ask for.
func (f *tarFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	opts, err := f.bind(env)
	if err != nil {
		return err
	}

	opts.Whiteouts, opts.Opaques = *f.whiteouts, *f.opaques
	if len(args)+len(*f.whiteouts)+len(*f.whiteoutsFrom)+len(*f.opaques) == 0 {
		return cli.Usagef("nothing to write: no SRC, --whiteout or --opaque")
	}

	if err := cmp.Or(commonflags.CheckPaths("whiteout", *f.whiteouts...), commonflags.CheckPaths("opaque", *f.opaques...)); err != nil {
		return err
	}

	if err := oneStdin(args, *f.whiteoutsFrom); err != nil {
		return err
	}

	for _, name := range *f.whiteoutsFrom {
		paths, err := readPaths(env, name)
		if err != nil {
			return fmt.Errorf("%s: %w", cli.InputName(name), err)
		}
		opts.Whiteouts = append(opts.Whiteouts, paths...)
	}

	sources, done, err := OpenSources(ctx, env, args)
	defer done()
	if err != nil {
		return err
	}

	// The output may lie below a SRC, and is left out of the tar then.
	return env.ToOutput(*f.out, true, func(file io.Writer) error {
		opts.Output = env.Outputs(*f.out, file)
		return operands.Compressed(*f.out, file, func(w io.Writer) error {
			counted, done := env.Written(w, cmp.Or(*f.out, "standard output"))
			return commonflags.PackHint(done(pack.Tar(ctx, counted, sources, opts)))
		})
	})
}

// readPaths reads one path a line, as it is: a name may begin or end with a blank. Empty lines are
// skipped. A file with too many or too long lines is an error.
func readPaths(env *cli.Env, name string) ([]string, error) {
	f, err := env.Input(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	var paths []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if lines.Text() != "" {
			paths = append(paths, lines.Text())
		}
		if len(paths) > tarutil.DefaultMaxEntries {
			return nil, fmt.Errorf("%w: over %d lines", tarutil.ErrTooMany, tarutil.DefaultMaxEntries)
		}
	}

	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("a line of over %d bytes", bufio.MaxScanTokenSize)
	}

	return paths, lines.Err()
}

// oneStdin returns a usage error if operands and files together name standard input twice: it can be
// read once, and the second would be empty.
func oneStdin(operands, files []string) error {
	n := 0
	for _, operand := range operands {
		if parseSource(operand).Path == "-" {
			n++
		}
	}

	for _, name := range files {
		if name == "-" {
			n++
		}
	}

	if n > 1 {
		return cli.Usagef("standard input is one file, not %d", n)
	}

	return nil
}

// OpenSources reads the operands SRC[:DEST] of a command that packs. Standard input, as -:DEST, is
// copied to a temporary file, since a tar says how long a file is before it holds it. The caller
// calls done, after an error too, when the sources have been packed. A wrong operand gives a
// [cli.UsageError].
func OpenSources(ctx context.Context, env *cli.Env, args []string) (sources []pack.Source, done func(), err error) {
	done = func() {}
	if err := oneStdin(args, nil); err != nil {
		return nil, done, err
	}

	for _, operand := range args {
		src := parseSource(operand)
		if _, err := tarutil.CleanPath(src.Dest); err != nil {
			return nil, done, cli.Usagef("destination of %q: %v", src.Path, err)
		}

		if src.Path != "-" {
			// A layout with a name behind it looks like an image, and is packed as the directory
			// that it is.
			if src.Dest != "" && !strings.Contains(src.Dest, "/") && cli.Exists(filepath.Join(src.Path, "oci-layout")) {
				env.Notice("ocikit: %q is a layout: its blobs are packed below %q: `ocikit export %s` writes the files of an image", src.Path, src.Dest, operand)
			}
			sources = append(sources, src)
			continue
		}

		// A file "-" is written ./-, so a bare dash can only be meant as an input.
		if src.Dest == "" || strings.HasSuffix(src.Dest, "/") {
			return nil, done, &cli.UsageError{Msg: "standard input has no name", Advice: "-:DEST makes it the file DEST"}
		}

		dir, err := os.MkdirTemp(env.Getenv("TMPDIR"), "ocikit-")
		if err != nil {
			return nil, done, err
		}

		done = func() { os.RemoveAll(dir) }
		src.Path = filepath.Join(dir, "stdin")
		err = oci.WriteFile(src.Path, 0o644, func(w io.Writer) error {
			_, err := oci.CopyUntil(ctx, w, env.Stdin)
			return err
		})
		if err != nil {
			return nil, done, err
		}

		sources = append(sources, src)
	}

	return sources, done, nil
}

// parseSource splits SRC[:DEST] at the last colon: SRC may hold colons, DEST may not.
func parseSource(s string) pack.Source {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 {
		return pack.Source{Path: s}
	}
	return pack.Source{Path: s[:i], Dest: s[i+1:]}
}
