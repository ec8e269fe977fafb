package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"

	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/layout"
)

func unbundleCommand() Command {
	return Command{
		Name: "unbundle", Args: "LAYOUT [FILE]", Group: groupCarry, Progress: true,
		Short: "bring a bundle into a layout, and name the images that are whole",
		Long: `Unbundle reads the tar of a layout that may lack blobs, as "ocikit bundle" and others write it, from
FILE or standard input, and stores its blobs in LAYOUT, each verified while it passes. LAYOUT is made
if it is not there. Every image of which nothing is missing then gets its name, and its descriptor is
printed. If something is missing the status is 1, and what is printed is a JSON list of it, which
"ocikit bundle --want" takes on the other side.

Bundles may come in any order, and each of them any number of times, also after a crash: what is not
whole waits, in the file .ocikit-waiting.json of LAYOUT, and gets its name with the bundle that
brings the rest. --waiting lists what is still missing, --forget gives it up.

If two images claim one name, the one that was created later has it. If they do not say when that
was, the last one gets it, but one that lost the name before does not get it back by coming again.
--replace gives names to the images of this bundle in any case.`,
		Example: "ocikit bundle app:latest | ocikit unbundle carried\nocikit verify carried",
		Status:  "1 if the bundle is damaged, or blobs are missing",
		Bind: func(fs *flag.FlagSet) Action {
			var o archive.UnbundleOptions
			fs.BoolVar(&o.Replace, "replace", false, "give names to the images of the bundle, whatever has them")
			waiting := fs.Bool("waiting", false, "read no bundle; list what the images that wait lack")
			forget := fs.Bool("forget", false, "read no bundle; forget the images that wait")
			return func(ctx context.Context, env *Env, args []string) error {
				o.Notice = func(text string) { env.notice("ocikit: %s", text) }
				switch {
				case len(args) < 1 || len(args) > 2:
					return usagef("%d operands, want LAYOUT and at most one more", len(args))
				case *waiting && *forget, (*waiting || *forget) && len(args) == 2:
					return usagef("--waiting and --forget exclude each other, and go without FILE")
				case *waiting || *forget:
					return runWaiting(ctx, env, args[0], *forget, o)
				}
				name, err := oneOperand(args[1:])
				if err != nil {
					return err
				}
				return runUnbundle(ctx, env, args[0], name, o)
			}
		},
	}
}

func runUnbundle(ctx context.Context, env *Env, operand, name string, o archive.UnbundleOptions) error {
	n, err := oci.ParseImageName(operand)
	if err != nil || n.Tag != "" || !n.Digest.IsZero() {
		return usagef("%q: want a layout alone: a bundle says how its images are called", operand)
	}
	if name == "-" && env.InTTY {
		return usagef("standard input is a terminal: name a FILE, or pipe a bundle in")
	}
	in, err := env.data(name)
	if err != nil {
		return err
	}
	defer in.Close()
	l, undo, err := initLayout(n.Dir)
	if err != nil {
		return err
	}
	defer l.Close()
	env.watch(l)
	result, err := archive.Unbundle(ctx, l, in, o)
	if err != nil && len(result.Missing) == 0 {
		undo()
		return fmt.Errorf("%s: %w", inputName(name), err)
	}
	env.detail("ocikit: %d blobs, %d bytes in the bundle", result.Blobs, result.Bytes)
	if len(result.Waiting) > 0 {
		env.notice("ocikit: images of other bundles that still lack blobs: %d; --waiting lists them", len(result.Waiting))
	}
	if err != nil {
		for _, desc := range result.Named {
			env.notice("ocikit: %s is whole, and named %s", desc.Digest, nameOf(desc))
		}
		return reportMissing(env, result.Missing, err)
	}
	return oci.WriteDescriptors(env.Stdout, result.Named...)
}

// initLayout opens a layout, which is made if need be. If it was made by this call, and still
// names nothing and waits for nothing, undo removes it.
func initLayout(dir string) (l *layout.Layout, undo func(), err error) {
	_, statErr := os.Stat(dir)
	made := errors.Is(statErr, fs.ErrNotExist)
	if l, err = layout.Init(dir); err != nil {
		return nil, nil, err
	}
	return l, func() {
		if made && isUnused(l) {
			os.RemoveAll(dir)
		}
	}, nil
}

// isUnused reports whether a layout names nothing and waits for nothing.
func isUnused(l *layout.Layout) bool {
	x, err := l.Index()
	w, waitErr := l.Waiting()
	return err == nil && waitErr == nil && len(x.Manifests) == 0 && len(w.Images) == 0
}

// reportMissing prints the list of what is missing and returns the error that says so.
func reportMissing(env *Env, missing []archive.Wanted, err error) error {
	if writeErr := writeJSON(env.Stdout, missing); writeErr != nil {
		return writeErr
	}
	seen := map[string]bool{}
	var size int64
	for _, w := range missing {
		for _, b := range w.Missing {
			if !seen[b.Digest.String()] {
				seen[b.Digest.String()] = true
				size += b.Size
			}
		}
	}
	err = fmt.Errorf("%w: %d images lack %d blobs, %d bytes", err, len(missing), len(seen), size)
	return withHint(err, "standard output is the list of them: `ocikit bundle LAYOUT --want FILE` takes it on the other side")
}

// runWaiting names what has become whole otherwise, and lists what has not; or forgets it.
func runWaiting(ctx context.Context, env *Env, operand string, forget bool, o archive.UnbundleOptions) error {
	l, err := openLayout(operand)
	if err != nil {
		return err
	}
	defer l.Close()
	if forget {
		return archive.Forget(ctx, l)
	}
	result, err := archive.Settle(ctx, l, o)
	if err != nil {
		return err
	}
	if len(result.Waiting) > 0 {
		return reportMissing(env, result.Waiting, fmt.Errorf("layout %q: %w", operand, layout.ErrIncomplete))
	}
	return oci.WriteDescriptors(env.Stdout, result.Named...)
}
