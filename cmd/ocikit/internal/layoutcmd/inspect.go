package layoutcmd

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
)

func inspectCommand() cli.Command {
	return cli.Command{
		Name: "inspect", Args: "IMAGE", Group: cli.GroupLayout,
		Short: "show what an image is made of",
		Long: `Inspect shows an image as a tree: indexes, manifests, configs with how they run, layers with
their sizes and how they were made, steps that made no layer. Of each index and manifest it says how
many bytes it takes, each blob counted once, and how many of them other images in the layout share, where
those are at most 10,000, or with --all.
What refers to the image in the same layout or archive, as a signature does, stands below it. Absent blobs
are named as such. --all shows all entries of the layout. With --json it is one document.

DIR@DIGEST may be any blob, also one that is absent: below it stands who needs it, manifests, the
indexes that name them, and their names.

Of an index in a registry the images are listed; --platform shows one of them.`,
		Example: "ocikit inspect app\nocikit inspect app --all --json",
		Bind: func(fs *flag.FlagSet) cli.Action {
			asJSON := cli.BindJSON(fs)
			platform := commonflags.BindPlatform(fs)
			var all bool
			commonflags.AllVar(fs, &all)
			places := operands.BindPlaces(fs)
			places.Documents = true
			return func(ctx context.Context, env *cli.Env, args []string) error {
				if all && *platform != "" {
					return cli.Usagef("--all and --platform exclude each other")
				}

				var n *node
				var err error
				if all {
					n, err = inspectAll(ctx, env, places, args[0])
				} else {
					n, err = inspect(ctx, env, places, args[0], *platform)
				}
				if err != nil {
					return err
				}

				if *asJSON {
					return show.WriteJSON(env.Stdout, n)
				}

				return show.WriteLines(env.Stdout, n.lines(nil, ""))
			}
		},
	}
}

// A node is one blob of an image and what it refers to.
type node struct {
	Kind       string          `json:"kind"` // layout, index, manifest, config, layer or blob
	Name       string          `json:"name,omitempty"`
	Descriptor *oci.Descriptor `json:"descriptor,omitempty"` // not of a layout
	Missing    bool            `json:"missing,omitempty"`
	Attests    string          `json:"attests,omitempty"` // the digest of the image that this says something about
	Again      bool            `json:"again,omitempty"`   // it was shown further up, with its children
	Usage      *usage          `json:"usage,omitempty"`   // of a layout, an index or a manifest
	Platform   string          `json:"platform,omitempty"`
	DiffID     *digest.Digest  `json:"diffID,omitempty"`
	History    *oci.History    `json:"history,omitempty"`
	Config     json.RawMessage `json:"config,omitempty"` // the config document
	Steps      []inspectStep   `json:"steps,omitempty"`  // the history, each step with its layer
	Subject    *oci.Descriptor `json:"subject,omitempty"`
	// ArtifactType is what the manifest or index says it holds, if that is not an image.
	ArtifactType string `json:"artifactType,omitempty"`
	// Annotations are those of the manifest or index itself, not of its descriptor.
	Annotations oci.Annotations `json:"annotations,omitempty"`
	Children    []*node         `json:"children,omitempty"`
	// Referrers are the manifests of the same place that belong to this one: signatures, SBOMs.
	Referrers []*node `json:"referrers,omitempty"`
	// Names and NeededBy are set if the operand is a digest: what index.json calls it, and who
	// needs it, nobody if it is empty.
	Names    []string `json:"names,omitempty"`
	NeededBy []*user  `json:"neededBy,omitzero"`

	view    oci.View
	inIndex bool // an index names it, which may name what is not here
}

// A usage says how many bytes the blobs of an image take, each counted once.
type usage struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
	// Shared are of these the bytes of blobs that other manifests of the layout have, too; nil if
	// there are too many of those to look.
	Shared *int64 `json:"shared,omitempty"`
}

// An inspectStep is an entry of the history.
type inspectStep struct {
	oci.History
	Layer *digest.Digest `json:"layer,omitempty"` // nil if it made none
}

// An inspector is one run of inspect.
type inspector struct {
	l     source.Source
	shown map[digest.Digest]bool
	users map[digest.Digest]map[digest.Digest]bool // of each blob, the manifests that have it; nil: not known
	sizes map[digest.Digest]int64
	parts map[digest.Digest]parts // of each document that can be read
	// refers reports whether a document has a subject, or a name says that it belongs to another one.
	refers bool
}

// parts are what a document names.
type parts struct {
	manifest bool
	digests  []digest.Digest
}

// maxNeighbours is how many images of a layout are read to find out what one of them shares.
const maxNeighbours = 10_000

