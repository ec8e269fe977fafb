package stack

import (
	"archive/tar"
	"cmp"
	"context"
	"io"

	"ocikit/tarutil"
)

// WriteOnce does for a single layer what [Apply] and [Stack.WriteTar] do, to the same bytes, but reads
// it once. That is possible if no entry changes what those before it have led to: if no path comes
// twice, no directory behind what is in it, and so on, as in nearly all layers.
//
// If the result is false, it was not possible, or the layer is not right, and Apply knows why. Then
// what was written is to be thrown away: so w should not be a pipe. An error is one of w or of ctx.
func WriteOnce(ctx context.Context, w io.Writer, l Layer) (bool, error) {
	in, err := openEntries(ctx, l, tarutil.DefaultMaxSparse)
	if err != nil {
		return false, ctx.Err()
	}
	defer in.Close()

	to := &failWriter{w: w}
	tw := tarutil.NewWriter(to)
	tree := newStackTree(tarutil.NewPathTable(tarutil.NewBudget(0)), tarutil.DefaultMaxEntries, 0, nil)
	s := &Stack{tree: tree, walks: 1}
	o := &onceWalk{stackWalk{s: s, fn: tarEntries(tw)}, in}

	for {
		hdr, err := in.next()
		if err == io.EOF {
			return true, tw.Close()
		}
		if err != nil || !o.entry(hdr) {
			return false, cmp.Or(to.err, ctx.Err())
		}
	}
}

// A failWriter keeps the error that its writer fails with.
type failWriter struct {
	w   io.Writer
	err error
}

func (f *failWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		f.err = err
	}
	return n, err
}

// A onceWalk emits the names of a layer while its entries are applied.
type onceWalk struct {
	stackWalk
	in *layerEntries
}

// entry applies an entry, and emits what comes with it. It returns false if what was emitted before
// may be wrong now, or if anything fails.
func (o *onceWalk) entry(hdr *tar.Header) bool {
	t := o.s.tree
	t.placedLast, t.staged = nil, stagedFile{}
	had := t.count

	// The attributes of all files are kept, for hard links to them.
	if isRegular(hdr.Typeflag) {
		t.staged.later = newAttributes(hdr)
	}

	if t.apply(hdr, o.in.index) != nil || t.disturbed {
		return false
	}

	n := t.placedLast
	if n == nil { // a whiteout, which hides nothing here
		return t.count == had
	}

	// Besides the name itself only directories above it can be new. A link on the way may have made
	// others, for which a walk has another place.
	news := 0
	for at := n; at != t.root && t.file(at).walk != o.s.walks; at = t.dir(at) {
		news++
	}
	if t.count != had+news {
		return false
	}

	f := t.file(n)
	if f.first == 0 {
		f.first = n.id
	}
	if o.above(n) != nil {
		return false
	}
	if f.flag != tar.TypeReg || !t.isFirst(n) {
		return o.plain(n) == nil
	}
	return o.fn(tarutil.TreeEntry{Header: t.attributes(f).header(tar.TypeReg, t.path(n), hdr.Size), Content: o.in}) == nil
}
