package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/tarutil"
)

// Verify checks a layout as [layout.Layout.Verify] does. If opts.Deep is set it looks into the
// images as well: layers are applied while they are hashed, and compared with media types and
// diff IDs; configs with manifests and platforms. An image without an error is one that can
// be extracted. Layers are read once, but for those that several images share, which are read
// for each, and for those of images that cannot be applied.
func Verify(ctx context.Context, l *layout.Layout, opts layout.VerifyOptions) ([]layout.Finding, layout.Summary, error) {
	if !opts.Deep {
		return l.Verify(ctx, opts)
	}
	d := &deep{l: l, workers: opts.Workers, layers: map[digest.Digest]*layerFacts{}, bad: map[string]bool{}, added: map[layout.Finding]bool{}}
	roots := opts.Roots
	if roots == nil {
		if x, err := l.Index(); err == nil { // if not, l.Verify says so
			roots = x.Manifests
		}
	}
	if err := l.Scan(roots, d.collect); err != nil {
		return nil, layout.Summary{}, err
	}
	opts.Inspect = func(blob digest.Digest, r io.Reader) {
		if facts := d.layers[blob]; facts != nil {
			facts.read(r, &d.window)
		}
	}
	opts.ReadFirst = d.apply
	findings, sum, err := l.Verify(ctx, opts)
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

// Repair verifies a layout and fetches what is bad or missing from another place, until
// that helps no more. The findings are those that were repaired, marked so, then those that
// are left.
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
	l        *layout.Layout
	workers  int
	window   sync.Mutex // for who decompresses zstd: it may take 128 MiB
	images   []imageFacts
	layers   map[digest.Digest]*layerFacts
	bad      map[string]bool // blobs that are damaged: what is inside them says nothing
	findings []layout.Finding
	added    map[layout.Finding]bool // what is in findings
}

// imageFacts is a manifest as an index, or index.json, names it.
type imageFacts struct {
	desc     oci.Descriptor
	manifest oci.Manifest
	config   *oci.View // nil if it is not that of an image, or unreadable
	applyErr error     // of applying the layers
}

// collect takes a manifest and its layers. What cannot be read is reported by others.
func (d *deep) collect(desc oci.Descriptor, doc []byte, err error) error {
	if err != nil || !oci.IsManifest(desc.MediaType) {
		return nil
	}
	m, err := oci.DecodeManifest(desc, doc)
	if err != nil {
		return nil
	}
	facts := imageFacts{desc: desc, manifest: m}
	if oci.IsConfig(m.Config.MediaType) {
		if c, err := ReadConfig(d.l, m.Config); err == nil {
			if v, err := c.View(); err == nil {
				facts.config = &v
			}
		}
	}
	for i, layer := range m.Layers {
		if !oci.IsLayer(layer.MediaType) {
			continue
		}
		f := d.layers[layer.Digest]
		if f == nil {
			f = &layerFacts{algorithms: map[digest.Algorithm]bool{}}
			d.layers[layer.Digest] = f
		}
		if facts.config != nil && i < len(facts.config.RootFS.DiffIDs) {
			if id := facts.config.RootFS.DiffIDs[i]; id.Verifiable() {
				f.algorithms[id.Algorithm()] = true
			}
		}
	}
	d.images = append(d.images, facts)
	return nil
}

// judge compares what was collected, and adds what is wrong.
func (d *deep) judge() {
	for _, f := range d.findings {
		if f.Repairable() {
			d.bad[f.Digest] = true
		}
	}
	said := map[digest.Digest]bool{}
	for _, img := range d.images {
		d.manifest(img)
		for i, layer := range img.manifest.Layers {
			facts := d.layers[layer.Digest]
			if facts == nil || !facts.done || d.bad[layer.Digest.String()] {
				continue
			}
			if !said[layer.Digest] {
				said[layer.Digest] = true
				d.layer(layer, facts)
			}
			if img.config == nil || facts.err != nil || i >= len(img.config.RootFS.DiffIDs) {
				continue
			}
			want := img.config.RootFS.DiffIDs[i]
			where := fmt.Sprintf("as layer %d of %s", i, img.desc.Digest)
			if got := facts.ids[want.Algorithm()]; !want.Verifiable() {
				d.add(layout.CodeDigestUnsupported, layer.Digest, "diff ID "+want.String(), "sha256 or sha512, "+where)
			} else if got != want {
				d.add(layout.CodeDiffID, layer.Digest, got.String(), want.String()+", "+where)
			}
		}
	}
	for _, img := range d.images {
		if img.applyErr != nil && d.readable(img.manifest.Layers) {
			d.add(layout.CodeLayerApply, img.desc.Digest, img.applyErr.Error(), "")
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
	want := tarutil.FormatTar
	switch t := desc.MediaType; {
	case strings.HasSuffix(t, "+gzip"), strings.HasSuffix(t, ".gzip"):
		want = tarutil.FormatGzip
	case strings.HasSuffix(t, "+zstd"):
		want = tarutil.FormatZstd
	case strings.Contains(t, "+"):
		d.add(layout.CodeLayerUnchecked, desc.Digest, desc.MediaType, "")
		return
	}
	switch {
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
	m, blob := image.manifest, image.desc.Digest
	families := map[string]string{}
	for _, desc := range append([]oci.Descriptor{image.desc, m.Config}, m.Layers...) {
		if family := family(desc.MediaType); family != "" && families[family] == "" {
			families[family] = desc.MediaType
		}
	}
	if len(families) > 1 {
		d.add(layout.CodeTypeMixed, blob, families["docker"]+" and "+families["oci"], "one family")
	}
	if image.config == nil {
		return
	}
	v := image.config
	if len(v.RootFS.DiffIDs) != len(m.Layers) {
		d.add(layout.CodeLayerCount, blob, fmt.Sprintf("%d diff IDs", len(v.RootFS.DiffIDs)), fmt.Sprintf("%d, one for each layer", len(m.Layers)))
	}
	made := 0
	for _, h := range v.History {
		if !h.EmptyLayer {
			made++
		}
	}
	if len(v.History) > 0 && made != len(m.Layers) {
		severity := layout.SeverityError
		if made < len(m.Layers) {
			severity = layout.SeverityWarning
		}
		d.addAs(severity, layout.CodeHistoryCount, blob, fmt.Sprintf("%d steps that made layers", made), fmt.Sprintf("%d, one for each layer", len(m.Layers)))
	}
	if p := image.desc.Platform; p != nil && p.OS != "unknown" { // that is how attestations are marked
		if q := v.Platform(); !samePlatform(*p, q) {
			d.add(layout.CodePlatformMismatch, blob, "config for "+q.String(), p.String())
		}
	}
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
