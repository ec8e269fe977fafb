package wire

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// F21: nobody is sent to a place that is more local than the registry.
func TestMayReach(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"8.8.8.8", "1.1.1.1", true}, {"8.8.8.8", "10.0.0.1", false}, {"8.8.8.8", "127.0.0.1", false}, {"8.8.8.8", "169.254.169.254", false},
		{"8.8.8.8", "::1", false}, {"8.8.8.8", "::ffff:127.0.0.1", false}, {"8.8.8.8", "0.0.0.0", false}, {"8.8.8.8", "fd00::1", false},
		{"8.8.8.8", "100.64.0.1", false}, {"8.8.8.8", "fe80::1", false}, {"8.8.8.8", "224.0.0.1", false}, {"2001:db8::1", "8.8.8.8", true},
		{"10.0.0.1", "192.168.1.1", true}, {"10.0.0.1", "127.0.0.1", false}, {"10.0.0.1", "8.8.8.8", true},
		{"127.0.0.1", "127.0.0.2", true}, {"127.0.0.1", "10.0.0.1", true}, {"127.0.0.1", "169.254.169.254", false}, {"127.0.0.1", "::", false},
	} {
		if got := mayReach(reachOf(netip.MustParseAddr(c.from)), reachOf(netip.MustParseAddr(c.to))); got != c.want {
			t.Errorf("mayReach(%s, %s) = %t, want %t", c.from, c.to, got, c.want)
		}
	}
}

func TestProxies(t *testing.T) {
	env := map[string]string{
		"HTTPS_PROXY": "http://user:secret@proxy.test:3128", "http_proxy": "plain.test:80",
		"NO_PROXY": "direct.test, .sub.test, 10.0.0.0/8, port.test:5000, *.star.test",
	}
	p := newProxyConfig(func(name string) string { return env[name] })
	for target, want := range map[string]string{
		"https://r.test/": "proxy.test:3128", "http://r.test/": "plain.test:80", "https://localhost:5000/": "", "https://127.0.0.1/": "", "https://[::1]/": "",
		"https://direct.test/": "", "https://x.direct.test/": "", "https://indirect.test/": "proxy.test:3128", "https://a.sub.test/": "", "https://sub.test/": "proxy.test:3128",
		"https://10.1.2.3/": "", "https://11.1.2.3/": "proxy.test:3128", "https://port.test:5000/": "", "https://port.test/": "proxy.test:3128", "https://a.star.test/": "",
	} {
		u, _ := url.Parse(target)
		got, err := p.forRequest(&http.Request{URL: u})
		if err != nil || (got == nil) != (want == "") || got != nil && got.Host != want {
			t.Errorf("proxy of %s = %v, %v, want %q", target, got, err, want)
		}
	}
	if s := p.secrets(); len(s) != 1 || s[0] != "secret" {
		t.Errorf("secrets = %q", s)
	}
	env = map[string]string{"NO_PROXY": "*", "HTTPS_PROXY": "p.test"}
	u, _ := url.Parse("https://r.test")
	if got, _ := newProxyConfig(func(name string) string { return env[name] }).forRequest(&http.Request{URL: u}); got != nil {
		t.Errorf("NO_PROXY=*: proxy %v", got)
	}
}

func TestRedactURL(t *testing.T) {
	red := &Redactor{}
	red.Hide("planted-secret")
	for in, want := range map[string]string{
		"https://u:p@r.test/v2/?digest=sha256:ab&_state=abc#frag": "https://REDACTED@r.test/v2/?digest=sha256:ab&_state=REDACTED-ba7816",
		"https://s3.test/b?X-Amz-Signature=abc&X-Amz-Credential=": "https://s3.test/b?X-Amz-Signature=REDACTED-ba7816&X-Amz-Credential=",
		"https://r.test/planted-secret/x":                         "https://r.test/REDACTED/x",
		"https://r.test/v2/?last=\u009b31m\u202e&\xff":            "https://r.test/v2/?last=%C2%9B31m%E2%80%AE&%FF",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := red.URL(u); got != want {
			t.Errorf("url(%s) = %s, want %s", in, got, want)
		}
	}
}

// A curl line is for a terminal, and a media type may come from an image.
func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"it's":                                   `'it'\''s'`,
		"Content-Type: a\x1b[31m\u009b31m\u202e": `'Content-Type: a[31m31m'`,
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %q, want %q", in, got, want)
		}
	}
}

// Two tokens can be told apart. Two passwords of a length cannot: a mark would tell whether a guess is
// right.
func TestRedactCredentials(t *testing.T) {
	red := &Redactor{}
	show := func(v string) string { return red.Header(http.Header{"Authorization": {v}})["Authorization"][0] }
	if a, b := show("Bearer one-token"), show("Bearer two-token"); a == b || !strings.HasPrefix(a, "Bearer REDACTED (9 bytes, ") {
		t.Errorf("tokens: %s, %s", a, b)
	}
	if a, b := show("Basic bWU6b25l"), show("Basic bWU6dHdv"); a != b || a != "Basic REDACTED (8 bytes)" {
		t.Errorf("passwords: %s, %s", a, b)
	}
}

func TestRedactSpellings(t *testing.T) {
	red := &Redactor{}
	red.Hide(`pl"anted/<secret>`)
	for _, in := range []string{
		`pl"anted/<secret>`, `{"detail":{"got":"pl\"anted/\u003csecret\u003e"}}`, `"pl\"anted/<secret>"`, "a?b=pl%22anted%2F%3Csecret%3E", "cGwiYW50ZWQvPHNlY3JldD4=",
	} {
		if got := red.Text(in); strings.Contains(got, "anted") || !strings.Contains(got, "REDACTED") {
			t.Errorf("text(%s) = %s", in, got)
		}
	}
}

// No value of a header that is secret by its name is shown, nor the first of several cookies. A challenge
// is shown but for the query of its realm.
func TestSecretHeaders(t *testing.T) {
	challenge := `Bearer realm="https://a.test/token?%s=%s",service="s",scope="repository:x:pull,push"`
	h := http.Header{"Accept": {"shown"}, "Www-Authenticate": {`Basic realm="a b?c"`, fmt.Sprintf(challenge, "sig", "planted")}}
	for _, name := range []string{"Cookie", "Set-Cookie", "X-Registry-Auth", "X-Auth-Token", "X-Amz-Security-Token", "X-Api-Key", "Authentication-Info"} {
		h.Set(name, "planted=1; planted=2")
	}
	h.Set("Authorization", "Bearer planted")

	got := new(Redactor).Header(h)
	for name, values := range got {
		if text := strings.Join(values, " "); strings.Contains(text, "planted") {
			t.Errorf("%s: %s", name, text)
		}
	}
	want := []string{`Basic realm="a b?c"`, fmt.Sprintf(challenge, "sig", "REDACTED-"+mark("planted"))}
	if !slices.Equal(got["Www-Authenticate"], want) || got["Accept"][0] != "shown" {
		t.Errorf("challenges %q, want %q", got["Www-Authenticate"], want)
	}

	for _, member := range []string{"token", "refreshToken", "client_secret", "IdentityToken", "auth"} {
		if text := new(Redactor).Text(fmt.Sprintf(`{"a":"shown",%q:"planted"}`, member)); strings.Contains(text, "planted") || !strings.Contains(text, "shown") {
			t.Errorf("%s: %s", member, text)
		}
	}
}
