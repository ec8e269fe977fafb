package stack

import (
	"archive/tar"
	"context"
	"maps"
	"slices"
	"testing"

	"ocikit/tarutil"
)

// A liveEntries follows what Apply says, and keeps what should be left.
type liveEntries struct {
	t     *testing.T
	table *tarutil.PathTable
	paths map[EntryID]string
	files map[EntryID]EntryID
}

func (l *liveEntries) Placed(id, file EntryID, path tarutil.PathID, _ *tar.Header) error {
	if _, ok := l.files[id]; ok {
		l.t.Errorf("entry %v is placed twice", id)
	}
	l.paths[id], l.files[id] = l.table.Path(path), file
	return nil
}

func (l *liveEntries) Gone(id EntryID, layer int, _ bool) {
	if _, ok := l.paths[id]; !ok || layer < id.Layer {
		l.t.Errorf("entry %v is gone in layer %d, there: %t", id, layer, ok)
	}
	delete(l.paths, id)
}

// TestObserver follows random stacks: what was placed and is not gone is what the stack holds, and
// names of one file are those that lead to one entry.
func TestObserver(t *testing.T) {
	good := 0
	for seed := range uint64(200) {
		l := &liveEntries{t, tarutil.NewPathTable(tarutil.NewBudget(0)), map[EntryID]string{}, map[EntryID]EntryID{}}
		s, err := Apply(t.Context(), stackLayers(t, randomStack(seed)), Options{Observer: l, Paths: l.table})
		if err != nil {
			continue
		}
		good++
		var want []string
		files := map[*stackFile]EntryID{}
		byPath := map[string]EntryID{}
		for id, path := range l.paths {
			byPath[path] = l.files[id]
		}
		tree := s.tree
		tree.visit(tree.root, func(n *node) {
			f := tree.file(n)
			if f.implied {
				return
			}
			want = append(want, tree.path(n))
			id, ok := files[f]
			files[f] = byPath[tree.path(n)]
			if ok && id != byPath[tree.path(n)] {
				t.Errorf("seed %d: %q is of entry %v, and of %v", seed, tree.path(n), id, byPath[tree.path(n)])
			}
		})
		slices.Sort(want)
		if got := slices.Sorted(maps.Values(l.paths)); !slices.Equal(got, want) {
			t.Fatalf("seed %d: got %q, want %q", seed, got, want)
		}
	}
	if good < 50 {
		t.Errorf("%d stacks are good", good)
	}
}

// failingObserver refuses its first entry.
type failingObserver struct{ err error }

func (f failingObserver) Placed(EntryID, EntryID, tarutil.PathID, *tar.Header) error { return f.err }
func (f failingObserver) Gone(EntryID, int, bool)                                    {}

func TestObserverFails(t *testing.T) {
	_, err := Apply(t.Context(), layersOf(t, []string{"a x"}), Options{Observer: failingObserver{context.Canceled}})
	if err == nil {
		t.Error("no error")
	}
}
