package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"ocikit/tarutil"
)

func tarCommand() Command {
	return Command{
		Name: "tar", Args: "SRC[:DEST]...", Group: groupLayer, Progress: true,
		Short: "write a deterministic tar of directories and files",
		Long: `Tar writes one tar of everything below each SRC, on standard output. The content of a
directory goes to DEST, or to the root; a file goes to DEST under its own name if DEST ends in a
slash, else under the name DEST; the last colon splits, so a SRC that holds one is written SRC: with
another at its end. The same tree gives the same bytes on every machine: entries are
in the order of their names, the owner is 0:0 and times are 0 unless flags say otherwise.

If SOURCE_DATE_EPOCH is set, times are kept, but none is later than it. Symbolic links are never
followed, hard links are kept, sockets are skipped with a notice. A file whose name begins with
".wh." is refused: in a layer it would mean a deletion. --whiteout and --opaque write deletions,
with or without any SRC.`,
		Example: "ocikit tar ./rootfs -o layer.tar\nocikit tar hello:/bin/ | ocikit digest\nocikit tar --whiteout usr/share/nginx/html | ocikit digest",
		Bind: func(fs *flag.FlagSet) Action {
			bind := packFlags(fs)
			whiteouts := list(fs, "whiteout", "", "delete `path` of the layers below (repeatable)")
			opaques := list(fs, "opaque", "", "hide what the layers below have in `dir` (repeatable)")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				opts, err := bind(env)
				if err != nil {
					return err
				}
				opts.Whiteouts, opts.Opaques = *whiteouts, *opaques
				if len(args)+len(*whiteouts)+len(*opaques) == 0 {
					return usagef("nothing to write: no SRC, --whiteout or --opaque")
				}
				sources := make([]tarutil.Source, len(args))
				for i, a := range args {
					sources[i] = parseSource(a)
				}
				return env.toOutput(*out, true, func(w io.Writer) error {
					counted, done := env.written(w, cmp.Or(*out, "standard output"))
					return packHint(done(tarutil.Pack(ctx, counted, sources, opts)))
				})
			}
		},
	}
}

// parseSource splits SRC[:DEST] at the last colon, so that only DEST may not hold one.
func parseSource(s string) tarutil.Source {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 {
		return tarutil.Source{Path: s}
	}
	return tarutil.Source{Path: s[:i], Dest: s[i+1:]}
}

func packHint(err error) error {
	if errors.Is(err, tarutil.ErrWhiteoutName) {
		return withHint(err, "leave it out with --exclude, or write a deletion with --whiteout PATH")
	}
	return err
}

// packFlags declares the flags that say how files become entries. What it returns reads
// them when the command runs.
func packFlags(fs *flag.FlagSet) func(env *Env) (tarutil.PackOptions, error) {
	prefix := fs.String("prefix", "", "put everything below `dir`")
	owner := fs.String("owner", "0:0", "give entries the owner `uid:gid`, or \"keep\" theirs")
	mode := fs.String("mode", "keep", "treat permissions `how`: keep, or normalize to 0755 and 0644")
	mtime := fs.String("mtime", "", "give entries this `time` (RFC 3339 or seconds), or \"keep\" theirs")
	xattrs := fs.String("xattrs", "security", "keep `which` extended attributes: security (capabilities), all or none")
	exclude := list(fs, "exclude", "", "leave out what matches `pattern`, as in .dockerignore (repeatable)")
	excludeFrom := list(fs, "exclude-from", "", "read such patterns from `file` (repeatable)")
	return func(env *Env) (o tarutil.PackOptions, err error) {
		o.Prefix = *prefix
		var errs [4]error
		o.Owner, errs[0] = tarutil.ParseOwner(*owner)
		o.Mode, errs[1] = tarutil.ParseMode(*mode)
		o.Xattrs, errs[2] = tarutil.ParseXattrs(*xattrs)
		if *mtime != "" {
			o.MTime, errs[3] = tarutil.ParseMTime(*mtime)
		}
		for _, err := range errs {
			if err != nil {
				return o, usagef("flag --%v", err)
			}
		}
		if *mtime == "" {
			if o.MTime, err = tarutil.ParseSourceDateEpoch(env.Getenv("SOURCE_DATE_EPOCH")); err != nil {
				return o, err
			}
		}
		o.Notice = func(path string) { env.notice("ocikit: skipped %q: a socket cannot be in a tar", path) }
		o.Exclude, err = matcher(env, *exclude, *excludeFrom)
		return o, err
	}
}

// matcher reads the patterns of --exclude-from, in front of those of --exclude.
func matcher(env *Env, patterns, files []string) (*tarutil.Matcher, error) {
	var all []string
	for _, name := range files {
		f, err := env.input(name)
		if err != nil {
			return nil, err
		}
		p, err := tarutil.ReadPatterns(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", inputName(name), err)
		}
		all = append(all, p...)
	}
	if all = append(all, patterns...); len(all) == 0 {
		return nil, nil
	}
	m, err := tarutil.NewMatcher(all)
	if err != nil {
		return nil, &usageError{msg: err.Error()}
	}
	return m, nil
}
