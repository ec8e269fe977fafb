package tarutil

import (
	"archive/tar"
	"fmt"
	"math"
	"strings"
)

// cleanEntry makes the names in hdr clean paths, and refuses what is not an entry of a layer. It is the one
// rule for an entry by itself, wherever a tar is read, so that what one command accepts can be packed,
// stored, applied and written again by the others.
func cleanEntry(hdr *tar.Header) error {
	var err error
	if hdr.Name, err = cleanName(hdr.Name); err != nil {
		return err
	}

	if hdr.Name == "" && hdr.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root can only be a directory", ErrBadPath)
	}

	if err := CheckLengths(hdr.Name); err != nil {
		return err
	}

	if err := checkWhiteout(hdr.Name); err != nil {
		return err
	}

	// The highest number, -1 to the system, means "leave the owner as it is" in chown.
	if !isOwner(hdr.Uid) || !isOwner(hdr.Gid) {
		return fmt.Errorf("%w: owner %d:%d", ErrMalformed, hdr.Uid, hdr.Gid)
	}

	switch hdr.Typeflag {
	case tar.TypeLink:
		return cleanLink(hdr)
	case tar.TypeSymlink:
		if t := hdr.Linkname; t == "" || len(t) > MaxPathLen || strings.Contains(t, "\x00") {
			return fmt.Errorf("%w: symbolic link to a path of %d bytes", ErrBadPath, len(t))
		}
	case tar.TypeChar, tar.TypeBlock:
		if !isDevice(hdr.Devmajor) || !isDevice(hdr.Devminor) {
			return fmt.Errorf("%w: device number %d:%d", ErrMalformed, hdr.Devmajor, hdr.Devminor)
		}
	}

	return nil
}

// cleanLink makes the target of a hard link a clean path, and refuses what can be none.
func cleanLink(hdr *tar.Header) error {
	target := hdr.Linkname
	var err error
	switch hdr.Linkname, err = cleanName(target); {
	case err != nil:
		return fmt.Errorf("hard link to %w", err)
	case hdr.Linkname == "":
		return fmt.Errorf("hard link to %q: %w", target, ErrBadPath)
	case hdr.Linkname == hdr.Name:
		return fmt.Errorf("%w: hard link to itself", ErrMalformed)
	}
	if err := CheckLengths(hdr.Linkname); err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	return nil
}

// checkWhiteout refuses a whiteout of nothing, and a directory that is called like one.
func checkWhiteout(path string) error {
	dir, base := SplitPath(path)
	if _, err := CheckWhiteoutDir(dir); err != nil {
		return err
	}
	switch base {
	case WhiteoutPrefix, WhiteoutPrefix + ".", WhiteoutPrefix + "..":
		return fmt.Errorf("%w: whiteout of %q", ErrBadPath, base[len(WhiteoutPrefix):])
	}
	return nil
}

// isOwner reports whether id can be the number of a user or group.
func isOwner(id int) bool { return id >= 0 && int64(id) < math.MaxUint32 }

// isDevice reports whether n can be one of the two numbers of a device.
func isDevice(n int64) bool { return n >= 0 && n <= math.MaxInt32 }
