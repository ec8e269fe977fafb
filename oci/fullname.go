package oci

import (
	"regexp"
	"strings"
	"sync"

	"ocikit/digest"
)

// fullName is what Docker and containerd take for the name of an image: host, path and tag.
var fullName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^((?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])(?:\.(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]))*(?::[0-9]+)?|\[[0-9a-fA-F:.]+\](?::[0-9]+)?)` +
		`/([a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)` +
		`:([A-Za-z0-9_][A-Za-z0-9._-]{0,127})$`)
})

// FullName returns the name of an image with host and tag, as containerd writes it, for a name as
// Docker shows it: "hello" is "docker.io/library/hello:latest". A digest behind the tag is left out.
// It reports false for what is not a name, and for a name that has a digest and no tag.
func FullName(name string) (string, bool) {
	host, path := CutHost(name)
	switch {
	case host == "" && !strings.Contains(name, "/"):
		name = "docker.io/library/" + name
	case host == "":
		name = "docker.io/" + name
	case (host == "docker.io" || host == "index.docker.io") && !strings.Contains(path, "/"):
		name = "docker.io/library/" + path
	case host == "index.docker.io":
		name = "docker.io/" + path
	}

	n := SplitName(name)
	switch {
	case n.Tag == "" && !n.Digest.IsZero():
		return name, false // it is known by its digest, and has no other name
	case n.Tag == "":
		n.Tag = "latest"
	}

	name = n.Repo + ":" + n.Tag
	return name, len(name) < 512 && fullName().MatchString(name)
}

// FamiliarName returns a full name as Docker shows it.
func FamiliarName(full string) string {
	if rest, ok := strings.CutPrefix(full, "docker.io/library/"); ok && !strings.Contains(rest, "/") {
		return rest
	}
	rest, ok := strings.CutPrefix(full, "docker.io/")
	if ok && strings.Contains(rest, "/") {
		return rest
	}
	return full
}

// A Name is a full name, HOST/REPO[:TAG][@DIGEST], taken apart.
type Name struct {
	Repo   string // with the host in front
	Tag    string
	Digest digest.Digest
}

// SplitName takes a full name apart: the digest first, then the tag, which is behind the last colon
// that no slash follows. A digest is never a tag.
func SplitName(full string) Name {
	n := Name{Repo: full}
	n.Repo, n.Digest = CutDigest(full)
	if i := strings.LastIndexByte(n.Repo, ':'); i > strings.LastIndexByte(n.Repo, '/') {
		n.Repo, n.Tag = n.Repo[:i], n.Repo[i+1:]
	}
	return n
}

// CutHost takes the host off a name. The first part of a name is not a host if it cannot be one (no
// dot, no colon, not "localhost"), or if nothing follows it. Then host is "".
func CutHost(name string) (host, path string) {
	host, path, ok := strings.Cut(name, "/")
	if ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		return host, path
	}
	return "", name
}

// String returns the form that [SplitName] reads.
func (n Name) String() string { return joinName(n.Repo, n.Tag, n.Digest) }

// joinName returns PLACE[:TAG][@DIGEST].
func joinName(place, tag string, d digest.Digest) string {
	if tag != "" {
		place += ":" + tag
	}
	if !d.IsZero() {
		place += "@" + d.String()
	}
	return place
}

// NameOfEntry returns the full name of an entry of index.json, and reports whether it has one. It is
// the name in the entry, if that says more than a tag, else the full name that is kept beside it.
//
// So images of one repository may be called by their tags, while those of several are told apart. A
// program that puts an image into a store calls it by its full name if it is one of a set, or if an
// image of another repository has the tag.
func NameOfEntry(d Descriptor) (Name, bool) {
	if name := d.Annotations.Get(AnnotationRefName); strings.ContainsAny(name, ":/@") {
		n := SplitName(name)
		return n, n.Repo != ""
	}
	n := SplitName(d.Annotations.Get(AnnotationImageName))
	return n, n.Repo != ""
}

// EntryName returns what an entry of index.json is called: its tag, else its full name, else "@" and
// its digest.
func (d Descriptor) EntryName() string {
	for _, key := range []string{AnnotationRefName, AnnotationImageName} {
		if name := d.Annotations.Get(key); name != "" {
			return name
		}
	}
	return "@" + d.Digest.String()
}

// WithFullName returns an entry of index.json under a full name.
func (d Descriptor) WithFullName(name string) Descriptor {
	full, ok := FullName(name)
	if !ok {
		full = "" // it is known by its digest
	}
	return d.WithAnnotation(AnnotationRefName, name).WithAnnotation(AnnotationImageName, full)
}

// Beside returns d, the entry of a referrer such as a signature, in the form that it needs beside
// the entry of its image. If the image is called by its full name, a tag of d becomes one of the
// same repository.
func (d Descriptor) Beside(image Descriptor) Descriptor {
	tag, name := d.Annotations.Get(AnnotationRefName), image.Annotations.Get(AnnotationRefName)
	if n := SplitName(name); tag != "" && strings.Contains(name, "/") && !strings.ContainsAny(tag, ":/@") {
		return d.WithFullName(n.Repo + ":" + tag)
	}
	return d
}

// CutDigest takes the digest off the end of a name. containerd writes such names for images that it
// knows by their digests, "@sha256:HEX" alone too.
func CutDigest(name string) (rest string, d digest.Digest) {
	i := strings.LastIndexByte(name, '@')
	if i < 0 {
		return name, d
	}
	d, err := digest.Parse(name[i+1:])
	if err != nil {
		return name, digest.Digest{}
	}
	return name[:i], d
}
