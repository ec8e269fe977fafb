package main

import (
	"context"
	"errors"
	"flag"
	"strings"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

// editFlags are the flags of every command that makes an image of an image.
type editFlags struct {
	tag      *optional
	platform *string
	dryRun   *bool
}

func bindEditFlags(fs *flag.FlagSet) *editFlags {
	return &editFlags{
		tag:      optionalFlag(fs, "tag", "t", "name the result `tag` in the layout, also written LAYOUT:TAG; without it the result has no name"),
		platform: fs.String("platform", "", "of an index edit the image for this `platform` alone; the others stay"),
		dryRun:   fs.Bool("dry-run", false, "print what would be made, a JSON line for each step, and change nothing"),
	}
}

// open checks the flags, opens the layout of IMAGE and finds it.
func (e *editFlags) open(args []string) (*layout.Layout, oci.Descriptor, image.EditOptions, error) {
	var o image.EditOptions
	var none oci.Descriptor
	if len(args) != 1 {
		return nil, none, o, usagef("%d operands, want IMAGE", len(args))
	}
	if n, err := oci.ParseImageName(args[0]); err == nil {
		e.tag.value = strings.TrimPrefix(e.tag.value, n.Dir+":")
	}
	if e.tag.given {
		if err := oci.CheckTag(e.tag.value); err != nil {
			return nil, none, o, usagef("flag --tag: %v", err)
		}
	}
	var err error
	if o.Platform, err = parsePlatformFlag(*e.platform); err != nil {
		return nil, none, o, err
	}
	l, desc, err := openImage(args[0])
	return l, desc, o, err
}

// run edits the image, stores what that makes, names it and prints its descriptor. The layout
// more, if not nil, has layers that the result needs.
func (e *editFlags) run(ctx context.Context, env *Env, l, more *layout.Layout, desc oci.Descriptor, o image.EditOptions) error {
	env.watch(l)
	plan, err := image.Edit(l, desc, o)
	if err != nil {
		return editHint(err)
	}
	for _, text := range plan.Notices {
		env.notice("ocikit: %s", text)
	}
	if *e.dryRun {
		return e.printPlan(env, plan)
	}
	if more != nil {
		env.watch(more)
		if err := plan.CopyLayers(l, more); err != nil {
			return err
		}
	}
	if err := plan.Store(l); err != nil {
		return incompleteHint(l, err)
	}
	if e.tag.given {
		if err := l.Tag(ctx, e.tag.value, plan.Result, layout.Expectation{}); err != nil {
			return tagHint(l, err)
		}
	}
	return oci.WriteDescriptors(env.Stdout, plan.Result)
}

func (e *editFlags) printPlan(env *Env, plan *image.Plan) error {
	for _, s := range plan.Steps {
		if err := writeJSON(env.Stdout, s); err != nil {
			return err
		}
	}
	if !e.tag.given {
		return nil
	}
	return writeJSON(env.Stdout, map[string]any{"action": "tag", "tag": e.tag.value, "descriptor": plan.Result})
}

func editHint(err error) error {
	switch {
	case errors.Is(err, image.ErrPlatform):
		return withHint(&notThere{err}, "`ocikit inspect` shows the platforms")
	case errors.Is(err, image.ErrNotBase):
		return withHint(err, "name what it is built on with --old-base; `ocikit layers` lists the layers of both")
	}
	return err
}

// historyFlags say what the history tells of a layer.
type historyFlags struct {
	created            *optional
	createdBy, comment *string
	author             *string
}

func bindHistoryFlags(fs *flag.FlagSet, by string) *historyFlags {
	return &historyFlags{
		created:   optionalFlag(fs, "created", "", "`time` of making (RFC 3339), default SOURCE_DATE_EPOCH, else the epoch in the history alone"),
		createdBy: fs.String("created-by", by, "`text` in the history of each new layer"),
		comment:   fs.String("comment", "", "`text` in the history of each new layer"),
		author:    fs.String("author", "", "`name` in the history of each new layer"),
	}
}

// history returns the entry for new layers, and a change that sets the time of the image if
// one was asked for.
func (h *historyFlags) history(env *Env) (oci.History, image.Change, error) {
	created, asked, err := (&configFlags{created: h.created}).createdTime(env)
	if err != nil {
		return oci.History{}, nil, err
	}
	entry := oci.History{Created: created, CreatedBy: *h.createdBy, Comment: *h.comment, Author: *h.author}
	return entry, func(im *image.Image) error {
		if asked && im.Config != nil {
			im.Config.Set("created", created)
		}
		return nil
	}, nil
}

// onConfig makes an edit of a config a change of an image.
func onConfig(e edit) image.Change {
	return func(im *image.Image) error {
		if im.Config == nil {
			return oci.Absent("manifest %s: it has no config of an image", im.Descriptor().Digest)
		}
		return e(im.Config)
	}
}
