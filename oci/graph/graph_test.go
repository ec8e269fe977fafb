package graph

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci"
)

// A memory is a store in memory.
type memory map[digest.Digest][]byte

func (m memory) Document(desc oci.Descriptor) ([]byte, error) {
	data, ok := m[desc.Digest]
	if !ok && desc.Data != nil {
		return desc.Data, nil
	}
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, ErrNotFound)
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, digest.ErrMismatch)
	}
	return data, nil
}

func (m memory) Stat(d digest.Digest) (int64, error) {
	data, ok := m[d]
	if !ok {
		return 0, fmt.Errorf("blob %s: %w", d, ErrNotFound)
	}
	return int64(len(data)), nil
}

// put stores a document.
func (m memory) put(t *testing.T, mediaType string, v any) oci.Descriptor {
	t.Helper()
	data, err := oci.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	desc := oci.Describe(mediaType, data)
	m[desc.Digest] = data
	return desc
}

func (m memory) blob(mediaType, text string) oci.Descriptor {
	desc := oci.Describe(mediaType, []byte(text))
	m[desc.Digest] = []byte(text)
	return desc
}

// image stores an image for a platform, with one layer of its own.
func (m memory) image(t *testing.T, platform string) oci.Descriptor {
	t.Helper()
	p, err := oci.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	config, err := oci.NewConfig(p).Encode()
	if err != nil {
		t.Fatal(err)
	}
	desc := m.put(t, oci.MediaTypeManifest, oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest,
		Config: m.blob(oci.MediaTypeConfig, string(config)), Layers: []oci.Descriptor{m.blob(oci.MediaTypeLayer, "layer for "+platform)},
	})
	desc.Platform = &p
	return desc
}

func (m memory) index(t *testing.T, entries ...oci.Descriptor) oci.Descriptor {
	t.Helper()
	return m.put(t, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: entries})
}

// attestation stores what BuildKit puts beside an image.
func (m memory) attestation(t *testing.T, about oci.Descriptor) oci.Descriptor {
	t.Helper()
	desc := m.put(t, oci.MediaTypeManifest, oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest,
		Config: m.blob(oci.MediaTypeConfig, `{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}`),
		Layers: []oci.Descriptor{m.blob("application/vnd.in-toto+json", "about "+about.Digest.String())},
	})
	desc.Platform = &oci.Platform{OS: "unknown", Architecture: "unknown"}
	return desc.WithAnnotation(oci.AnnotationAttestation, "attestation-manifest").WithAnnotation(oci.AnnotationAttested, about.Digest.String())
}

// Everything is visited once, and what a document needs before the document.
func TestWalkChildrenFirst(t *testing.T) {
	m := memory{}
	one, two := m.image(t, "linux/amd64"), m.image(t, "linux/arm64")
	inner := m.index(t, two, one)
	root := m.index(t, one, inner, one)

	at := map[digest.Digest]int{}
	err := Walk(m, []oci.Descriptor{root, inner}, Rules{}, func(n Node) error {
		for _, ref := range n.Refs {
			if _, ok := at[ref.Digest]; !ok {
				t.Errorf("%s came before %s, which it needs", n.Desc.Digest, ref.Digest)
			}
		}
		if _, again := at[n.Desc.Digest]; again && n.Desc.Platform != nil {
			t.Errorf("%s came twice", n.Desc.Digest)
		}
		at[n.Desc.Digest] = len(at)
		return nil
	})
	if err != nil || len(at) != len(m) {
		t.Errorf("Walk visits %d of %d blobs, %v", len(at), len(m), err)
	}
}

