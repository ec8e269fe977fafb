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
	case "win", "win32", "win64":
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
// it, as config.md asks, or a variant that is not in lower case or a number without its v: no engine
// finds an image for x86_64, for Linux, or for version 7 of arm as "7".
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

	right := strings.ToLower(p.Variant)
	if right != "" && strings.Trim(right, "0123456789") == "" {
		right = "v" + right
	}
	if right != p.Variant {
		return fmt.Errorf("variant %.80q: the word for it is %.80q", p.Variant, right)
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

// Matches reports whether an image for p is for what is wished: os and architecture are equal, and
// variant and version are too where the wish names them. A version of three numbers, as Windows has,
// stands for all builds of it.
func (p Platform) Matches(wish Platform) bool {
	steps, ok := p.Serves(wish)
	return ok && (steps == 0 || wish.Variant == "")
}

// Serves reports whether what is wished runs an image for p, and how many steps the image is away from
// it: 0 means that it is the very platform. A processor of a later variant runs images for earlier
// ones. A wish without a variant is for the usual one, arm/v7, arm64/v8 or amd64/v1, as in the
// engines, but takes any other if there is no nearer one.
func (p Platform) Serves(wish Platform) (steps int, ok bool) {
	if p.OS != wish.OS || p.Architecture != wish.Architecture || !p.isVersion(wish.OSVersion) {
		return 0, false
	}

	has, hasNumber := p.variantNumber()
	wants, wantsNumber := wish.variantNumber()
	switch {
	case p.Variant == wish.Variant:
		return 0, true
	case hasNumber && wantsNumber && has <= wants:
		return wants - has, true
	case wish.Variant != "":
		return 0, false
	case hasNumber && wantsNumber:
		return maxVariant + has - wants, true // later than the usual one
	}
	return 2 * maxVariant, true
}

// isVersion reports whether the operating system has a version, or one that begins with it.
func (p Platform) isVersion(wish string) bool {
	return wish == "" || p.OSVersion == wish || strings.Count(wish, ".") >= 2 && strings.HasPrefix(p.OSVersion, wish+".")
}

// maxVariant is above all numbers of variants.
const maxVariant = 1000

// variantNumber returns what orders the variants of an architecture, v6 before v7 and v8.1 before
// v8.2. Without a variant the usual one is meant. Other words than such numbers have no order.
func (p Platform) variantNumber() (int, bool) {
	variant := p.Variant
	if variant == "" {
		variant = map[string]string{"amd64": "v1", "arm": "v7", "arm64": "v8"}[p.Architecture]
	}

	// Versions have one digit each.
	switch n := []byte(variant); {
	case len(n) == 2 && n[0] == 'v' && isDigit(n[1]):
		return 10 * int(n[1]-'0'), true
	case len(n) == 4 && n[0] == 'v' && isDigit(n[1]) && n[2] == '.' && isDigit(n[3]):
		return 10*int(n[1]-'0') + int(n[3]-'0'), true
	}
	return 0, false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
