package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"ocikit/oci"
	"ocikit/oci/image"
	"ocikit/oci/layout"
)

// parseImage reads an IMAGE from the command line. The places of other programs that are no
// layouts would else be directories of strange names.
func parseImage(operand string) (oci.ImageName, error) {
	n, err := oci.ParseImageName(operand)
	switch {
	case err != nil:
		return n, usagef("%v", err)
	case n.Tag == "":
		return n, nil
	}
	hint := ""
	switch n.Dir {
	case "oci-archive", "docker-archive":
		hint = "`ocikit save IMAGE -o FILE` writes archives, `ocikit load LAYOUT FILE` reads them"
	case "docker-daemon", "containers-storage":
		hint = "`ocikit save IMAGE | docker load`, and back with `docker save NAME | ocikit load LAYOUT`; podman likewise"
	default:
		return n, nil
	}
	return n, &usageError{msg: fmt.Sprintf("%q: want an image in a layout; a directory of that name is ./%s", operand, n.Dir), hint: hint}
}

// openLayout opens the layout that an operand names. "oci:" may stand in front.
func openLayout(operand string) (*layout.Layout, error) {
	n, err := parseImage(operand)
	if err != nil {
		return nil, err
	}
	if n.Tag != "" || !n.Digest.IsZero() {
		e := &usageError{msg: fmt.Sprintf("%q names an image, want a layout alone", operand)}
		if namesRegistry(operand) && !exists(n.Dir) {
			e.hint = registryHint
		}
		return nil, e
	}
	return openDir(n.Dir)
}

func openDir(dir string) (*layout.Layout, error) {
	l, err := layout.Open(dir)
	switch {
	case errors.Is(err, layout.ErrNotLayout):
		return nil, withHint(err, "a layout holds oci-layout, index.json and blobs; `ocikit init` makes an empty one")
	case errors.Is(err, fs.ErrNotExist):
		return nil, withHint(err, "`ocikit init %s` makes an empty layout", dir)
	case isFile(dir):
		return nil, withHint(err, "`ocikit load LAYOUT %s` brings the images of an archive into a layout", dir)
	}
	return l, err
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// fileHint is for who names an image, or one in a registry, where a file is wanted.
func fileHint(name string, err error) error {
	switch {
	case !errors.Is(err, fs.ErrNotExist):
	case isImage(name):
		return withHint(err, "`ocikit resolve %s` prints the descriptor of that image", name)
	case namesRegistry(name):
		return withHint(err, registryHint)
	}
	return err
}

// registryHint is for who names an image in a registry where one in a layout is wanted.
const registryHint = "`ocikit registry` tags, head and get look into a registry, `ocikit pull REF LAYOUT` brings an image into a layout"

// namesRegistry reports whether an operand looks like a REF: it begins with "docker://", or
// with a host and a slash. A layout may be called so, too.
func namesRegistry(operand string) bool {
	if strings.HasPrefix(operand, "docker://") {
		return true
	}
	host, _, isPath := strings.Cut(operand, "/")
	name, port, _ := strings.Cut(host, ":")
	isPort := port != "" && strings.Trim(port, "0123456789") == ""
	return isPath && (name == "localhost" || isPort || strings.Contains(name, ".") && strings.Trim(name, ".") != "")
}

// openName opens the layout of an image that need not exist.
func openName(operand string) (*layout.Layout, oci.ImageName, error) {
	n, err := parseImage(operand)
	if err != nil {
		return nil, n, err
	}
	l, err := openDir(n.Dir)
	if errors.Is(err, fs.ErrNotExist) && namesRegistry(operand) {
		err = withHint(err, registryHint)
	}
	return l, n, err
}

// openImage opens a layout and finds the image in it.
func openImage(operand string) (*layout.Layout, oci.Descriptor, error) {
	l, n, err := openName(operand)
	if err != nil {
		return nil, oci.Descriptor{}, err
	}
	desc, err := l.Resolve(n)
	if err != nil {
		l.Close()
		if errors.Is(err, layout.ErrNotFound) {
			err = withHint(err, "`ocikit ls %s` lists the names", n.Dir)
		}
		return nil, desc, err
	}
	return l, desc, nil
}

// openManifest is openImage, then the one image in it, or the one for the platform.
func openManifest(operand, platform string) (*layout.Layout, oci.Descriptor, error) {
	p, err := parsePlatformFlag(platform)
	if err != nil {
		return nil, oci.Descriptor{}, err
	}
	l, desc, err := openImage(operand)
	if err != nil {
		return nil, desc, err
	}
	desc, err = image.Select(l, desc, p)
	if err != nil {
		l.Close()
		if errors.Is(err, image.ErrPlatform) {
			err = withHint(&notThere{err}, "name one with --platform OS/ARCH")
		}
		return nil, desc, fmt.Errorf("%q: %w", operand, err)
	}
	return l, desc, nil
}

// openMaybe is openImage, or openManifest if a platform is named.
func openMaybe(operand, platform string) (*layout.Layout, oci.Descriptor, error) {
	if platform == "" {
		return openImage(operand)
	}
	return openManifest(operand, platform)
}

func parsePlatformFlag(s string) (*oci.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p, err := oci.ParsePlatform(s)
	if err != nil {
		return nil, usagef("flag --platform: %v", err)
	}
	return &p, nil
}

// parsePlatforms reads platforms that are joined by commas.
func parsePlatforms(s string) ([]oci.Platform, error) {
	if s == "" {
		return nil, nil
	}
	var all []oci.Platform
	for word := range strings.SplitSeq(s, ",") {
		p, err := oci.ParsePlatform(word)
		if err != nil {
			return nil, usagef("flag --platform: %v", err)
		}
		all = append(all, p)
	}
	return all, nil
}

// notThere is an error whose exit status is 4 whatever is inside.
type notThere struct{ err error }

func (e *notThere) Error() string   { return e.err.Error() }
func (e *notThere) Unwrap() error   { return e.err }
func (e *notThere) ExitStatus() int { return statusNotThere }
