package carrycmd

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
)

func loadCommand() cli.Command {
	return cli.Command{
		Name: "load", Args: "LAYOUT[:TAG] [FILE]", Group: cli.GroupCarry, Progress: true,
		Short: "bring the images of an archive into a layout",
		Long: `Load reads an archive of images from FILE or standard input, as ocikit, docker, podman, skopeo,
crane and BuildKit write them, compressed or not, or from a directory of its parts ("ocikit split"), stores what is in it, and prints a descriptor for
each name. The archive is read once, so it may come through a pipe. LAYOUT is made if it is not
there. What Docker wrote becomes an image of OCI types; config and layers stay byte for byte.

Images keep their tags, and their full names in the annotation io.containerd.image.name. A tag that
another image has is replaced by the full name. With TAG the only image is called so. Either all
images get their names, each of them whole, or none does.`,
		Example: "ocikit save app:latest | ocikit load carried\nocikit verify carried",
		Status:  "1 if the archive is damaged, incomplete or none",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(loadFlags)
			f.platform = commonflags.BindPlatform(fs)
			f.dryRun = commonflags.BindDryRun(fs)
			return f.run
		},
	}
}

// loadFlags are the flags of load.
type loadFlags struct {
	platform *string
	dryRun   *bool
}

// run brings the images of an archive into a layout, or says which they are.
func (f *loadFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	n, err := loadTarget(args)
	if err != nil {
		return err
	}

	o := archive.LoadOptions{Tag: n.Tag, DryRun: *f.dryRun, Notice: env.Tell}
	if o.Platform, err = operands.ParsePlatformFlag(*f.platform); err != nil {
		return err
	}

	name, err := operands.ArchiveFile(cli.FileOperand(args[1:]))
	if err != nil {
		return err
	}

	in, err := operands.ArchiveData(ctx, env, name)
	if err != nil {
		return err
	}
	defer in.Close()

	var entries []oci.Descriptor
	load := func(l *layout.Layout) error {
		if l != nil {
			env.Watch(l)
		}
		entries, err = archive.Load(ctx, l, in, o)
		return err
	}

	fill := operands.InLayout
	if *f.dryRun {
		fill = operands.IfThere
	}
	err = fill(n.Dir, load)
	if err != nil {
		return operands.ArchiveHint(name, loadHint(fmt.Errorf("%s: %w", cli.InputName(name), err)))
	}

	return oci.WriteDescriptors(env.Stdout, entries...)
}

// loadTarget reads LAYOUT[:TAG].
func loadTarget(args []string) (oci.ImageName, error) {
	n, err := operands.ParseImage(args[0])
	if err != nil {
		return n, err
	}

	// A lone operand that is a file is most likely the archive.
	if operands.IsFile(n.Dir) && len(args) == 1 {
		return n, &cli.UsageError{Msg: fmt.Sprintf("%q is a file, want LAYOUT first", n.Dir), Advice: fmt.Sprintf("`ocikit load LAYOUT %s` brings its images into a layout", n.Dir)}
	}

	if !n.Digest.IsZero() {
		return n, cli.Usagef("%q: a digest cannot be chosen", args[0])
	}

	if n.Tag != "" {
		if err := oci.CheckTag(n.Tag); err != nil {
			return n, cli.Usagef("%v", err)
		}
	}

	return n, nil
}

// loadHint adds to an error of Load what the user can do about it.
func loadHint(err error) error {
	switch {
	case errors.Is(err, graph.ErrPlatform):
		return cli.NotThere(err)
	case errors.Is(err, layout.ErrIncomplete):
		return cli.WithHint(err, "--platform OS/ARCH loads one platform, if others are missing; `ocikit unbundle` takes what `ocikit bundle` wrote")
	}
	return err
}
