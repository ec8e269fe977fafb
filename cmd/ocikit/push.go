package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/registry"
	"ocikit/pushcmd"
)

func pushCommand() Command {
	return Command{
		Name: "push", Args: "IMAGE REF", Group: groupRegistry, Progress: true,
		Short: "send an image to a registry",
		Long: `Push sends everything that IMAGE needs and the registry lacks, then names it by the tag of REF,
and prints HOST/REPO@DIGEST. Blobs go before the manifests that need them, the tag comes last. Bytes
are checked while they are sent. A broken upload goes on where the registry stands; with --state DIR
the next process can do that too. A second push sends nothing.

With --all IMAGE is a layout, and every image in it goes to the repository REF under its own name.
--dry-run prints what would be done, a JSON line for each step.

--script prints a shell script that does the same with nothing but curl, to be run where the layout
is carried to: "sh push.sh [LAYOUT]". It can be run again after a failure and goes on. Nothing is
asked of the registry now, and the script holds no credentials; what it takes from its environment
stands in its first lines.`,
		Example: "ocikit push app:latest localhost:5000/hello:latest\nocikit push app:latest registry.example.com/hello:v1 --script -o push.sh",
		Status:  "1 if the image is incomplete or damaged, or the registry refuses it",
		Bind: func(fs *flag.FlagSet) Action {
			flags := bindRegistryFlags(fs)
			o := bindPushFlags(fs)
			all := fs.Bool("all", false, "push every image of the layout to the repository REF")
			asJSON := fs.Bool("json", false, "print a report as a JSON line for each image")
			script := bindScriptFlags(fs)
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) != 2 {
					return usagef("%d operands, want IMAGE and REF", len(args))
				}
				parse := registry.ParseReference
				if *all {
					parse = registry.ParseRepository
				}
				ref, err := parseRef(parse, args[1])
				if err != nil {
					return err
				}
				opts, err := o.options(env)
				if err != nil {
					return err
				}
				if err := script.check(fs); err != nil {
					return err
				}
				if *all && len(opts.Tags) > 0 {
					return usagef("--tag does not go with --all: images have their own names")
				}
				if *script.wanted {
					return script.write(env, args[0], ref, *all, pushcmd.ScriptOptions{
						PlainHTTP: flags.o.PlainHTTP, MountFrom: opts.MountFrom, Tags: opts.Tags, ChunkSize: opts.ChunkSize,
					})
				}
				client, err := flags.client(env, ref, false)
				if err != nil {
					return err
				}
				defer flags.close(&err)
				defer client.Close()
				var reports []pushcmd.Report
				if *all {
					reports, err = pushAll(ctx, env, client, args[0], ref, opts, *o.require)
				} else {
					reports, err = pushOne(ctx, env, client, args[0], ref, opts, *o.require)
				}
				return errors.Join(err, printReports(env, reports, err, *asJSON, opts.DryRun))
			}
		},
	}
}

// pushFlags are the flags that say how to push.
type pushFlags struct {
	o         pushcmd.Options
	mode      string
	chunkSize sizeFlag
	mountFrom *[]string
	tags      *[]string
	require   *bool // referrers
}

func bindPushFlags(fs *flag.FlagSet) *pushFlags {
	p := new(pushFlags)
	fs.StringVar(&p.mode, "mode", "auto", "send blobs by `how`: auto, stream (one PATCH), put (one PUT) or chunk")
	fs.Var(&p.chunkSize, "chunk-size", "send at most `size` bytes a request")
	fs.IntVar(&p.o.Jobs, "j", 0, "send `n` blobs at once (0: as many as is good)")
	p.tags = list(fs, "tag", "t", "name the image by `tag` too (repeatable)")
	p.mountFrom = list(fs, "mount-from", "", "take blobs over from `repo` of the registry if it has them (repeatable)")
	fs.StringVar(&p.o.State, "state", "", "keep broken uploads in `dir` for the next process")
	fs.BoolVar(&p.o.Referrers, "referrers", false, "push what refers to the image too: signatures, SBOMs")
	p.require = bindRequireReferrers(fs)
	fs.BoolVar(&p.o.DryRun, "dry-run", false, "print what would be done, and do nothing")
	return p
}

