package serve

import (
	"fmt"
	"math"
	"net/http"

	"ocikit/oci"
	"ocikit/oci/layout"
)

// What the page of a repository shows. Text that stands in documents is escaped by plain.
type repoView struct {
	Name   string
	Images []imageView
	More   int // images that are not shown
}

type imageView struct {
	Tag, Digest string // Tag is empty for what was pushed by digest alone
	MediaType   string
	Platforms   []platformView
	Problem     string
}

// A platformView is one manifest: the image itself or one of an index.
type platformView struct {
	Platform, Digest string
	Size             int64 // of all its blobs
	Layers           []layerView
	Problem          string
}

// A layerView is one segment of the size picture, which is 1000 wide.
type layerView struct {
	Digest, MediaType string
	Size              int64
	X, Width          float64
	Color             int
}

// Limits of the page.
const (
	maxImages    = 200
	maxPlatforms = 50
	maxLayers    = 500
	colors       = 8
)

func (s *Server) serveRepository(w *recorder, r *http.Request, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	l, err := s.openRepo(name)
	if err != nil {
		return err
	}
	defer l.Close()
	x, err := s.index(name, l)
	if err != nil {
		return err
	}
	view := repoView{Name: name}
	for _, e := range x.entries {
		tags := names(e)
		if len(tags) == 0 {
			tags = []string{""}
		}
		for _, tag := range tags {
			if len(view.Images) == maxImages || r.Context().Err() != nil {
				view.More++
				continue
			}
			view.Images = append(view.Images, viewImage(l, tag, e))
		}
	}
	return render(w, "repository.html", view)
}

func viewImage(l *layout.Layout, tag string, desc oci.Descriptor) imageView {
	v := imageView{Tag: tag, Digest: desc.Digest.String(), MediaType: plain(desc.MediaType)}
	children := []oci.Descriptor{desc}
	if oci.IsIndex(desc.MediaType) {
		data, err := l.Document(desc)
		if err != nil {
			v.Problem = plainText(err.Error())
			return v
		}
		x, err := oci.DecodeIndex(desc, data)
		if err != nil {
			v.Problem = plainText(err.Error())
			return v
		}
		children = x.Manifests
	}
	for _, c := range children[:min(len(children), maxPlatforms)] {
		v.Platforms = append(v.Platforms, viewManifest(l, c))
	}
	if len(children) > maxPlatforms {
		v.Problem = fmt.Sprintf("%d more manifests are not shown", len(children)-maxPlatforms)
	}
	return v
}

func viewManifest(l *layout.Layout, desc oci.Descriptor) platformView {
	v := platformView{Digest: desc.Digest.String(), Size: desc.Size, Platform: "—"}
	if desc.Platform != nil {
		v.Platform = plain(desc.Platform.String())
	}
	if !oci.IsManifest(desc.MediaType) {
		v.Problem = "of type " + plain(desc.MediaType)
		return v
	}
	data, err := l.Document(desc)
	var m oci.Manifest
	if err == nil {
		m, err = oci.DecodeManifest(desc, data)
	}
	if err != nil {
		v.Problem = plainText(err.Error())
		return v
	}
	if desc.Platform == nil {
		v.Platform = configPlatform(l, m)
	}
	v.Size = addSizes(v.Size, m.Config.Size)
	v.addLayers(m.Layers)
	return v
}

// configPlatform reads the platform of an image from its config.
func configPlatform(l *layout.Layout, m oci.Manifest) string {
	if !oci.IsConfig(m.Config.MediaType) {
		return plain(m.Config.MediaType)
	}
	data, err := l.Document(m.Config)
	if err != nil {
		return "—"
	}
	c, err := oci.ParseConfig(data)
	if err != nil {
		return "—"
	}
	view, err := c.View()
	if err != nil {
		return "—"
	}
	if view.OS == "" && view.Architecture == "" {
		return "—"
	}
	return plain(oci.Platform{OS: view.OS, Architecture: view.Architecture, Variant: view.Variant, OSVersion: view.OSVersion}.String())
}

// addLayers draws the layers side by side, each as wide as its part of the whole, and at
// least wide enough to be seen.
func (v *platformView) addLayers(layers []oci.Descriptor) {
	var sum float64
	for _, d := range layers {
		v.Size = addSizes(v.Size, d.Size)
		sum += float64(d.Size)
	}
	if len(layers) > maxLayers {
		v.Problem = fmt.Sprintf("%d layers", len(layers))
		layers = layers[:maxLayers]
	}
	const least = 2
	room := 1000 - least*float64(len(layers))
	x := 0.0
	for i, d := range layers {
		width := least + math.Max(room, 0)*float64(d.Size)/math.Max(sum, 1)
		v.Layers = append(v.Layers, layerView{d.Digest.String(), plain(d.MediaType), d.Size, x, width, i % colors})
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
