package tarutil

import (
	"archive/tar"
	"fmt"
	"strings"
)

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"

	typeReg     = tar.TypeReg
	typeDir     = tar.TypeDir
	typeSymlink = tar.TypeSymlink
	typeLink    = tar.TypeLink
	typeChar    = tar.TypeChar
	typeBlock   = tar.TypeBlock
	typeFifo    = tar.TypeFifo
)

// cleanPath returns s as a path in an image: without slashes at its ends, without empty
// and "." components. The root is "". An error wraps [ErrBadPath].
func cleanPath(s string) (string, error) {
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

// What Linux can hold of names. Those beyond it could be written by no program in the image,
// and bound the work for one entry.
const (
	maxComponent = 255
	maxPathLen   = 4095
)

// checkLengths refuses a clean path that no Linux system can hold.
func checkLengths(path string) error {
	if len(path) > maxPathLen {
		return fmt.Errorf("%w: a path of %d bytes, over the limit of %d", ErrBadPath, len(path), maxPathLen)
	}
	if len(path) <= maxComponent {
		return nil
	}
	for part := range strings.SplitSeq(path, "/") {
		if len(part) > maxComponent {
			return fmt.Errorf("%w: a component of %d bytes, over the limit of %d", ErrBadPath, len(part), maxComponent)
		}
	}
	return nil
}

// isClean says whether cleanPath would return s, without building anything.
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

// whiteoutPath splits a path to be removed into its directory and its name.
func whiteoutPath(s string) (dir, base string, err error) {
	clean, err := cleanPath(s)
	if err != nil {
		return "", "", fmt.Errorf("whiteout %w", err)
	}
	if clean == "" {
		return "", "", fmt.Errorf("whiteout %q: %w: the root cannot be removed", s, ErrBadPath)
	}
	if err := refuseWhiteout(clean); err != nil {
		return "", "", fmt.Errorf("whiteout %q: %w", s, err)
	}
	dir, base = splitPath(clean)
	return dir, base, nil
}

// refuseWhiteout returns an error if a component of the clean path is a whiteout name.
func refuseWhiteout(path string) error {
	for part := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(part, whiteoutPrefix) {
			return ErrWhiteoutName
		}
	}
	return nil
}

// splitPath splits a clean path into its directory ("" at the root) and its last name.
func splitPath(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// joinPath joins a clean path and one more name.
func joinPath(dir, name string) string {
	if dir == "" || name == "" {
		return dir + name
	}
	return dir + "/" + name
}

// comparePaths compares clean paths in tree order; see the package comment.
func comparePaths(a, b string) int {
	for {
		headA, restA, moreA := strings.Cut(a, "/")
		headB, restB, moreB := strings.Cut(b, "/")
		if c := compareNames(headA, headB); c != 0 {
			return c
		}
		if !moreA || !moreB {
			return len(restA) - len(restB) // the directory before what it holds
		}
		a, b = restA, restB
	}
}

// compareNames compares names within one directory.
func compareNames(a, b string) int {
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
	case name == opaqueName:
		return 0
	case strings.HasPrefix(name, whiteoutPrefix):
		return 1
	}
	return 2
}
