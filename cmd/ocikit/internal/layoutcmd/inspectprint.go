package layoutcmd

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
)

// lines adds to lines the tree for people, two blanks for each level: what the blob is, what there is to
// know of it, then its children, at last who needs it, if that is known.
func (n *node) lines(lines []string, indent string) []string {
	for _, line := range append([]string{n.title()}, n.details()...) {
		lines = append(lines, indent+line)
	}
	for _, c := range slices.Concat(n.Children, n.Referrers) {
		lines = c.lines(lines, indent+"  ")
	}
	if n.NeededBy != nil {
		lines = n.userLines(lines)
	}
	return lines
}

// title says in a line what the blob is.
func (n *node) title() string {
	line := n.Kind
	if n.Name != "" {
		line += " " + n.Name
	}

	if d := n.Descriptor; d != nil {
		line += fmt.Sprintf(" %s %s", d.Digest, show.Size(d.Size))
	}

	if n.Platform != "" {
		line += " " + n.Platform
	}

	if d := n.Descriptor; d != nil && !oci.IsConfig(d.MediaType) {
		line += " " + d.MediaType
	}

	if n.Attests != "" {
		line += " about " + n.Attests
	}

	// An index may name images that are left out on purpose. What a manifest names has to be there.
	switch {
	case n.Missing && n.inIndex:
		line += " ABSENT"
	case n.Missing:
		line += " MISSING"
	}

	if n.Again {
		line += " (above)"
	}

	return line
}

// details returns the lines below the title, indented.
func (n *node) details() []string {
	var lines []string
	if n.Usage != nil {
		takes := fmt.Sprintf("  takes %s in %d blobs", show.Size(n.Usage.Bytes), n.Usage.Blobs)
		if n.Usage.Shared != nil {
			takes += fmt.Sprintf(", %s shared", show.Size(*n.Usage.Shared))
		}
		lines = append(lines, takes)
	}

	if n.ArtifactType != "" {
		lines = append(lines, "  artifact type "+n.ArtifactType)
	}

	if n.Descriptor != nil && n.Descriptor.Annotations.Get(oci.AnnotationTitle) != "" {
		lines = append(lines, "  title "+n.Descriptor.Annotations.Get(oci.AnnotationTitle))
	}

	if n.Subject != nil {
		lines = append(lines, "  subject "+n.Subject.Digest.String())
	}

	for _, a := range n.Annotations {
		lines = append(lines, fmt.Sprintf("  annotation %s=%s", a.Name, a.Value))
	}

	if n.DiffID != nil {
		lines = append(lines, "  diff ID "+n.DiffID.String())
	}

	if n.History != nil && n.History.CreatedBy != "" {
		lines = append(lines, "  made by "+n.History.CreatedBy)
	}

	for _, f := range append(viewLines(n.view), n.otherLines()...) {
		lines = append(lines, "  "+f)
	}

	for _, step := range n.Steps {
		if step.EmptyLayer && step.CreatedBy != "" {
			lines = append(lines, "  step "+step.CreatedBy)
		}
	}

	return lines
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

	// A view without a rootfs was not read from the config of an image.
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

// otherLines says what else the config has of how an image runs, as Docker's health check, in JSON.
func (n *node) otherLines() []string {
	var c struct {
		Config map[string]json.RawMessage `json:"config"`
	}
	if n.Config == nil || json.Unmarshal(n.Config, &c) != nil {
		return nil
	}

	var lines []string
	for _, key := range slices.Sorted(maps.Keys(c.Config)) {
		value := string(c.Config[key])
		switch key {
		case "Entrypoint", "Cmd", "Env", "WorkingDir", "User", "Labels", "ExposedPorts", "Volumes", "StopSignal":
			continue // viewLines has these
		}
		if !slices.Contains([]string{"null", "false", `""`, "{}", "[]"}, value) {
			lines = append(lines, strings.ToLower(key)+" "+value)
		}
	}

	return lines
}
