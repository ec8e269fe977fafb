package oci

import (
	"strings"
	"testing"
)

func TestParseImageName(t *testing.T) {
	d := "@" + testDigest
	for _, c := range []struct{ in, dir, tag, digest string }{
		{"app", "app", "", ""},
		{"app:latest", "app", "latest", ""},
		{"./a/b:v1", "./a/b", "v1", ""},
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
	wish, _ := ParsePlatform("linux/arm64/v8")
	if !(Platform{OS: "linux", Architecture: "arm64"}).Matches(wish) || (Platform{OS: "linux", Architecture: "arm", Variant: "v8"}).Matches(wish) {
		t.Error("arm64 without a variant is v8, and arm is not arm64")
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
