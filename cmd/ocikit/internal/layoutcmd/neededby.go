package layoutcmd

import (
	"cmp"
	"errors"
	"strings"

	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
)

// A user is a document that needs a blob, with what needs that document in turn: the way up to the
// names.
type user struct {
	Kind       string         `json:"kind"` // manifest, index or attestation
	Names      []string       `json:"names,omitempty"`
	Listed     bool           `json:"listed,omitempty"` // index.json names it
	Again      bool           `json:"again,omitempty"`  // it was shown further up, with what needs it
	Descriptor oci.Descriptor `json:"descriptor"`
	NeededBy   []*user        `json:"neededBy,omitempty"`
}

// A reverse says of each blob of a source which documents need it.
type reverse struct {
	users  map[digest.Digest][]oci.Descriptor
	known  map[digest.Digest]oci.Descriptor // as the first document describes it
	kinds  map[digest.Digest]string
	names  map[digest.Digest][]string
	listed map[digest.Digest]bool
	shown  map[digest.Digest]bool
}

// newReverse reads the documents that index.json leads to. A damaged one needs nothing.
func newReverse(src source.Source) (*reverse, error) {
	x, err := src.Index()
	if err != nil {
		return nil, err
	}

	r := &reverse{
		map[digest.Digest][]oci.Descriptor{}, map[digest.Digest]oci.Descriptor{}, map[digest.Digest]string{},
		map[digest.Digest][]string{}, map[digest.Digest]bool{}, map[digest.Digest]bool{},
	}

	// NameOf calls an entry without a name by its digest, which adds nothing here.
	for _, e := range x.Manifests {
		if name := operands.NameOf(e); !strings.HasPrefix(name, "@") {
			r.names[e.Digest] = append(r.names[e.Digest], name)
		}
		r.listed[e.Digest] = true
		r.describe(e, kindOf(e))
	}

	return r, graph.Documents(src, x.Manifests, func(n graph.Node) error {
		for i, ref := range n.Refs {
			// A document that names a blob twice is one user. All its references come together, so
			// the last user is the only one to compare with.
			if users := r.users[ref.Digest]; len(users) == 0 || users[len(users)-1].Digest != n.Desc.Digest {
				r.users[ref.Digest] = append(users, n.Desc)
			}
			kind := kindOf(ref)

			// The references of a manifest begin with its config.
			if oci.IsManifest(n.Desc.MediaType) && i == 0 {
				kind = "config"
			}
			r.describe(ref, kind)
		}
		return nil
	})
}

// describe remembers what a blob is, in the words of the first document that names it.
func (r *reverse) describe(d oci.Descriptor, kind string) {
	known, ok := r.known[d.Digest]
	switch {
	case !ok:
		r.known[d.Digest], r.kinds[d.Digest] = operands.Unnamed(d), kind
	case known.Platform == nil: // index.json rarely names it, indexes do
		known.Platform = d.Platform
		r.known[d.Digest] = known
	}
}

// kindOf returns what a descriptor is of.
func kindOf(d oci.Descriptor) string {
	switch {
	case graph.IsAttestation(d):
		return "attestation"
	case oci.IsIndex(d.MediaType):
		return "index"
	case oci.IsManifest(d.MediaType):
		return "manifest"
	case oci.IsLayer(d.MediaType):
		return "layer"
	}
	return "blob"
}

// of returns what needs a blob. A document that is needed in many ways is shown with its own users
// only once.
func (r *reverse) of(d digest.Digest) []*user {
	var users []*user
	r.shown[d] = true
	for _, desc := range r.users[d] {
		known := r.known[desc.Digest]
		u := &user{Kind: r.kinds[desc.Digest], Names: r.names[desc.Digest], Listed: r.listed[desc.Digest], Descriptor: known}
		if u.Again = r.shown[desc.Digest]; !u.Again {
			r.shown[desc.Digest] = true
			u.NeededBy = r.of(desc.Digest)
		}
		users = append(users, u)
	}
	return users
}

// addUsers adds to n who needs the blob d. With n nil, d is not a document: it gets a node of its own
// if it is there or somebody needs it; otherwise notFound is returned.
func addUsers(src source.Source, d digest.Digest, n *node, notFound error) (*node, error) {
	if source.Remote(src) {
		return nil, notFound // each document would be a request
	}

	r, err := newReverse(src)
	if err != nil {
		return nil, errors.Join(notFound, err)
	}

	// The media type and size of such a blob are known from those who need it, or else the size
	// from its file.
	if n == nil {
		desc, known := r.known[d]
		size, err := src.Stat(d)
		if !known {
			desc = oci.Descriptor{MediaType: oci.MediaTypeOctetStream, Digest: d, Size: size}
		}
		if err != nil && !known {
			return nil, notFound
		}
		n = &node{Kind: cmp.Or(r.kinds[d], "blob"), Descriptor: &desc, Missing: err != nil}
	}

	n.NeededBy, n.Names = append([]*user{}, r.of(d)...), r.names[d]
	return n, nil
}

// userLines adds to lines the way up to the names, two blanks for each step.
func (n *node) userLines(lines []string) []string {
	if len(n.Names) > 0 {
		lines = append(lines, "named "+strings.Join(n.Names, " "))
	}
	switch {
	case len(n.NeededBy) > 0:
		return userLines(append(lines, "needed by"), n.NeededBy, "  ")
	case len(n.Names) == 0: // a name is a use, too
		return append(lines, "needed by nothing")
	}
	return lines
}

// maxIndent bounds the indent of a line, in bytes.
const maxIndent = 100

// userLines adds to lines those of the users of a blob.
func userLines(lines []string, users []*user, indent string) []string {
	for _, u := range users {
		line := indent + u.Kind + " " + u.Descriptor.Digest.String()
		if p := u.Descriptor.Platform; p != nil && u.Kind != "attestation" {
			line += " " + p.String()
		}

		if len(u.Names) > 0 {
			line += " named " + strings.Join(u.Names, " ")
		} else if u.Listed {
			line += " listed without a name"
		}

		if u.Again {
			line += " (above)"
		}

		below := indent + "  "
		if len(indent) > maxIndent { // indexes can be nested without end
			below = indent
		}
		lines = userLines(append(lines, line), u.NeededBy, below)
	}

	return lines
}
