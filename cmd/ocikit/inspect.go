package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

func inspectCommand() Command {
	return Command{
		Name: "inspect", Args: "IMAGE", Group: groupLayout,
		Short: "show what an image is made of",
		Long: `Inspect shows an image as a tree: indexes, manifests, configs with how they run, layers with
their sizes and how they were made, steps that made no layer. Of each index and manifest it says how
many bytes it takes, each blob counted once, and how many of them other images in the layout share.
Absent blobs are named as such. --all shows all entries of the layout. With --json it is one document.`,
		Example: "ocikit inspect app\nocikit inspect app --all --json",
		Bind: func(fs *flag.FlagSet) Action {
			asJSON := fs.Bool("json", false, "print one JSON document")
			platform := fs.String("platform", "", "show the manifest for this `platform` of an index alone")
			all := fs.Bool("all", false, "show all images of a layout")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 1 {
					return usagef("%d operands, want one", len(args))
				}
				if *all && *platform != "" {
					return usagef("--all and --platform exclude each other")
				}
				n, err := inspect(args[0], *platform, *all)
				if err != nil {
					return err
				}
				if *asJSON {
					return writeJSON(env.Stdout, n)
				}
				return n.write(env.Stdout, 0)
			}
		},
	}
}

// maxInspectDepth bounds how deep indexes nest in what inspect shows.
const maxInspectDepth = 16

// A node is one blob of an image and what it refers to.
type node struct {
	Kind       string          `json:"kind"` // layout, index, manifest, config, layer or blob
	Name       string          `json:"name,omitempty"`
	Descriptor *oci.Descriptor `json:"descriptor,omitempty"` // not of a layout
	Missing    bool            `json:"missing,omitempty"`
	Again      bool            `json:"again,omitempty"` // it was shown further up, with its children
	Usage      *usage          `json:"usage,omitempty"` // of a layout, an index or a manifest
	Platform   string          `json:"platform,omitempty"`
	DiffID     *digest.Digest  `json:"diffID,omitempty"`
	History    *oci.History    `json:"history,omitempty"`
	Config     json.RawMessage `json:"config,omitempty"` // the config document
	Steps      []inspectStep   `json:"steps,omitempty"`  // the history, each step with its layer
	Subject    *oci.Descriptor `json:"subject,omitempty"`
	Children   []*node         `json:"children,omitempty"`

	view oci.View
}

// A usage says how many bytes the blobs of an image take, each counted once.
type usage struct {
	Blobs  int   `json:"blobs"`
	Bytes  int64 `json:"bytes"`
	Shared int64 `json:"shared"` // of these, bytes of blobs that other manifests of the layout have, too
}

// An inspectStep is an entry of the history.
type inspectStep struct {
	oci.History
	Layer *digest.Digest `json:"layer,omitempty"` // nil if it made none
}

// An inspector is one run of inspect.
type inspector struct {
	l     *layout.Layout
	shown map[digest.Digest]bool
	users map[digest.Digest]map[digest.Digest]bool // of each blob, the manifests that have it
	sizes map[digest.Digest]int64
}

// inspect returns the tree of an image, or of all images in a layout.
func inspect(operand, platform string, all bool) (*node, error) {
	if all {
		l, err := openLayout(operand)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		x, err := l.Index()
		if err != nil {
			return nil, err
		}
		root := &node{Kind: "layout", Name: l.Dir()}
		in := newInspector(l, nil)
		for _, d := range x.Manifests {
			child, err := in.node(d, 1)
			if err != nil {
				return nil, err
			}
			child.Name = nameOf(d)
			root.Children = append(root.Children, child)
		}
		root.Usage = in.usage(x.Manifests)
		return root, nil
	}
	l, desc, err := openMaybe(operand, platform)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return newInspector(l, []oci.Descriptor{desc}).node(desc, 0)
}

// newInspector finds out which manifests share blobs. What cannot be read shares nothing.
func newInspector(l *layout.Layout, roots []oci.Descriptor) *inspector {
	in := &inspector{l, map[digest.Digest]bool{}, map[digest.Digest]map[digest.Digest]bool{}, map[digest.Digest]int64{}}
	if x, err := l.Index(); err == nil {
		roots = append(roots, x.Manifests...)
	}
	l.Scan(roots, func(desc oci.Descriptor, doc []byte, err error) error {
		in.sizes[desc.Digest] = desc.Size
		if err == nil && oci.IsManifest(desc.MediaType) {
			refs, _ := oci.References(desc, doc)
			for _, ref := range append(refs, desc) {
				if in.users[ref.Digest] == nil {
					in.users[ref.Digest] = map[digest.Digest]bool{}
				}
				in.users[ref.Digest][desc.Digest] = true
			}
		}
		return nil
	})
	return in
}

// usage counts the blobs that roots lead to.
func (in *inspector) usage(roots []oci.Descriptor) *usage {
	mine, blobs := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	in.l.Scan(roots, func(desc oci.Descriptor, _ []byte, _ error) error {
		blobs[desc.Digest] = true
		mine[desc.Digest] = mine[desc.Digest] || oci.IsManifest(desc.MediaType)
		return nil
	})
	u := &usage{Blobs: len(blobs)}
	for d := range blobs {
		u.Bytes += in.sizes[d]
		for user := range in.users[d] {
			if !mine[user] {
				u.Shared += in.sizes[d]
				break
			}
		}
	}
	return u
}

