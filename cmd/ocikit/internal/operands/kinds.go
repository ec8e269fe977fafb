package operands

import (
	"context"
	"io/fs"
	"os"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/registry"
	"ocikit/oci/source"
)

// A Place is what an operand names before anything of it is read.
type Place int

// The places.
const (
	AtLayout Place = iota
	AtArchive
	AtRegistry
)

// A kind is a kind of place: how an operand that means it is told, and how an IMAGE in it is opened.
type kind struct {
	at Place
	is string // of an operand, in a sentence that says why it will not do

	// said takes an operand that says by a word that it is of the kind, and returns its name there.
	said func(operand string) (n oci.ImageName, ok bool, err error)
	// found reports whether an operand that says nothing is of the kind, by what the disk has under its
	// name, which is nil for nothing.
	found func(operand, dir string, info fs.FileInfo) bool

	open func(p *Places, ctx context.Context, env *cli.Env, operand string, n oci.ImageName) (source.Source, oci.ImageName, error)
	// target reads an operand of the kind as one that says where to copy to.
	target func(operand string, n oci.ImageName, many bool) (Target, error)
}

// kinds is the table of the places that images are read from, in the order in which they are asked about
// an operand; the last takes what is left. A new one is a line here and a place above: every command that
// reads images takes it then.
func kinds() []kind {
	return []kind{
		{AtArchive, "is an archive: `ocikit load` makes one of it", saysArchive, isArchive, (*Places).openArchive, archiveTarget},
		{AtRegistry, "is in a registry", saysRegistry, isRegistry, (*Places).openRemote, registryTarget},
		{AtLayout, "is in a layout", saysNothing, isAnything, (*Places).openLayout, fileTarget},
	}
}

// kindOf says where an IMAGE is, and gives its name there, which is empty if only the place itself can
// read it.
func kindOf(operand string) (kind, oci.ImageName, error) {
	// A prefix says what is meant, whatever has that name.
	for _, k := range kinds() {
		if n, ok, err := k.said(operand); ok || err != nil {
			return k, n, err
		}
	}

	n, err := ParseImage(operand)
	if err != nil {
		return kind{}, n, err
	}

	info, err := os.Stat(n.Dir)
	if err != nil {
		info = nil
	}
	for _, k := range kinds() {
		if k.found(operand, n.Dir, info) {
			return k, n, nil
		}
	}
	panic("the last kind takes no operand")
}

// saysArchive takes standard input, and what has a word for archives in front.
func saysArchive(operand string) (n oci.ImageName, ok bool, err error) {
	if operand == "-" {
		return oci.ImageName{Dir: "-"}, true, nil
	}
	rest, ok := cutArchivePrefix(operand)
	if !ok {
		return n, false, nil
	}
	if n, err = oci.ParseImageName(rest); err != nil {
		err = cli.Usagef("%v", err)
	}
	return n, true, err
}

// isArchive reports whether a file is there, or the parts of one, or nothing that could be another place.
func isArchive(_, dir string, info fs.FileInfo) bool {
	switch {
	case info == nil:
		return isArchiveName(dir)
	case !info.IsDir():
		return true
	}
	parts, err := archive.IsArchive(dir)
	return err == nil && parts
}

// saysRegistry takes docker://REF, which the registry's own grammar reads.
func saysRegistry(operand string) (n oci.ImageName, ok bool, err error) {
	return n, strings.HasPrefix(operand, "docker://"), nil
}

// isRegistry reports whether an operand is a bare HOST/REPO. No file and no directory has that name then.
func isRegistry(operand, _ string, info fs.FileInfo) bool {
	return info == nil && NamesRegistry(operand)
}

// saysNothing takes no operand: a layout is what nothing else is.
func saysNothing(string) (n oci.ImageName, ok bool, err error) { return n, false, nil }

func isAnything(string, string, fs.FileInfo) bool { return true }

// PlaceOf returns the place that an operand means.
func PlaceOf(operand string) (Place, error) {
	k, _, err := kindOf(operand)
	return k.at, err
}

// Is says of an operand that it means this place; it is empty for what is no place.
func (at Place) Is() string {
	for _, k := range kinds() {
		if k.at == at {
			return k.is
		}
	}
	return ""
}

// A Target is where a copy goes.
type Target struct {
	Place Place
	Name  oci.ImageName      // its Dir is the layout or the archive, "-" for standard output
	Ref   registry.Reference // of a registry
}

// ParseTarget reads the operand that says where to copy to: one image, or many, which go below
// HOST[/PREFIX] of a registry. An archive need not be there; a layout is meant where nothing says
// otherwise.
func ParseTarget(operand string, many bool) (Target, error) {
	k, n, err := kindOf(operand)
	if err != nil {
		return Target{}, err
	}
	to, err := k.target(operand, n, many)
	to.Place = k.at
	return to, err
}

func registryTarget(operand string, _ oci.ImageName, many bool) (Target, error) {
	parse := registry.ParseReference
	if many {
		parse = registry.ParsePrefix
	}
	ref, err := commonflags.ParseRef(parse, operand)
	return Target{Name: oci.ImageName{Tag: ref.Tag, Digest: ref.Digest}, Ref: ref}, err
}

func archiveTarget(operand string, n oci.ImageName, many bool) (Target, error) {
	if err := checkTarName(n.Dir); err != nil {
		return Target{}, cli.Usagef("%q: %v", operand, err)
	}
	to, err := fileTarget(operand, n, many)
	if _, isSaid := cutArchivePrefix(operand); err == nil && !isSaid && n.Dir != "-" {
		err = checkReplaceable(n.Dir)
	}
	return to, err
}

func fileTarget(_ string, n oci.ImageName, _ bool) (Target, error) {
	if n.Tag != "" {
		if err := oci.CheckTag(n.Tag); err != nil {
			return Target{}, cli.Usagef("%v", err)
		}
	}
	return Target{Name: n}, nil
}
