// Package archive carries images as one tar: [NewPlan] works out what it holds and [Plan.Save]
// writes it, [Load] brings it into a layout, [Open] reads it where it is.
//
// Plan.Save writes a hybrid: a tar of an OCI image layout that has Docker's manifest.json as
// well, so that "docker load", "podman load", "ctr image import" and readers of layouts all
// take it. It is the same bytes for the same images. The documents come first, so that a reader
// of a stream knows what the layers behind them are for.
//
// Load and Open take such a tar. They also take an archive with only one of the two halves, as
// skopeo, podman, crane, BuildKit and Docker of any age write them. The members may come in any
// order, and from a stream.
//
// An [Archive] is such a tar as a [source.Source]: one pass over its headers says where the
// blobs are, and they are read there. Load and Open share that pass, so they take and refuse
// the same.
//
// A bundle is the tar of a layout that lacks what the other side has: an [Inventory] says what
// that is, [NewBundle] plans the bundle, [Unbundle] applies it, and package split cuts it into
// parts.
//
// # Design
//
// A stream cannot be read twice, and an archive may be larger than memory. So every member
// goes straight into the layout as a blob while it passes, under the digest of its bytes. Only
// when the stream has come to its end are the documents looked at, and names are given, in one
// update, when all that they need is there. A member's name never becomes the name of a file.
package archive
