package serve

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"

	"ocikit/digest"
	"ocikit/digest/digesttest"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// What is kept of index.json changes as the document itself would: the entries, their text, what they
// are called.
func TestIndexInPlace(t *testing.T) {
	desc := func(n int) oci.Descriptor { return oci.Describe(oci.MediaTypeManifest, []byte(fmt.Sprint(n))) }
	slow := 0
	for seed := range uint64(digesttest.Reps(300, 60)) {
		random := rand.New(rand.NewPCG(seed, 1))
		tag := func() string { return string(rune('a' + random.IntN(6))) }

		// Other programs write names that serve does not.
		x := oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Annotations: oci.AnnotationsOf(map[string]string{"about": `"manifests":[]`})}
		for range random.IntN(6) {
			e := desc(random.IntN(8))
			if random.IntN(3) > 0 {
				e = e.WithAnnotation(oci.AnnotationRefName, []string{tag(), "example.com/app:" + tag(), "a+b"}[random.IntN(3)])
			}
			if random.IntN(3) == 0 {
				e = e.WithAnnotation(oci.AnnotationImageName, []string{tag(), "example.com/app:" + tag()}[random.IntN(2)])
			}
			x.Manifests = append(x.Manifests, e)
		}
		v := newIndex(oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Annotations: x.Annotations, Manifests: slices.Clone(x.Manifests)})
		for range 12 {
			m := manifest{desc: desc(random.IntN(8))}
			for range random.IntN(3) {
				if ref := desc(random.IntN(8)); ref.Digest != m.desc.Digest { // nothing holds itself
					m.refs = append(m.refs, ref)
				}
			}
			var tags []string
			for range random.IntN(3) {
				if next := tag(); !slices.Contains(tags, next) {
					tags = append(tags, next)
				}
			}
			for _, tag := range tags {
				if v.shared[tag] {
					slow++
				}
			}
			setNames(&x, m, tags)
			if _, err := v.set(m, tags); err != nil {
				t.Fatal(err)
			}

			want, err := oci.Encode(x)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.Concat(v.head, bytes.TrimSuffix(v.list, []byte(",")), v.tail)
			if !bytes.Equal(got, want) {
				t.Fatalf("seed %d: after %s %q it is\n%s, want\n%s", seed, m.desc.Digest, tags, got, want)
			}
			fresh := newIndex(oci.Index{Manifests: x.Manifests})
			for what, pair := range map[string][2]any{
				"entries": {v.entries, fresh.entries}, "tags": {v.tags, fresh.tags}, "byTag": {v.byTag, fresh.byTag},
				"shared": {v.shared, fresh.shared}, "byDigest": {v.byDigest, fresh.byDigest}, "nameless": {v.nameless, fresh.nameless},
			} {
				if !reflect.DeepEqual(pair[0], pair[1]) && fmt.Sprint(pair[0]) != fmt.Sprint(pair[1]) {
					t.Fatalf("seed %d: %s: got %v, want %v", seed, what, pair[0], pair[1])
				}
			}
		}
	}
	if slow == 0 {
		t.Error("no tag was one of several entries")
	}
}

// manyTags returns an index of a thousand manifests, tagged t0, t1 and so on.
func manyTags() *index {
	var x oci.Index
	for i := range 1000 {
		desc := oci.Describe(oci.MediaTypeManifest, fmt.Append(nil, i))
		x.Manifests = append(x.Manifests, desc.WithAnnotation(oci.AnnotationRefName, fmt.Sprint("t", i)))
	}
	return newIndex(x)
}

// A tag that moves costs no look at the names of all entries, as many moves in a large index would
// take for ever. Each name that is looked at is an allocation, so that such a look shows.
func TestMoveOfTag(t *testing.T) {
	v := manyTags()
	turn := 0
	allocs := testing.AllocsPerRun(10, func() {
		turn++
		m := manifest{desc: oci.Describe(oci.MediaTypeManifest, fmt.Append(nil, "new", turn))}
		if changed, err := v.set(m, []string{"t500"}); err != nil || !changed {
			t.Errorf("set() = %v, %v", changed, err)
		}
	})
	if allocs > 200 {
		t.Errorf("%.0f allocations for one move", allocs)
	}
}

// What an image index takes up stands at the end, as it was pushed a moment ago, so that its push costs no
// look at the names of all entries either.
func TestReleaseOfChild(t *testing.T) {
	v := manyTags()
	turn := 0
	allocs := testing.AllocsPerRun(10, func() {
		turn++
		child := manifest{desc: oci.Describe(oci.MediaTypeManifest, fmt.Append(nil, "child", turn))}
		parent := manifest{desc: oci.Describe(oci.MediaTypeIndex, fmt.Append(nil, "parent", turn)), refs: []oci.Descriptor{child.desc}}
		for _, m := range []manifest{child, parent} {
			var tags []string
			if m.refs != nil {
				tags = []string{fmt.Sprint("multi", turn)}
			}
			if changed, err := v.set(m, tags); err != nil || !changed {
				t.Errorf("set() = %v, %v", changed, err)
			}
		}
		if _, listed := v.listed(child.desc.Digest); listed {
			t.Error("the child has an entry of its own")
		}
	})
	if allocs > 200 {
		t.Errorf("%.0f allocations for one push", allocs)
	}
}

// Many push to one repository at once, and another program writes names beside them: nothing is lost, and
// what was answered is there.
func TestPushesTogether(t *testing.T) {
	s := start(t, Options{})
	s.image("r", "first", 1)
	config, layer := s.push("r", []byte("{}")), s.push("r", []byte("layer"))
	l, err := layout.Open(s.dir + "/r")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first, err := l.Resolve(oci.ImageName{Tag: "first"})
	if err != nil {
		t.Fatal(err)
	}

	pushers, each := 8, 15
	var wg sync.WaitGroup
	for p := range pushers {
		wg.Go(func() {
			for i := range each {
				ref := fmt.Sprintf("p%d-%d", p, i)
				doc := fmt.Sprintf(`{"annotations":{"n":%q},"config":{"digest":%q,"mediaType":%q,"size":2},"layers":[{"digest":%q,"mediaType":%q,"size":5}],"schemaVersion":2}`,
					ref, config, oci.MediaTypeEmpty, layer, oci.MediaTypeLayer)
				s.want(201, "PUT", "/v2/r/manifests/"+ref, doc, "Content-Type", oci.MediaTypeManifest)
				if got := s.want(200, "GET", "/v2/r/manifests/"+ref, nil); string(got.body) != doc {
					t.Errorf("%s is %s", ref, got.body)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range each {
			if err := l.Tag(context.Background(), fmt.Sprintf("other-%d", i), first, layout.TagOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	// One that cannot be stored does not keep the others.
	wg.Go(func() {
		for range each {
			absent := digest.FromBytes([]byte("absent")).String()
			doc := fmt.Sprintf(`{"config":{"digest":%q,"mediaType":%q,"size":6},"layers":[],"schemaVersion":2}`, absent, oci.MediaTypeConfig)
			s.want(400, "PUT", "/v2/r/manifests/bad", doc, "Content-Type", oci.MediaTypeManifest)
		}
	})
	wg.Wait()

	x, err := l.Index()
	if err != nil {
		t.Fatal(err)
	}
	if want := pushers*each + each + 1; len(x.Manifests) != want {
		t.Errorf("%d names in index.json, want %d", len(x.Manifests), want)
	}
	if n := len(s.s.indexes.turns); n != 0 {
		t.Errorf("the turns of %d repositories are left", n)
	}
	verifyAll(t, s.dir)
}
