package oci

import "strings"

// Media types of the image-spec (media-types.md), and those of Docker that readers must
// take for the same thing.
const (
	MediaTypeIndex       = "application/vnd.oci.image.index.v1+json"
	MediaTypeManifest    = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeConfig      = "application/vnd.oci.image.config.v1+json"
	MediaTypeEmpty       = "application/vnd.oci.empty.v1+json"
	MediaTypeLayer       = "application/vnd.oci.image.layer.v1.tar"
	MediaTypeLayerGzip   = "application/vnd.oci.image.layer.v1.tar+gzip"
	MediaTypeLayerZstd   = "application/vnd.oci.image.layer.v1.tar+zstd"
	MediaTypeOctetStream = "application/octet-stream"

	MediaTypeDockerList         = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerConfig       = "application/vnd.docker.container.image.v1+json"
	MediaTypeDockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	MediaTypeDockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	MediaTypeDockerLayerForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

// IsIndex reports whether t is a list of manifests, of OCI or Docker.
func IsIndex(t string) bool { return t == MediaTypeIndex || t == MediaTypeDockerList }

// IsManifest reports whether t is the manifest of one image or artifact, of OCI or Docker.
func IsManifest(t string) bool { return t == MediaTypeManifest || t == MediaTypeDockerManifest }

// IsConfig reports whether t is the config of a runnable image, of OCI or Docker.
func IsConfig(t string) bool { return t == MediaTypeConfig || t == MediaTypeDockerConfig }

// IsLayer reports whether t is a file system layer, of OCI or Docker, compressed or not.
func IsLayer(t string) bool {
	return strings.HasPrefix(t, MediaTypeLayer) && (len(t) == len(MediaTypeLayer) || t[len(MediaTypeLayer)] == '+') ||
		t == MediaTypeDockerLayer || t == MediaTypeDockerLayerGzip || IsForeignLayer(t)
}

// IsForeignLayer reports whether t is a layer that is not distributed with its image, so
// its blob may be absent (layer.md, "Non-Distributable Layers").
func IsForeignLayer(t string) bool {
	return strings.HasPrefix(t, "application/vnd.oci.image.layer.nondistributable.v1.tar") || t == MediaTypeDockerLayerForeign
}

// ManifestTypes are the media types to ask a registry for, the specific ones first.
func ManifestTypes() []string {
	return []string{MediaTypeIndex, MediaTypeManifest, MediaTypeDockerList, MediaTypeDockerManifest}
}
