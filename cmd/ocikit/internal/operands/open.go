// Package operands opens what the words behind a command name: images and layouts, INPUTs, new
// directories. Its errors carry the hint that helps the one who wrote the word.
//
// [Places] opens an IMAGE wherever it is, [OpenImage] and [OpenLayout] one on the disk for a
// change. [ReadInput] reads an INPUT, [SetOf] and [Clients.Listed] find many images at once,
// [IntoEmptyDir] and [InLayout] make directories that appear whole or not at all.
package operands

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// ParseImage reads an IMAGE from the command line. Words of other programs in front of it, as
// docker-daemon:, are a usage error: they would else be directories of strange names.
func ParseImage(operand string) (oci.ImageName, error) {
	n, err := oci.ParseImageName(operand)
	switch {
	case err != nil:
		return n, cli.Usagef("%v", err)
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

	return n, &cli.UsageError{Msg: fmt.Sprintf("%q: want an image in a layout; a directory of that name is ./%s", operand, n.Dir), Advice: hint}
}

// OpenLayout opens the layout that an operand names; "oci:" may stand in front. An operand that
// names an image is a usage error. The caller closes the layout.
func OpenLayout(operand string) (*layout.Layout, error) {
	n, err := ParseImage(operand)
	if err != nil {
		return nil, err
	}
	if n.Tag != "" || !n.Digest.IsZero() {
		e := &cli.UsageError{Msg: fmt.Sprintf("%q names an image, want a layout alone", operand)}
		if NamesRegistry(operand) && !cli.Exists(n.Dir) {
			e.Advice = registryHint
		}
		return nil, e
	}
	return OpenDir(n.Dir)
}

// OpenDir opens the layout in a directory. The error carries the hint that fits what is there
// instead. The caller closes the layout.
func OpenDir(dir string) (*layout.Layout, error) {
	l, err := layout.Open(dir)
	switch {
	case errors.Is(err, layout.ErrNotLayout):
		return nil, cli.WithHint(err, "a layout holds oci-layout, index.json and blobs; `ocikit init` makes an empty one")
	case errors.Is(err, fs.ErrNotExist) && isArchiveName(dir): // no layout can be made under that name
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, cli.WithHint(err, "`ocikit init %s` makes an empty layout", dir)
	case IsFile(dir):
		return nil, cli.WithHint(err, "`ocikit load LAYOUT %s` brings the images of an archive into a layout", dir)
	}
	return l, err
}

// IsFile reports whether name is a regular file, by a link or directly.
func IsFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// FileHint adds to the error of a file that is not there, or is a directory, a hint for those who have
// named an image. Other errors stay as they are.
func FileHint(name string, err error) error {
	switch {
	case IsImage(name):
		return cli.WithHint(err, "`ocikit resolve %s` prints the descriptor of that image", name)
	case errors.Is(err, fs.ErrNotExist) && NamesRegistry(name):
		return cli.WithHint(err, registryHint)
	}
	return err
}

// registryHint is for those who name an image in a registry where one in a layout is wanted.
const registryHint = "`ocikit registry` tags, head and get look into a registry, `ocikit pull REF LAYOUT` brings an image into a layout"

// NamesRegistry reports whether an operand looks like a REF: it begins with "docker://", or with a
// host and a slash. A layout may have such a name, too.
func NamesRegistry(operand string) bool {
	if strings.HasPrefix(operand, "docker://") {
		return true
	}
	host, _, isPath := strings.Cut(operand, "/")
	name, port, _ := strings.Cut(host, ":")
	isPort := port != "" && strings.Trim(port, "0123456789") == ""
	return isPath && (name == "localhost" || isPort || strings.Contains(name, ".") && strings.Trim(name, ".") != "")
}

// OpenName opens the layout of an image, which need not be in it. The caller closes the layout.
func OpenName(operand string) (*layout.Layout, oci.ImageName, error) {
	n, err := ParseImage(operand)
	if err != nil {
		return nil, n, err
	}
	l, err := OpenDir(n.Dir)
	if errors.Is(err, fs.ErrNotExist) && NamesRegistry(operand) {
		err = cli.WithHint(err, registryHint)
	}
	return l, n, err
}

// OpenImage opens a layout and finds the image in it. The caller closes the layout.
func OpenImage(operand string) (*layout.Layout, oci.Descriptor, error) {
	l, n, err := OpenName(operand)
	if err != nil {
		return nil, oci.Descriptor{}, err
	}
	desc, err := l.Resolve(n)
	if err != nil {
		l.Close()
		if errors.Is(err, layout.ErrNotFound) {
			err = cli.WithHint(err, "`ocikit ls %s` lists the names", n.Dir)
		}
		return nil, desc, err
	}
	return l, desc, nil
}

// ParsePlatformFlag reads the value of --platform; nil if it is empty.
func ParsePlatformFlag(s string) (*oci.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p, err := oci.ParsePlatform(s)
	if err != nil {
		return nil, cli.Usagef("flag --platform: %v", err)
	}
	return &p, nil
}

// ParsePlatforms reads a value of --platform that may be several, joined by commas; none if it is
// empty.
func ParsePlatforms(s string) ([]oci.Platform, error) {
	if s == "" {
		return nil, nil
	}
	var all []oci.Platform
	for word := range strings.SplitSeq(s, ",") {
		p, err := oci.ParsePlatform(word)
		if err != nil {
			return nil, cli.Usagef("flag --platform: %v", err)
		}
		all = append(all, p)
	}
	return all, nil
}

// IsImage reports whether an operand names an image, where a file or a directory of another kind may
// stand too: its directory is a layout, it names an image in a file, or it begins with the word for
// an archive or a registry.
func IsImage(operand string) bool {
	if _, ok := cutArchivePrefix(operand); ok || strings.HasPrefix(operand, "docker://") {
		return true
	}

	n, err := oci.ParseImageName(operand)
	if err != nil || operand == "-" {
		return false
	}

	if !cli.Exists(n.Dir) {
		return NamesRegistry(operand)
	}

	if IsFile(n.Dir) {
		return n.Tag != "" || !n.Digest.IsZero()
	}

	_, err = os.Stat(filepath.Join(n.Dir, "oci-layout"))
	return err == nil
}

// IsAddress reports whether an image name looks like a reference to a registry: host:5000/x,
// docker://x.
func IsAddress(n oci.ImageName) bool {
	port, _, ok := strings.Cut(n.Tag, "/")
	return ok && strings.Trim(port, "0123456789") == ""
}
