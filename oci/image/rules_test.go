package image

import (
	"testing"

	"ocikit/oci/layout"
)

// A rule is one that image-spec states or that an engine keeps, with the finding of [Verify] for
// who breaks it, or the reason against one.
type rule struct{ from, rule, code, reason string }

// decoded is the code of what the decoder refuses.
const decoded = layout.CodeDocumentMalformed

var rules = []rule{
	// Layers.
	{"layer.md, distributable format", "a layer is a tar", layout.CodeLayerMalformed, ""},
	{"layer.md, +gzip and +zstd media types", "the bytes are compressed as the type says", layout.CodeLayerType, ""},
	{"layer.md, file types", "entries are of the types that ustar and PAX know", layout.CodeLayerMalformed, ""},
	{"layer.md, populate a comparison file system", "a path comes once in a layer; docker and podman (tar-split) refuse more", layout.CodeLayerDuplicate, ""},
	{"layer.md, whiteouts", "explicit whiteouts rather than opaque ones; overlay file systems ignore one at the root", layout.CodeLayerSurprise, ""},
	{"layer.md, whiteouts", "whiteouts apply to lower layers only", layout.CodeLayerSurprise, ""},
	{"layer.md, changesets", "files and directories with the prefix .wh. cannot exist", layout.CodeLayerApply, ""},
	{"layer.md, hard links", "a hard link leads to an entry of its layer", layout.CodeLayerSurprise, ""},
	{"layer.md, applying changesets", "a file over a directory removes it", layout.CodeLayerSurprise, ""},
	{"containerd, docker, umoci", "a name stays in the root file system", layout.CodeLayerApply, ""},
	{"containerd, docker, umoci", "a hard link leads to a file in the root file system", layout.CodeLayerApply, ""},
	{"Linux", "a path of 4,095 bytes, a component of 255", layout.CodeLayerApply, ""},
	{"docker overlay2, podman", "a directory without an entry is 0755 of 0:0", layout.CodeLayerSurprise, ""},
	{"overlay file systems", "a character device 0:0 is a whiteout", layout.CodeLayerSurprise, ""},
	{"overlay file systems", "entries behind a symbolic link of a lower layer make a directory", layout.CodeLayerSurprise, ""},
	{"docker", "at most 125 layers", layout.CodeLayerDepth, ""},
	{"layer.md, end of archive", "two zero blocks end a tar; umoci leaves them out, some readers complain", layout.CodeLayerNoEnd, ""},
	{"layer.md, non-distributable layers", "they are not pushed", "", "a layer with a URL and without bytes is whole where it was made"},
	{"layer.md, file attributes", "users and groups by number", "", "names are kept, and no engine looks at them"},
	{"containerd, docker", "global extended headers are ignored", "", "POSIX says that they count; a tool that writes one says so in its manual"},

	// Configs.
	{"config.md, architecture, os", "both are required", layout.CodeConfigInvalid, ""},
	{"config.md, architecture, os", "the words of GOARCH and GOOS", layout.CodePlatformUnknown, ""},
	{"config.md, rootfs.type", "it is layers", decoded, ""},
	{"config.md, rootfs.diff_ids; docker, podman, containerd", "one for each layer", layout.CodeLayerCount, ""},
	{"config.md, rootfs.diff_ids; docker, podman", "the digest of the uncompressed tar", layout.CodeDiffID, ""},
	{"config.md, history; docker, podman", "an entry for each layer, beside empty ones", layout.CodeHistoryCount, ""},
	{"config.md, config.Env", "VARNAME=VARVALUE", layout.CodeConfigInvalid, ""},
	{"config.md, config.ExposedPorts", "port/tcp, port/udp or port", layout.CodeConfigInvalid, ""},
	{"config.md, created", "RFC 3339", "", "engines show it, and none refuses another"},
	{"config.md, config.StopSignal", "SIGNAME or a number", "", "names differ from system to system, and engines take the default for others"},
	{"config.md, config.User", "a user or uid, with or without a group", "", "only the image's own passwd file can tell"},
	{"config.md, config.WorkingDir", "a path", "", "engines make it absolute, and make it where it is missing"},
	{"config.md", "implementation-defined members are kept", "", "unknown members are not faults"},

	// Manifests.
	{"manifest.md, schemaVersion", "2", decoded, ""},
	{"manifest.md, mediaType; containerd", "what the descriptor says", decoded, ""},
	{"containerd, docker", "not both manifests and layers", decoded, ""},
	{"manifest.md, config, layers", "both are descriptors", decoded, ""},
	{"docker, crane", "types of one family", layout.CodeTypeMixed, ""},
	{"manifest.md, layers", "at least one entry", "", "an image without layers is built and run by all engines"},
	{"manifest.md, artifactType", "given where the config is empty", "", "older artifacts have none, and registries list them"},
	{"manifest.md, subject", "it need not be there", layout.CodeSubjectMissing, ""},
	{"manifest.md, annotations", "strings by strings", decoded, ""},
	{"docker, podman, registries", "4 MiB", decoded, ""},

	// Descriptors.
	{"descriptor.md, mediaType", "RFC 6838", layout.CodeMediaType, ""},
	{"descriptor.md, digest", "the grammar, and one that can be checked", layout.CodeDigestUnsupported, ""},
	{"descriptor.md, digest", "that of the bytes", layout.CodeBlobDigest, ""},
	{"descriptor.md, size", "that of the bytes", layout.CodeBlobSize, ""},
	{"descriptor.md, data", "the bytes themselves", layout.CodeDataMismatch, ""},
	{"descriptor.md, urls", "http or https", "", "they are never followed"},

	// Indexes.
	{"image-index.md, platform", "the config's", layout.CodePlatformMismatch, ""},
	{"image-index.md, manifests", "unknown media types are passed over", "", "they are not faults"},
	{"image-index.md, nesting", "an index does not lead to itself", layout.CodeIndexCycle, ""},
	{"podman, containerd", "indexes nest a few levels", layout.CodeIndexDepth, ""},

	// Layouts.
	{"image-layout.md, oci-layout", "imageLayoutVersion 1.x.y", layout.CodeLayoutMalformed, ""},
	{"image-layout.md, index.json", "an index", layout.CodeIndexMalformed, ""},
	{"image-layout.md, blobs", "named by their digests", layout.CodeBlobName, ""},
	{"image-layout.md, blobs", "what is referred to may be absent", layout.CodeBlobMissing, ""},
	{"annotations.md, ref.name", "its grammar", layout.CodeNameInvalid, ""},
	{"containerd, hauler", "a digest in a name is that of the image", layout.CodeNameDigest, ""},
	{"skopeo, podman", "a name stands for one image", layout.CodeNameAmbiguous, ""},
}

// TestRules holds each rule to a finding that exists, or to a reason.
func TestRules(t *testing.T) {
	known, used := map[string]bool{}, map[string]bool{}
	for _, c := range layout.Codes() {
		known[c.Code] = true
	}
	for _, r := range rules {
		used[r.code] = true
		if (r.code == "") == (r.reason == "") || r.code != "" && !known[r.code] {
			t.Errorf("%s: %s: code %q, reason %q", r.from, r.rule, r.code, r.reason)
		}
	}
	// Findings that no rule of others is behind: about files, or about what cannot be checked.
	for _, own := range []string{
		layout.CodeBlobNotFile, layout.CodeBlobUnreadable, layout.CodeLayerUnchecked, layout.CodeNameDuplicate,
		layout.CodeFileLink, layout.CodeManifestAbsent, layout.CodeFileForeign, layout.CodeFileLeftover, layout.CodeWaitingMalformed,
	} {
		used[own] = true
	}
	for code := range known {
		if !used[code] {
			t.Errorf("no rule leads to %s", code)
		}
	}
}
