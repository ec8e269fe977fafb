package layoutcmd

import (
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
)

// addReferrers adds to each manifest and index of a tree what refers to it, and to that what refers to
// it in turn. Among very many images nothing is looked for, since each of their documents would be read.
func (in *inspector) addReferrers(root *node) error {
	if in.users == nil || !in.refers {
		return nil
	}

	found, err := source.Referrers(in.l, []oci.Descriptor{*root.Descriptor})
	if err != nil {
		return err
	}

	// The list below a fallback tag is no referrer. What it lists was found by itself.
	bySubject := map[digest.Digest][]oci.Descriptor{}
	for _, r := range found {
		if !r.List {
			bySubject[r.Subject] = append(bySubject[r.Subject], r.Desc)
		}
	}

	in.attach(root, bySubject, 0)
	return nil
}

// attach adds the referrers of a node and of those below it, depth documents down. Each referrer is
// used up, so two that refer to each other end. A chain of them that is deeper than indexes may be is cut,
// since every level indents what is below it.
func (in *inspector) attach(n *node, bySubject map[digest.Digest][]oci.Descriptor, depth int) {
	if depth == graph.DefaultLimits().Depth {
		return
	}

	for _, c := range n.Children {
		in.attach(c, bySubject, depth+1)
	}

	refs := bySubject[n.Descriptor.Digest]
	delete(bySubject, n.Descriptor.Digest)
	for _, desc := range refs {
		// The image can be shown whatever is wrong with what refers to it.
		r, err := in.node(desc, depth+1)
		if err != nil {
			r = &node{Descriptor: &desc}
		}

		r.Kind = "referrer"
		n.Referrers = append(n.Referrers, r)
		in.attach(r, bySubject, depth+1)
	}
}
