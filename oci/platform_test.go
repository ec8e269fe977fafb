package oci

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ocikit/digest"
)

// Of an index what is asked for stays, with its attestations, in the order it had.
func TestForPlatforms(t *testing.T) {
	entry := func(name string, p *Platform, about string) Descriptor {
		d := Describe(MediaTypeManifest, []byte(name))
		d.Platform = p
		if about != "" {
			d.Annotations = map[string]string{AnnotationAttestation: "attestation-manifest", AnnotationAttested: digest.FromBytes([]byte(about)).String()}
			d.Platform = &Platform{OS: "unknown", Architecture: "unknown"}
		}
		return d
	}
	nested := Describe(MediaTypeIndex, []byte("nested"))
	doc, err := Encode(Index{SchemaVersion: 2, MediaType: MediaTypeIndex, Annotations: map[string]string{"kept": "yes"}, Manifests: []Descriptor{
		entry("amd", &Platform{OS: "linux", Architecture: "amd64"}, ""),
		entry("armv6", &Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, ""),
		entry("armv7", &Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, ""),
		entry("about amd", nil, "amd"),
		entry("about armv7", nil, "armv7"),
		entry("s390x, by its config", nil, ""),
		entry("artifact", nil, ""),
		nested,
	}})
	if err != nil {
		t.Fatal(err)
	}
	desc := Describe(MediaTypeIndex, doc)
	desc.Annotations = map[string]string{AnnotationRefName: "v1"}
	platformOf := func(d Descriptor) (*Platform, error) {
		switch {
		case d.Digest == digest.FromBytes([]byte("s390x, by its config")):
			return &Platform{OS: "linux", Architecture: "s390x"}, nil
		case d.Platform != nil && d.Platform.OS == "unknown":
			return nil, errors.New("an attestation was asked for its platform")
		}
		return d.Platform, nil
	}
	for _, tt := range []struct {
		wishes string
		want   []string // nil: none for one of the wishes
	}{
		{"linux/amd64", []string{"amd", "about amd"}},
		{"linux/arm", []string{"armv6", "armv7", "about armv7"}},
		{"linux/arm/v6 linux/s390x", []string{"armv6", "s390x, by its config"}},
		{"linux/s390x linux/amd64", []string{"amd", "about amd", "s390x, by its config"}},
		{"linux/amd64 linux/mips", nil},
		{"unknown/unknown", nil},
	} {
		var wishes []Platform
		for _, w := range strings.Fields(tt.wishes) {
			p, err := ParsePlatform(w)
			if err != nil {
				t.Fatal(err)
			}
			wishes = append(wishes, p)
		}
		left, data, err := ForPlatforms(desc, doc, wishes, platformOf)
		if (err != nil) != (tt.want == nil) || err != nil && !errors.Is(err, ErrPlatform) {
			t.Errorf("%s: %v", tt.wishes, err)
			continue
		}
		if err != nil {
			continue
		}
		got, err := DecodeIndex(left, data)
		if err != nil {
			t.Fatal(err)
		}
		var want []digest.Digest
		for _, name := range tt.want {
			want = append(want, digest.FromBytes([]byte(name)))
		}
		if !slices.EqualFunc(got.Manifests, want, func(d Descriptor, w digest.Digest) bool { return d.Digest == w }) {
			t.Errorf("%s: %d entries, want %q", tt.wishes, len(got.Manifests), tt.want)
		}
		if got.Annotations["kept"] != "yes" || left.Annotations[AnnotationRefName] != "v1" || left.Digest != digest.FromBytes(data) {
			t.Errorf("%s: %v of %v", tt.wishes, left, got.Annotations)
		}
	}
	broken := fmt.Errorf("broken")
	if _, _, err := ForPlatforms(desc, doc, nil, func(Descriptor) (*Platform, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("an error of platformOf: %v", err)
	}
}
