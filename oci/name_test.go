package oci

import (
	"ocikit/digest"

	"strings"
	"testing"
)

func TestParseImageName(t *testing.T) {
	d := "@" + testDigest
	for _, c := range []struct{ in, dir, tag, digest string }{
		{"app", "app", "", ""},
		{"app:latest", "app", "latest", ""},
		{"./a/b:v1", "./a/b", "v1", ""},
		{"a:v1", "a", "v1", ""}, // only Windows has drives
		{"app:host:5000/a/b:v1", "app", "host:5000/a/b:v1", ""},
		{"oci:app:v1", "app", "v1", ""},
		{"ocidir://app:v1", "app", "v1", ""},
		{"ocidir:///abs/app", "/abs/app", "", ""},
		{"app" + d, "app", "", testDigest},
		{"app:v1" + d, "app", "v1", testDigest},
		{"a@b:v@1", "a@b", "v@1", ""},
	} {
		n, err := ParseImageName(c.in)
		if err != nil || n.Dir != c.dir || n.Tag != c.tag || n.Digest.String() != c.digest {
			t.Errorf("ParseImageName(%q) = %+v, %v", c.in, n, err)
		}
		if again, err := ParseImageName(n.String()); err != nil || again != n {
			t.Errorf("ParseImageName(%q) = %+v, %v, want %+v", n, again, err, n)
		}
	}
	for _, in := range []string{"", ":", "app:", ":tag", "app@sha256:abcd", "app@sha256:" + strings.Repeat("A", 64), "app" + d + ":tag", d} {
		if n, err := ParseImageName(in); err == nil {
			t.Errorf("ParseImageName(%q) = %+v, want an error", in, n)
		}
	}
}

func TestCheckTag(t *testing.T) {
	for _, tag := range []string{"latest", "v1.2.3", "a/b:c", "docker.io/library/alpine:3.20", "a--b", "_x", "a..b", "A@B+c", strings.Repeat("t", 128)} {
		if err := CheckTag(tag); err != nil {
			t.Errorf("CheckTag(%q) = %v", tag, err)
		}
	}
	for _, tag := range []string{"", "a b", "-a", ".a", "../a", "/a", "a/", "a//b", "a\n", "a\x1b[m", "ü", strings.Repeat("t/", 600) + "t"} {
		if err := CheckTag(tag); err == nil {
			t.Errorf("CheckTag(%q) = nil", tag)
		}
	}
}

func TestParsePlatform(t *testing.T) {
	for in, want := range map[string]Platform{
		"linux/amd64":              {OS: "linux", Architecture: "amd64"},
		"linux/arm64/v8":           {OS: "linux", Architecture: "arm64", Variant: "v8"},
		"windows/amd64:10.0.20348": {OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348"},
	} {
		p, err := ParsePlatform(in)
		if err != nil || p.String() != in || p.OS != want.OS || p.Architecture != want.Architecture || p.Variant != want.Variant || p.OSVersion != want.OSVersion {
			t.Errorf("ParsePlatform(%q) = %+v, %v", in, p, err)
		}
	}
	for _, in := range []string{"", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux/amd64:", "linux/am d64"} {
		if p, err := ParsePlatform(in); err == nil {
			t.Errorf("ParsePlatform(%q) = %+v", in, p)
		}
	}
}

// TestPlatformServes holds the order in which images come for a wish: the platform itself, earlier
// variants from the nearest down, and later ones only if the wish names no variant.
func TestPlatformServes(t *testing.T) {
	for _, tt := range []struct {
		wish string
		runs []string // the nearest first
		not  []string
		same int // how many of runs match
	}{
		{"linux/arm64/v8", []string{"linux/arm64"}, []string{"linux/arm/v8", "linux/arm64/v8.1", "linux/arm64/v9"}, 1},
		{"linux/arm64/v9", []string{"linux/arm64/v9", "linux/arm64/v8.5", "linux/arm64/v8"}, []string{"linux/arm64/v9.1"}, 1},
		{"linux/arm", []string{"linux/arm/v7", "linux/arm/v6", "linux/arm/v5", "linux/arm/v8", "linux/arm/odd"}, []string{"linux/arm64"}, 5},
		{"linux/arm/v6", []string{"linux/arm/v6", "linux/arm/v5"}, []string{"linux/arm", "linux/arm/v7", "linux/arm/odd"}, 1},
		{"linux/arm/v8", []string{"linux/arm/v8", "linux/arm", "linux/arm/v6"}, nil, 1},
		{"linux/amd64", []string{"linux/amd64/v1", "linux/amd64/v2", "linux/amd64/v3"}, nil, 3},
		{"linux/amd64/v3", []string{"linux/amd64/v3", "linux/amd64/v2", "linux/amd64"}, []string{"linux/amd64/v4"}, 1},
		{"linux/riscv64/rva22", []string{"linux/riscv64/rva22"}, []string{"linux/riscv64", "linux/riscv64/rva20"}, 1},
		{"windows/amd64:10.0.20348", []string{"windows/amd64:10.0.20348.2582"}, []string{"windows/amd64", "windows/amd64:10.0.2034", "windows/amd64:10.0.203481"}, 1},
		{"windows/amd64:10", []string{"windows/amd64:10"}, []string{"windows/amd64:10.0.20348"}, 1},
	} {
		wish, err := ParsePlatform(tt.wish)
		if err != nil {
			t.Fatal(err)
		}
		last := -1
		for i, s := range tt.runs {
			p, _ := ParsePlatform(s)
			steps, ok := p.Serves(wish)
			if !ok || steps <= last {
				t.Errorf("%s for %s: %d steps, %v, after %d", s, tt.wish, steps, ok, last)
			}
			if p.Matches(wish) != (i < tt.same) {
				t.Errorf("%s for %s: matches is %v", s, tt.wish, p.Matches(wish))
			}
			last = steps
		}
		for _, s := range tt.not {
			p, _ := ParsePlatform(s)
			if steps, ok := p.Serves(wish); ok || p.Matches(wish) {
				t.Errorf("%s for %s: %d steps, %v", s, tt.wish, steps, ok)
			}
		}
	}
}

func FuzzParseImageName(f *testing.F) {
	f.Add("oci:app:v1@" + testDigest)
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseImageName(s)
		if err != nil {
			return
		}
		if strings.HasPrefix(n.Dir, "oci:") || strings.HasPrefix(n.Dir, "ocidir://") {
			return // String does not write the prefix that tells it from one
		}
		if again, err := ParseImageName(n.String()); err != nil || again != n {
			t.Errorf("ParseImageName(%q) = %+v, then %+v, %v", s, n, again, err)
		}
	})
}

