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
		Name: "inspect", Args: "IMAGE", Group: groupLayout, Files: "dirs",
		Short: "show what an image is made of",
		Long: `Inspect shows an image as a tree: indexes, manifests, configs with how they run, layers with
their sizes and how they were made. With --json it is one document. Absent blobs are named as
such.`,
		Example: "ocikit inspect app",
		Bind: func(fs *flag.FlagSet) Action {
			asJSON := fs.Bool("json", false, "print one JSON document")
			platform := fs.String("platform", "", "show the manifest for this `platform` of an index alone")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 1 {
					return usagef("%d operands, want one", len(args))
				}
				l, desc, err := openMaybe(args[0], *platform)
				if err != nil {
					return err
				}
				defer l.Close()
				n, err := inspectNode(l, desc, 0)
				if err != nil {
					return err
				}
				if *asJSON {
					data, err := oci.Encode(n)
					if err != nil {
						return err
					}
					return writeAll(env.Stdout, append(data, '\n'))
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
	Kind       string          `json:"kind"` // index, manifest, config, layer or blob
	Descriptor oci.Descriptor  `json:"descriptor"`
	Missing    bool            `json:"missing,omitempty"`
	Platform   string          `json:"platform,omitempty"`
	DiffID     *digest.Digest  `json:"diffID,omitempty"`
	History    *oci.History    `json:"history,omitempty"`
	Config     json.RawMessage `json:"config,omitempty"` // the config document
	Subject    *oci.Descriptor `json:"subject,omitempty"`
	Children   []*node         `json:"children,omitempty"`

	view oci.View
}

func inspectNode(l *layout.Layout, desc oci.Descriptor, depth int) (*node, error) {
	n := &node{Kind: "blob", Descriptor: desc}
	if desc.Platform != nil {
		n.Platform = desc.Platform.String()
	}
	if _, err := l.Stat(desc.Digest); errors.Is(err, layout.ErrNotFound) && desc.Data == nil {
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
	doc, err := l.Document(desc)
	if err != nil {
		return nil, err
	}
	if n.Kind == "manifest" {
		return n, n.addManifest(l, doc)
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
		child, err := inspectNode(l, d, depth+1)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, child)
	}
	return n, nil
}

// addManifest adds config and layers, joined with the history.
func (n *node) addManifest(l *layout.Layout, doc []byte) error {
	m, err := oci.DecodeManifest(n.Descriptor, doc)
	if err != nil {
		return err
	}
	n.Subject = m.Subject
	config, err := inspectNode(l, m.Config, 0)
	if err != nil {
		return err
	}
	config.Kind = "config"
	n.Children = append(n.Children, config)
	if oci.IsConfig(m.Config.MediaType) && !config.Missing {
		c, err := image.ReadConfig(l, m.Config)
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
		if !h.EmptyLayer {
			made = append(made, h)
		}
	}
	for i, d := range m.Layers {
		layer, err := inspectNode(l, d, 0)
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
	line := fmt.Sprintf("%s%s %s %s", indent, n.Kind, n.Descriptor.Digest, humanSize(n.Descriptor.Size))
	if n.Platform != "" {
		line += " " + printable(n.Platform)
	}
	if !oci.IsConfig(n.Descriptor.MediaType) {
		line += " " + printable(n.Descriptor.MediaType)
	}
	if n.Missing {
		line += " MISSING"
	}
	lines := []string{line}
	if n.DiffID != nil {
		lines = append(lines, indent+"  diff ID "+n.DiffID.String())
	}
	if n.History != nil && n.History.CreatedBy != "" {
		lines = append(lines, indent+"  made by "+printable(n.History.CreatedBy))
	}
	for _, f := range viewLines(n.view) {
		lines = append(lines, indent+"  "+printable(f))
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
