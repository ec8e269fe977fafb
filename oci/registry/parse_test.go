package registry

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"ocikit/digest"
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
		{"alpine", "docker.io/library/alpine"},
		{"alpine:3.20", "docker.io/library/alpine:3.20"},
		{"docker.io/alpine", "docker.io/library/alpine"},
		{"index.docker.io/u/a", "docker.io/u/a"},
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
			t.Errorf("ParseReference(%.80q): %v is no ErrReference", c.in, err)
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

func TestParseChallenges(t *testing.T) {
	for _, c := range []struct {
		headers []string
		want    []Challenge
	}{
		{[]string{`Basic realm="x"`}, []Challenge{{"basic", map[string]string{"realm": "x"}}}},
		{[]string{`basic realm=zot`}, []Challenge{{"basic", map[string]string{"realm": "zot"}}}},
		{[]string{`BASIC`}, []Challenge{{"basic", map[string]string{}}}},
		{[]string{`Bearer realm=/`}, []Challenge{{"bearer", map[string]string{"realm": "/"}}}},
		{[]string{`Bearer realm="https://a/t?x=1,2",service="s v", scope="repository:a:pull,push repository:b:pull"`},
			[]Challenge{{"bearer", map[string]string{"realm": "https://a/t?x=1,2", "service": "s v", "scope": "repository:a:pull,push repository:b:pull"}}}},
		{[]string{`Bearer REALM="a\"b\\c" , Scope=""`}, []Challenge{{"bearer", map[string]string{"realm": `a"b\c`, "scope": ""}}}},
		{[]string{`Negotiate, Basic realm="x"`}, []Challenge{{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": "x"}}}},
		{[]string{`Bearer realm="x",service="y", Basic realm="z"`}, []Challenge{{"bearer", map[string]string{"realm": "x", "service": "y"}}, {"basic", map[string]string{"realm": "z"}}}},
		{[]string{`Foo a="b"`, `Bearer realm="x"`}, []Challenge{{"foo", map[string]string{"a": "b"}}, {"bearer", map[string]string{"realm": "x"}}}},
		{[]string{`Bearer realm = "x"`}, []Challenge{{"bearer", map[string]string{"realm": "x"}}}},
		{[]string{`Bearer realm="never closed`}, []Challenge{{"bearer", map[string]string{"realm": "never closed"}}}},
		{[]string{`Bearer realm="` + strings.Repeat("x", 60_000)}, nil},
		{[]string{``}, nil}, {[]string{`,,, ,`}, nil},
	} {
		h := http.Header{"Www-Authenticate": c.headers}
		got := parseChallenges(h)
		if !slices.EqualFunc(got, c.want, func(a, b Challenge) bool { return a.Scheme == b.Scheme && maps.Equal(a.Params, b.Params) }) {
			t.Errorf("parseChallenges(%.100q) = %v, want %v", c.headers, got, c.want)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="x",service="y", Basic realm=z`)
	f.Add(`Negotiate abc==, "`)
	f.Fuzz(func(t *testing.T, s string) {
		n := 0
		for _, c := range parseChallenges(http.Header{"Www-Authenticate": {s}}) {
			if c.Scheme == "" || c.Params == nil {
				t.Errorf("parseChallenges(%q): %+v", s, c)
			}
			n += len(c.Scheme)
			for k, v := range c.Params {
				n += len(k) + len(v)
			}
		}
		if n > 3*len(s) { // lower case may be longer
			t.Errorf("parseChallenges(%q) gives %d bytes", s, n)
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

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		in        string
		n         int64
		ambiguous bool
		ok        bool
	}{
		{"0-99", 100, false, true}, {"bytes=0-99", 100, false, true}, {"bytes 0-99", 100, false, true},
		{"0-0", 1, true, true}, {"0--1", 0, false, true}, {" 0-1 ", 2, false, true},
		{"", 0, false, false}, {"5-9", 0, false, false}, {"0", 0, false, false}, {"0-", 0, false, false}, {"-1", 0, false, false},
		{"0--2", 0, false, false}, {"0-9223372036854775807", 0, false, false}, {"0-99999999999999999999", 0, false, false},
		{"0-+1", 0, false, false}, {"a-b", 0, false, false}, {"0-1/2", 0, false, false}, {"0-1-2", 0, false, false},
	} {
		n, ambiguous, ok := parseRange(c.in)
		if n != c.n || ambiguous != c.ambiguous || ok != c.ok {
			t.Errorf("parseRange(%q) = %d, %t, %t, want %d, %t, %t", c.in, n, ambiguous, ok, c.n, c.ambiguous, c.ok)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("0-1")
	f.Add("bytes=0--1")
	f.Fuzz(func(t *testing.T, s string) {
		if n, _, ok := parseRange(s); n < 0 || n > 0 && !ok {
			t.Errorf("parseRange(%q) = %d, %t", s, n, ok)
		}
		if start, size, ok := parseContentRange(s); ok && (start < 0 || size >= 0 && size <= start) {
			t.Errorf("parseContentRange(%q) = %d, %d", s, start, size)
		}
	})
}

func TestParseContentRange(t *testing.T) {
	for in, want := range map[string][2]int64{
		"bytes 5-9/10": {5, 10}, "5-9/10": {5, 10}, "bytes 0-0/*": {0, -1}, "bytes 5-9": {5, -1},
	} {
		if start, size, ok := parseContentRange(in); !ok || start != want[0] || size != want[1] {
			t.Errorf("parseContentRange(%q) = %d, %d, %t", in, start, size, ok)
		}
	}
	for _, in := range []string{"", "bytes */10", "bytes 9-5/10", "bytes -5/10"} {
		if _, _, ok := parseContentRange(in); ok {
			t.Errorf("parseContentRange(%q) is ok", in)
		}
	}
}

func TestScopes(t *testing.T) {
	list := mergeScopes([]scope{push("a")}, parseScopes("repository:a:push,pull repository:b:pull registry::pull")...)
	var got []string
	for _, s := range list {
		got = append(got, s.String())
	}
	if want := "repository:a:pull,push repository:b:pull registry::pull"; strings.Join(got, " ") != want {
		t.Errorf("merged = %s, want %s", got, want)
	}
	if !covers(list, []scope{{"repository:a", []string{"push", "pull"}}}) || covers(list, []scope{remove("a")}) || covers(list, []scope{pull("c")}) {
		t.Error("covers is wrong")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "1", time.Second}, {"Retry-After", "1800000030", 30 * time.Second},
		{"Retry-After", now.Add(5 * time.Second).UTC().Format(http.TimeFormat), 5 * time.Second},
		{"Ratelimit-Reset", "2", 2 * time.Second}, {"Retry-After", "soon", 0}, {"Retry-After", "-5", 0}, {"X", "1", 0},
	} {
		if got := retryAfter(http.Header{c.name: {c.value}}, now); got != c.want {
			t.Errorf("retryAfter(%s: %s) = %s, want %s", c.name, c.value, got, c.want)
		}
	}
}

func TestFallbackTag(t *testing.T) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		d, _, _ := digest.FromReader(alg, strings.NewReader(""))
		if got, want := FallbackTag(d), string(alg)+"-"+d.Encoded()[:64]; got != want || CheckTag(got) != nil {
			t.Errorf("FallbackTag(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestNormalizeKey(t *testing.T) {
	for in, want := range map[string]string{
		"r.test": "r.test", "https://r.test": "r.test", "https://r.test/v1/": "r.test", "http://R.test:5000/v2/": "r.test:5000",
		"r.test/a/b/": "r.test/a/b", "https://index.docker.io/v1/": "docker.io", "index.docker.io": "docker.io",
		"registry-1.docker.io/u": "docker.io/u", "docker.io": "docker.io",
	} {
		if got := normalizeKey(in); got != want {
			t.Errorf("normalizeKey(%q) = %q, want %q", in, got, want)
		}
	}
}
