package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/source"
	"ocikit/tarutil"
	"ocikit/tarutil/stack"
)

// Verify checks a layout or another source as [layout.Verify] does. If opts.Deep is set it looks
// into the images as well: layers are applied while they are hashed, and compared with media types
// and diff IDs; configs are compared with manifests and platforms. An image without an error is one
// that can be extracted.
//
// Layers are read once, with two exceptions. A layer that several images share is read for each of
// them, and layers of an image that cannot be applied are read again.
func Verify(ctx context.Context, src source.Source, opts layout.VerifyOptions) ([]layout.Finding, layout.Summary, error) {
	if !opts.Deep {
		return layout.Verify(ctx, src, opts)
	}

	d := &deep{src: src, workers: opts.Workers, lists: map[digest.Digest]*layerList{}, layers: map[digest.Digest]*layerFacts{}, configs: map[configFacts]*configFacts{}, bad: map[string]bool{}, added: map[layout.Finding]bool{}}

	// The images are collected before blobs are hashed, so that each layer is looked into while its
	// digest is checked.
	opts.Visit = d.collect
	opts.Inspect = func(blob digest.Digest, r io.Reader) {
		if facts := d.layers[blob]; facts != nil {
			facts.read(r, &d.window)
		}
	}

	// Layers that can be applied are read to their end by that, and not read again.
	opts.ReadFirst = d.apply
	findings, sum, err := layout.Verify(ctx, src, opts)
	if err != nil {
		return nil, sum, err
	}

	d.findings = findings
	for _, f := range findings {
		d.added[f] = true
	}

	d.judge()
	return d.findings, sum, nil
}

// Repair verifies a layout and fetches what is bad or missing from another place, as long as that
// repairs anything. The findings are those that were repaired, marked so, then those that are left.
func Repair(ctx context.Context, l *layout.Layout, opts layout.VerifyOptions, from layout.Source) ([]layout.Finding, layout.Summary, error) {
	var repaired []layout.Finding
	quick := opts
	quick.Fast, quick.Deep = true, false
	round := func(o layout.VerifyOptions) (findings []layout.Finding, sum layout.Summary, n int, err error) {
		findings, sum, err = Verify(ctx, l, o)
		if err != nil {
			return nil, sum, 0, err
		}
		good, err := l.Repair(ctx, findings, from)
		repaired = append(repaired, good...)
		return findings, sum, len(good), err
	}

	for {
		// A document that came back names blobs that nobody knew to be missing.
		for n := 1; n > 0; {
			findings, sum, more, err := round(quick)
			if err != nil {
				return append(repaired, findings...), sum, err
			}
			n = more
		}
		findings, sum, n, err := round(opts)
		if err != nil || n == 0 {
			return append(repaired, findings...), sum, err
		}
	}
}

// deep is one deep verification.
type deep struct {
	src      source.Source
	workers  int
	window   sync.Mutex // for who decompresses zstd: it may take 128 MiB
	images   []imageFacts
	lists    map[digest.Digest]*layerList // by what is in them
	layers   map[digest.Digest]*layerFacts
	configs  map[configFacts]*configFacts // of images, by digest and media type
	bad      map[string]bool              // blobs that are damaged: what is inside them says nothing
	findings []layout.Finding
	added    map[layout.Finding]bool // what is in findings
}

// imageFacts is a manifest as an index, or index.json, names it. There may be a hundred thousand, so it
// holds no more of the manifest than what is judged.
type imageFacts struct {
	desc   oci.Descriptor
	config *configFacts
	layers *layerList
}

// configFacts is a config as manifests name it.
type configFacts struct {
	digest    digest.Digest
	mediaType string
	view      *oci.View // nil if it is not that of an image, or unreadable
}

// fits reports whether the config of an image counts its layers, so that they can be applied.
func (img *imageFacts) fits() bool {
	return img.config.view != nil && len(img.config.view.RootFS.DiffIDs) == len(img.layers.descs)
}

// mediaTypes are those of the manifest, of its config, and of the layers.
func (img *imageFacts) mediaTypes() []string {
	types := []string{img.desc.MediaType, img.config.mediaType}
	for _, layer := range img.layers.descs {
		types = append(types, layer.MediaType)
	}
	return types
}

// A layerList is the layers of all images that have the same.
type layerList struct {
	descs   []oci.Descriptor
	applied bool
	err     error // of applying them

	surprises []stack.Surprise
}

// list returns the list of layers that equals descs.
func (d *deep) list(descs []oci.Descriptor) *layerList {
	var key []byte
	for _, layer := range descs {
		key = fmt.Appendf(key, "%q %s %d %q\n", layer.MediaType, layer.Digest, layer.Size, layer.Data)
	}
	name := digest.FromBytes(key)
	if d.lists[name] == nil {
		d.lists[name] = &layerList{descs: descs}
	}
	return d.lists[name]
}

