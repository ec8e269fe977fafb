package layout

import "fmt"

// A Severity says what a finding means for who wants to use the layout.
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
	CodeNameAmbiguous     = "name-ambiguous"
	CodeBlobMissing       = "blob-missing"
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
	CodeDiffID           = "diff-id"
	CodeHistoryCount     = "history-count"
	CodePlatformMismatch = "platform-mismatch"
	CodeTypeMixed        = "type-mixed"
	CodeIndexCycle       = "index-cycle"
	CodeIndexDepth       = "index-depth"
	CodeNameInvalid      = "name-invalid"
	CodeNameDuplicate    = "name-duplicate"
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
		{CodeLayoutMalformed, SeverityError, false, "oci-layout is absent or not what it should be, so that this is no layout", "write {\"imageLayoutVersion\":\"1.0.0\"} into it if it was one"},
		{CodeIndexMalformed, SeverityError, false, "index.json cannot be used", "bring index.json back from a copy"},
		{CodeNameAmbiguous, SeverityError, false, "one tag names two images", "tag the right one again"},
		{CodeBlobMissing, SeverityError, false, "a blob that is named is absent", refetch},
		{CodeBlobSize, SeverityError, false, "a blob has another size than its descriptor says", refetch},
		{CodeBlobDigest, SeverityError, false, "the bytes of a blob do not have the digest of its name", refetch},
		{CodeBlobNotFile, SeverityError, false, "a blob is a link, a pipe, a directory", refetch},
		{CodeBlobUnreadable, SeverityError, false, "a blob cannot be read", refetch},
		{CodeBlobName, SeverityError, false, "a file among the blobs has no digest for a name", "move it elsewhere"},
		{CodeDigestUnsupported, SeverityError, false, "a digest cannot be verified: it is neither sha256 nor sha512", rebuild},
		{CodeDataMismatch, SeverityError, false, "embedded data are not what the descriptor names", rebuild},
		{CodeDocumentMalformed, SeverityError, false, "a manifest, index or config is not what it should be", rebuild},

		{CodeLayerMalformed, SeverityError, true, "a layer does not decompress, or is no whole tar", rebuild},
		{CodeLayerNoEnd, SeverityWarning, true, "the tar of a layer lacks the zero blocks at its end, as umoci writes it; some tools complain", rebuild},
		{CodeLayerType, SeverityError, true, "a layer's bytes are not of the media type that its descriptor says", rebuild},
		{CodeLayerApply, SeverityError, true, "the layers of an image make up no file system, as if a name climbs or a hard link leads to nothing: extract refuses them", rebuild},
		{CodeLayerCount, SeverityError, true, "a config has more or fewer diff IDs than there are layers", rebuild},
		{CodeLayerUnchecked, SeverityNote, true, "a layer has a compression that cannot be read here", ""},
		{CodeDiffID, SeverityError, true, "the uncompressed layer does not have the diff ID in the config", rebuild},
		{CodeHistoryCount, SeverityError, true, "the history has more steps that made layers than there are layers; with fewer it is a warning", rebuild},
		{CodePlatformMismatch, SeverityError, true, "an index says another platform than the config of the image", rebuild},
		{CodeTypeMixed, SeverityError, true, "a manifest mixes media types of OCI and Docker", rebuild},
		{CodeIndexCycle, SeverityError, true, "an index leads back to itself", rebuild},
		{CodeIndexDepth, SeverityWarning, true, "indexes nest deeper than other tools read", rebuild},
		{CodeNameInvalid, SeverityWarning, true, "a name is outside of the grammar of the specification", "tag it under another name and untag this one"},
		{CodeNameDuplicate, SeverityWarning, true, "an image is listed twice under one name", "tag it again: one entry stays"},
		{CodeSubjectMissing, SeverityNote, true, "what a manifest refers to as its subject is not here", ""},
		{CodeFileLink, SeverityWarning, true, "a file or directory of the layout is a symbolic link", "put what it leads to in its place"},
		{CodeFileForeign, SeverityWarning, true, "a file beside index.json does not belong to a layout", "move it elsewhere"},
		{CodeFileLeftover, SeverityWarning, true, "a writer that was killed left a temporary file", "ocikit gc removes it"},
	}
}

// NewFinding returns a finding with the severity and the fix of its code.
func NewFinding(code string) Finding {
	for _, c := range Codes() {
		if c.Code == code {
			return Finding{Code: code, Severity: c.Severity, Fix: c.Fix}
		}
	}
	panic(fmt.Sprintf("layout: no finding has the code %q", code))
}
