package auth

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocikit/oci/registry/wire"
)

// Whatever stands in a credential file, reading it ends without a panic, what it says of a registry
// is that registry's, and no error repeats the text of an entry.
func FuzzAuthFile(f *testing.F) {
	for _, s := range []string{
		`{"auths":{"r.test":{"auth":"bWU6c2VjcmV0"}}}`, `{"auths":{"https://r.test/v1/":{"username":"a","password":"b"}}}`,
		`{"auths":{"r.test/team":{"auth":"%%"}}}`, `{"credHelpers":{"r.test":"x"},"credsStore":"y"}`, `{"auths":null}`, `[]`, ``, `{"auths":{"r.test":3}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parseAuthFile("name", []byte(text), false)
		if err != nil {
			if len(text) > 8 && strings.Contains(err.Error(), text) {
				t.Errorf("the error repeats the file: %v", err)
			}
			return
		}
		file.helper("r.test")
		keys := file.hostKeys("r.test")
		for _, k := range file.pathKeys("r.test", "team/app") {
			keys = append(keys, k.key)
		}
		for _, key := range keys {
			if norm := normalizeKey(key); norm != "r.test" && norm != "r.test:443" && !strings.HasPrefix("r.test/team/app/", norm+"/") {
				t.Errorf("key %q is taken for r.test/team/app", key)
			}
			if k, err := file.inline(key); err == nil {
				k.check()
				k.describe()
			}
		}
	})
}

// A file that cannot be read says so, wherever it is: nobody's account may take the place of what it holds.
func TestBadFiles(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string // $D is a directory
		file string            // below it
		want string
	}{
		"variable":     {map[string]string{"DOCKER_AUTH_CONFIG": "{"}, "other", "DOCKER_AUTH_CONFIG"},
		"usual file":   {nil, ".docker/config.json", "config.json"},
		"legacy file":  {nil, ".dockercfg", ".dockercfg"},
		"named file":   {map[string]string{"REGISTRY_AUTH_FILE": "$D/named"}, "named", "named"},
		"no file":      {map[string]string{"REGISTRY_AUTH_FILE": "$D/.docker"}, "other", ".docker"},
		"another file": {map[string]string{"DOCKER_CONFIG": "$D/none"}, ".docker/config.json", ""},
	} {
		dir := t.TempDir()
		if err := errors.Join(os.Mkdir(filepath.Join(dir, ".docker"), 0o700), os.WriteFile(filepath.Join(dir, c.file), []byte("{"), 0o600)); err != nil {
			t.Fatal(err)
		}
		a, err := New(nil, Options{Host: "r.test", Home: dir, Getenv: func(key string) string { return strings.Replace(c.env[key], "$D", dir, 1) }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.fromFiles(t.Context())
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want+`"`) {
			t.Errorf("%s: %v, want an error about %q", name, err, c.want)
		}
	}
}

// Of several spellings of one host the first by its bytes counts, and the default port comes last.
func TestHostKeysAreInOrder(t *testing.T) {
	want := []string{"R.test", "http://r.test", "https://r.test", "https://r.test/v1/", "r.test", "r.test/v2", "https://r.test:443", "r.test:443"}
	f := &authFile{Auths: map[string]json.RawMessage{"other.test": nil}}
	for _, key := range want {
		f.Auths[key] = nil
	}
	if got := f.hostKeys("r.test"); !slices.Equal(got, want) {
		t.Errorf("hostKeys = %q, want %q", got, want)
	}
}

// moby/moby#42368: registry.hub.docker.com is a host of its own, whose credentials Docker and skopeo keep
// under its own key. It gets none of docker.io's, and they none of its.
func TestHubHasTwoKeys(t *testing.T) {
	const own, hub = `"registry.hub.docker.com":{"username":"own","password":"x1"}`, `"https://index.docker.io/v1/":{"username":"hub","password":"x2"}`
	for _, c := range []struct{ auths, host, want string }{
		{own + "," + hub, "registry.hub.docker.com", "own"},
		{own + "," + hub, HubHost, "hub"},
		{own, HubHost, ""},
		{hub, "registry.hub.docker.com", ""},
		{strings.Replace(own, "registry", "https://registry", 1), "registry.hub.docker.com", "own"},
		{strings.Replace(own, `.com"`, `.com/library"`, 1), HubHost, ""},
	} {
		name := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(name, []byte(`{"auths":{`+c.auths+`}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := New(nil, Options{Host: c.host, Repo: "library/app", AuthFile: name, Getenv: func(string) string { return "" }})
		if err != nil {
			t.Fatal(err)
		}
		k, err := a.fromFiles(t.Context())
		got := ""
		if k != nil {
			got = k.username
		}
		if err != nil || got != c.want {
			t.Errorf("%s with %s: user %q, %v, want %q", c.host, c.auths, got, err, c.want)
		}
	}

	// Helpers, and login, know it by that name too.
	for host, want := range map[string]string{"registry.hub.docker.com": "registry.hub.docker.com", HubHost: hubKey} {
		if got := helperKey(host); got != want {
			t.Errorf("helperKey(%q) = %q, want %q", host, got, want)
		}
	}
}

// What a token claims is only shown: whatever that is, the text is short, and a token that cannot be
// read is not said to lack anything.
func FuzzGrantedScopes(f *testing.F) {
	f.Add("e30.eyJhY2Nlc3MiOlt7InR5cGUiOiJyZXBvc2l0b3J5IiwibmFtZSI6ImFwcCIsImFjdGlvbnMiOlsicHVsbCJdfV19.x")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		granted := grantedScopes(token)
		less := missingActions(granted, []wire.Scope{wire.PushScope("app")})
		if len(less) > 500 || granted == nil && less != "" {
			t.Errorf("%q grants %q and lacks %q", token, granted, less)
		}
	})
}