// collect takes a manifest and its layers. What cannot be read is reported by others.
func (d *deep) collect(n graph.Node) {
	desc := n.Desc
	if n.Err != nil || !oci.IsManifest(desc.MediaType) {
		return
	}

	m, err := oci.DecodeManifest(desc, n.Doc)
	if err != nil {
		return
	}

	facts := imageFacts{desc: desc, config: d.config(m), layers: d.list(m.Layers)}
	view := facts.config.view
	for i, layer := range m.Layers {
		// A file of an artifact may be of the type of a layer: oras types what has no type so.
		if !m.IsImage() || !oci.IsLayer(layer.MediaType) {
			continue
		}

		f := d.layers[layer.Digest]
		if f == nil {
			f = &layerFacts{algorithms: map[digest.Algorithm]bool{}}
			d.layers[layer.Digest] = f
		}

		// The tar is hashed with each algorithm that a config wants its diff ID in.
		if view != nil && i < len(view.RootFS.DiffIDs) {
			if id := view.RootFS.DiffIDs[i]; id.Verifiable() {
				f.algorithms[id.Algorithm()] = true
			}
		}
	}

	d.images = append(d.images, facts)
}

// config reads the config of an image, once for all that have it, and that of an artifact not at all.
func (d *deep) config(m oci.Manifest) *configFacts {
	key := configFacts{digest: m.Config.Digest, mediaType: m.Config.MediaType}
	if !m.IsImage() {
		return &key
	}

	facts := d.configs[key]
	if facts == nil {
		facts = &configFacts{digest: key.digest, mediaType: key.mediaType}
		if v, err := graph.View(d.src, m.Config); err == nil {
			facts.view = &v
		}
		d.configs[key] = facts
	}

	return facts
}

// judge compares what was collected, and adds what is wrong.
func (d *deep) judge() {
	// A damaged blob has its finding. More of them, about what is inside, would all have that one
	// cause.
	for _, f := range d.findings {
		if f.Repairable() {
			d.bad[f.Digest] = true
		}
	}

	said := map[digest.Digest]bool{}
	for _, img := range d.images {
		d.manifest(img)
		for i, layer := range img.layers.descs {
			facts := d.layers[layer.Digest]
			if facts == nil || !facts.done || d.bad[layer.Digest.String()] {
				continue
			}

			// By itself a layer is judged once, and against the config of each image that has it.
			if !said[layer.Digest] {
				said[layer.Digest] = true
				d.layer(layer, facts)
			}

			view := img.config.view
			if view == nil || facts.err != nil || i >= len(view.RootFS.DiffIDs) {
				continue
			}

			want := view.RootFS.DiffIDs[i]
			where := fmt.Sprintf("as layer %d of %s", i, img.desc.Digest)
			if got := facts.ids[want.Algorithm()]; !want.Verifiable() {
				d.add(layout.CodeDigestUnsupported, layer.Digest, "diff ID "+want.String(), "sha256 or sha512, "+where)
			} else if got != want {
				d.add(layout.CodeDiffID, layer.Digest, got.String(), want.String()+", "+where)
			}
		}
	}

	d.judgeApplied()
}

// judgeApplied adds what is wrong with layers once they lie upon each other. Those that cannot be
// applied are worth a finding only if each of them can be read.
func (d *deep) judgeApplied() {
	for _, img := range d.images {
		list := img.layers
		if !img.fits() {
			continue
		}
		if list.err != nil && d.readable(list.descs) {
			d.add(layout.CodeLayerApply, img.desc.Digest, list.err.Error(), "")
		}
		for _, s := range list.surprises {
			code := layout.CodeLayerSurprise
			if s.Kind == stack.Twice {
				code = layout.CodeLayerDuplicate
			}
			d.add(code, list.descs[s.Layer].Digest, s.String(), "")
		}
	}
}

func (d *deep) add(code string, blob digest.Digest, got, want string) {
	d.addAs(layout.NewFinding(code).Severity, code, blob, got, want)
}

// addAs adds a finding with another severity than its code has. None is added twice.
func (d *deep) addAs(severity layout.Severity, code string, blob digest.Digest, got, want string) {
	f := layout.NewFinding(code)
	f.Severity, f.Digest, f.Got, f.Want = severity, blob.String(), got, want
	if !d.added[f] {
		d.added[f] = true
		d.findings = append(d.findings, f)
	}
}

// layer judges a layer by itself.
func (d *deep) layer(desc oci.Descriptor, facts *layerFacts) {
	t, _ := oci.ParseLayerType(desc.MediaType)
	want, known := map[oci.Compression]tarutil.Format{
		oci.Uncompressed: tarutil.FormatTar, oci.Gzip: tarutil.FormatGzip, oci.Zstd: tarutil.FormatZstd,
	}[t.Compression]

	if !known {
		d.add(layout.CodeLayerUnchecked, desc.Digest, desc.MediaType, "")
		return
	}

	switch {
	// Bytes of no known format are told as damaged, not as another type.
	case facts.format != want && (facts.err == nil || facts.format != tarutil.FormatUnknown):
		d.add(layout.CodeLayerType, desc.Digest, facts.format.String(), want.String()+", as "+desc.MediaType+" says")
	case errors.Is(facts.err, tarutil.ErrUnsupported):
		d.add(layout.CodeLayerUnchecked, desc.Digest, facts.format.String(), "")
	case facts.err != nil:
		d.add(layout.CodeLayerMalformed, desc.Digest, facts.err.Error(), "")
	case facts.noEnd:
		d.add(layout.CodeLayerNoEnd, desc.Digest, "", "")
	}
}