// What is absent is an error, unless the rules allow it; what is damaged is one always.
func TestRules(t *testing.T) {
	m := memory{}
	here, there := m.image(t, "linux/amd64"), m.image(t, "linux/arm64")
	root := m.index(t, here, there)
	layer := oci.Describe(oci.MediaTypeLayer, []byte("layer for linux/amd64"))
	foreign := m.put(t, oci.MediaTypeManifest, oci.Manifest{
		SchemaVersion: 2, Config: m.blob(oci.MediaTypeConfig, "{}"),
		Layers: []oci.Descriptor{oci.Describe(oci.MediaTypeDockerLayerForeign, []byte("elsewhere"))},
	})

	for _, tt := range []struct {
		name   string
		root   oci.Descriptor
		rules  Rules
		remove digest.Digest
		want   error
	}{
		{"whole", root, Rules{}, digest.Digest{}, nil},
		{"a foreign layer", foreign, Rules{}, digest.Digest{}, nil},
		{"no image for a platform", root, Rules{}, there.Digest, ErrIncomplete},
		{"no image for a platform, sparse", root, Rules{Sparse: true}, there.Digest, nil},
		{"no layer, sparse", root, Rules{Sparse: true}, layer.Digest, ErrIncomplete},
		{"no layer, blobs to come", root, Rules{Blobs: true}, layer.Digest, nil},
		{"no root, sparse", root, Rules{Sparse: true}, root.Digest, ErrIncomplete},
	} {
		was := m[tt.remove]
		delete(m, tt.remove)
		if err := Check(m, tt.root, tt.rules); !errors.Is(err, tt.want) {
			t.Errorf("%s: Check = %v, want %v", tt.name, err, tt.want)
		}
		if was != nil {
			m[tt.remove] = was
		}
	}

	m[layer.Digest] = []byte("another")
	if err := Check(m, root, Rules{Sparse: true, Blobs: true}); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("a layer of another size: Check = %v", err)
	}
}

// A graph is bounded before it is read.
func TestLimits(t *testing.T) {
	m := memory{}
	root := m.image(t, "linux/amd64")
	for range 18 {
		root = m.index(t, root)
	}
	if err := Check(m, root, Rules{}); err != nil {
		t.Errorf("an index 18 deep: %v", err)
	}

	nothing := func(Node) error { return nil }
	for _, limits := range []Limits{{Depth: 18}, {Documents: 18}, {Bytes: 1000}} {
		err := NewWalker(m, limits).Walk([]oci.Descriptor{root}, nothing)
		if !errors.Is(err, oci.ErrMalformed) || !strings.Contains(err.Error(), root.Digest.String()) {
			t.Errorf("%+v: %v", limits, err)
		}
	}
	if err := NewWalker(m, Limits{Depth: 19, Documents: 19}).Walk([]oci.Descriptor{root}, nothing); err != nil {
		t.Errorf("just within the limits: %v", err)
	}
}

