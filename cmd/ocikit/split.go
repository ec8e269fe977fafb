package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"ocikit/oci/archive/split"
)

func splitCommand() Command {
	return Command{
		Name: "split", Args: "FILE DIR", Group: groupCarry, Progress: true,
		Short: "cut a file into parts of the size of a medium",
		Long: `Split writes FILE, or with "-" standard input, as parts of exactly --size bytes each, but for the
last, into DIR: NAME.0001, NAME.0002 and so on, and when all are written NAME.parts.json with the
digest of each part and of the whole. The index goes along with the parts; "ocikit join" puts them
together on the other side, from any mixture of media that was copied into one directory.

A directory that holds parts already, of another run or of one that was killed, is refused; --force
removes them first. A tar from a pipe must be whole: what a program wrote before it failed does not
become a set of parts.`,
		Example: "ocikit bundle app:latest | ocikit split --size 64MiB - parts\nocikit join parts | ocikit unbundle carried",
		Status:  "1 if DIR holds parts of another run, or the input ends early",
		Bind: func(fs *flag.FlagSet) Action {
			var size sizeFlag
			fs.Var(&size, "size", "cut parts of `size` bytes, as 650MB or 4G")
			name := fs.String("name", "", "begin the names of parts with `name` (the name of FILE; \"bundle.tar\" for standard input)")
			force := fs.Bool("force", false, "remove parts that DIR holds already")
			asJSON := fs.Bool("json", false, "print the index as a JSON line, not the names of the files")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 2 {
					return usagef("%d operands, want FILE and DIR", len(args))
				}
				if size <= 0 {
					return usagef("flag --size: say how large a part may be")
				}
				o := split.Options{Name: *name, Size: int64(size), Force: *force, Pipe: args[0] == "-"}
				switch {
				case *name == "" && o.Pipe:
					o.Name = "bundle.tar"
				case *name == "":
					o.Name = filepath.Base(args[0])
				}
				if err := split.CheckName(o.Name); err != nil {
					return usagef("flag --name: %v", err)
				}
				if o.Pipe && env.InTTY {
					return usagef("standard input is a terminal: name a FILE, or pipe one in")
				}
				in, err := env.data(args[0])
				if err != nil {
					return err
				}
				defer in.Close()
				if !o.Pipe {
					o.Input, _ = os.Stat(args[0]) // it was opened just now
				}
				x, err := split.Split(ctx, in, args[1], o)
				if errors.Is(err, split.ErrStale) {
					return withHint(err, "name another directory, or remove them with --force")
				}
				if err != nil {
					return fmt.Errorf("split %s: %w", inputName(args[0]), err)
				}
				if *asJSON {
					return writeJSON(env.Stdout, x)
				}
				var names []string
				for _, p := range x.Parts {
					names = append(names, p.Name)
				}
				return writeLines(env.Stdout, append(names, x.Name+".parts.json"))
			}
		},
	}
}
