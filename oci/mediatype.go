package oci

import (
	"fmt"
	"strings"
	"unicode"
)

// Media types of the image-spec (media-types.md), and those of Docker that readers must
// take for the same thing.
const (
	MediaTypeIndex     = "application/vnd.oci.image.index.v1+json"
	MediaTypeManifest  = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeConfig    = "application/vnd.oci.image.config.v1+json"
	MediaTypeEmpty     = "application/vnd.oci.empty.v1+json"
	MediaTypeLayer     = "application/vnd.oci.image.layer.v1.tar"
	MediaTypeLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
	MediaTypeLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd"
	// MediaTypeLayerForeign is the type of layers that are not distributed with their image.
	MediaTypeLayerForeign = "application/vnd.oci.image.layer.nondistributable.v1.tar"

	MediaTypeOctetStream = "application/octet-stream"

	MediaTypeDockerList         = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeDockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerConfig       = "application/vnd.docker.container.image.v1+json"
	MediaTypeDockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	MediaTypeDockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	MediaTypeDockerLayerForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
)

// CheckMediaType reports what is not a media type by RFC 6838, section 4.2.
func CheckMediaType(t string) error {
	kind, sub, ok := strings.Cut(t, "/")
	if ok && isRestrictedName(kind) && isRestrictedName(sub) {
		return nil
	}
	return fmt.Errorf("%.80q: it is not a media type: %w", t, ErrMalformed)
}

// isRestrictedName is the production of that name in RFC 6838.
func isRestrictedName(s string) bool {
	for i, c := range []byte(s) {
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && (i == 0 || strings.IndexByte("!#$&-^_.+", c) < 0) {
			return false
		}
	}
	return s != "" && len(s) <= 127
}

// hasBlanks reports whether a media type has characters that make it look like another one, or
// that end a line.
func hasBlanks(t string) bool {
	return strings.TrimSpace(t) != t || strings.ContainsFunc(t, unicode.IsControl)
}

// IsSchema1 reports whether t is a manifest of Docker's schema 1, signed or not. It names layers, but in
// ways of its own, and is not read here.
func IsSchema1(t string) bool {
	const schema1 = "application/vnd.docker.distribution.manifest.v1+"
	return t == schema1+"json" || t == schema1+"prettyjws"
}

// IsIndex reports whether t is a list of manifests, of OCI or Docker.
func IsIndex(t string) bool { return t == MediaTypeIndex || t == MediaTypeDockerList }

// IsManifest reports whether t is the manifest of one image or artifact, of OCI or Docker.
func IsManifest(t string) bool { return t == MediaTypeManifest || t == MediaTypeDockerManifest }

// IsDocument reports whether t is a manifest or an index: what leads to other blobs.
func IsDocument(t string) bool { return IsManifest(t) || IsIndex(t) }

// IsConfig reports whether t is the config of a runnable image, of OCI or Docker.
func IsConfig(t string) bool { return t == MediaTypeConfig || t == MediaTypeDockerConfig }

// ManifestTypes are the media types to ask a registry for, the specific ones first.
func ManifestTypes() []string {
	return []string{MediaTypeIndex, MediaTypeManifest, MediaTypeDockerList, MediaTypeDockerManifest}
}
