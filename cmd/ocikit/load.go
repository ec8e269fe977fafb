package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

func loadCommand() Command {
	return Command{
		Name: "load", Args: "LAYOUT[:TAG] [FILE]", Group: groupCarry, Progress: true,
		Short: "bring the images of an archive into a layout",
		Long: `Load reads an archive of images from FILE or standard input, as ocikit, docker, podman, skopeo,
crane and BuildKit write them, compressed or not, stores what is in it, and prints a descriptor for
each name. The archive is read once, so it may come through a pipe. LAYOUT is made if it is not
there. What Docker wrote becomes an image of OCI types; config and layers stay byte for byte.

Images keep their tags, and their full names in the annotation io.containerd.image.name. A tag that
another image has is replaced by the full name. With TAG the only image is called so. Either all
images get their names, each of them whole, or none does.`,
		Example: "ocikit save app:latest | ocikit load carried\nocikit verify carried",
		Status:  "1 if the archive is damaged, incomplete or none",
		Bind: func(fs *flag.FlagSet) Action {
			platform := fs.String("platform", "", "load the image for this `platform` of an index alone")
			dryRun := fs.Bool("dry-run", false, "print the descriptors, and store nothing")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) < 1 || len(args) > 2 {
					return usagef("%d operands, want LAYOUT and at most one more", len(args))
				}
				n, err := parseImage(args[0])
				if err != nil {
					return err
				}
				if isFile(n.Dir) && len(args) == 1 {
					return &usageError{msg: fmt.Sprintf("%q is a file, want LAYOUT first", n.Dir), hint: fmt.Sprintf("`ocikit load LAYOUT %s` brings its images into a layout", n.Dir)}
				}
				if !n.Digest.IsZero() {
					return usagef("%q: a digest cannot be chosen", args[0])
				}
				o := archive.LoadOptions{Tag: n.Tag, DryRun: *dryRun, Notice: func(text string) { env.notice("ocikit: %s", text) }}
				if n.Tag != "" {
					if err := oci.CheckTag(n.Tag); err != nil {
						return usagef("%v", err)
					}
				}
				if o.Platform, err = parsePlatformFlag(*platform); err != nil {
					return err
				}
				name, err := oneOperand(args[1:])
				if err != nil {
					return err
				}
				if name == "-" && env.InTTY {
					return usagef("standard input is a terminal: name a FILE, or pipe an archive in")
				}
				in, err := env.data(name)
				if err != nil {
					return err
				}
				defer in.Close()
				var entries []oci.Descriptor
				load := func(l *layout.Layout) error {
					env.watch(l)
					entries, err = archive.Load(ctx, l, in, o)
					return err
				}
				if *dryRun {
					err = load(nil)
				} else {
					err = inLayout(n.Dir, load)
				}
				if err != nil {
					return loadHint(fmt.Errorf("%s: %w", inputName(name), err))
				}
				return oci.WriteDescriptors(env.Stdout, entries...)
			}
		},
	}
}

func loadHint(err error) error {
	switch {
	case errors.Is(err, image.ErrPlatform):
		return &notThere{err}
	case errors.Is(err, layout.ErrIncomplete):
		return withHint(err, "--platform OS/ARCH loads one platform, if others are missing; `ocikit unbundle` takes what `ocikit bundle` wrote")
	}
	return err
}

// inLayout opens a layout and runs fill on it. A layout that is not there is made beside its
// place, and gets its name when fill has succeeded.
func inLayout(dir string, fill func(*layout.Layout) error) error {
	l, err := layout.Open(dir)
	if err == nil {
		defer l.Close()
		return fill(l)
	}
	if !errors.Is(err, fs.ErrNotExist) && !isEmptyDir(dir) {
		_, err = openDir(dir)
		return err
	}
	var random [6]byte
	rand.Read(random[:])
	dir = filepath.Clean(dir)
	tmp := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".ocikit-"+hex.EncodeToString(random[:]))
	if l, err = layout.Init(tmp); err != nil {
		return err
	}
	err = fill(l)
	if err = errors.Join(err, l.Close()); err == nil {
		err = publishDir(tmp, dir)
	}
	if err != nil {
		os.RemoveAll(tmp)
	}
	return err
}

func isEmptyDir(dir string) bool {
	names, err := os.ReadDir(dir)
	return err == nil && len(names) == 0
}

// publishDir gives a directory its name, durably where the system can.
func publishDir(tmp, dir string) error {
	if isEmptyDir(dir) {
		os.Remove(dir)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("%q: %w", dir, pathless(err))
	}
	if parent, err := os.Open(filepath.Dir(dir)); err == nil {
		parent.Sync() // what is in it is synced; not every system can do this
		parent.Close()
	}
	return nil
}
