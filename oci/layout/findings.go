package layout

import "fmt"

// A Severity says what a finding means for someone who wants to use the layout.
type Severity string

// The severities.
const (
	SeverityError    Severity = "error"    // something is wrong
	SeverityWarning  Severity = "warning"  // other tools may stumble
	SeverityNote     Severity = "note"     // good to know
	SeverityRepaired Severity = "repaired" // it was an error, until it was repaired
)

// A Finding is one thing that is wrong with a layout, or worth to know about it.
type Finding struct {
	Code     string   `json:"code"`
	Digest   string   `json:"digest,omitempty"` // of the blob in question
	Fix      string   `json:"fix,omitempty"`    // what helps
	Got      string   `json:"got,omitempty"`
	Path     string   `json:"path,omitempty"` // of the file, below the layout
	Severity Severity `json:"severity"`
	Want     string   `json:"want,omitempty"`
}

// Codes of findings. They are part of the contract of [Layout.Verify]. Those behind
// CodeDocumentMalformed are found by a deep verification only; those about layers, configs
// and platforms are found by package image.
const (
	CodeLayoutMalformed   = "layout-malformed"
	CodeIndexMalformed    = "index-malformed"
	CodeWaitingMalformed  = "waiting-malformed"
	CodeNameAmbiguous     = "name-ambiguous"
	CodeBlobMissing       = "blob-missing"
	CodeManifestAbsent    = "manifest-absent"
	CodeBlobSize          = "blob-size"
	CodeBlobDigest        = "blob-digest"
	CodeBlobNotFile       = "blob-not-file"
	CodeBlobUnreadable    = "blob-unreadable"
	CodeBlobName          = "blob-name"
	CodeDigestUnsupported = "digest-unsupported"
	CodeDataMismatch      = "data-mismatch"
	CodeDocumentMalformed = "document-malformed"

	CodeLayerMalformed   = "layer-malformed"
	CodeLayerNoEnd       = "layer-no-end"
	CodeLayerType        = "layer-type"
	CodeLayerApply       = "layer-apply"
	CodeLayerCount       = "layer-count"
	CodeLayerUnchecked   = "layer-unchecked"
	CodeLayerSurprise    = "layer-surprise"
	CodeLayerDuplicate   = "layer-duplicate"
	CodeLayerDepth       = "layer-depth"
	CodeConfigInvalid    = "config-invalid"
	CodePlatformUnknown  = "platform-unknown"
	CodeMediaType        = "media-type"
	CodeDiffID           = "diff-id"
	CodeHistoryCount     = "history-count"
	CodePlatformMismatch = "platform-mismatch"
	CodeTypeMixed        = "type-mixed"
	CodeIndexCycle       = "index-cycle"
	CodeIndexDepth       = "index-depth"
	CodeNameInvalid      = "name-invalid"
	CodeNameDuplicate    = "name-duplicate"
	CodeNameDigest       = "name-digest"
	CodeSubjectMissing   = "subject-missing"
	CodeFileLink         = "file-link"
	CodeFileForeign      = "file-foreign"
	CodeFileLeftover     = "file-leftover"
)

// A Code is one kind of finding, for manuals.
type Code struct {
	Code     string
	Severity Severity
	Deep     bool // found by a deep verification only
	Means    string
	Fix      string
}

const (
	refetch = "fetch it again, as with --repair-from"
	rebuild = "make the image again, or get it from where it was made"
)

