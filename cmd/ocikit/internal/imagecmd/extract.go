package imagecmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/image/bundle"
	"ocikit/oci/source"
	"ocikit/tarutil/stack"
)

func extractCommand() cli.Command {
	return cli.Command{
		Name: "extract", Args: "IMAGE DIR", Group: cli.GroupFiles, Progress: true,
		Surplus: "`ocikit export IMAGE PATH... | tar -x` takes out some files",
		Short:   "write the files of an image to a directory",
		Long: `Extract applies the layers of an image and writes what a container would see to DIR, which must
be absent or empty. Layers are read once: files wait in a hidden directory, and get their names only
when all layers were verified. What upper layers remove takes room until they are read. Nothing outside
DIR is ever touched, whatever the layers hold, but for a hidden directory beside a DIR that is absent,
which becomes DIR at the end. If it fails, DIR is as it was. What a run that was killed has left beside
an absent DIR is removed by the next one; in a DIR that was there, if it came no further than to read.

As root, files get the owners, devices, setuid bits and capabilities of the image: do not extract
what you do not trust to where others can run it. Otherwise, and with --rootless, all files belong to
you, devices are skipped, setuid and setgid bits are taken off files, and a notice counts that.
Permissions and times are always those of the image, extended attributes only security.capability,
POSIX ACLs and user.* (without user.overlay.*).

With --bundle the files go to DIR/rootfs, and DIR/config.json is the configuration for a runtime that
the image asks for, by the conversion rules of the image specification: "runc run" runs it. A bundle made
without root, or with --rootless, is for running without root: you are the only user in it, so what the
image runs as another user runs as 0:0, and a notice says so. --platform picks from an index.

Of an artifact, as "oras push" makes them, the blobs are written as files by their titles.`,
		Example: "ocikit extract app rootfs.new\nocikit extract app bundle --bundle",
		Status:  "1 if DIR is not empty",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(extractFlags)
			f.platform = commonflags.BindPlatform(fs)
			f.bundle = fs.Bool("bundle", false, "write DIR/rootfs and DIR/config.json, for a runtime")
			f.dryRun = commonflags.BindDryRun(fs)
			f.rootless = fs.Bool("rootless", false, "write as a user without rights would, even as root")
			f.places = operands.BindPlaces(fs)
			return f.run
		},
	}
}

// extractFlags are the flags of extract.
type extractFlags struct {
	platform *string
	bundle   *bool
	dryRun   *bool
	rootless *bool
	places   *operands.Places
}

// run writes the files of an image or an artifact, or prints what would be written.
func (f *extractFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	l, desc, err := f.places.Manifest(ctx, env, args[0], *f.platform)
	if err != nil {
		return err
	}

	defer l.Close()

	m, err := graph.Manifest(l, desc)
	if err != nil {
		return operands.IncompleteHint(l, err)
	}

	owners := os.Geteuid() == 0 && !*f.rootless
	x := extraction{env: env, src: l, desc: desc, opts: stack.ExtractOptions{Owners: owners}}
	switch {
	case *f.bundle && !m.IsImage():
		return fmt.Errorf("%q: %w: a runtime cannot run it", args[0], image.ErrArtifact)
	case *f.dryRun:
		return x.plan(args[1], m)
	case !m.IsImage():
		return x.artifact(ctx, args[1])
	}

	watchLayers(env, l, desc, 1)
	return operands.IntoEmptyDir(args[1], func(root *os.Root) error {
		extract := x.files
		if *f.bundle {
			extract = x.bundle
		}
		done, err := extract(ctx, root)
		if err == nil {
			reportExtracted(env, done, owners)
		}
		if errors.Is(err, errors.ErrUnsupported) {
			return cli.WithHint(err, "this system cannot hold it: `ocikit export` writes the files as a tar")
		}
		return operands.IncompleteHint(l, err)
	})
}

// An extraction is the image that is extracted, and how.
type extraction struct {
	env  *cli.Env
	src  source.Source
	desc oci.Descriptor
	opts stack.ExtractOptions
}

