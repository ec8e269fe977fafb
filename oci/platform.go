package oci

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"ocikit/digest"
)

// A Platform says what a manifest's image runs on (image-index.md of the image-spec).
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
	Extra        Object   `json:"-"`
}

type plainPlatform Platform

// UnmarshalJSON implements json.Unmarshaler; unknown members go to Extra.
func (p *Platform) UnmarshalJSON(data []byte) error {
	var q plainPlatform
	extra, err := unmarshal(data, &q)
	if err != nil {
		return fmt.Errorf("platform: %w", err)
	}
	*p = Platform(q)
	p.Extra = extra
	return nil
}

// MarshalJSON implements json.Marshaler.
func (p Platform) MarshalJSON() ([]byte, error) { return marshal(plainPlatform(p), p.Extra) }

var platformWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.-]+$`) })

// ParsePlatform reads os/arch[/variant][:osversion], or "local" for the platform that this
// program runs on.
func ParsePlatform(s string) (Platform, error) {
	if s == "local" {
		return Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	spec, version, hasVersion := strings.Cut(s, ":")
	words := strings.Split(spec, "/")
	if hasVersion {
		words = append(words, version)
	}
	for _, w := range words {
		if !platformWord().MatchString(w) {
			return Platform{}, fmt.Errorf("platform %q: want os/arch[/variant][:osversion]", s)
		}
	}
	parts := strings.Split(spec, "/")
	p := Platform{OS: parts[0], OSVersion: version}
	switch len(parts) {
	case 3:
		p.Variant = parts[2]
		fallthrough
	case 2:
		p.Architecture = parts[1]
	default:
		return Platform{}, fmt.Errorf("platform %q: want os/arch[/variant][:osversion]", s)
	}
	return p, nil
}

// String returns the form that [ParsePlatform] reads.
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	if p.OSVersion != "" {
		s += ":" + p.OSVersion
	}
	return s
}

// Matches reports whether an image for p serves a wish: os and architecture are equal, and
// variant and version are too where the wish names them. arm64 without a variant is v8.
func (p Platform) Matches(wish Platform) bool {
	variant := func(p Platform) string {
		if p.Variant == "" && p.Architecture == "arm64" {
			return "v8"
		}
		return p.Variant
	}
	return p.OS == wish.OS && p.Architecture == wish.Architecture &&
		(wish.Variant == "" || variant(p) == variant(wish)) &&
		(wish.OSVersion == "" || p.OSVersion == wish.OSVersion)
}

// ErrPlatform means that there is no image for a platform.
var ErrPlatform = errors.New("no image for the platform")

// ForPlatforms takes the images that match none of the wishes out of the index doc, which desc
// names: of a wish all matches stay, and with an image its attestations. If all stay it returns
// desc and doc. What platform an entry is for is asked of platformOf, nil means none. A wish that
// nothing matches, and what is no index, are errors that wrap [ErrPlatform].
func ForPlatforms(desc Descriptor, doc []byte, wishes []Platform, platformOf func(Descriptor) (*Platform, error)) (Descriptor, []byte, error) {
	if !IsIndex(desc.MediaType) {
		return desc, nil, fmt.Errorf("%s: it is one image, not an index of several: %w", desc.Digest, ErrPlatform)
	}
	x, err := DecodeIndex(desc, doc)
	if err != nil {
		return desc, nil, err
	}
	all := len(x.Manifests)
	if x.Manifests, err = forPlatforms(x.Manifests, wishes, platformOf); err != nil {
		return desc, nil, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	if len(x.Manifests) == all {
		return desc, doc, nil
	}
	data, err := Encode(x)
	if err != nil {
		return desc, nil, err
	}
	desc.Digest, desc.Size, desc.Data = digest.FromBytes(data), int64(len(data)), nil
	return desc, data, nil
}

func forPlatforms(entries []Descriptor, wishes []Platform, platformOf func(Descriptor) (*Platform, error)) ([]Descriptor, error) {
	met := make([]bool, len(wishes))
	kept := map[string]bool{}
	var offered []string
	for _, d := range entries {
		if !IsManifest(d.MediaType) || d.Annotations[AnnotationAttestation] != "" {
			continue
		}
		p, err := platformOf(d)
		if err != nil {
			return nil, err
		}
		if p == nil {
			continue
		}
		offered = append(offered, p.String())
		for i, wish := range wishes {
			if p.Matches(wish) {
				met[i], kept[d.Digest.String()] = true, true
			}
		}
	}
	if i := slices.Index(met, false); i >= 0 {
		return nil, fmt.Errorf("%w %s: it has %q", ErrPlatform, wishes[i], offered)
	}
	return slices.DeleteFunc(entries, func(d Descriptor) bool {
		return !kept[d.Digest.String()] && !kept[d.Annotations[AnnotationAttested]]
	}), nil
}
