package main

import (
	"fmt"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
)

// A jsonWord is a member of the JSON that commands print. It means the same in all of them.
type jsonWord struct {
	name  string
	kind  string // string, number, bool, list or object; two of them where commands grew apart
	means string
}

// jsonWords returns the vocabulary, sorted. The config and the annotations of an image have
// words of their own, which are not here.
func jsonWords() []jsonWord {
	return []jsonWord{
		{"action", "string", "a step of a plan or a change: upload, fetch, link, copy, tag, added, ..."},
		{"ageSeconds", "number", "how long ago a file was written"},
		{"annotations", "object", "what a manifest, an index or a descriptor says of itself"},
		{"anonymous", "bool", "whether credentials went along"},
		{"apiVersion", "string", "the API that a registry says it has"},
		{"artifactType", "string", "what a manifest or an index that is no image holds"},
		{"asked", "string", "what a probe asked, in words"},
		{"asks", "string", "what a probe would ask"},
		{"blobs", "number", "how many blobs"},
		{"bytes", "number", "how many bytes they have together"},
		{"bytesNeeded", "number", "bytes that the registry lacked"},
		{"bytesReceived", "number", "bytes that came over the wire"},
		{"bytesSent", "number", "bytes that went over the wire"},
		{"cause", "string", "which cause of why it is"},
		{"causes", "list", "why two digests differ"},
		{"children", "list", "what an index or a manifest refers to"},
		{"code", "string", "which finding of verify it is"},
		{"command", "list", "the words of a command line"},
		{"commit", "string", "that the program was built from"},
		{"config", "object", "the config of the image, as it is"},
		{"count", "number", "of the things that it is about"},
		{"credential", "object", "where credentials came from"},
		{"delta", "string", "digest of the delta that a layer is made of"},
		{"deltaSize", "number", "of the delta, in bytes"},
		{"descriptor", "object", "digest, mediaType, size and more of one blob"},
		{"detail", "string", "what of it differs"},
		{"diffID", "string", "digest of the uncompressed layer"},
		{"digest", "string", "digest of the bytes"},
		{"encoder", "string", "the program and level that compress a layer to the same bytes"},
		{"endpoint", "string", "of the distribution-spec"},
		{"equal", "bool", "whether two digests are the same"},
		{"fate", "string", "deleted or replaced: what a layer does to a file"},
		{"files", "number", "entries of a layer"},
		{"findings", "list", "of a probe"},
		{"fix", "string", "what helps"},
		{"from", "list", "layers that a delta copies from"},
		{"gid", "number", "group of a file"},
		{"go", "string", "release of Go"},
		{"got", "string", "what was found"},
		{"here", "string", "what the first of two has"},
		{"history", "object", "how a layer was made, in the words of the config"},
		{"id", "string", "which probe it is"},
		{"kind", "string", "file, directory, symlink, ...; of inspect layout, index, manifest, config, layer, referrer; of diff as action"},
		{"layer", "number", "of the image, the lowest is 0"},
		{"left", "list", "what could not be removed again"},
		{"level", "string", "ok, note, violation or skipped"},
		{"listed", "bool", "whether index.json names it"},
		{"materials", "list", "what a layer was made of, as in-toto names it"},
		{"mediaType", "string", "media type of the bytes"},
		{"mode", "number, string", "older word for permissions (files: as a number), or how a blob was sent"},
		{"mtime", "number", "seconds since 1970"},
		{"name", "string", "of an image, a file or a part"},
		{"names", "list", "in index.json"},
		{"neededBy", "list", "documents that need a blob, each with what needs it"},
		{"new", "object", "the file on the new side"},
		{"offset", "number", "of the first byte that differs"},
		{"old", "object", "the file on the old side"},
		{"partSize", "number", "of each part but the last"},
		{"parts", "list", "of a file that was split"},
		{"path", "string", "of a file, without a slash in front"},
		{"permissions", "string", "of a file, octal"},
		{"platform", "string", "OS/ARCH[/VARIANT]"},
		{"pointer", "string", "of a member of a document (RFC 6901)"},
		{"problem", "string", "missing or bad"},
		{"proto", "string", "of HTTP"},
		{"push", "list, string", "what push does about it"},
		{"readOnly", "bool", "whether the probe wrote nothing"},
		{"received", "number", "bytes of one blob that came over the wire"},
		{"reference", "string", "HOST/REPO:TAG"},
		{"referrers", "list", "what refers to a manifest or an index, as signatures do"},
		{"replaces", "string", "digest of what takes its place in the edited image"},
		{"repository", "string", "of a registry"},
		{"requests", "number", "that were sent"},
		{"schemaVersion", "number", "of the document"},
		{"scheme", "string", "in which a registry wants credentials"},
		{"seconds", "number", "how long it took"},
		{"sent", "number", "bytes that a probe sent"},
		{"severity", "string", "error, warning, note or repaired"},
		{"shared", "number", "bytes that other images have, too"},
		{"shiftSeconds", "number", "by which all times differ"},
		{"size", "number", "in bytes"},
		{"source", "string", "file or store of credentials"},
		{"steps", "list", "of a plan; of inspect those of the history"},
		{"subject", "object", "the descriptor of what a manifest or an index refers to"},
		{"subjects", "list", "what was made, as in-toto names it"},
		{"tag", "string", "that names an image"},
		{"text", "string", "in words"},
		{"there", "string", "what the second of two has"},
		{"trusted", "bool", "whether a token server may have the credentials"},
		{"type", "string", "older word for kind"},
		{"uid", "number", "owner of a file"},
		{"url", "string", "that answered"},
		{"usage", "object", "blobs and bytes of an image"},
		{"version", "string", "of the program"},
		{"want", "string", "what should have been found"},
		{"wasted", "number", "bytes that later layers remove"},
		{"what", "list", "what changed of a file"},
		{"where", "list", "the branch of an image, outer ones first"},
		{"writes", "bool", "whether a probe writes"},
	}
}

func jsonTopic() cli.Topic {
	var b strings.Builder
	for _, w := range jsonWords() {
		fmt.Fprintf(&b, "  %-15s  %-14s  %s\n", w.name, w.kind, w.means)
	}

	return cli.Topic{
		Name: "json", Short: "the members of the JSON that commands print",
		Text: `With --json a command prints what it reports as one object, or as one object on each line if there
may be several. --dry-run prints a plan the same way, a line for each step. Lines of JSON are what pipes
carry, too: see "ocikit help descriptors". Members may be added, so readers pass over what they do not
know. A member means the same in every command:

` + strings.TrimRight(b.String(), "\n") + `

The members config, annotations, labels and history hold what the image says, in its own words.`,
		Example: "ocikit inspect app --json\nocikit copy app:latest copied --dry-run",
	}
}
