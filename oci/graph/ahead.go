package graph

import "ocikit/oci"

const (
	// aheadCount and aheadBytes bound what one goroutine reads before a walk asks for it.
	aheadCount = 32
	aheadBytes = 1 << 20

	// aheadMin is how many documents a list must have to be read ahead: a goroutine for one or two
	// costs more than it saves.
	aheadMin = 8
)

// A document is what came of reading one.
type document struct {
	doc  []byte
	refs []oci.Descriptor
	err  error
}

// ahead reads documents before a walk comes to them, in the order of the walk, a few at a time by
// each of several goroutines. What is read and not asked for yet is bounded, so memory does not grow
// with the number of documents. Only the walk itself calls its methods.
type ahead struct {
	w     *Walker
	begun map[mention]*batch
	open  []*batch // that are being read, or hold what was not asked for
}

// A batch is what one goroutine reads.
type batch struct {
	descs    []oci.Descriptor
	mentions []mention            // of descs
	found    map[mention]document // not to be looked at before done is closed
	left     int                  // documents that were not asked for yet
	done     chan struct{}
}

// begin begins to read some of descs, which the walk comes to next, and returns how many of them it
// need not be given again.
func (a *ahead) begin(descs []oci.Descriptor) int {
	taken := 0
	for len(a.open) < a.w.Ahead && taken < len(descs) {
		b := &batch{done: make(chan struct{})}
		taken += a.fill(b, descs[taken:])
		if len(b.descs) == 0 {
			break
		}
		b.left = len(b.descs)
		a.open = append(a.open, b)
		go func() {
			defer close(b.done)
			b.read(a.w.store)
		}()
	}
	return taken
}

// fill gives a batch its documents, and returns how many of descs it has looked at. What the walk
// will not read, what it has visited, and what is large is left to it.
func (a *ahead) fill(b *batch, descs []oci.Descriptor) int {
	var bytes int64
	for i, desc := range descs {
		m := mention{digest: desc.Digest, size: desc.Size, mediaType: a.w.id(desc.MediaType)}
		switch {
		case !a.w.opens(desc), desc.Data != nil, desc.Size > aheadBytes, a.w.saw(m), a.begun[m] != nil:
			continue
		case len(b.descs) == aheadCount, bytes+desc.Size > aheadBytes:
			return i
		}
		bytes += max(desc.Size, 0)
		a.begun[m] = b
		b.descs, b.mentions = append(b.descs, desc), append(b.mentions, m)
	}
	return len(descs)
}

func (b *batch) read(s Store) {
	b.found = make(map[mention]document, len(b.descs))
	for i, desc := range b.descs {
		var d document
		d.doc, d.refs, d.err = read(s, desc)
		b.found[b.mentions[i]] = d
	}
}

// take returns a document that was begun, once.
func (a *ahead) take(m mention) (d document, ok bool) {
	b := a.begun[m]
	if b == nil {
		return d, false
	}

	delete(a.begun, m)
	<-b.done
	d = b.found[m]
	delete(b.found, m)
	if b.left--; b.left == 0 {
		a.drop(b)
	}

	return d, true
}

func (a *ahead) drop(b *batch) {
	for i, other := range a.open {
		if other == b {
			a.open = append(a.open[:i], a.open[i+1:]...)
			return
		}
	}
}

// wait returns when nothing is being read any more: the caller may close the store.
func (a *ahead) wait() {
	for _, b := range a.open {
		<-b.done
	}
	a.open = nil
	clear(a.begun)
}
