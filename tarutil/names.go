package tarutil

import (
	"fmt"
	"path"
	"strings"
)

// Names that mean removals in a layer (layer.md of the image specification, section Whiteouts).
const (
	WhiteoutPrefix = ".wh."         // followed by the name that is removed
	OpaqueName     = ".wh..wh..opq" // removes all that lower layers have in its directory
)

// CleanPath returns s as a clean path in an image: without slashes at its ends, without empty and "."
// components. The root is "". A path with ".." or a NUL byte is an error wrapping [ErrBadPath].
func CleanPath(s string) (string, error) {
	if strings.Contains(s, "\x00") {
		return "", fmt.Errorf("%q: %w: NUL byte", s, ErrBadPath)
	}

	if isClean(s) {
		return s, nil
	}

	var parts []string
	for part := range strings.SplitSeq(s, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("%q: %w: it climbs", s, ErrBadPath)
		default:
			parts = append(parts, part)
		}
	}

	return strings.Join(parts, "/"), nil
}

// cleanName returns the name of an entry as a clean path. Unlike CleanPath it lets ".." take the name
// before it away, if there is one: Python's tarfile writes such names, and engines clean them the same
// way.
func cleanName(s string) (string, error) {
	if isClean(s) || strings.Contains(s, "\x00") {
		return CleanPath(s)
	}
	clean := path.Clean(strings.TrimLeft(s, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("%q: %w: it climbs", s, ErrBadPath)
	}
	return CleanPath(clean)
}

// The longest names that Linux can hold, in bytes. No program in an image could write longer ones, and
// the limits bound the work for one entry.
const (
	MaxComponent = 255
	MaxPathLen   = 4095
)

// CheckLengths refuses a clean path that no Linux system can hold. The error wraps [ErrBadPath].
func CheckLengths(path string) error {
	if len(path) > MaxPathLen {
		return fmt.Errorf("%w: a path of %d bytes, over the limit of %d", ErrBadPath, len(path), MaxPathLen)
	}
	if len(path) <= MaxComponent {
		return nil
	}
	for part := range strings.SplitSeq(path, "/") {
		if len(part) > MaxComponent {
			return fmt.Errorf("%w: a component of %d bytes, over the limit of %d", ErrBadPath, len(part), MaxComponent)
		}
	}
	return nil
}

// isClean reports whether CleanPath would return s as it is. Most names are clean, and this allocates
// nothing. It is false for the root.
func isClean(s string) bool {
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '/' {
			continue
		}
		switch s[start:i] {
		case "", ".", "..":
			return false
		}
		start = i + 1
	}
	return true
}

// RefuseWhiteout returns [ErrWhiteoutName] if a component of the clean path is a whiteout name.
func RefuseWhiteout(path string) error {
	for part := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(part, WhiteoutPrefix) {
			return ErrWhiteoutName
		}
	}
	return nil
}

// SplitPath splits a clean path into its directory ("" at the root) and its last name.
func SplitPath(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// JoinPath joins a clean path and one more name.
func JoinPath(dir, name string) string {
	if dir == "" || name == "" {
		return dir + name
	}
	return dir + "/" + name
}

// ComparePaths compares clean paths in tree order; see the package comment. The result is negative if a
// comes before b, positive if it comes behind, and 0 if they are equal.
func ComparePaths(a, b string) int {
	for {
		headA, restA, moreA := strings.Cut(a, "/")
		headB, restB, moreB := strings.Cut(b, "/")
		if c := CompareNames(headA, headB); c != 0 {
			return c
		}
		if !moreA || !moreB {
			return len(restA) - len(restB) // the directory before what it holds
		}
		a, b = restA, restB
	}
}

// CompareNames compares names within one directory in tree order, like ComparePaths.
func CompareNames(a, b string) int {
	if a == b {
		return 0
	}
	if c := nameRank(a) - nameRank(b); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func nameRank(name string) int {
	switch {
	case name == OpaqueName:
		return 0
	case strings.HasPrefix(name, WhiteoutPrefix):
		return 1
	}
	return 2
}

// CheckWhiteoutDir returns [ErrWhiteoutName] for the clean path of a directory that has the name of
// a whiteout, or lies in one. The directories in which AUFS kept its own files are not errors: for
// them ignore is true, and what lies there is to be ignored.
func CheckWhiteoutDir(dir string) (ignore bool, err error) {
	if !strings.Contains(dir, WhiteoutPrefix) {
		return false, nil
	}
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, AufsPrefix) {
			return true, nil
		}
	}
	return false, RefuseWhiteout(dir)
}

// AufsPrefix begins the names that AUFS keeps to itself. One of them is [OpaqueName].
const AufsPrefix = WhiteoutPrefix + WhiteoutPrefix
