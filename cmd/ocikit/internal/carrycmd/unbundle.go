package carrycmd

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"slices"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/layout"
)

func unbundleCommand() cli.Command {
	return cli.Command{
		Name: "unbundle", Args: "LAYOUT [FILE]", Group: cli.GroupCarry, Progress: true,
		Short: "bring a bundle into a layout, and name the images that are whole",
		Long: `Unbundle reads the tar of a layout that may lack blobs, as "ocikit bundle" and others write it, from
FILE or standard input, and stores its blobs in LAYOUT, each verified while it passes. LAYOUT is made
if it is not there. Every image that is whole then gets its name, and its descriptor is
printed. If something is missing the status is 1, and what is printed is a JSON list of it, which
"ocikit bundle --want" takes on the other side.

Bundles may come in any order, and each of them any number of times, also after a crash: what is not
whole waits, in the file .ocikit-waiting.json of LAYOUT, and gets its name with the bundle that
brings the rest. A layer that comes as a delta ("ocikit bundle --delta") is made of those that are
here, and listed as missing if they are not, or are damaged. For one delta at a time those that it
copies from are unpacked into temporary files in TMPDIR, up to the sizes that the bundle says.
--waiting lists what is still missing, --forget gives it up.

If two images claim one name, the one that was created later has it. If they do not say when that
was, the last one gets it, but one that lost the name before does not get it back by coming again.
--replace gives names to the images of this bundle in any case.

An index that "ocikit bundle --sparse" carried without some of its images waits for them, as for all
that is absent. --sparse names it without them, if one is here; with --waiting, every one that waits.

--dry-run reads the bundle and says which blobs it would copy, keep or repair, which layers it would
make of deltas, which images it would name, which would wait, and which blobs are absent. Whether a
delta fits is not tried.`,
		Example: "ocikit bundle app:latest | ocikit unbundle carried\nocikit verify carried",
		Status:  "1 if the bundle is damaged, or blobs are missing",
		Bind: func(fs *flag.FlagSet) cli.Action {
			var o archive.UnbundleOptions
			fs.BoolVar(&o.Replace, "replace", false, "give names to the images of the bundle, whatever has them")
			waiting := fs.Bool("waiting", false, "read no bundle; list what the images that wait lack")
			forget := fs.Bool("forget", false, "read no bundle; forget the images that wait")
			commonflags.Sparse(fs, &o.Rules)
			commonflags.DryRunVar(fs, &o.DryRun)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				o.Notice = env.Tell
				switch {
				case *waiting && *forget, (*waiting || *forget) && len(args) == 2:
					return cli.Usagef("--waiting and --forget exclude each other, and go without FILE")
				case *forget && o.DryRun:
					return cli.Usagef("--forget goes without --dry-run: --waiting lists what it would forget")
				case *waiting || *forget:
					return runWaiting(ctx, env, args[0], *forget, o)
				}
				name, err := operands.ArchiveFile(cli.FileOperand(args[1:]))
				if err != nil {
					return err
				}
				return runUnbundle(ctx, env, args[0], name, o)
			}
		},
	}
}

// runUnbundle brings a bundle into a layout and prints what got a name, or the list of what is
// missing.
func runUnbundle(ctx context.Context, env *cli.Env, operand, name string, o archive.UnbundleOptions) error {
	n, err := oci.ParseImageName(operand)
	if err != nil || n.Tag != "" || !n.Digest.IsZero() {
		return cli.Usagef("%q: want a layout alone: a bundle says how its images are called", operand)
	}

	in, err := operands.ArchiveData(ctx, env, name)
	if err != nil {
		return err
	}
	defer in.Close()

	l, undo, err := operands.TargetLayout(n.Dir, o.DryRun)
	if err != nil {
		return err
	}

	// In a dry run a layout that is still to be made is nil.
	if l != nil {
		defer l.Close()
		env.Watch(l)
	}

	result, err := archive.Unbundle(ctx, l, in, o)

	// An error with missing blobs is about what is to come: what came stays in the layout and waits
	// for the rest.
	if err != nil && len(result.Missing) == 0 {
		undo()
		return operands.ArchiveHint(name, fmt.Errorf("%s: %w", cli.InputName(name), err))
	}

	env.Detail("ocikit: %s, %d bytes in the bundle", show.Count(result.Blobs, "blob"), result.Bytes)
	if len(result.Waiting) > 0 {
		env.Notice("ocikit: images of other bundles that still lack blobs: %d; --waiting lists them", len(result.Waiting))
	}

	if err != nil {
		for _, desc := range result.Named {
			env.Notice("ocikit: %s is whole, and named %s", desc.Digest, operands.NameOf(desc))
		}
		err = fmt.Errorf("layout %q: %w", n.Dir, err)
	}

	return printUnbundled(env, result, result.Missing, o.DryRun, err)
}