// inspect returns the tree of an image, or, if the operand is a digest, of any blob with what needs
// it.
func inspect(ctx context.Context, env *cli.Env, places *operands.Places, operand, platform string) (*node, error) {
	// A digest alone may name a blob that is not a document, or that is absent and needed.
	name, err := oci.ParseImageName(operand)
	byDigest := err == nil && name.Tag == "" && !name.Digest.IsZero() && platform == ""

	src, desc, err := places.Maybe(ctx, env, operand, platform)
	if byDigest && errors.Is(err, graph.ErrNotFound) {
		// Maybe has closed its source after the error.
		src, _, openErr := places.Open(ctx, env, operand)
		if openErr != nil {
			return nil, openErr
		}
		defer src.Close()
		return addUsers(src, name.Digest, nil, err)
	}
	if err != nil {
		return nil, err
	}
	defer src.Close()

	in := newInspector(src, []oci.Descriptor{desc})
	n, err := in.node(desc, 0)
	if err != nil || source.Remote(src) {
		return n, err
	}

	if err := in.addReferrers(n); err != nil || !byDigest {
		return n, err
	}

	return addUsers(src, name.Digest, n, nil)
}

// inspectAll returns the trees of all images in a layout or an archive.
func inspectAll(ctx context.Context, env *cli.Env, places *operands.Places, operand string) (*node, error) {
	src, n, err := places.Open(ctx, env, operand)
	if err != nil {
		return nil, err
	}
	defer src.Close()

	if n.Tag != "" || !n.Digest.IsZero() {
		return nil, cli.Usagef("%q names an image: --all shows all of a layout", operand)
	}

	x, err := src.Index()
	if err != nil {
		return nil, err
	}

	root := &node{Kind: "layout", Name: src.Name()}
	in := newInspector(src, nil)
	for _, d := range x.Manifests {
		child, err := in.node(d, 1)
		if err != nil {
			return nil, err
		}
		child.Name = operands.NameOf(d)
		root.Children = append(root.Children, child)
	}

	root.Usage = in.usage(x.Manifests...)
	return root, nil
}

// newInspector reads the documents below roots and those of the other images of the layout, and
// notes which manifests have which blobs. A document that cannot be read has none. With roots nil
// all images are meant.
func newInspector(l source.Source, roots []oci.Descriptor) *inspector {
	in := &inspector{
		l: l, shown: map[digest.Digest]bool{}, users: map[digest.Digest]map[digest.Digest]bool{},
		sizes: map[digest.Digest]int64{}, parts: map[digest.Digest]parts{},
	}
	if source.Remote(l) {
		return in // each manifest would be a request
	}

	// What an image shares is known only when its neighbours are read. Where they are too many for
	// one question, it stays unknown.
	if x, err := l.Index(); err == nil && (roots == nil || len(x.Manifests) <= maxNeighbours) {
		roots = append(roots, x.Manifests...)
		in.refers = slices.ContainsFunc(x.Manifests, func(d oci.Descriptor) bool {
			_, _, ok := graph.CutFallbackTag(d.Annotations.Get(oci.AnnotationRefName))
			return ok
		})
	} else if err == nil {
		in.users = nil
	}

	graph.Scan(l, roots, func(n graph.Node) error {
		desc := n.Desc
		in.sizes[desc.Digest] = desc.Size
		in.note(n)
		if n.Err != nil || !oci.IsManifest(desc.MediaType) || in.users == nil {
			return nil
		}
		for _, ref := range append(n.Refs, desc) {
			if in.users[ref.Digest] == nil {
				in.users[ref.Digest] = map[digest.Digest]bool{}
			}
			in.users[ref.Digest][desc.Digest] = true
		}
		return nil
	})

	return in
}

// note notes what a document names.
func (in *inspector) note(n graph.Node) {
	if n.Doc == nil {
		return
	}
	p := parts{manifest: oci.IsManifest(n.Desc.MediaType)}
	for _, ref := range n.Refs {
		p.digests = append(p.digests, ref.Digest)
	}
	in.parts[n.Desc.Digest] = p
	in.refers = in.refers || graph.Subject(n.Doc) != nil
}

// usage counts the blobs that roots lead to, each once. Nothing is read for that: it is asked for at
// each level of nested indexes.
func (in *inspector) usage(roots ...oci.Descriptor) *usage {
	mine, blobs := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	var todo []digest.Digest
	for _, d := range roots {
		todo = append(todo, d.Digest)
	}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if blobs[d] {
			continue
		}
		p := in.parts[d]
		blobs[d], mine[d] = true, p.manifest
		todo = append(todo, p.digests...)
	}

	// A blob is shared if a manifest has it to which the roots do not lead.
	u := &usage{Blobs: len(blobs)}
	var shared int64
	for d := range blobs {
		u.Bytes += in.sizes[d]
		for user := range in.users[d] {
			if !mine[user] {
				shared += in.sizes[d]
				break
			}
		}
	}

	if in.users != nil {
		u.Shared = &shared
	}

	return u
}