// A digest at the end of a name is split off first, and is never a tag (hauler-dev/hauler#642,
// zarf-dev/zarf#2425, rancher/rke2#9309).
func TestSplitName(t *testing.T) {
	d := digest.FromBytes(nil)
	for _, tt := range []struct {
		name string
		want Name
		full string // "" if it has none
	}{
		{"hello", Name{Repo: "hello"}, "docker.io/library/hello:latest"},
		{"ghcr.io/acme/app:1.2", Name{Repo: "ghcr.io/acme/app", Tag: "1.2"}, "ghcr.io/acme/app:1.2"},
		{"ghcr.io/acme/app:1.2@" + d.String(), Name{Repo: "ghcr.io/acme/app", Tag: "1.2", Digest: d}, "ghcr.io/acme/app:1.2"},
		{"docker.io/library/app@" + d.String(), Name{Repo: "docker.io/library/app", Digest: d}, ""},
		{"localhost:5000/app", Name{Repo: "localhost:5000/app"}, "localhost:5000/app:latest"},
		{"@" + d.String(), Name{Digest: d}, ""},
		{"1@" + d.String(), Name{Repo: "1", Digest: d}, ""},
		{"app@sha256:short", Name{Repo: "app@sha256", Tag: "short"}, ""},
	} {
		if got := SplitName(tt.name); got != tt.want {
			t.Errorf("SplitName(%q) = %+v, want %+v", tt.name, got, tt.want)
		}
		if got, ok := FullName(tt.name); ok != (tt.full != "") || ok && got != tt.full {
			t.Errorf("FullName(%q) = %q, %t, want %q", tt.name, got, ok, tt.full)
		}
	}
}

// Rewrites begin at the start of a name and end with one of its parts; the longest counts.
func TestRewrites(t *testing.T) {
	rs, err := ParseRewrites([]string{"docker.io=hub", "docker.io/library/=base", "quay.io/a/b:v1=one:v2", "r.test:5000=r.test"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"docker.io/library/alpine:3.20": "base/alpine:3.20",
		"docker.io/library2/x:1":        "hub/library2/x:1",
		"docker.iox/library/x:1":        "docker.iox/library/x:1",
		"quay.io/a/b:v1":                "one:v2",
		"quay.io/a/b:v10":               "quay.io/a/b:v10",
		"r.test:5000/a@sha256:0":        "r.test/a@sha256:0",
		"r.test:50001/a":                "r.test:50001/a",
		"x/docker.io/a":                 "x/docker.io/a",
	} {
		if got := rs.Apply(name); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
	for _, bad := range []string{"", "a", "=a", "a=", "a=b=c", "docker.io=other"} {
		if _, err := ParseRewrites([]string{"docker.io=hub", bad}); err == nil {
			t.Errorf("--map %q is taken", bad)
		}
	}
}

func TestWithFullName(t *testing.T) {
	for name, full := range map[string]string{
		"hello": "docker.io/library/hello:latest", "r.test/a:v1": "r.test/a:v1", "r.test/a@" + testDigest: "", "Hello World": "",
	} {
		d := Descriptor{}.WithFullName(name)
		if got := d.Annotations.Get(AnnotationImageName); got != full || d.Annotations.Get(AnnotationRefName) != name {
			t.Errorf("WithFullName(%q): %v, want the full name %q", name, d.Annotations, full)
		}
	}
}

// What refers to an image that is called by its full name is called by one, too.
func TestNamesOfEntries(t *testing.T) {
	entry := func(ref, full string) Descriptor {
		return Descriptor{}.WithAnnotation(AnnotationRefName, ref).WithAnnotation(AnnotationImageName, full)
	}
	for _, tt := range []struct{ ref, full, want, beside string }{
		{"v1", "r.test/a:v1", "r.test/a:v1", "sha256-0.sig"},
		{"r.test/b:v2", "r.test/a:v1", "r.test/b:v2", "r.test/b:sha256-0.sig"},
		{"mine/b:v2", "docker.io/mine/b:v2", "mine/b:v2", "mine/b:sha256-0.sig"},
		{"v1", "", "", "sha256-0.sig"},
		{"", "", "", "sha256-0.sig"},
	} {
		n, ok := NameOfEntry(entry(tt.ref, tt.full))
		if got := n.String(); got != tt.want || ok != (tt.want != "") {
			t.Errorf("NameOfEntry(%q, %q) = %q, %t", tt.ref, tt.full, got, ok)
		}
		sig := entry("sha256-0.sig", "").Beside(entry(tt.ref, tt.full))
		if got := sig.Annotations.Get(AnnotationRefName); got != tt.beside {
			t.Errorf("beside %q: %q, want %q", tt.ref, got, tt.beside)
		}
	}
}
