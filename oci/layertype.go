package oci

import (
	"fmt"
	"strings"
)

// A Compression is how the tar of a layer is stored, as the suffix of a media type says it.
type Compression string

// The compressions of layers that the specifications name. Other suffixes are possible.
const (
	Uncompressed Compression = ""
	Gzip         Compression = "gzip" // eStargz too
	Zstd         Compression = "zstd"
)

// A LayerType is what the media type of a layer says.
type LayerType struct {
	Family      Family
	Compression Compression
	// Foreign layers are not distributed with their image, so that their blobs may be absent
	// (layer.md, "Non-Distributable Layers").
	Foreign bool
}

// layerTypes are the media types of layers, up to the suffix that names the compression.
var layerTypes = [...]struct {
	prefix string
	sep    string // before the compression
	typ    LayerType
}{
	{MediaTypeLayerForeign, "+", LayerType{Family: FamilyOCI, Foreign: true}},
	{MediaTypeLayer, "+", LayerType{Family: FamilyOCI}},
	{"application/vnd.docker.image.rootfs.foreign.diff.tar", ".", LayerType{Family: FamilyDocker, Foreign: true}},
	{MediaTypeDockerLayer, ".", LayerType{Family: FamilyDocker}},
}

// ParseLayerType takes the media type of a layer apart, and reports whether it is one. A suffix
// that no specification names counts as a compression of that name: some programs write Docker's
// layer type with ".zstd" at its end.
func ParseLayerType(mediaType string) (LayerType, bool) {
	for _, t := range layerTypes {
		rest, ok := strings.CutPrefix(mediaType, t.prefix)
		if !ok {
			continue
		}
		if rest == "" {
			return t.typ, true
		}
		if compression, ok := strings.CutPrefix(rest, t.sep); ok && compression != "" {
			t.typ.Compression = Compression(compression)
			return t.typ, true
		}
	}
	return LayerType{}, false
}

// MediaType returns the media type of a layer. Docker has no name for layers that are compressed
// with anything but gzip, which is an error that wraps [ErrFamily].
func (t LayerType) MediaType() (string, error) {
	if t.Family == FamilyDocker && t.Compression != Gzip && (t.Compression != Uncompressed || t.Foreign) {
		return "", fmt.Errorf("layer compressed with %q: %w", t.Compression, ErrFamily)
	}
	for _, row := range layerTypes {
		if row.typ.Family == t.Family && row.typ.Foreign == t.Foreign {
			if t.Compression == Uncompressed {
				return row.prefix, nil
			}
			return row.prefix + row.sep + string(t.Compression), nil
		}
	}
	panic("oci: no such layer type")
}

// IsLayer reports whether t is a file system layer, of OCI or Docker, compressed or not.
func IsLayer(t string) bool {
	_, ok := ParseLayerType(t)
	return ok
}

// IsForeignLayer reports whether t is a layer that is not distributed with its image.
func IsForeignLayer(t string) bool {
	typ, ok := ParseLayerType(t)
	return ok && typ.Foreign
}
