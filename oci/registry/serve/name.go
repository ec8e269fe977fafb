package serve

import (
	"regexp"
	"strings"
	"sync"
)

// The grammar of the distribution-spec ("Pulling manifests").
var (
	nameGrammar = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	})
	tagGrammar = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`) })
	sessionID  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{32}$`) })
)

// maxName is the longest name of a repository; many clients have the same limit.
const maxName = 255

// checkName reports why name cannot be that of a repository. Names of a layout's own files
// are refused as components: the repository a/blobs would lie among the blobs of a.
func checkName(name string) error {
	if len(name) > maxName || !nameGrammar().MatchString(name) {
		return nameInvalid("repository name %s: want lower-case letters and digits, joined by one of . _ __ -, in components split by /, at most %d bytes", quote(name), maxName)
	}
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "blobs", "index.json", "oci-layout":
			return nameInvalid("repository name %s: %q is the name of a layout's file", quote(name), part)
		}
	}
	return nil
}

// checkTag reports why tag cannot be one.
func checkTag(tag string) error {
	if !tagGrammar().MatchString(tag) {
		return nameInvalid("tag %s: want letters, digits, and behind the first of them . _ -, at most 128", quote(tag))
	}
	return nil
}