func (p *pushFlags) options(env *Env) (pushcmd.Options, error) {
	o := p.o
	o.Mode, o.ChunkSize, o.MountFrom, o.Tags = pushcmd.Mode(p.mode), int64(p.chunkSize), *p.mountFrom, *p.tags
	modes := []pushcmd.Mode{pushcmd.ModeAuto, pushcmd.ModeStream, pushcmd.ModePut, pushcmd.ModeChunk}
	if !slices.Contains(modes, o.Mode) {
		return o, usagef("flag --mode: %q: want auto, stream, put or chunk", p.mode)
	}
	o.Referrers = o.Referrers || *p.require
	if o.Jobs < 0 {
		return o, usagef("flag -j: it cannot be negative")
	}
	for _, repo := range o.MountFrom {
		if err := registry.CheckRepository(repo); err != nil {
			return o, usagef("flag --mount-from: %v", err)
		}
	}
	for _, tag := range o.Tags {
		if err := registry.CheckTag(tag); err != nil {
			return o, usagef("flag --tag: %v", err)
		}
	}
	o.Notice = func(text string) { env.notice("ocikit: %s", text) }
	o.Progress = env.progress.report()
	return o, nil
}

func pushOne(ctx context.Context, env *Env, c *registry.Client, operand string, ref registry.Reference, o pushcmd.Options, require bool) ([]pushcmd.Report, error) {
	l, desc, err := openCompleteImage(operand)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if o.Referrers {
		if err := countReferrers(env, l, []oci.Descriptor{desc}, require); err != nil {
			return nil, err
		}
	}
	report, err := pushcmd.Push(ctx, c, l, unnamed(desc), ref, o)
	return []pushcmd.Report{report}, err
}

func pushAll(ctx context.Context, env *Env, c *registry.Client, operand string, ref registry.Reference, o pushcmd.Options, require bool) ([]pushcmd.Report, error) {
	l, all, err := openComplete(operand)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if o.Referrers {
		if err := countReferrers(env, l, all, require); err != nil {
			return nil, err
		}
	}
	return pushcmd.PushAll(ctx, c, l, ref, o)
}

// openCompleteImage is openImage for one that lacks nothing.
func openCompleteImage(operand string) (*layout.Layout, oci.Descriptor, error) {
	l, desc, err := openImage(operand)
	if err != nil {
		return nil, desc, err
	}
	if err := l.CheckComplete(desc); err != nil {
		l.Close()
		return nil, desc, incompleteHint(l, fmt.Errorf("%q: %w", operand, err))
	}
	return l, desc, nil
}

// openComplete opens a layout with images, none of which lacks anything, and lists them.
func openComplete(operand string) (*layout.Layout, []oci.Descriptor, error) {
	l, err := openLayout(operand)
	if err != nil {
		return nil, nil, err
	}
	all, err := completeImages(l)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("layout %q: it holds no image: %w", operand, layout.ErrNotFound)
	}
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	return l, all, nil
}

func completeImages(l *layout.Layout) ([]oci.Descriptor, error) {
	x, err := l.Index()
	if err != nil {
		return nil, err
	}
	for _, desc := range x.Manifests {
		if err := l.CheckComplete(desc); err != nil {
			return nil, incompleteHint(l, fmt.Errorf("%s: %w", nameOf(desc), err))
		}
	}
	return x.Manifests, nil
}

// printReports prints the names of what was pushed, or the plan.
func printReports(env *Env, reports []pushcmd.Report, pushErr error, asJSON, dryRun bool) error {
	for i, r := range reports {
		switch {
		case dryRun:
			for _, s := range r.Steps {
				if err := writeJSON(env.Stdout, s); err != nil {
					return err
				}
			}
		case asJSON:
			if err := writeJSON(env.Stdout, r); err != nil {
				return err
			}
		case pushErr == nil || i < len(reports)-1:
			ref, err := registry.ParseReference(r.Reference)
			if err != nil {
				return err
			}
			ref.Tag, ref.Digest = "", r.Descriptor.Digest
			if err := writeLines(env.Stdout, []string{ref.String()}); err != nil {
				return err
			}
		}
		env.summary(pushErr, "ocikit: %s: %s; %d bytes sent, %d needed, %d requests, %.1f s",
			r.Reference, countActions(r), r.BytesSent, r.BytesNeeded, r.Requests, r.Seconds)
	}
	return nil
}

// countActions says what became of blobs: "12 uploaded, 1 exists".
func countActions(r pushcmd.Report) string {
	var parts []string
	for _, action := range []string{"upload", "uploaded", "resumed", "mount", "mounted", "exists", "skip"} {
		n := 0
		for _, s := range r.Steps {
			if s.Action == action {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, action))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "nothing to send")
}
