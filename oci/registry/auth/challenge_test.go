package auth

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

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
		got := ParseChallenges(h)
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
		for _, c := range ParseChallenges(http.Header{"Www-Authenticate": {s}}) {
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

func TestNormalizeKey(t *testing.T) {
	for in, want := range map[string]string{
		"r.test": "r.test", "https://r.test": "r.test", "https://r.test/v1/": "r.test", "http://R.test:5000/v2/": "r.test:5000",
		"r.test/a/b/": "r.test/a/b", "https://index.docker.io/v1/": "docker.io", "index.docker.io": "docker.io",
		"registry-1.docker.io/u": "docker.io/u", "docker.io": "docker.io",
		// containers/image#96, castai/kvisor#332
		"r.test/v1/": "r.test", "r.test/v2/": "r.test", "r.test/v2": "r.test", "docker.io/v1/": "docker.io", "docker.io/v2": "docker.io",
		"r.test/v2/app": "r.test/v2/app", "r.test//": "r.test", "https://r.test/team": "r.test",
	} {
		if got := normalizeKey(in); got != want {
			t.Errorf("normalizeKey(%q) = %q, want %q", in, got, want)
		}
	}
}