func TestChoose(t *testing.T) {
	m := memory{}
	amd, arm, s390x := m.image(t, "linux/amd64"), m.image(t, "linux/arm64/v8"), m.image(t, "linux/s390x")
	armv6 := m.image(t, "linux/arm/v6")
	silent := s390x
	silent.Platform = nil
	absent, also := arm, s390x
	absent.Digest, also.Digest = digest.FromBytes([]byte("absent")), digest.FromBytes([]byte("absent too"))
	artifact := m.put(t, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, ArtifactType: "application/x-sbom", Config: m.blob(oci.MediaTypeEmpty, "{}")})

	for _, tt := range []struct {
		name string
		root oci.Descriptor
		wish string
		want oci.Descriptor
		err  error
	}{
		{"one image", amd, "", amd, nil},
		{"an artifact", artifact, "", artifact, nil},
		{"an artifact has no platform", artifact, "linux/amd64", oci.Descriptor{}, ErrPlatform},
		{"one image beside its attestation", m.index(t, amd, m.attestation(t, amd)), "", amd, nil},
		{"an attestation is not a platform", m.index(t, amd, m.attestation(t, amd)), "unknown/unknown", oci.Descriptor{}, ErrPlatform},
		{"an attestation alone", m.index(t, m.attestation(t, amd)), "", oci.Descriptor{}, ErrPlatform},
		{"several", m.index(t, amd, arm), "", oci.Descriptor{}, ErrPlatform},
		{"several, one asked for", m.index(t, amd, arm), "linux/arm64", arm, nil},
		{"one of several is there", m.index(t, absent, amd, also), "", amd, nil},
		{"what is there, asked for", m.index(t, absent, amd, also), "linux/amd64", amd, nil},
		{"what is absent, asked for", m.index(t, absent, amd), "linux/arm64", oci.Descriptor{}, ErrNotFound},
		{"none is there", m.index(t, absent, also), "", oci.Descriptor{}, ErrIncomplete},
		{"the entry says nothing, the config does", m.index(t, amd, silent), "linux/s390x", silent, nil},
		{"in an index in the index", m.index(t, m.index(t, arm), m.index(t, amd)), "linux/amd64", amd, nil},
		{"the nearest variant", m.index(t, amd, m.image(t, "linux/arm/v5"), armv6), "linux/arm/v7", armv6, nil},
		{"an earlier processor", m.index(t, m.image(t, "linux/arm/v7")), "linux/arm/v6", oci.Descriptor{}, ErrPlatform},
		{"nothing", m.index(t), "", oci.Descriptor{}, ErrPlatform},
		{"one image beside an index with it", m.index(t, m.index(t, amd), amd.WithAnnotation("a", "b")), "", amd, nil},
	} {
		var wish *oci.Platform
		if tt.wish != "" {
			p, err := oci.ParsePlatform(tt.wish)
			if err != nil {
				t.Fatal(err)
			}
			wish = &p
		}
		got, err := Choose(m, tt.root, wish)
		if !errors.Is(err, tt.err) || got.Desc.Digest != tt.want.Digest {
			t.Errorf("%s: Choose = %s, %v, want %s, %v", tt.name, got.Desc.Digest, err, tt.want.Digest, tt.err)
		}
	}

	got, err := Choose(m, m.index(t, absent, amd, also), nil)
	if err != nil || !slices.Equal(got.Absent, []string{"linux/arm64/v8", "linux/s390x"}) {
		t.Errorf("Choose says %q are absent, %v", got.Absent, err)
	}
}

// A fallback tag is known again, with cosign's suffix too. A tag that only looks alike is somebody's own.
func TestCutFallbackTag(t *testing.T) {
	d := digest.FromBytes([]byte("image"))
	tag := FallbackTag(d)
	for name, want := range map[string]bool{
		tag: true, tag + ".sig": true, "r.test/app:" + tag: true, "r.test:5000/app:" + tag + ".att": true,
		FallbackTag(digest.SHA512.FromBytes([]byte("image"))): true, // it is cut
		tag[:len(tag)-1]: false, tag + "0": false, strings.ToUpper(tag): false, strings.Replace(tag, "-", ":", 1): false,
		strings.Replace(tag, "sha256", "md5", 1): false, "v1": false, "": false,
	} {
		base, suffix, ok := CutFallbackTag(name)
		if ok != want {
			t.Errorf("CutFallbackTag(%q) = %t, want %t", name, ok, want)
		}
		if rest := name[strings.LastIndexByte(name, ':')+1:]; ok && strings.Trim(base+"."+suffix, ".") != rest {
			t.Errorf("CutFallbackTag(%q) = %q, %q", name, base, suffix)
		}
	}
}

// BuildKit marks what is not an image by an annotation, others by the platform alone. One unknown word of
// two is an image that somebody described badly.
func TestIsAttestation(t *testing.T) {
	marked := oci.Descriptor{Annotations: oci.AnnotationsOf(map[string]string{oci.AnnotationAttestation: "attestation-manifest"})}
	if !IsAttestation(marked) {
		t.Error("a marked entry is not an attestation")
	}
	for _, c := range []struct {
		os, arch string
		want     bool
	}{{"unknown", "unknown", true}, {"linux", "unknown", false}, {"unknown", "amd64", false}, {"linux", "amd64", false}} {
		if got := IsAttestation(oci.Descriptor{Platform: &oci.Platform{OS: c.os, Architecture: c.arch}}); got != c.want {
			t.Errorf("%s/%s: IsAttestation = %t", c.os, c.arch, got)
		}
	}
	if IsAttestation(oci.Descriptor{}) {
		t.Error("an entry without a platform is an attestation")
	}
}

