package exchange

import (
	"regexp"
	"strings"
	"sync"
)

// The grammar of the distribution-spec ("Pulling manifests").
var nameGrammar = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
})

// maxName is the longest name of a repository; many clients have the same limit.
const maxName = 255

// CheckName returns a [*Failure] that says why name cannot be that of a repository, or nil. The
// names of a layout's own files are refused as components: the repository a/blobs would lie among
// the blobs of a.
func CheckName(name string) error {
	if len(name) > maxName || !nameGrammar().MatchString(name) {
		return nameInvalid("repository name %s: want lower-case letters and digits, joined by one of . _ __ -, in components split by /, at most %d bytes", Quote(name), maxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "blobs", "index.json", "oci-layout":
			return nameInvalid("repository name %s: %q is the name of a layout's file", Quote(name), part)
		}
	}
	return nil
}

// IsTag reports whether tag can be one. A repository may have a hundred thousand of them, so there
// is not a regular expression.
func IsTag(tag string) bool {
	for i := range len(tag) {
		switch c := tag[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		case i > 0 && (c == '.' || c == '-'):
		default:
			return false
		}
	}
	return 0 < len(tag) && len(tag) <= 128
}

// CheckTag returns a [*Failure] that says why tag cannot be one, or nil.
func CheckTag(tag string) error {
	if !IsTag(tag) {
		return nameInvalid("tag %s: want letters, digits, and behind the first of them . _ -, at most 128", Quote(tag))
	}
	return nil
}
