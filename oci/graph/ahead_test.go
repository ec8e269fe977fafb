package graph

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
)

// manyImages returns a store, and roots in it, of every sort that a walk meets: alone, twice, inside an
// index, absent, damaged, too large to be read ahead.
func manyImages(t *testing.T) (memory, []oci.Descriptor) {
	m := memory{}
	var all []oci.Descriptor
	for i := range 150 {
		all = append(all, m.put(t, oci.MediaTypeManifest, oci.Manifest{
			SchemaVersion: 2, Config: m.blob(oci.MediaTypeConfig, fmt.Sprint("config ", i)), Layers: []oci.Descriptor{m.blob(oci.MediaTypeLayer, fmt.Sprint("layer ", i%7))},
		}))
	}
	delete(m, all[20].Digest)
	m[all[30].Digest] = []byte("damaged")
	all[40].Size = aheadBytes + 1

	inner := m.index(t, all[60:100]...)
	outer := m.index(t, append(slices.Clone(all[90:140]), inner)...)
	roots := slices.Concat(all[:70], []oci.Descriptor{outer}, all[50:], all[:10])
	return m, append(roots, inner)
}

// What is visited, and in which order, does not depend on how documents are read.
func TestAhead(t *testing.T) {
	m, roots := manyImages(t)
	for _, descend := range []bool{false, true} {
		for _, limits := range []Limits{{}, {Documents: 40}} {
			// visits returns what a walk visits until the n-th time.
			visits := func(ahead, n int) (seen []string, err error) {
				w := NewWalker(m, limits)
				w.Descend, w.Ahead = descend, ahead
				err = w.Walk(roots, func(n2 Node) error {
					seen = append(seen, fmt.Sprintln(n2.Desc.Digest, n2.Desc.Size, n2.Parent.Digest, n2.Depth, len(n2.Doc), len(n2.Refs), n2.Err))
					if len(seen) == n {
						return errors.New("enough")
					}
					return nil
				})
				return seen, err
			}

			for _, n := range []int{0, 1, 2, 35, 170} {
				want, wantErr := visits(0, n)
				for _, ahead := range []int{1, 2, 5} {
					if got, err := visits(ahead, n); !slices.Equal(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
						t.Errorf("descend %t, limits %+v, %d goroutines, %d visits: %d nodes, %v, want %d, %v", descend, limits, ahead, n, len(got), err, len(want), wantErr)
					}
				}
			}
		}
	}
}

// A counting store counts the documents that were read.
type counting struct {
	memory
	read *atomic.Int64
}

func (c counting) Document(desc oci.Descriptor) ([]byte, error) {
	c.read.Add(1)
	return c.memory.Document(desc)
}

// Documents that nobody has asked for yet do not pile up, and none is read twice.
func TestAheadIsBounded(t *testing.T) {
	m, roots := manyImages(t)
	c := counting{m, new(atomic.Int64)}
	w := NewWalker(c, Limits{})
	w.Ahead = 2
	visited := int64(0)
	distinct := map[digest.Digest]bool{}
	err := w.Walk(roots, func(n Node) error {
		if oci.IsDocument(n.Desc.MediaType) {
			visited++
			distinct[n.Desc.Digest] = true
		}
		// Besides what is read ahead, indexes are read before what is in them is visited.
		if most := visited + 2*aheadCount + 2; c.read.Load() > most {
			t.Errorf("after %d visits %d documents are read", visited, c.read.Load())
		}
		return nil
	})
	if err != nil || c.read.Load() != visited || len(distinct) == 0 {
		t.Errorf("%d documents read, %d visited, %v", c.read.Load(), visited, err)
	}
}