// Of an index what is asked for stays, with its attestations, in the order it had.
func TestForPlatforms(t *testing.T) {
	m := memory{}
	amd, v6, v7 := m.image(t, "linux/amd64"), m.image(t, "linux/arm/v6"), m.image(t, "linux/arm/v7")
	silent := m.image(t, "linux/s390x")
	silent.Platform = nil
	artifact := m.put(t, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, ArtifactType: "application/x-sbom", Config: m.blob(oci.MediaTypeEmpty, "{}")})
	aboutAMD, aboutV7 := m.attestation(t, amd), m.attestation(t, v7)
	desc := m.put(t, oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Annotations: oci.AnnotationsOf(map[string]string{"kept": "yes"}),
		Manifests: []oci.Descriptor{amd, v6, v7, aboutAMD, aboutV7, silent, artifact, m.index(t, amd)}})
	desc = desc.WithAnnotation(oci.AnnotationRefName, "v1")

	for _, tt := range []struct {
		wishes string
		want   []oci.Descriptor // nil: none for one of the wishes
	}{
		{"linux/amd64", []oci.Descriptor{amd, aboutAMD}},
		{"linux/arm", []oci.Descriptor{v6, v7, aboutV7}},
		{"linux/arm/v6 linux/s390x", []oci.Descriptor{v6, silent}},
		{"linux/s390x linux/amd64", []oci.Descriptor{amd, aboutAMD, silent}},
		{"linux/amd64 linux/mips", nil},
		{"unknown/unknown", nil},
	} {
		var wishes []oci.Platform
		for w := range strings.FieldsSeq(tt.wishes) {
			p, err := oci.ParsePlatform(w)
			if err != nil {
				t.Fatal(err)
			}
			wishes = append(wishes, p)
		}
		left, err := narrowIndex(m, desc, wishes)
		if (err != nil) != (tt.want == nil) || err != nil && !errors.Is(err, ErrPlatform) {
			t.Errorf("%s: %v", tt.wishes, err)
		}
		if err != nil {
			continue
		}

		got, err := oci.DecodeIndex(left.Desc, left.Doc)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got.Manifests, tt.want, func(a, b oci.Descriptor) bool { return a.Digest == b.Digest }) {
			t.Errorf("%s: %d entries, want %d", tt.wishes, len(got.Manifests), len(tt.want))
		}
		if got.Annotations.Get("kept") != "yes" || left.Desc.Annotations.Get(oci.AnnotationRefName) != "v1" || left.Desc.Digest != digest.FromBytes(left.Doc) {
			t.Errorf("%s: %v of %v", tt.wishes, left.Desc, got.Annotations)
		}
	}

	delete(m, silent.Digest)
	m[silent.Digest] = []byte("damaged")
	if _, err := narrowIndex(m, desc, []oci.Platform{*amd.Platform}); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("a damaged manifest: %v", err)
	}
}

// A member of a set stays where it runs on one of the platforms, by an earlier variant with a word
// about it, and where it is for none at all.
func TestNarrowMember(t *testing.T) {
	m := memory{}
	v6 := m.image(t, "linux/arm/v6")
	signature := m.put(t, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, Config: m.blob(oci.MediaTypeEmpty, "{}"), Subject: &v6})
	v7, mips := oci.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, oci.Platform{OS: "linux", Architecture: "mips"}

	for _, tt := range []struct {
		member oci.Descriptor
		wishes []oci.Platform
		near   []Near
		err    error
	}{
		{v6, []oci.Platform{mips, *v6.Platform, v7}, nil, nil},
		{v6, []oci.Platform{mips, v7}, []Near{{v7, *v6.Platform}}, nil},
		{v6, []oci.Platform{mips}, nil, ErrPlatform},
		{signature, []oci.Platform{mips}, nil, nil},
	} {
		left, err := Narrow(m, tt.member, tt.wishes, true)
		if !errors.Is(err, tt.err) || left.Desc.Digest != tt.member.Digest || left.Doc != nil || !reflect.DeepEqual(left.Near, tt.near) {
			t.Errorf("%s for %v: %+v, %v", tt.member.Digest, tt.wishes, left, err)
		}
	}
}

