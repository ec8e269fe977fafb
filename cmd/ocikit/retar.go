package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"ocikit/tarutil"
)

func retarCommand() Command {
	return Command{
		Name: "retar", Args: "[FILE]", Group: groupLayer, Progress: true,
		Short: "write a tar again: moved, filtered, with another owner",
		Long: `Retar reads a tar, plain or compressed, from FILE or standard input, and writes a plain tar in
which entries have other places, or which holds some of them alone: it puts an upstream archive below
a directory, or takes one program out of it. Owners and times stay as they are unless flags change
them. --strip-components comes before --prefix; --only and --exclude look at the names in the input,
as in .dockerignore.

Hard links follow their targets. If a link is selected and its target is not, the content goes with
the link; that takes a second pass, so the input must be a file then. --sort puts the entries in the
order of "ocikit tar" with the help of a temporary file.`,
		Example: "ocikit retar layer.tar --only bin --prefix usr/local --owner 0:0 | ocikit digest",
		Status:  "4 if --only selects nothing",
		Bind: func(fs *flag.FlagSet) Action {
			var o tarutil.RewriteOptions
			fs.StringVar(&o.Prefix, "prefix", "", "put everything below `dir`")
			fs.IntVar(&o.StripComponents, "strip-components", 0, "take `n` names off the front of each path")
			fs.BoolVar(&o.Sort, "sort", false, "write the entries in the order of their names")
			only := list(fs, "only", "", "write what matches `pattern` alone (repeatable)")
			exclude := list(fs, "exclude", "", "leave out what matches `pattern`, as in .dockerignore (repeatable)")
			excludeFrom := list(fs, "exclude-from", "", "read such patterns from `file` (repeatable)")
			owner := fs.String("owner", "keep", "give entries the owner `uid:gid`, or \"keep\" theirs")
			mode := fs.String("mode", "keep", "treat permissions `how`: keep, or normalize to 0755 and 0644")
			mtime := fs.String("mtime", "keep", "give entries this `time` (RFC 3339 or seconds), or \"keep\" theirs")
			out := fs.String("o", "", "write to `file` instead of standard output")
			return func(ctx context.Context, env *Env, args []string) error {
				name, err := oneOperand(args)
				if err != nil {
					return err
				}
				var errs [4]error
				o.Owner, errs[0] = tarutil.ParseOwner(*owner)
				o.Mode, errs[1] = tarutil.ParseMode(*mode)
				o.MTime, errs[2] = tarutil.ParseMTime(*mtime)
				if o.StripComponents < 0 {
					errs[3] = errors.New("strip-components: it cannot be negative")
				}
				if err := errors.Join(errs[:]...); err != nil {
					return usagef("flag --%v", err)
				}
				if o.Only, err = matcher(env, *only, nil); err != nil {
					return err
				}
				if o.Exclude, err = matcher(env, *exclude, *excludeFrom); err != nil {
					return err
				}
				o.AllowNoEnd = name != "-" // a pipe that ends early is not a tar of old
				in, err := env.data(name)
				if err != nil {
					return err
				}
				defer in.Close()
				return env.toOutput(*out, true, func(w io.Writer) error {
					err := tarutil.Rewrite(ctx, w, in, o)
					if errors.Is(err, tarutil.ErrNothing) {
						err = &notThere{err}
					}
					if err != nil {
						err = fmt.Errorf("%s: %w", inputName(name), err)
					}
					return err
				})
			}
		},
	}
}
