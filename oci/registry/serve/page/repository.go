package page

import (
	"errors"
	"fmt"
	"math"

	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/serve/live"
	"ocikit/oci/source"
)

// A Repository is what the page of a repository shows. Texts of documents are escaped by
// [exchange.Plain].
type Repository struct {
	Name   string
	Pull   string // what to pull, by the name that the page was asked for; "" if there is no tag
	Images []Image
	More   int // images that are not shown
}

// An Image is one tag of a repository, or what was pushed by digest alone.
type Image struct {
	Tag, Digest string // Tag is empty for what was pushed by digest alone
	MediaType   string
	Platforms   []Platform
	Problem     string
}

// A Platform is one manifest: the image itself or one of an index.
type Platform struct {
	Platform, Digest string
	Size             int64 // of all its blobs
	Layers           []Layer
	Problem          string
}

// A Layer is one segment of the size picture, which is 1000 wide.
type Layer struct {
	Digest, MediaType string
	Size              int64
	X, Width          float64
	Color             int
}

// Limits of one image.
const (
	maxPlatforms = 50
	maxDocuments = 2 * maxPlatforms // that are read for one image
	maxLayers    = 500
	colors       = 8
)

// ImageOf returns what the page shows of an image. Documents are read up to a limit, and what is
// wrong with one is said on the page.
func ImageOf(l source.Source, tag string, desc oci.Descriptor) Image {
	v := Image{Tag: tag, Digest: desc.Digest.String(), MediaType: exchange.Plain(desc.MediaType)}
	if !oci.IsDocument(desc.MediaType) {
		v.Problem = "it is neither a manifest nor an index"
		return v
	}

	w := graph.NewWalker(l, graph.Limits{Documents: maxDocuments})
	w.Descend, w.Documents = true, true
	err := w.Walk([]oci.Descriptor{desc}, func(n graph.Node) error {
		switch {
		case oci.IsIndex(n.Desc.MediaType) && n.Err == nil:
			return nil // what it lists comes next
		case len(v.Platforms) == maxPlatforms:
			return errors.New("more manifests are not shown")
		}
		v.Platforms = append(v.Platforms, manifestOf(l, n))
		return nil
	})
	if err != nil {
		v.Problem = live.PlainText(err.Error())
	}

	return v
}

func manifestOf(l source.Source, n graph.Node) Platform {
	v := Platform{Digest: n.Desc.Digest.String(), Size: n.Desc.Size, Platform: "—"}
	if n.Desc.Platform != nil {
		v.Platform = exchange.Plain(n.Desc.Platform.String())
	}

	var m oci.Manifest
	err := n.Err
	if err == nil {
		m, err = oci.DecodeManifest(n.Desc, n.Doc)
	}
	if err != nil {
		v.Problem = live.PlainText(err.Error())
		return v
	}

	// An artifact has no platform: the type of its config says what it is.
	if n.Desc.Platform == nil && !oci.IsConfig(m.Config.MediaType) {
		v.Platform = exchange.Plain(m.Config.MediaType)
	} else if p, err := graph.PlatformOf(l, n.Desc); err == nil && p != nil {
		v.Platform = exchange.Plain(p.String())
	}

	v.Size = addSizes(v.Size, m.Config.Size)
	v.addLayers(m.Layers)
	return v
}

// addLayers draws the layers side by side, each as wide as its part of the whole, and at
// least wide enough to be seen.
func (v *Platform) addLayers(layers []oci.Descriptor) {
	var sum float64
	for _, d := range layers {
		v.Size = addSizes(v.Size, d.Size)
		sum += float64(d.Size)
	}

	if len(layers) > maxLayers {
		v.Problem = fmt.Sprintf("%d layers", len(layers))
		layers = layers[:maxLayers]
	}

	// Each layer gets the least width first. What is left is shared by size.
	const least = 2
	room := 1000 - least*float64(len(layers))
	x := 0.0
	for i, d := range layers {
		width := least + math.Max(room, 0)*float64(d.Size)/math.Max(sum, 1)
		v.Layers = append(v.Layers, Layer{d.Digest.String(), exchange.Plain(d.MediaType), d.Size, x, width, i % colors})
		x += width
	}
}

// addSizes adds what documents claim, which may be anything.
func addSizes(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// humanBytes returns a size as people read it.
func humanBytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < 5 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTPE"[i])
}
