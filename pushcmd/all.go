package pushcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/oci/registry"
)

// An Indexed source has a list of images, as a layout does.
type Indexed interface {
	Source
	Index() (oci.Index, error)
}

// PushAll pushes every image of a layout. One with a tag that a registry takes goes to that
// tag of ref's repository. A name with a path goes to a repository of that path below it:
// with REF host/mirror, the image "docker.io/library/alpine:3.20" goes to
// host/mirror/library/alpine:3.20. Images without a name go there by digest. Images are
// pushed one after the other; the first error ends it.
func PushAll(ctx context.Context, c *registry.Client, src Indexed, ref registry.Reference, o Options) ([]Report, error) {
	all, err := destinations(src, ref)
	if err != nil {
		return nil, err
	}
	var reports []Report
	pushers := map[string]*pusher{}
	for _, d := range all {
		to := d.to
		p := pushers[to.Repo]
		if p == nil {
			more := o
			// What was just pushed to one repository can be mounted into the next.
			for repo := range pushers {
				more.MountFrom = append(slices.Clone(more.MountFrom), repo)
			}
			p = newPusher(c, src, to.Repo, more)
			pushers[to.Repo] = p
		}
		report, err := p.push(ctx, d.desc, to)
		reports = append(reports, report)
		if err != nil {
			return reports, fmt.Errorf("push %s: %w", to, err)
		}
	}
	return reports, nil
}

// A destination is an image and where it goes.
type destination struct {
	desc oci.Descriptor
	to   registry.Reference
}

// destinations returns where the images of a layout go.
func destinations(src Indexed, ref registry.Reference) ([]destination, error) {
	if ref.Tag != "" || !ref.Digest.IsZero() {
		return nil, fmt.Errorf("push all to %s: want a repository without tag or digest", ref)
	}
	x, err := src.Index()
	if err != nil {
		return nil, err
	}
	var all []destination
	for _, desc := range x.Manifests {
		if !oci.IsManifest(desc.MediaType) && !oci.IsIndex(desc.MediaType) {
			continue
		}
		to, err := mapName(ref, desc)
		if err != nil {
			return nil, err
		}
		all = append(all, destination{desc, to})
	}
	return all, nil
}

// mapName returns where an entry of index.json goes.
func mapName(ref registry.Reference, desc oci.Descriptor) (registry.Reference, error) {
	name := desc.Annotations[oci.AnnotationRefName]
	if name == "" {
		ref.Digest = desc.Digest
		return ref, nil
	}
	if registry.CheckTag(name) == nil {
		ref.Tag = name
		return ref, nil
	}
	path, tag, ok := strings.Cut(name, "@")
	if i := strings.LastIndexByte(path, ':'); i > strings.LastIndexByte(path, '/') {
		path, tag, ok = path[:i], path[i+1:], true
	}
	if !ok || registry.CheckTag(tag) != nil {
		tag = "latest"
	}
	if first, rest, found := strings.Cut(path, "/"); found && (strings.ContainsAny(first, ".:") || first == "localhost") {
		path = rest
	}
	ref.Repo += "/" + path
	ref.Tag = tag
	if err := registry.CheckRepository(ref.Repo); err != nil {
		return ref, fmt.Errorf("image named %q: %w", name, err)
	}
	return ref, nil
}

// pushReferrers pushes what refers to the manifests of g, and what refers to that, from the
// list of images of the source.
func (p *pusher) pushReferrers(ctx context.Context, g *graph) error {
	if !p.o.Referrers || p.o.DryRun {
		return nil
	}
	src, ok := p.src.(Indexed)
	if !ok {
		return errors.New("push referrers: the source has no list of images")
	}
	x, err := src.Index()
	if err != nil {
		return err
	}
	pushed := map[string]bool{}
	for _, n := range g.nodes {
		pushed[n.desc.Digest.String()] = true
	}
	entries, err := p.listed(x.Manifests)
	if err != nil {
		return err
	}
	for again := true; again; {
		again = false
		for _, e := range entries {
			n := e.root
			if n.subject == nil || !pushed[n.subject.Digest.String()] || pushed[n.desc.Digest.String()] {
				continue
			}
			pushed[n.desc.Digest.String()], again = true, true
			if _, err := p.c.HeadManifest(ctx, p.repo, n.desc.Digest.String()); err == nil && !p.o.Force {
				continue
			}
			if err := p.plan(ctx, e); err != nil {
				return err
			}
			if err := p.sendBlobs(ctx, e); err != nil {
				return err
			}
			if err := p.putManifests(ctx, e, nil); err != nil {
				return err
			}
		}
	}
	return p.pushTagged(ctx, pushed, x.Manifests)
}

// listed reads the entries of a layout, and the manifests of those that are lists of
// referrers, which layouts keep under fallback tags.
func (p *pusher) listed(descs []oci.Descriptor) ([]*graph, error) {
	var list []*graph
	for _, d := range descs {
		if !oci.IsManifest(d.MediaType) && !oci.IsIndex(d.MediaType) {
			continue
		}
		g, err := p.walk(d)
		if err != nil {
			return nil, err
		}
		for _, n := range g.nodes {
			list = append(list, &graph{root: n, nodes: below(n)})
		}
	}
	return list, nil
}

// below returns n and what is below it, children first.
func below(n *node) []*node {
	var list []*node
	var walk func(n *node)
	walk = func(n *node) {
		if !slices.Contains(list, n) {
			for _, c := range n.children {
				walk(c)
			}
			list = append(list, n)
		}
	}
	walk(n)
	return list
}
