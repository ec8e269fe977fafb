package image

import (
	"context"

	"ocikit/oci"
	"ocikit/oci/source"
	"ocikit/tarutil"
	"ocikit/tarutil/stack"
)

// A Tree is the files of an image as a [tarutil.Sharer]: its layers are applied, and verified as by
// [NewStack], when it is walked. It is not safe for concurrent use.
type Tree struct {
	src    source.Source
	layers []oci.Descriptor

	paths *tarutil.PathTable // nil until they are shared
	stack *stack.Stack       // nil if it was not walked, or has forgotten
	took  int                // of the budget of the paths, besides them
}

// A TreeError is one of applying the layers of a tree, before the first file is handed out. Its text is
// that of Err.
type TreeError struct {
	Tree *Tree
	Err  error
}

func (e *TreeError) Error() string { return e.Err.Error() }
func (e *TreeError) Unwrap() error { return e.Err }

// NewTree returns the files of an image. The errors are those of [NewStack] that need no layer.
func NewTree(src source.Source, desc oci.Descriptor) (*Tree, error) {
	layers, err := imageLayers(src, desc)
	return &Tree{src: src, layers: layers}, err
}

// Share implements [tarutil.Sharer].
func (t *Tree) Share(paths *tarutil.PathTable) { t.paths = paths }

// Forget implements [tarutil.Sharer].
func (t *Tree) Forget() {
	if t.stack != nil && t.paths != nil {
		t.paths.Budget.Give(t.took)
	}
	t.stack = nil
}

// Walk implements [tarutil.Tree]. An error of the layers themselves is a [*TreeError].
func (t *Tree) Walk(ctx context.Context, fn func(tarutil.TreeEntry) error) error {
	if t.stack == nil {
		if err := t.apply(ctx); err != nil {
			return &TreeError{t, err}
		}
	}
	return t.stack.Walk(ctx, fn)
}

func (t *Tree) apply(ctx context.Context) (err error) {
	taken := func() int { return 0 }
	if t.paths != nil {
		taken = func() int { return t.paths.Budget.Used() - t.paths.Held() }
	}
	before := taken()
	t.stack, err = applyLayers(ctx, t.src, t.layers, stack.Options{Paths: t.paths})
	t.took = taken() - before
	return err
}
