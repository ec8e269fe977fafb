package set

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"ocikit/oci"
)

// A Filter says which images of many are meant. The zero value means all of them.
type Filter struct {
	Tags    []string // patterns, one of which the tag must fit
	Exclude []string // patterns, none of which may fit: the tag, or with a slash or colon in it the full name
}

// Check reports a malformed pattern.
func (f Filter) Check() error {
	for _, pattern := range slices.Concat(f.Tags, f.Exclude) {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("%q: want a pattern, as v1.*", pattern)
		}
	}
	return nil
}

// Takes reports whether the image of a full name is meant. One that has no tag fits whatever is said
// about tags.
func (f Filter) Takes(n oci.Name) bool {
	fits := func(pattern string) bool {
		if strings.ContainsAny(pattern, "/:") {
			return match(pattern, n.String())
		}
		return n.Tag != "" && match(pattern, n.Tag)
	}
	wanted := len(f.Tags) == 0 || n.Tag == "" || slices.ContainsFunc(f.Tags, fits)
	return wanted && !slices.ContainsFunc(f.Exclude, fits)
}

// match is [path.Match] with a "*" that takes slashes, too.
func match(pattern, name string) bool {
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") }
	ok, err := path.Match(flat(pattern), flat(name))
	return ok && err == nil
}
