package layercmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/tarutil"
	"ocikit/tarutil/rewrite"
)

func retarCommand() cli.Command {
	return cli.Command{
		Name: "retar", Args: "[FILE]", Group: cli.GroupLayer, Progress: true,
		Short: "write a tar again: moved, filtered, with another owner",
		Long: `Retar reads a tar, plain or compressed, from FILE or standard input, and writes a tar in
which entries have other places, or which holds some of them alone: it puts an upstream archive below
a directory, or takes one program out of it. Owners and times stay as they are unless flags change
them. --strip-components comes before --prefix; --only and --exclude look at the names in the input,
as in .dockerignore.

Hard links follow their targets. If a link is selected and its target is not, the content goes with
the link; that takes a second pass, so the input must be a file then. --sort puts the entries in the
order of "ocikit tar" with the help of a temporary file.`,
		Example: "ocikit retar layer.tar --only bin --prefix usr/local --owner 0:0 | ocikit digest",
		Status:  "4 if --only selects nothing",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(retarFlags)
			fs.StringVar(&f.o.Prefix, "prefix", "", "put everything below `DIR`")
			f.parents = commonflags.BindParents(fs)
			fs.IntVar(&f.o.StripComponents, "strip-components", 0, "strip `N` leading path components")
			fs.BoolVar(&f.o.Sort, "sort", false, "write the entries in the order of their names")
			f.only = cli.List(fs, "only", "", "write only what matches `PATTERN` (repeatable)")
			f.exclude = commonflags.BindExclude(fs)
			f.excludeFrom = commonflags.BindExcludeFrom(fs)
			f.owner = fs.String("owner", "keep", "give entries the owner `UID:GID`, or \"keep\" theirs")
			f.mode = commonflags.BindMode(fs)
			f.mtime = commonflags.BindMTime(fs, "keep")
			f.out = operands.BindTarOutput(fs)
			return f.run
		},
	}
}

// retarFlags are the flags of retar.
type retarFlags struct {
	o           rewrite.Options
	parents     *bool
	only        *[]string
	exclude     *[]string
	excludeFrom *[]string
	owner       *string
	mode        *string
	mtime       *string
	out         *string
}

// run writes the input anew.
func (f *retarFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	name := cli.FileOperand(args)

	// All flags that are wrong are named at once.
	var errs [4]error
	f.o.Owner, errs[0] = tarutil.ParseOwner(*f.owner)
	f.o.Mode, errs[1] = tarutil.ParseMode(*f.mode)
	f.o.MTime, errs[2] = commonflags.ParseMTime(env, *f.mtime)
	if f.o.StripComponents < 0 {
		errs[3] = errors.New("strip-components: it cannot be negative")
	}

	if err := errors.Join(errs[:]...); err != nil {
		return cli.Usagef("flag --%v", err)
	}

	if err := commonflags.CheckPaths("prefix", f.o.Prefix); err != nil {
		return err
	}

	var err error
	if f.o.Only, err = commonflags.Matcher(env, *f.only, nil); err != nil {
		return err
	}

	if f.o.Exclude, err = commonflags.Matcher(env, *f.exclude, *f.excludeFrom); err != nil {
		return err
	}

	f.o.Parents = *f.parents
	f.o.AllowNoEnd = name != "-" // a pipe that ends early is not a tar of old
	in, err := env.Data(name)
	if err != nil {
		return err
	}
	defer in.Close()

	return operands.WriteTar(env, *f.out, func(w io.Writer) error {
		err := rewrite.Tar(ctx, w, in, f.o)
		switch {
		case errors.Is(err, tarutil.ErrNothing):
			err = cli.NotThere(err)
		case errors.Is(err, tarutil.ErrOpaqueRoot):
			err = cli.WithHint(err, "leave it out with --exclude, and name what to remove in a layer of `ocikit tar --whiteout PATH`")
		}
		if err != nil {
			err = commonflags.TarHint(fmt.Errorf("%s: %w", cli.InputName(name), err))
		}
		return err
	})
}