// node returns the tree of a descriptor. depth is how many documents lead to it.
func (in *inspector) node(desc oci.Descriptor, depth int) (*node, error) {
	n := &node{Kind: kindOf(desc), Descriptor: &desc}
	if desc.Platform != nil {
		n.Platform = desc.Platform.String()
	}

	remote := source.Remote(in.l)
	if !remote && desc.Data == nil {
		// A descriptor with data carries its blob along (image-spec, descriptor.md), so only others
		// can be missing.
		_, err := in.l.Stat(desc.Digest)
		n.Missing = errors.Is(err, graph.ErrNotFound)
	}

	// Manifests of an index in a registry are named and not fetched: each would be a request.
	if n.Missing || n.Kind == "blob" || n.Kind == "layer" || remote && depth > 0 {
		return n, nil
	}

	// BuildKit gives an attestation the platform unknown/unknown, which tells nothing.
	if graph.IsAttestation(desc) {
		n.Kind, n.Attests, n.Platform = "attestation", desc.Annotations.Get(oci.AnnotationAttested), ""
	}

	// Indexes may name one another many times. Shown each time, their trees would multiply with
	// every level.
	if in.shown[desc.Digest] {
		n.Again = true
		return n, nil
	}

	in.shown[desc.Digest] = true

	// Manifests count as levels too: their layers may claim to be manifests and indexes.
	if limit := graph.DefaultLimits().Depth; depth == limit {
		return nil, fmt.Errorf("%s %s: over %d levels of indexes: %w", n.Kind, desc.Digest, limit, oci.ErrMalformed)
	}

	doc, err := in.l.Document(desc)
	if err != nil {
		return nil, err
	}

	if oci.IsManifest(desc.MediaType) {
		err = in.addManifest(n, doc, depth)
	} else {
		err = in.addIndex(n, doc, depth)
	}

	// Only now it is known that the tree is not too deep to be walked again from every level.
	if err == nil && !remote {
		n.Usage = in.usage(desc)
	}

	return n, err
}

// addIndex adds what an index names.
func (in *inspector) addIndex(n *node, doc []byte, depth int) error {
	x, err := oci.DecodeIndex(*n.Descriptor, doc)
	if err != nil {
		return err
	}

	n.Subject, n.Annotations, n.ArtifactType = x.Subject, x.Annotations, x.ArtifactType
	for _, d := range x.Manifests {
		child, err := in.node(d, depth+1)
		if err != nil {
			return err
		}
		child.inIndex = true
		n.Children = append(n.Children, child)
	}

	return nil
}

// addManifest adds the config and the layers of a manifest, both joined with the history.
func (in *inspector) addManifest(n *node, doc []byte, depth int) error {
	m, err := oci.DecodeManifest(*n.Descriptor, doc)
	if err != nil {
		return err
	}

	n.Subject, n.Annotations, n.ArtifactType = m.Subject, m.Annotations, m.ArtifactType
	config, err := in.node(m.Config, depth+1)
	if err != nil {
		return err
	}

	config.Kind = "config"
	n.Children = append(n.Children, config)

	// The config of an artifact may be anything, so only that of an image is read.
	if m.IsImage() && !config.Missing {
		if err := in.readConfig(config, m.Config); err != nil {
			return err
		}
		if n.Attests == "" {
			n.Platform = config.view.Platform().String()
		}
	}

	made := config.addSteps(m.Layers)
	for i, d := range m.Layers {
		layer, err := in.node(d, depth+1)
		if err != nil {
			return err
		}
		if i < len(config.view.RootFS.DiffIDs) {
			layer.DiffID = &config.view.RootFS.DiffIDs[i]
		}
		if len(made) == len(m.Layers) {
			layer.History = &made[i]
		}
		n.Children = append(n.Children, layer)
	}

	return nil
}

// readConfig adds to the node of a config what it says.
func (in *inspector) readConfig(config *node, desc oci.Descriptor) error {
	c, err := graph.Config(in.l, desc)
	if err != nil {
		return err
	}
	if config.view, err = c.View(); err != nil {
		return err
	}
	config.Config, err = c.Encode()
	return err
}

// addSteps adds the history to the node of a config, and returns the steps that made layers.
//
// Entries of the history that are not marked as empty stand for the layers in order (image-spec,
// config.md). Nobody enforces that: steps get layers as far as those go, but a layer is told how it
// was made only if the numbers agree.
func (config *node) addSteps(layers []oci.Descriptor) (made []oci.History) {
	for _, h := range config.view.History {
		step := inspectStep{History: h}
		if !h.EmptyLayer {
			if len(made) < len(layers) {
				step.Layer = &layers[len(made)].Digest
			}
			made = append(made, h)
		}
		config.Steps = append(config.Steps, step)
	}

	return made
}