// Several platforms are found where one is: in the indexes of an index, too.
func TestForPlatformsInside(t *testing.T) {
	m := memory{}
	amd, arm, mips := m.image(t, "linux/amd64"), m.image(t, "linux/arm64"), m.image(t, "linux/mips")
	about := m.attestation(t, arm)
	desc := m.index(t, amd, m.index(t, arm, about, mips))

	left, err := narrowIndex(m, desc, []oci.Platform{*amd.Platform, *arm.Platform})
	if err != nil {
		t.Fatal(err)
	}
	got, err := oci.DecodeIndex(left.Desc, left.Doc)
	if err != nil {
		t.Fatal(err)
	}
	var digests []digest.Digest
	for _, d := range got.Manifests {
		digests = append(digests, d.Digest)
	}
	if want := []digest.Digest{amd.Digest, arm.Digest, about.Digest}; !slices.Equal(digests, want) {
		t.Errorf("entries %v, want %v", digests, want)
	}
}

// A fallback tag that answers with the image itself is not a list of what refers to it
// (oras-project/oras-go#1396).
func TestFallbackTagOfTheImageItself(t *testing.T) {
	m := memory{}
	amd, arm := m.image(t, "linux/amd64"), m.image(t, "linux/arm64")
	image := m.index(t, amd, arm)
	signature := m.put(t, oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, Config: m.blob(oci.MediaTypeEmpty, "{}"), Subject: &image})
	named := func(d oci.Descriptor, tag string) oci.Descriptor { return d.WithAnnotation(oci.AnnotationRefName, tag) }

	for _, tt := range []struct {
		name    string
		entries []oci.Descriptor
		want    int
	}{
		{"the index itself", []oci.Descriptor{named(image, FallbackTag(image.Digest))}, 0},
		{"an image itself", []oci.Descriptor{named(amd, FallbackTag(amd.Digest))}, 0},
		{"its own parts in another index", []oci.Descriptor{named(m.index(t, amd), FallbackTag(image.Digest))}, 0},
		{"a list", []oci.Descriptor{named(m.index(t, signature), FallbackTag(image.Digest))}, 1},
		{"an entry with a subject", []oci.Descriptor{signature}, 1},
		{"cosign's", []oci.Descriptor{named(amd, "v1"), named(arm, FallbackTag(image.Digest)+".sig")}, 1},
	} {
		found, err := Referrers(m, tt.entries, []oci.Descriptor{image})
		if err != nil || countReferrers(found) != tt.want {
			t.Errorf("%s: Referrers = %+v, %v, want %d", tt.name, found, err, tt.want)
		}
	}
}

// Who asks for documents alone is told of nothing else, and what it need not read is not read.
func TestDocuments(t *testing.T) {
	s := memory{}
	amd, arm := s.image(t, "linux/amd64"), s.image(t, "linux/arm64")
	root := s.index(t, s.index(t, amd), arm)

	var seen []digest.Digest
	err := Documents(s, []oci.Descriptor{root, amd}, func(n Node) error {
		if n.Doc == nil {
			t.Errorf("%s was not read: %v", n.Desc.MediaType, n.Err)
		}
		seen = append(seen, n.Desc.Digest)
		return nil
	})
	if err != nil || len(seen) != 4 || seen[0] != root.Digest {
		t.Errorf("Documents visits %v, %v", seen, err)
	}

	w := NewWalker(s, Limits{})
	w.Reads = func(d oci.Descriptor) bool { return d.Digest != arm.Digest }
	visits := 0
	err = w.Walk([]oci.Descriptor{root}, func(n Node) error {
		visits++
		if n.Desc.Digest == arm.Digest && (n.Doc != nil || n.Err != nil) {
			t.Error("what need not be read was read")
		}
		return nil
	})
	if err != nil || visits != 6 { // two indexes, two manifests, config and layer of one of them
		t.Errorf("%d visits, %v", visits, err)
	}
}

