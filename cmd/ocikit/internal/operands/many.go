package operands

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
)

// A Selection is what the flags of a command say about many images.
type Selection struct {
	Set       *commonflags.Set
	Platforms string // what --platform says
	Rename    bool   // call the images as --map says; else that is for the caller
}

// A Choice are the images that the operands of a command name. The caller closes it.
type Choice struct {
	Members []Member
	Sources []source.Source // the places of the images, each once

	Selection
	places *Places
	wishes []oci.Platform
	opened map[string]opened // by the words that name a place
}

// opened is a place, or why there is none.
type opened struct {
	src source.Source
	err error
}

// Close closes the places.
func (c *Choice) Close() {
	for _, src := range c.Sources {
		src.Close()
	}
}

// Many returns the images of several operands: with All every image of the places that they name,
// with --from-file those of a list in the place that the only one names, else each operand is an
// IMAGE. One that cannot be had is a member with an error.
//
// The images of one place have the names that they have there. Those of several have full names, so
// that none takes the place of another: see [fullNameIn].
func (p *Places) Many(ctx context.Context, env *cli.Env, args []string, s Selection) (*Choice, error) {
	wishes, err := ParsePlatforms(s.Platforms)
	if err != nil {
		return nil, err
	}

	c := &Choice{Selection: s, places: p, wishes: wishes, opened: map[string]opened{}}
	add := c.addImage
	if s.Set.Many() {
		add = c.addPlace
	}

	for _, operand := range args {
		if err := add(ctx, env, operand); err != nil {
			c.Close()
			return nil, err
		}
	}

	for i, m := range c.Members {
		if m.Err == nil {
			c.Members[i].Desc = c.named(m)
		}
		if s.Set.All && len(c.opened) > 1 {
			c.Members[i].Name = m.NameIn()
		}
	}

	c.Members = distinct(c.Members)
	return c, nil
}

// NameIn returns what messages call an image of one of several places: with the place in front.
func (m Member) NameIn() string {
	switch {
	case m.Src == nil, strings.HasPrefix(m.Name, m.Src.Name()): // a registry's images have the place in their names
		return m.Name
	case strings.HasPrefix(m.Name, "@"):
		return m.Src.Name() + m.Name
	}
	return m.Src.Name() + ":" + m.Name
}

// named returns the entry of a member under the name that it gets.
func (c *Choice) named(m Member) oci.Descriptor {
	// A referrer without a name goes with its image.
	isReferrer := c.Set.All && m.Desc.EntryName() == "@"+m.Desc.Digest.String()
	if len(c.opened) > 1 && !isReferrer {
		m.Desc = fullNameIn(m.Src, m.Desc)
	}
	if c.Rename {
		m.Desc = c.Set.Rename(m.Desc)
	}
	return m.Desc
}

// open opens the place of an operand, or returns the one that another operand has opened.
func (c *Choice) open(ctx context.Context, env *cli.Env, operand string) (source.Source, oci.ImageName, error) {
	_, n, err := kindOf(operand)
	if err != nil {
		return nil, n, err
	}

	key := filepath.Clean(n.Dir)
	if n.Dir == "" {
		key = operand // each image of a registry has a client of its own
	}

	if o, ok := c.opened[key]; ok {
		return o.src, n, o.err
	}

	var o opened
	o.src, n, o.err = c.places.Open(ctx, env, operand)
	if o.err == nil {
		c.Sources = append(c.Sources, o.src)
	}
	c.opened[key] = o
	return o.src, n, o.err
}

// addPlace adds the images of a place that the flags select.
func (c *Choice) addPlace(ctx context.Context, env *cli.Env, operand string) error {
	src, n, err := c.open(ctx, env, operand)
	if err != nil {
		return err
	}
	if n.Tag != "" || !n.Digest.IsZero() {
		return cli.Usagef("%q names an image: with --all or --from-file give the place without a tag or digest", operand)
	}
	members, err := SetOf(env, c.Set, src, c.Platforms)
	c.Members = append(c.Members, members...)
	return err
}

// addImage adds the image that an operand names. One that is not there does not keep the others.
func (c *Choice) addImage(ctx context.Context, env *cli.Env, operand string) error {
	m := Member{Name: operand}
	var n oci.ImageName
	if m.Src, n, m.Err = c.open(ctx, env, operand); m.Err == nil {
		if m.Desc, m.Err = resolve(m.Src, n); m.Err == nil {
			m.Desc = Called(m.Src, m.Desc)
			m.narrow(env, c.wishes, true)
		}
	}

	// A word that is not an IMAGE is a mistake of the command line, an interrupt one of nobody.
	if _, ok := errors.AsType[*cli.UsageError](m.Err); ok || ctx.Err() != nil {
		return m.Err
	}

	if m.Err != nil || takes(c.Set.Filter, m.Desc) {
		c.Members = append(c.Members, m)
	}
	return nil
}

// fullNameIn returns an entry of a place under its full name. One that has none is called by the name
// of the directory or the file, as Docker would call it: v1 of ./app is docker.io/library/app:v1.
func fullNameIn(src source.Source, desc oci.Descriptor) oci.Descriptor {
	if n, ok := oci.NameOfEntry(desc); ok {
		return desc.WithFullName(n.String())
	}

	tag := desc.Annotations.Get(oci.AnnotationRefName)
	if full, ok := FullNameOf(src.Name(), tag); ok {
		return desc.WithFullName(full)
	}
	if full, ok := FullNameOf(src.Name(), "latest"); ok && tag == "" {
		return desc.WithFullName(oci.SplitName(full).Repo + "@" + desc.Digest.String())
	}

	return desc
}

// FullNameOf returns the full name of a tag in a directory or a file, which stands in for a
// repository, and reports whether there is one.
func FullNameOf(dir, tag string) (full string, ok bool) {
	// The absolute path has a last element even for ".".
	abs, err := filepath.Abs(dir)
	if tag == "" || err != nil {
		return "", false
	}
	return oci.FullName(strings.ToLower(filepath.Base(abs)) + ":" + tag)
}

// distinct returns members that all have names of their own. Images that share a tag are called by
// their full names, as those of an archive of Docker are that have one tag in several repositories.
// One that is named twice is returned once. Of two that have one name for good neither has the better
// right to it, so both have an error.
func distinct(members []Member) []Member {
	first := make(map[string]digest.Digest, len(members))
	shared := map[string]bool{}
	note := func(m Member) {
		name := m.Desc.EntryName()
		if d, ok := first[name]; ok && d != m.Desc.Digest {
			shared[name] = true
		}
		first[name] = m.Desc.Digest
	}

	for _, m := range members {
		if m.Err == nil {
			note(m)
		}
	}

	// A full name tells more than the tag. It may be that of another image, so all are noted again.
	if len(shared) > 0 {
		tags := shared
		first, shared = map[string]digest.Digest{}, map[string]bool{}
		for i, m := range members {
			if m.Err != nil {
				continue
			}
			if n, ok := oci.NameOfEntry(m.Desc); ok && tags[m.Desc.EntryName()] {
				members[i].Desc = m.Desc.WithFullName(n.String())
			}
			note(members[i])
		}
	}

	all := members[:0] // it never gets longer than what of them was looked at
	done := make(map[string]bool, len(members))
	for _, m := range members {
		name := m.Desc.EntryName()
		switch {
		case m.Err != nil:
		case shared[name]:
			m.Err = fmt.Errorf("%w: %q would name several images", graph.ErrAmbiguous, show.Printable(name))
		case done[name]:
			continue
		default:
			done[name] = true
		}
		all = append(all, m)
	}

	return all
}