// Codes returns all kinds of findings.
func Codes() []Code {
	return []Code{
		{CodeLayoutMalformed, SeverityError, false, "oci-layout is absent or not what it should be, so that this is not a layout", "write {\"imageLayoutVersion\":\"1.0.0\"} into it if it was one"},
		{CodeIndexMalformed, SeverityError, false, "index.json cannot be used", "bring index.json back from a copy"},
		{CodeWaitingMalformed, SeverityError, false, "what unbundle remembers cannot be read, so that no image that waits gets its name, and gc deletes nothing", "ocikit unbundle --forget LAYOUT drops it; then apply the bundles again"},
		{CodeNameAmbiguous, SeverityError, false, "one tag names two images", "tag the right one again"},
		{CodeBlobMissing, SeverityError, false, "a blob that is named is absent", refetch},
		{CodeManifestAbsent, SeverityError, false, "an index names a manifest that is absent, as of a platform that was left out", "fetch it, as with --repair-from; --sparse if it is absent on purpose"},
		{CodeBlobSize, SeverityError, false, "a blob has another size than its descriptor says", refetch},
		{CodeBlobDigest, SeverityError, false, "the bytes of a blob do not have the digest of its name", refetch},
		{CodeBlobNotFile, SeverityError, false, "a blob is a link, a pipe, a directory", refetch},
		{CodeBlobUnreadable, SeverityError, false, "a blob cannot be read", refetch},
		{CodeBlobName, SeverityError, false, "a file among the blobs has no digest for a name", "move it elsewhere"},
		{CodeDigestUnsupported, SeverityError, false, "a digest cannot be verified: it is neither sha256 nor sha512", rebuild},
		{CodeDataMismatch, SeverityError, false, "embedded data are not what the descriptor names", rebuild},
		{CodeDocumentMalformed, SeverityError, false, "a manifest, index or config is not what it should be", rebuild},

		{CodeLayerMalformed, SeverityError, true, "a layer does not decompress, or is not a whole tar", rebuild},
		{CodeLayerNoEnd, SeverityWarning, true, "the tar of a layer lacks the zero blocks at its end, as umoci writes it; some tools complain", rebuild},
		{CodeLayerType, SeverityError, true, "a layer's bytes are not of the media type that its descriptor says", rebuild},
		{CodeLayerApply, SeverityError, true, "the layers of an image make up no file system, as if a name climbs or a hard link leads to nothing: extract refuses them", rebuild},
		{CodeLayerCount, SeverityError, true, "a config has more or fewer diff IDs than there are layers", rebuild},
		{CodeLayerUnchecked, SeverityNote, true, "a layer has a compression that cannot be read here", ""},
		{CodeLayerSurprise, SeverityWarning, true, "a layer does to those below it what is rarely meant, as to replace a directory by a link or the reverse, or what engines do not agree on, as an opaque whiteout at the root", "make the layer again without it"},
		{CodeLayerDuplicate, SeverityError, true, "a layer holds a path more than once, which layer.md forbids: Docker and podman refuse it", "ocikit flatten merges the layers of an image, ocikit retar --sort keeps the last of each path in a tar"},
		{CodeLayerDepth, SeverityWarning, true, "an image has more layers than Docker mounts", "ocikit flatten merges them"},
		{CodeConfigInvalid, SeverityWarning, true, "a config lacks what config.md requires, or holds what engines do not understand", "ocikit mutate, with the flag for it or --merge-patch, sets it right"},
		{CodePlatformUnknown, SeverityWarning, true, "a platform is written otherwise than Go writes it, as x86_64 for amd64: no engine finds the image", "ocikit mutate --os --arch sets it right"},
		{CodeMediaType, SeverityWarning, true, "a media type is none by RFC 6838", rebuild},
		{CodeDiffID, SeverityError, true, "the uncompressed layer does not have the diff ID in the config", rebuild},
		{CodeHistoryCount, SeverityError, true, "the history has more steps that made layers than there are layers; with fewer it is a warning", rebuild},
		{CodePlatformMismatch, SeverityError, true, "an index says another platform than the config of the image", rebuild},
		{CodeTypeMixed, SeverityError, true, "a manifest mixes media types of OCI and Docker", rebuild},
		{CodeIndexCycle, SeverityError, true, "an index leads back to itself", rebuild},
		{CodeIndexDepth, SeverityWarning, true, "indexes nest deeper than other tools read", rebuild},
		{CodeNameInvalid, SeverityWarning, true, "a name is outside of the grammar of the specification", "tag it under another name and untag this one"},
		{CodeNameDuplicate, SeverityWarning, true, "an image is listed twice under one name", "tag it again: one entry stays"},
		{CodeNameDigest, SeverityError, true, "the digest in a name is not that of the image", "tag it again"},
		{CodeSubjectMissing, SeverityNote, true, "what a manifest refers to as its subject is not here", ""},
		{CodeFileLink, SeverityWarning, true, "a file or directory of the layout is a symbolic link", "put what it leads to in its place"},
		{CodeFileForeign, SeverityWarning, true, "a file beside index.json does not belong to a layout", "move it elsewhere"},
		{CodeFileLeftover, SeverityWarning, true, "a writer that was killed left a temporary file", "ocikit gc removes it"},
	}
}

// NewFinding returns a finding with the severity and the fix of its code. It panics if there is
// no such code.
func NewFinding(code string) Finding {
	for _, c := range Codes() {
		if c.Code == code {
			return Finding{Code: code, Severity: c.Severity, Fix: c.Fix}
		}
	}
	panic(fmt.Sprintf("layout: no finding has the code %q", code))
}