// plan prints what would be extracted, in its order, if it is there and can go to dir: layers that are
// applied, or blobs that become files.
func (x extraction) plan(dir string, m oci.Manifest) error {
	if err := operands.CheckEmptyDir(dir); err != nil {
		return err
	}

	if err := graph.Check(x.src, x.desc, graph.Rules{}); err != nil {
		return operands.IncompleteHint(x.src, err)
	}

	var steps []show.Step
	for _, l := range m.Layers {
		// An image is whole without a layer that is not distributed, but its files are not.
		if _, err := x.src.Stat(l.Digest); err != nil && l.Data == nil {
			return operands.IncompleteHint(x.src, fmt.Errorf("layer %s: %w", l.Digest, graph.Incomplete(err)))
		}
		steps = append(steps, show.StepOf("extract", l))
	}

	// Of an artifact the blobs with a title become files.
	if !m.IsImage() {
		files, err := image.ArtifactFiles(m)
		if err != nil {
			return err
		}
		steps = nil
		for _, f := range files {
			step := show.StepOf("extract", f.Desc)
			step.Path = f.Path
			steps = append(steps, step)
		}
	}

	return show.WriteEachJSON(x.env.Stdout, steps)
}

// artifact writes the files of an artifact.
func (x extraction) artifact(ctx context.Context, dir string) error {
	x.env.Watch(x.src)
	return operands.IntoEmptyDir(dir, func(root *os.Root) error {
		files, err := image.ExtractArtifact(ctx, x.src, x.desc, root, x.opts)
		if errors.Is(err, image.ErrArtifact) {
			return cli.WithHint(err, "`ocikit inspect` names its blobs, `ocikit cat LAYOUT@DIGEST` prints one")
		}
		if err == nil {
			x.env.Notice("ocikit extract: %s is an artifact: %s, by title", x.desc.Digest, show.Count(len(files), "file"))
		}
		return operands.IncompleteHint(x.src, err)
	})
}

// files writes the files to a directory.
func (x extraction) files(ctx context.Context, root *os.Root) (stack.Extracted, error) {
	_, done, err := image.Extract(ctx, x.src, x.desc, root, x.opts)
	return done, err
}

// bundle writes the files below rootfs in a directory, and beside it the configuration.
func (x extraction) bundle(ctx context.Context, root *os.Root) (stack.Extracted, error) {
	if err := root.Mkdir("rootfs", 0o755); err != nil {
		return stack.Extracted{}, err
	}

	rootfs, err := root.OpenRoot("rootfs")
	if err != nil {
		return stack.Extracted{}, err
	}
	defer rootfs.Close()

	merged, done, err := image.Extract(ctx, x.src, x.desc, rootfs, x.opts)
	if err != nil {
		return done, err
	}

	// The rules for the config look up names in files such as etc/passwd. Links on the way are
	// followed inside the image, and the file is opened below rootfs: none leads outside.
	config, err := x.runtimeConfig(func(name string) ([]byte, error) {
		real, err := merged.Resolve(name)
		if err != nil {
			return nil, err
		}
		return operands.ReadRegular(rootfs, real)
	})
	if err != nil {
		return done, err
	}

	return done, root.WriteFile("config.json", config, 0o644)
}

// runtimeConfig makes the config.json of a bundle.
func (x extraction) runtimeConfig(readFile func(string) ([]byte, error)) ([]byte, error) {
	m, err := graph.Manifest(x.src, x.desc)
	if err != nil {
		return nil, err
	}

	v, err := graph.View(x.src, m.Config)
	if err != nil {
		return nil, err
	}

	data, err := bundle.Config(v, bundle.Options{
		ReadFile: readFile, Rootless: !x.opts.Owners, UID: os.Geteuid(), GID: os.Getegid(),
		Notice: func(text string) { x.env.Notice("ocikit extract: %s", text) },
	})
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}

	return data, nil
}

// reportExtracted gives a notice about what could not be done, counted.
func reportExtracted(env *cli.Env, done stack.Extracted, owners bool) {
	var parts []string
	add := func(n int, one, many string) {
		if n == 1 {
			parts = append(parts, "1 "+one)
		} else if n > 1 {
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}

	if !owners {
		parts = append(parts, "not as root, all files belong to you")
	}

	add(done.Devices, "device was skipped", "devices were skipped")
	add(done.SetID, "file lost its setuid or setgid bit", "files lost their setuid or setgid bits")
	add(done.Xattrs, "extended attribute was not written", "extended attributes were not written")
	if len(parts) > 0 {
		env.Notice("ocikit extract: %s", strings.Join(parts, "; "))
	}

	env.Detail("ocikit extract: %d files", done.Files)
}
