package carrycmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci/archive/split"
)

func joinCommand() cli.Command {
	return cli.Command{
		Name: "join", Args: "DIR", Group: cli.GroupCarry, Progress: true, AnyOperands: true,
		Short: "put the parts together that split made, verified",
		Long: `Join writes the stream that "ocikit split" cut into the parts in DIR on standard output, so that
no second copy is needed: "ocikit join DIR | ocikit unbundle LAYOUT". Parts that are missing or have
another size are found before the first byte is written; one with other bytes before its end is, and
then the output is cut short, so that nobody takes it for whole. All parts that are bad or missing are
named. It is enough to copy those again. Parts of another run are refused.

--check reads all parts and prints a line for each that is bad or missing.`,
		Example: "ocikit bundle app:latest | ocikit split --size 64MiB - parts\nocikit join parts | ocikit unbundle carried",
		Status:  "1 if parts are bad or missing, or belong to another run",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(joinFlags)
			f.check = fs.Bool("check", false, "write nothing; print the parts that are bad or missing")
			f.asJSON = cli.BindJSON(fs)
			f.out = commonflags.BindOutput(fs)
			return f.run
		},
	}
}

// joinFlags are the flags of join.
type joinFlags struct {
	check  *bool
	asJSON *bool
	out    *string
}

// run writes the whole, or with --check says what is wrong with the parts.
func (f *joinFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	// "-" for standard output, where the stream goes without it.
	if len(args) == 2 && args[1] == "-" {
		args = args[:1]
	}

	if len(args) != 1 {
		return cli.Usagef("%s, want DIR", show.Count(len(args), "operand"))
	}

	set, err := split.Open(args[0])
	if errors.Is(err, split.ErrStale) {
		return cli.WithHint(err, "keep the parts of one run, and their index, in a directory of their own")
	}
	if err != nil {
		return err
	}
	defer set.Close()

	set.Progress = env.Report()
	env.Planned(len(set.Index.Parts), set.Index.Size)
	if *f.check {
		return checkParts(ctx, env, set, args[0], *f.asJSON)
	}

	err = env.ToOutput(*f.out, true, func(w io.Writer) error { return set.Join(ctx, w) })
	if errors.Is(err, split.ErrBad) {
		return cli.WithHint(err, "copy what is named again; the other parts are right")
	}

	return err
}

// checkParts prints a line for each part that is bad or missing. If there is one, the error wraps
// [split.ErrBad].
func checkParts(ctx context.Context, env *cli.Env, set *split.Set, dir string, asJSON bool) error {
	problems, err := set.Check(ctx)
	if err != nil {
		return err
	}

	for _, p := range problems {
		if err := show.WriteRecord(env.Stdout, asJSON, p, p.What+" "+p.Name); err != nil {
			return err
		}
	}

	if len(problems) > 0 {
		return fmt.Errorf("%q: %w: %d of %d parts are bad or missing", dir, split.ErrBad, len(problems), len(set.Index.Parts))
	}

	return nil
}