// BuildKit's attestations have a subject since 2026. Those that an index lists are parts of it, and no
// referrers of their own; to the one image that is taken out of the index they are.
func TestReferrersInsideAnIndex(t *testing.T) {
	s := memory{}
	image := s.image(t, "linux/amd64")
	subject := image
	subject.Platform = nil
	attestation := s.put(t, oci.MediaTypeManifest, oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/vnd.docker.attestation.manifest.v1+json",
		Config: s.blob(oci.MediaTypeEmpty, "{}"), Layers: []oci.Descriptor{s.blob("application/vnd.in-toto+json", "{}")}, Subject: &subject,
	})
	attestation.Platform = &oci.Platform{OS: "unknown", Architecture: "unknown"}
	root := s.index(t, image, attestation)

	for name, tt := range map[string]struct {
		image oci.Descriptor
		want  int
	}{"the index": {root, 0}, "its image": {image, 1}} {
		found, err := Referrers(s, []oci.Descriptor{root}, []oci.Descriptor{tt.image})
		if err != nil || len(found) != tt.want {
			t.Errorf("%s: %d referrers, want %d: %v", name, len(found), tt.want, err)
		}
	}

	// Where a registry has kept it in a list, the list goes along, with what else is in it.
	signature := s.put(t, oci.MediaTypeManifest, oci.Manifest{
		SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: "application/x.sig",
		Config: s.blob(oci.MediaTypeEmpty, "{}"), Layers: []oci.Descriptor{}, Subject: &subject,
	})
	list := s.index(t, attestation, signature).WithAnnotation(oci.AnnotationRefName, FallbackTag(image.Digest))
	found, err := Referrers(s, []oci.Descriptor{root, list}, []oci.Descriptor{root})
	if err != nil || len(found) != 2 || countReferrers(found) != 1 {
		t.Errorf("with a list: %+v, %v", found, err)
	}
}

// Whatever a document is, its subject is found, in the form that [oci.Decode] takes and in no other.
func TestSubject(t *testing.T) {
	d := digest.FromBytes([]byte("subject"))
	desc := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + d.String() + `","size":7}`
	for _, tt := range []struct {
		name, doc string
		want      digest.Digest
	}{
		{"alone", `{"subject":` + desc + `}`, d},
		{"among others", `{"layers":[{"subject":1}],"a":{},"subject":` + desc + `,"z":null}`, d},
		{"escaped", `{"sub\u006aect":` + desc + `}`, d},
		{"in another case", `{"Subject":` + desc + `}`, d}, // gc must not take such a referrer for garbage
		{"null", `{"subject":null}`, digest.Digest{}},
		{"none", `{}`, digest.Digest{}},
		{"further down", `{"annotations":{"subject":` + desc + `}}`, digest.Digest{}},
		{"malformed", `{"subject":{"digest":"x"}}`, digest.Digest{}},
		{"cut short", `{"subject":` + desc, digest.Digest{}},
		{"a list", `[` + desc + `]`, digest.Digest{}},
	} {
		got := Subject([]byte(tt.doc))
		if got == nil {
			got = &oci.Descriptor{}
		}
		if got.Digest != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got.Digest, tt.want)
		}
	}
}

// countReferrers returns how many manifests refer to others, lists aside.
func countReferrers(found []Referrer) int {
	seen := map[digest.Digest]bool{}
	for _, r := range found {
		if !r.List {
			seen[r.Desc.Digest] = true
		}
	}
	return len(seen)
}
