package oci

import (
	"regexp"
	"strings"
	"sync"
)

// fullName is what Docker and containerd take for the name of an image: host, path and tag.
var fullName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^((?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])(?:\.(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]))*(?::[0-9]+)?|\[[0-9a-fA-F:.]+\](?::[0-9]+)?)` +
		`/([a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)` +
		`:([A-Za-z0-9_][A-Za-z0-9._-]{0,127})$`)
})

// FullName returns the name of an image with host and tag, as containerd writes it, for a
// name as Docker shows it: "hello" is "docker.io/library/hello:latest". It reports whether
// name is one.
func FullName(name string) (string, bool) {
	host, path, ok := strings.Cut(name, "/")
	switch {
	case !ok:
		name = "docker.io/library/" + name
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		name = "docker.io/" + name
	case (host == "docker.io" || host == "index.docker.io") && !strings.Contains(path, "/"):
		name = "docker.io/library/" + path
	case host == "index.docker.io":
		name = "docker.io/" + path
	}
	if strings.LastIndexByte(name, ':') < strings.LastIndexByte(name, '/') {
		name += ":latest"
	}
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

// SplitName returns the repository, host in front, and the tag of a full name.
func SplitName(full string) (repo, tag string) {
	i := strings.LastIndexByte(full, ':')
	if i < strings.LastIndexByte(full, '/') || i < 0 {
		return full, ""
	}
	return full[:i], full[i+1:]
}
