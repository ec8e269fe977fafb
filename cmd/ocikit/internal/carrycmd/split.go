package carrycmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci/archive/split"
)

func splitCommand() cli.Command {
	return cli.Command{
		Name: "split", Args: "FILE DIR", Group: cli.GroupCarry, Progress: true,
		Short: "cut a file into parts of the size of a medium",
		Long: `Split writes FILE, or with "-" standard input, as parts of exactly --size bytes each, but for the
last, into DIR: NAME.0001, NAME.0002 and so on, and when all are written NAME.parts.json with the
digest of each part and of the whole. The index goes along with the parts; "ocikit join" puts them
together on the other side, from any mixture of media that was copied into one directory.

A directory that holds parts already, of a set whose index is there or of a killed run of the same
NAME, is refused; --force removes them first, and no other file. A tar from a pipe must be whole: what a program wrote before it failed does not
become a set of parts.`,
		Example: "ocikit bundle app:latest | ocikit split --size 64MiB - parts\nocikit join parts | ocikit unbundle carried",
		Status:  "1 if DIR holds parts of another run, or the input ends early",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(splitFlags)
			fs.Var(&f.size, "size", "cut parts of `SIZE` bytes, as 650MB or 4G")
			f.name = fs.String("name", "", "call the parts `NAME` and a number, by default the name of FILE, or \"bundle.tar\" for standard input")
			f.force = fs.Bool("force", false, "remove parts that DIR holds already")
			f.asJSON = cli.BindJSON(fs)
			return f.run
		},
	}
}

// splitFlags are the flags of split.
type splitFlags struct {
	size   cli.Size
	name   *string
	force  *bool
	asJSON *bool
}

// run cuts a file, or standard input, into parts, and prints their names.
func (f *splitFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	if f.size <= 0 {
		return cli.Usagef("flag --size: say how large a part may be")
	}

	o := split.Options{Name: *f.name, Size: int64(f.size), Force: *f.force, Pipe: args[0] == "-"}
	switch {
	case *f.name == "" && o.Pipe:
		o.Name = "bundle.tar"
	case *f.name == "":
		o.Name = filepath.Base(args[0])
	}

	if err := split.CheckName(o.Name); err != nil {
		return cli.Usagef("flag --name: %v", err)
	}

	if o.Pipe && env.InTTY {
		return cli.Usagef("standard input is a terminal: name a FILE, or pipe one in")
	}

	in, err := env.Data(args[0])
	if err != nil {
		return err
	}
	defer in.Close()

	if !o.Pipe {
		// --force must not take the input itself for an old part. It was opened just now,
		// so there is no error.
		o.Input, _ = os.Stat(args[0])
	}

	x, err := split.Split(ctx, in, args[1], o)
	if errors.Is(err, split.ErrStale) {
		return cli.WithHint(err, "name another directory, or remove them with --force")
	}
	if err != nil {
		return fmt.Errorf("split %s: %w", cli.InputName(args[0]), err)
	}

	if *f.asJSON {
		return show.WriteJSON(env.Stdout, x)
	}

	var names []string
	for _, p := range x.Parts {
		names = append(names, p.Name)
	}

	return show.WriteLines(env.Stdout, append(names, x.Name+".parts.json"))
}
