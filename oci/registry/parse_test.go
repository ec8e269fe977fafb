package registry

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"ocikit/digest"
	"ocikit/oci/graph"
)

var someHex = strings.Repeat("a", 64)

func TestParseReference(t *testing.T) {
	d := "sha256:" + someHex
	for _, c := range []struct{ in, want string }{
		{"localhost:5000/a:t", "localhost:5000/a:t"},
		{"localhost:5000/a", "localhost:5000/a"},
		{"docker://localhost:5000/a:t", "localhost:5000/a:t"},
		{"http://r.test/a:t", "http://r.test/a:t"},
		{"localhost/a", "localhost/a"},
		{"R.Example:443/a/b-c/d__e.f:T", "r.example:443/a/b-c/d__e.f:T"},
		{"[::1]:5000/a:t", "[::1]:5000/a:t"},
		{"[2001:db8::1]/a", "[2001:db8::1]/a"},
		{"localhost:5000/a:t@" + d, "localhost:5000/a:t@" + d},
		{"localhost:5000/a@" + d, "localhost:5000/a@" + d},
		{strings.Repeat("a.", 126) + "a/b", strings.Repeat("a.", 126) + "a/b"}, // a name of DNS may have 253 bytes
		{strings.Repeat("a.", 126) + "ab/b", ""},
		{"alpine", "docker.io/library/alpine"},
		{"alpine:3.20", "docker.io/library/alpine:3.20"},
		{"docker.io/alpine", "docker.io/library/alpine"},
		{"index.docker.io/u/a", "docker.io/u/a"},
		{"registry.hub.docker.com/u/a", "registry.hub.docker.com/u/a"}, // with a key of its own, see moby/moby#42368
		{"u/a@" + d, "docker.io/u/a@" + d},
		{"xn--a/a:t", "docker.io/xn--a/a:t"},
		{"a@sha256:abcd", ""}, {"localhost:5000/a@sha256:abcd", ""},
		{"localhost:5000/a@" + d + ":t", ""},
		{"localhost:5000/a@sha256:../../../../x", ""},
		{"localhost:5000/a/../b:t", ""}, {"localhost:5000//a:t", ""},
		{"localhost:5000/a:..", ""}, {"localhost:5000/a:-t", ""}, {"localhost:5000/a:", ""},
		{"localhost:5000/a:" + strings.Repeat("t", 129), ""},
		{"localhost:5000/" + strings.Repeat("a/", 20_000) + "a", ""},
		{"localhost:5000/a b:t", ""}, {"localhost:5000\nhost=evil/a:t", ""},
		{"localhost:5000/a%2f..%2fb:t", ""}, {"localhost:5000/a#f:t", ""},
		{"localhost:-1/a:t", ""}, {"localhost:+1/a:t", ""}, {"localhost:0/a", ""}, {"localhost:65536/a", ""}, {"localhost:/a", ""},
		{"[::1/a:t", ""}, {"[fe80::1%25eth0]/a", ""}, {"[127.0.0.1]/a", ""},
		{"a__b/c___d:t", ""}, {"a..b/c:t", ""}, {":", ""}, {"", ""}, {"/", ""}, {"/a", ""}, {"localhost:5000/", ""}, {"localhost:5000", ""},
		// A registry alone is none of Docker Hub's images, whatever follows the colon.
		{"127.0.0.1:5000", ""}, {"127.0.0.1", ""}, {"[::1]:5000", ""}, {"[::1]", ""}, {"r.test:5000", ""}, {"r.test", ""}, {"docker.io", ""}, {"http://r.test:5000", ""},
		{d, ""}, {"localhost:5000/A:t", ""}, {"https://alpine", ""}, {"ftp://h.test/a", ""}, {"h.test/a@b@" + d, ""},
	} {
		got, err := ParseReference(c.in)
		if (err == nil) != (c.want != "") || err == nil && got.String() != c.want {
			t.Errorf("ParseReference(%.80q) = %q, %v, want %q", c.in, got, err, c.want)
		}
		if err != nil && !errors.Is(err, ErrReference) {
			t.Errorf("ParseReference(%.80q): %v is not an ErrReference", c.in, err)
		}
	}
}

func TestReferenceHidesPasswords(t *testing.T) {
	for _, s := range []string{
		"user:secret@localhost:5000/a:t", "https://user:secret@h.test/a", "user:se/cret@h.test/a@sha256:" + someHex,
		"user:x/secret@other@h.test/a", "docker://user:secret@h.test/a@sha256:abcd", "u:p@secret@h.test/a",
	} {
		_, err := ParseReference(s)
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "cret@") {
			t.Errorf("ParseReference(%q) = %v", s, err)
		}
		if _, err := ParseHost(s); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("ParseHost(%q) = %v", s, err)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"localhost:5000/a:t", "alpine", "[::1]:1/a@sha256:" + someHex, "a.b/c_d/e--f:T.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			if strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("control character in %q", err)
			}
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("ParseReference(%q) = %+v, %v, want %+v", r, again, err, r)
		}
		if CheckRepository(r.Repo) != nil || strings.Contains(r.Repo, "..") || r.Tag != "" && CheckTag(r.Tag) != nil {
			t.Errorf("ParseReference(%q) = %+v", s, r)
		}
	})
}

func TestNextLink(t *testing.T) {
	for in, want := range map[string]string{
		`</a?n=2&last=x>; rel="next"`:                  "/a?n=2&last=x",
		`</a>; rel=next`:                               "/a",
		` </a> ; Rel = "Next" ;x=y`:                    "/a",
		`</a>;rel=next;title="x"`:                      "/a",
		`</a>; title="a, b"; rel="next last"`:          "/a",
		`</a>; rel="first", </b>; rel="next"`:          "/b",
		`</a>; title="<x>; rel=\"next\"", </b>; rel=n`: "",
		`</a>; rel="prev"`:                             "",
		`</a>; title="rel=next"`:                       "",
		`</a>; rel="nextish"`:                          "",
		`</a; rel="next"`:                              "",
		`</a>; "; rel=next`:                            "/a",
		`</a>;=;;,=`:                                   "",
		`rel="next"`:                                   "",
	} {
		if got, ok := nextLink(in); got != want || ok != (want != "") {
			t.Errorf("nextLink(%s) = %q, %t, want %q", in, got, ok, want)
		}
	}
}

func TestFallbackTag(t *testing.T) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		d, _, _ := digest.FromReader(alg, strings.NewReader(""))
		if got, want := graph.FallbackTag(d), string(alg)+"-"+d.Encoded()[:64]; got != want || CheckTag(got) != nil {
			t.Errorf("graph.FallbackTag(%s) = %s, want %s", d, got, want)
		}
	}
}
