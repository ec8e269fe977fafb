package imagecmd

import (
	"context"
	"errors"
	"flag"
	"slices"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/image"
	"ocikit/oci/layout"
	"ocikit/oci/source"
)

// editFlags are the flags of every command that makes an image of an image.
type editFlags struct {
	tag      *cli.Optional
	platform *string
	dryRun   *bool
	attach   bool          // list a result without a name in index.json, where referrers are looked for
	more     source.Source // has layers that the result needs and the layout may lack; nil for none
}

func bindEditFlags(fs *flag.FlagSet) *editFlags {
	return &editFlags{
		tag:      cli.OptionalFlag(fs, "tag", "t", "call the result `TAG` in the layout, also written LAYOUT:TAG; without it the result has no name"),
		platform: commonflags.BindPlatform(fs),
		dryRun:   commonflags.BindDryRun(fs),
	}
}

// open checks the flags, opens the layout of IMAGE and finds it.
func (e *editFlags) open(args []string) (*layout.Layout, oci.Descriptor, image.EditOptions, error) {
	var o image.EditOptions
	var none oci.Descriptor

	// The tag may be written as LAYOUT:TAG, as in other operands.
	if n, err := oci.ParseImageName(args[0]); err == nil {
		e.tag.Value = strings.TrimPrefix(e.tag.Value, n.Dir+":")
	}

	if e.tag.Given {
		if err := oci.CheckTag(e.tag.Value); err != nil {
			return nil, none, o, cli.Usagef("flag --tag: %v", err)
		}
	}

	var err error
	if o.Platform, err = operands.ParsePlatformFlag(*e.platform); err != nil {
		return nil, none, o, err
	}

	l, desc, err := operands.OpenImage(args[0])
	return l, desc, o, err
}

// run edits the image, stores what that makes, names it and prints its descriptor.
func (e *editFlags) run(ctx context.Context, env *cli.Env, l *layout.Layout, desc oci.Descriptor, o image.EditOptions) error {
	env.Watch(l)
	plan, err := image.Edit(l, desc, o)
	if err != nil {
		return editHint(err)
	}

	env.Say(plan.Notices...)

	if *e.dryRun {
		return e.dry(env, l, plan)
	}

	// Layers first, then documents, the name last: a failure leaves blobs that nothing names.
	if e.more != nil {
		env.Watch(e.more)
		if err := plan.CopyLayers(l, e.more); err != nil {
			return err
		}
	}

	if err := plan.Store(l); err != nil {
		return operands.IncompleteHint(l, err)
	}

	if e.tag.Given {
		if err := l.Tag(ctx, e.tag.Value, plan.Result, layout.TagOptions{Rules: graph.Rules{Sparse: plan.Sparse}}); err != nil {
			return operands.TagHint(l, err)
		}
	} else if e.attach {
		if err := l.AddEntries(ctx, []oci.Descriptor{plan.Result}, graph.Rules{Sparse: plan.Sparse}); err != nil {
			return operands.IncompleteHint(l, err)
		}
	}

	return oci.WriteDescriptors(env.Stdout, plan.Result)
}

// editStep is a line of the plan. The members of the descriptor stand beside it, as in the plans
// of other commands.
type editStep struct {
	image.Step
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"`
	Tag       string        `json:"tag,omitempty"`
}

// dry prints the plan, or says why it cannot be carried out.
func (e *editFlags) dry(env *cli.Env, l *layout.Layout, plan *image.Plan) error {
	var more graph.Store
	if e.more != nil {
		more = e.more
	}
	if err := plan.Check(l, more, e.tag.Given || e.attach); err != nil {
		return operands.IncompleteHint(l, err)
	}
	return e.printPlan(env, plan)
}

func (e *editFlags) printPlan(env *cli.Env, plan *image.Plan) error {
	steps := plan.Steps
	if e.tag.Given {
		steps = append(slices.Clone(steps), image.Step{Action: "tag", Descriptor: plan.Result})
	}
	var lines []editStep
	for _, s := range steps {
		line := editStep{Step: s, Digest: s.Descriptor.Digest, MediaType: s.Descriptor.MediaType, Size: s.Descriptor.Size}
		if s.Action == "tag" {
			line.Tag = e.tag.Value
		}
		lines = append(lines, line)
	}
	return show.WriteEachJSON(env.Stdout, lines)
}

// editHint adds to an error of an edit what the user can do about it.
func editHint(err error) error {
	switch {
	case errors.Is(err, graph.ErrPlatform):
		return cli.WithHint(cli.NotThere(err), "`ocikit inspect` shows the platforms")
	case errors.Is(err, image.ErrHistory):
		return cli.WithHint(err, "a history may be left out: `ocikit mutate IMAGE --drop-history` does it")
	case errors.Is(err, image.ErrNoLayer):
		return cli.WithHint(cli.NotThere(err), "`ocikit layers` lists the layers of an image, the lowest first, `ocikit files --all` their files")
	case errors.Is(err, image.ErrPatchBlobs):
		return cli.WithHint(err, "--json-patch config=FILE changes the config; --insert-layer, --remove-layer and the like the layers")
	case errors.Is(err, image.ErrDockerTypes):
		return cli.WithHint(err, "`ocikit convert IMAGE --types oci` makes an image that has them")
	case errors.Is(err, image.ErrNotBase):
		return cli.WithHint(err, "name what it is built on with --old-base; `ocikit layers` lists the layers of both")
	}

	return err
}

// historyFlags are the flags for the history entry of a new layer.
type historyFlags struct {
	created            *cli.Optional
	createdBy, comment *string
	author             *string
}

func bindHistoryFlags(fs *flag.FlagSet, by string) *historyFlags {
	return &historyFlags{
		created:   cli.OptionalFlag(fs, "created", "", "set the creation time to `TIME` (RFC 3339), by default SOURCE_DATE_EPOCH, else 1970 in the history alone"),
		createdBy: fs.String("created-by", by, "write `TEXT` into the history of each new layer"),
		comment:   fs.String("comment", "", "write `TEXT` into the history of each new layer"),
		author:    fs.String("author", "", "write the author `NAME` into the history of each new layer"),
	}
}

// history returns the entry for new layers, and a change that sets the time of the image if
// one was asked for.
func (h *historyFlags) history(env *cli.Env) (oci.History, image.Change, error) {
	created, asked, err := (&commonflags.Config{Created: h.created}).CreatedTime(env)
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
func onConfig(e commonflags.Edit) image.Change {
	return func(im *image.Image) error {
		if im.Config == nil {
			return oci.Absent("manifest %s: it has no config of an image", im.Descriptor().Digest)
		}
		return e(im.Config)
	}
}
