package tarutil

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestPathTable compares a table with a map of the same paths.
func TestPathTable(t *testing.T) {
	const all = 1 << 30
	random := rand.New(rand.NewPCG(1, 2))
	budget := NewBudget(all)
	table, held := NewPathTable(budget), 0
	ids := map[string]PathID{"": 0}
	paths := []string{""}

	for len(paths) < 5000 {
		dir := paths[random.IntN(len(paths))]
		name := fmt.Sprintf("%s%d", strings.Repeat("x", random.IntN(200)), random.IntN(3000))
		path := JoinPath(dir, name)
		id, known := ids[path]
		if got := table.Find(ids[dir], name); got != id {
			t.Fatalf("Find(%q) = %d, want %d", path, got, id)
		}

		got, err := table.Add(ids[dir], name)
		if err != nil || known && got != id || !known && int(got) != len(paths) {
			t.Fatalf("Add(%q) = %d, %v, known as %d", path, got, err, id)
		}
		if !known {
			ids[path] = got
			paths = append(paths, path)
			held += PathMemory + len(name)
		}
	}

	for path, id := range ids {
		dir, name := SplitPath(path)
		if got, ok := table.Lookup(path); !ok || got != id || table.Path(id) != path || table.Name(id) != name || table.Dir(id) != ids[dir] {
			t.Errorf("%q is %d, %t, and %d is %q in %d", path, got, ok, id, table.Path(id), table.Dir(id))
		}
	}
	if id, ok := table.Lookup("y/z"); ok {
		t.Errorf("what was not added is %d", id)
	}

	// What is left of the budget can be taken, and nothing more.
	if err := budget.Take(all - held); err != nil || budget.Take(1) == nil {
		t.Errorf("not just %d bytes were taken: %v", held, err)
	}

	var got []string
	children := table.Children()
	var visit func(PathID)
	visit = func(id PathID) {
		got = append(got, table.Path(id))
		for _, c := range children.Of(id) {
			visit(c)
		}
	}
	visit(0)
	slices.SortFunc(paths, ComparePaths)
	if !slices.Equal(got, paths) {
		t.Error("children are not in tree order")
	}
}

func TestPathTableLimits(t *testing.T) {
	table := NewPathTable(NewBudget(1000))
	if _, err := table.Add(0, strings.Repeat("x", 1<<20)); !errors.Is(err, ErrBadPath) {
		t.Errorf("a name of 1 MiB: %v", err)
	}

	var err error
	for i := 0; err == nil && i < 1000; i++ {
		_, err = table.Add(0, fmt.Sprint(i))
	}
	if !errors.Is(err, ErrTooMany) || table.Len() > 1000/PathMemory {
		t.Errorf("%d names, %v", table.Len(), err)
	}
}

// TestSlab makes sure that values stay where they are, and that freed ones come back zero.
func TestSlab(t *testing.T) {
	var s Slab[int]
	var at []*int
	for i := range 3 * slabChunk {
		n, p := s.New()
		if int(n) != i || s.Len() != i+1 {
			t.Fatalf("number %d of %d, want %d", n, s.Len(), i)
		}
		*p = i
		at = append(at, p)
	}
	for i, p := range at {
		if s.At(uint32(i)) != p || *p != i {
			t.Fatalf("%d is %d", i, *s.At(uint32(i)))
		}
	}

	s.Free(300)
	if n, p := s.New(); n != 300 || *p != 0 || s.Len() != 3*slabChunk {
		t.Errorf("%d is %d, of %d", n, *p, s.Len())
	}
}
