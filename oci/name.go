package oci

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"

	"ocikit/digest"
)

// An ImageName says where an image is: a layout directory, and in it a tag, a digest, both
// (the tag must then have that digest), or neither.
type ImageName struct {
	Dir    string
	Tag    string
	Digest digest.Digest
}

// ParseImageName reads DIR[:TAG][@DIGEST], with "oci:" or "ocidir://" in front if need be.
// The first colon behind the directory starts the tag, which may hold more of them.
func ParseImageName(s string) (ImageName, error) {
	rest := strings.TrimPrefix(s, "ocidir://")
	if rest == s {
		rest = strings.TrimPrefix(s, "oci:")
	}

	var n ImageName

	// The digest goes first, since its colon would start a tag.
	for _, alg := range []string{"@sha256:", "@sha512:"} {
		if i := strings.LastIndex(rest, alg); i >= 0 {
			d, err := digest.Parse(rest[i+1:])
			if err != nil {
				return n, fmt.Errorf("image %q: %w", s, err)
			}
			n.Digest, rest = d, rest[:i]
			break
		}
	}

	// The colon behind the letter of a drive starts no tag.
	drive := 0
	if runtime.GOOS == "windows" && len(rest) > 1 && rest[1] == ':' {
		drive = 2
	}

	dir, tag, tagged := strings.Cut(rest[drive:], ":")
	n.Dir, n.Tag = rest[:drive]+dir, tag
	if n.Dir == "" || tagged && tag == "" {
		return n, fmt.Errorf("image %q: want DIR[:TAG][@DIGEST]", s)
	}

	return n, nil
}

// String returns the form that [ParseImageName] reads.
func (n ImageName) String() string { return joinName(n.Dir, n.Tag, n.Digest) }

// tagGrammar is the grammar of the annotation org.opencontainers.image.ref.name
// (annotations.md).
var tagGrammar = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*$`)
})

// registryTag is the grammar of tags of the distribution-spec, of at most 128 bytes. It allows some
// that tagGrammar does not, such as "_x" and "a..b". They are names too: serve stores them.
var registryTag = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`) })

// CheckTag returns an error unless tag may name an image in a layout. It must fit the grammar of
// the annotation in at most 1024 bytes, or the grammar of registries in at most 128.
func CheckTag(tag string) error {
	if len(tag) > 1024 || !tagGrammar().MatchString(tag) && (len(tag) > 128 || !registryTag().MatchString(tag)) {
		if len(tag) > 80 {
			tag = tag[:80] + "…"
		}
		return fmt.Errorf("tag %q: want letters and digits, joined by one of - . _ : @ + / or --", tag)
	}
	return nil
}