func (in *inspector) node(desc oci.Descriptor, depth int) (*node, error) {
	n := &node{Kind: "blob", Descriptor: &desc}
	if desc.Platform != nil {
		n.Platform = desc.Platform.String()
	}
	if _, err := in.l.Stat(desc.Digest); errors.Is(err, layout.ErrNotFound) && desc.Data == nil {
		n.Missing = true
	}
	switch {
	case oci.IsLayer(desc.MediaType):
		n.Kind = "layer"
	case oci.IsIndex(desc.MediaType):
		n.Kind = "index"
	case oci.IsManifest(desc.MediaType):
		n.Kind = "manifest"
	}
	if n.Missing || n.Kind == "blob" || n.Kind == "layer" {
		return n, nil
	}
	if in.shown[desc.Digest] { // indexes may name one another many times
		n.Again = true
		return n, nil
	}
	in.shown[desc.Digest] = true
	doc, err := in.l.Document(desc)
	if err != nil {
		return nil, err
	}
	n.Usage = in.usage([]oci.Descriptor{desc})
	if n.Kind == "manifest" {
		return n, in.addManifest(n, doc)
	}
	x, err := oci.DecodeIndex(desc, doc)
	if err != nil {
		return nil, err
	}
	if depth == maxInspectDepth {
		return nil, fmt.Errorf("index %s: nested deeper than %d", desc.Digest, depth)
	}
	n.Subject = x.Subject
	for _, d := range x.Manifests {
		child, err := in.node(d, depth+1)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, child)
	}
	return n, nil
}

// addManifest adds config and layers, joined with the history.
func (in *inspector) addManifest(n *node, doc []byte) error {
	m, err := oci.DecodeManifest(*n.Descriptor, doc)
	if err != nil {
		return err
	}
	n.Subject = m.Subject
	config, err := in.node(m.Config, 0)
	if err != nil {
		return err
	}
	config.Kind = "config"
	n.Children = append(n.Children, config)
	if oci.IsConfig(m.Config.MediaType) && !config.Missing {
		c, err := image.ReadConfig(in.l, m.Config)
		if err != nil {
			return err
		}
		if config.view, err = c.View(); err != nil {
			return err
		}
		if config.Config, err = c.Encode(); err != nil {
			return err
		}
		n.Platform = config.view.Platform().String()
	}
	var made []oci.History
	for _, h := range config.view.History {
		step := inspectStep{History: h}
		if !h.EmptyLayer {
			if len(made) < len(m.Layers) {
				step.Layer = &m.Layers[len(made)].Digest
			}
			made = append(made, h)
		}
		config.Steps = append(config.Steps, step)
	}
	for i, d := range m.Layers {
		layer, err := in.node(d, 0)
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

// write prints the tree for people, two blanks for each level.
func (n *node) write(w io.Writer, depth int) error {
	indent := strings.Repeat("  ", depth)
	line := indent + n.Kind
	if n.Name != "" {
		line += " " + printable(n.Name)
	}
	if d := n.Descriptor; d != nil {
		line += fmt.Sprintf(" %s %s", d.Digest, humanSize(d.Size))
	}
	if n.Platform != "" {
		line += " " + printable(n.Platform)
	}
	if d := n.Descriptor; d != nil && !oci.IsConfig(d.MediaType) {
		line += " " + printable(d.MediaType)
	}
	if n.Missing {
		line += " MISSING"
	}
	if n.Again {
		line += " (above)"
	}
	lines := []string{line}
	if n.Usage != nil {
		lines = append(lines, fmt.Sprintf("%s  takes %s in %d blobs, %s shared", indent, humanSize(n.Usage.Bytes), n.Usage.Blobs, humanSize(n.Usage.Shared)))
	}
	if n.Subject != nil {
		lines = append(lines, indent+"  subject "+n.Subject.Digest.String())
	}
	if n.DiffID != nil {
		lines = append(lines, indent+"  diff ID "+n.DiffID.String())
	}
	if n.History != nil && n.History.CreatedBy != "" {
		lines = append(lines, indent+"  made by "+printable(n.History.CreatedBy))
	}
	for _, f := range viewLines(n.view) {
		lines = append(lines, indent+"  "+printable(f))
	}
	for _, step := range n.Steps {
		if step.EmptyLayer && step.CreatedBy != "" {
			lines = append(lines, indent+"  step "+printable(step.CreatedBy))
		}
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	for _, c := range n.Children {
		if err := c.write(w, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func humanSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// viewLines says how an image runs, a line for each thing that is set.
func viewLines(v oci.View) []string {
	var lines []string
	add := func(name string, value any) {
		if s := fmt.Sprint(value); s != "" && s != "[]" {
			lines = append(lines, name+" "+s)
		}
	}
	quoted := func(words []string) string {
		if len(words) == 0 {
			return ""
		}
		data, _ := oci.Encode(words) // strings always encode
		return string(data)
	}
	if v.RootFS.Type == "" {
		return nil
	}
	add("created", v.Created)
	add("author", v.Author)
	add("entrypoint", quoted(v.Config.Entrypoint))
	add("cmd", quoted(v.Config.Cmd))
	for _, e := range v.Config.Env {
		add("env", e)
	}
	add("workdir", v.Config.WorkingDir)
	add("user", v.Config.User)
	for _, k := range slices.Sorted(maps.Keys(v.Config.Labels)) {
		add("label", k+"="+v.Config.Labels[k])
	}
	for _, k := range slices.Sorted(maps.Keys(v.Config.ExposedPorts)) {
		add("port", k)
	}
	for _, k := range slices.Sorted(maps.Keys(v.Config.Volumes)) {
		add("volume", k)
	}
	add("stop signal", v.Config.StopSignal)
	return lines
}
