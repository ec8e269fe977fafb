package archive

import (
	"slices"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
)

// planOnly makes u find out what it would do. What it would store is looked for in u.plan: of
// documents the bytes are there, of other blobs the size.
func (u *unbundler) planOnly() {
	u.plan = newArchive("", newDocuments(u.ctx), nil)
	if u.store = u.plan; u.l != nil {
		u.store = graph.Either(u.plan, u.l)
	}
}

// put stores a blob of the bundle, or plans to.
func (u *unbundler) put(f tarEntry, d digest.Digest) error {
	if u.plan == nil {
		_, _, err := u.l.Put(f.r, d)
		return err
	}
	m, err := u.plan.hold.keep(f, d)
	u.plan.known(m)
	return err
}

// putDocument stores a document that no bundle brings, or plans to.
func (u *unbundler) putDocument(desc oci.Descriptor, doc []byte) error {
	if u.plan == nil {
		_, err := u.l.PutDocument(desc.MediaType, doc)
		return err
	}
	if _, err := u.store.Stat(desc.Digest); err != nil {
		u.brought(desc.Digest, desc.Size, layout.HowCopied)
	}
	u.plan.made[desc.Digest] = doc
	return nil
}

// brought notes how a blob would come into the layout.
func (u *unbundler) brought(d digest.Digest, size int64, how layout.How) {
	if u.plan != nil {
		u.result.Brought = append(u.result.Brought, Brought{Blob{Digest: d, Size: size}, how})
	}
}

// waiting returns what waits in the layout: nothing in one that is still to be made.
func (u *unbundler) waiting() (w layout.Waiting, err error) {
	if u.l != nil {
		w, err = u.l.Waiting()
	}
	return w, err
}

// planUpdate runs update on what the layout has, and takes the deltas that would go after it out of
// what is brought.
func (u *unbundler) planUpdate(deltas []layout.Delta, update func(*oci.Index, *layout.Waiting) error) error {
	var x oci.Index
	w, err := u.waiting()
	if err == nil && u.l != nil {
		x, err = u.l.Index()
	}
	if err == nil {
		err = update(&x, &w)
	}
	if err != nil {
		return err
	}

	goes := map[digest.Digest]bool{}
	for _, d := range deltas {
		goes[d.Delta] = true
	}
	for _, d := range w.Deltas {
		delete(goes, d.Delta)
	}

	// Documents say of what types the blobs are, and what an image refers to stays in any case.
	types := map[digest.Digest]string{}
	graph.Scan(u.store, slices.Concat(x.Manifests, w.Images), func(n graph.Node) error {
		types[n.Desc.Digest] = n.Desc.MediaType
		delete(goes, n.Desc.Digest)
		return nil
	})

	u.result.Brought = slices.DeleteFunc(u.result.Brought, func(b Brought) bool { return goes[b.Digest] })
	for i, b := range u.result.Brought {
		u.result.Brought[i].MediaType = types[b.Digest]
	}
	return nil
}