// manifest judges a manifest beside its config and its entry in an index.
func (d *deep) manifest(image imageFacts) {
	blob := image.desc.Digest
	d.types(blob, image.mediaTypes())

	v, layers := image.config.view, len(image.layers.descs)
	if v == nil {
		return
	}

	d.judgeConfig(image)
	if len(v.RootFS.DiffIDs) != layers {
		d.add(layout.CodeLayerCount, blob, fmt.Sprintf("%d diff IDs", len(v.RootFS.DiffIDs)), fmt.Sprintf("%d, one for each layer", layers))
	}

	made := 0
	for _, h := range v.History {
		if !h.EmptyLayer {
			made++
		}
	}

	if len(v.History) > 0 && made != layers {
		severity := layout.SeverityError
		if made < layers {
			severity = layout.SeverityWarning
		}
		d.addAs(severity, layout.CodeHistoryCount, blob, fmt.Sprintf("%d steps that made layers", made), fmt.Sprintf("%d, one for each layer", layers))
	}

	if p := image.desc.Platform; p != nil && !graph.IsAttestation(image.desc) {
		if q := v.Platform(); !samePlatform(*p, q) {
			d.add(layout.CodePlatformMismatch, blob, "config for "+q.String(), p.String())
		}
	}
}

// types judges the media types in a manifest.
func (d *deep) types(blob digest.Digest, types []string) {
	families := map[string]string{} // the first type of each
	for _, mediaType := range types {
		if family := family(mediaType); family != "" && families[family] == "" {
			families[family] = mediaType
		}
	}

	if len(families) > 1 {
		d.add(layout.CodeTypeMixed, blob, families["docker"]+" and "+families["oci"], "one family")
	}

	for _, mediaType := range types {
		if err := oci.CheckMediaType(mediaType); err != nil {
			d.add(layout.CodeMediaType, blob, fmt.Sprintf("%q", mediaType), "type/subtype")
		}
	}
}

// maxDepth is how many layers Docker mounts.
const maxDepth = 125

// judgeConfig judges the config of an image by itself.
func (d *deep) judgeConfig(image imageFacts) {
	v, blob := image.config.view, image.config.digest
	if n := len(image.layers.descs); n > maxDepth {
		d.add(layout.CodeLayerDepth, image.desc.Digest, fmt.Sprintf("%d layers", n), fmt.Sprintf("at most %d", maxDepth))
	}

	if v.OS == "" || v.Architecture == "" {
		d.add(layout.CodeConfigInvalid, blob, fmt.Sprintf("os %q, architecture %q", v.OS, v.Architecture), "both")
	} else if err := v.Platform().CheckWords(); err != nil {
		d.add(layout.CodePlatformUnknown, blob, err.Error(), "")
	}

	for _, e := range v.Config.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			d.add(layout.CodeConfigInvalid, blob, fmt.Sprintf("Env %.60q", e), "NAME=VALUE")
		}
	}

	for port := range v.Config.ExposedPorts {
		if !isPort(port) {
			d.add(layout.CodeConfigInvalid, blob, fmt.Sprintf("ExposedPorts %.60q", port), "PORT[/tcp|/udp|/sctp]")
		}
	}
}

// isPort reports whether s is a port, or a range of them as Docker takes it, with or without a
// protocol.
func isPort(s string) bool {
	ports, protocol, _ := strings.Cut(s, "/")
	first, last, ranged := strings.Cut(ports, "-")
	number := func(s string) bool {
		n, err := strconv.ParseUint(s, 10, 16)
		return err == nil && n > 0
	}
	return number(first) && (!ranged || number(last)) && slices.Contains([]string{"", "tcp", "udp", "sctp"}, protocol)
}

// family returns who defined a media type that both OCI and Docker have one of their own for.
func family(mediaType string) string {
	switch {
	case !oci.IsManifest(mediaType) && !oci.IsConfig(mediaType) && !oci.IsLayer(mediaType):
		return "" // of an artifact
	case strings.HasPrefix(mediaType, "application/vnd.docker."):
		return "docker"
	}
	return "oci"
}

// samePlatform compares an entry of an index with a config. What only one of them says is
// no contradiction: many builders leave out the variant in one place.
func samePlatform(entry, config oci.Platform) bool {
	same := func(a, b string) bool { return a == "" || b == "" || a == b }
	return entry.OS == config.OS && entry.Architecture == config.Architecture &&
		same(entry.Variant, config.Variant) && same(entry.OSVersion, config.OSVersion)
}