// printUnbundled prints what got a name, or the list of what is missing, about which err is; of a dry
// run all that would be done.
func printUnbundled(env *cli.Env, result archive.Result, missing []archive.Wanted, dryRun bool, err error) error {
	switch {
	case dryRun:
		return cmp.Or(show.WriteEachJSON(env.Stdout, unbundleSteps(result, missing)), sumMissing(missing, err))
	case err == nil:
		return oci.WriteDescriptors(env.Stdout, result.Named...)
	}

	if writeErr := show.WriteJSON(env.Stdout, missing); writeErr != nil {
		return writeErr
	}
	hint := "standard output is the list of them: `ocikit bundle LAYOUT --want FILE` takes it on the other side"
	if !slices.ContainsFunc(absent(missing), func(b archive.Blob) bool { return !oci.IsDocument(b.MediaType) }) {
		hint += "; --sparse does without images of an index"
	}
	return cli.WithHint(sumMissing(missing, err), "%s", hint)
}

// unbundleSteps returns the plan of an unbundle: a step for each blob of the bundle that the layout
// would get (copy), has (keep) or has damaged (repair), for each layer that is made of a delta, for
// each name (tag), for each image that would wait, and for each blob that is absent.
func unbundleSteps(result archive.Result, missing []archive.Wanted) []bundleStep {
	var steps []bundleStep
	total := bundleStep{Action: "total"}
	add := func(s bundleStep) {
		steps = append(steps, s)
		total.Blobs++
		total.Size += s.Size
	}

	for _, b := range result.Brought {
		step := bundleStep{Action: string(b.How), Digest: b.Digest, MediaType: b.MediaType, Size: b.Size}
		if b.How == layout.HowKept {
			steps = append(steps, step)
		} else {
			add(step)
		}
	}

	for _, d := range result.Made {
		add(bundleStep{Digest: d.Digest, MediaType: d.MediaType, Size: d.Size}.made(d))
	}

	image := func(action string, d oci.Descriptor) {
		steps = append(steps, bundleStep{Action: action, Digest: d.Digest, MediaType: d.MediaType, Name: operands.NameOf(d), Size: d.Size})
	}

	for _, d := range result.Named {
		image("tag", d)
	}

	for _, w := range missing {
		image("wait", w.Root)
	}

	for _, b := range absent(missing) {
		steps = append(steps, bundleStep{Action: "absent", Digest: b.Digest, MediaType: b.MediaType, Size: b.Size})
	}

	return append(steps, total)
}

// sumMissing returns err with the numbers of what is missing, and nil if there is no error.
func sumMissing(missing []archive.Wanted, err error) error {
	if err == nil {
		return nil
	}

	var size int64
	blobs := absent(missing)
	for _, b := range blobs {
		size += b.Size
	}

	verb := "lack"
	if len(missing) == 1 {
		verb = "lacks"
	}
	return fmt.Errorf("%w: %s %s %s, %d bytes", err, show.Count(len(missing), "image"), verb, show.Count(len(blobs), "blob"), size)
}

// absent returns the blobs that images lack. Several may lack the same one, which is carried once.
func absent(missing []archive.Wanted) []archive.Blob {
	var blobs []archive.Blob
	seen := map[digest.Digest]bool{}
	for _, w := range missing {
		for _, b := range w.Missing {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				blobs = append(blobs, b)
			}
		}
	}
	return blobs
}

// runWaiting names the images that wait and have become whole by other means, and lists what the
// others lack. With forget it drops what waits instead.
func runWaiting(ctx context.Context, env *cli.Env, operand string, forget bool, o archive.UnbundleOptions) error {
	l, err := operands.OpenLayout(operand)
	if err != nil {
		return err
	}
	defer l.Close()

	if forget {
		return l.ForgetWaiting(ctx)
	}

	result, err := archive.Settle(ctx, l, o)
	if err != nil {
		return err
	}

	if len(result.Waiting) > 0 {
		err = fmt.Errorf("layout %q: %w", operand, layout.ErrIncomplete)
	}

	return printUnbundled(env, result, result.Waiting, o.DryRun, err)
}
