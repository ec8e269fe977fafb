package oci

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"
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

// UnmarshalJSON implements json.Unmarshaler, under the rules of [Decode]; unknown members go to Extra.
func (p *Platform) UnmarshalJSON(data []byte) error {
	v, err := newParser(data).platform()
	if v != nil {
		*p = *v
	}
	return err
}

var platformWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.-]+$`) })

// ParsePlatform reads os/arch[/variant][:osversion], or "local": Linux on the architecture of this
// machine, which is what engines run on other systems as well.
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

	if err := p.CheckWords(); err != nil {
		return Platform{}, fmt.Errorf("platform %q: %w", s, err)
	}

	return p, nil
}

// goWord returns what Go calls an operating system or architecture that others call lower.
func goWord(lower string) (string, bool) {
	switch lower {
	case "x86_64", "x86-64", "x64":
		return "amd64", true
	case "i386", "i486", "i586", "i686", "x86":
		return "386", true
	case "aarch64", "armv8", "arm64v8":
		return "arm64", true
	case "armhf", "armv7", "armv7l", "armv6", "armv6l", "armel":
		return "arm", true
	case "powerpc64le", "ppc64el":
		return "ppc64le", true
	case "macos", "osx":
		return "darwin", true
	case "win32", "win64":
		return "windows", true
	case "gnu/linux":
		return "linux", true
	}

	return "", false
}

// isNoWord reports whether a letter is in no name of an operating system or architecture.
func isNoWord(r rune) bool {
	return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-", r)
}

// CheckWords reports an operating system or architecture that is written otherwise than Go writes
// it, as config.md asks: no engine finds an image for x86_64, or for Linux.
func (p Platform) CheckWords() error {
	for _, w := range []struct{ what, word string }{{"operating system", p.OS}, {"architecture", p.Architecture}} {
		lower := strings.ToLower(w.word)
		right, known := goWord(lower)
		switch {
		case known:
			return fmt.Errorf("%s %q: the word for it is %q", w.what, w.word, right)
		case strings.ContainsFunc(lower, isNoWord):
			return fmt.Errorf("%s %.80q: it is not a word", w.what, w.word)
		case lower != w.word:
			return fmt.Errorf("%s %q: the word for it is %q", w.what, w.word, lower)
		}
	}
	return nil
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
