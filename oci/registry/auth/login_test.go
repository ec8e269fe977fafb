package auth

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// What Store writes replaces every spelling of the host, Erase takes it away, and the rest of the file
// stays.
func TestStoreAndErase(t *testing.T) {
	name := filepath.Join(t.TempDir(), "new", "config.json")
	o := Options{Host: "r.test", Username: "me", Password: "x1", StoreFile: name, Getenv: func(string) string { return "" }}
	a, err := New(nil, o)
	if err != nil {
		t.Fatal(err)
	}

	if out, err := a.Erase(t.Context()); err != nil || out.Changed {
		t.Errorf("Erase without a file = %+v, %v", out, err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("Erase made a file")
	}
	if out, err := a.Store(t.Context()); err != nil || out != (Stored{File: name, Changed: true}) {
		t.Errorf("Store = %+v, %v", out, err)
	}

	const kept = "\t\"psFormat\": \"x\"\n}\n"
	before := `{"psFormat":"x","auths":{"https://r.test/v1/":{"auth":"old"},"R.test":{},"other.test":{"auth":"a"}}}`
	for _, c := range []struct {
		what string
		do   func() (Stored, error)
		want string
	}{
		{"Store", func() (Stored, error) { return a.Store(t.Context()) }, `"r.test": {` + "\n\t\t\t" + `"auth": "bWU6eDE="`},
		{"Erase", func() (Stored, error) { return a.Erase(t.Context()) }, ""},
	} {
		if err := os.WriteFile(name, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := c.do()
		if err != nil || !out.Changed {
			t.Errorf("%s = %+v, %v", c.what, out, err)
		}
		data, err := os.ReadFile(name)
		text := string(data)
		if err != nil || !strings.HasSuffix(text, kept) || !strings.Contains(text, c.want) || !strings.Contains(text, `"other.test"`) ||
			strings.Count(strings.ToLower(text), "r.test\"") != 1+strings.Count(c.want, "r.test") || strings.Contains(text, "v1") {
			t.Errorf("%s: the file is now\n%s%v", c.what, text, err)
		}
	}

	o.StoreFile = filepath.Join(name, "below", "a-file")
	if a, err = New(nil, o); err == nil {
		_, err = a.Store(t.Context())
	}
	if err == nil {
		t.Error("Store below a file is not an error")
	}
}

// A helper that has nothing to forget has done so. One that cannot store is an error, whatever it says, and
// the file does not name it.
func TestHelperForgets(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("helpers are shell scripts")
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "config.json")
	const before = `{"credsStore":"test"}`
	os.WriteFile(name, []byte(before), 0o600)
	for i, c := range []struct {
		words string
		erase bool
		ok    bool
	}{
		{"credentials not found in native keychain", false, false},
		{"the keychain is locked", true, false},
		{"credentials not found in native keychain", true, true},
	} {
		// Each script has a name of its own: one that just ran may still be open.
		bin := filepath.Join(dir, "bin", string(rune('0'+i)))
		os.MkdirAll(bin, 0o700)
		os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte("#!/bin/sh\ncat >/dev/null\necho "+c.words+"\nexit 1\n"), 0o700)
		a, err := New(nil, Options{
			Host: "r.test", Username: "me", Password: "x1", StoreFile: name, Timeout: helperTimeout,
			Getenv: func(key string) string { return map[string]string{"PATH": bin}[key] },
		})
		if err != nil {
			t.Fatal(err)
		}

		do := a.Store
		if c.erase {
			do = a.Erase
		}
		out, err := do(t.Context())
		data, _ := os.ReadFile(name)
		if (err == nil) != c.ok || out.Helper != "docker-credential-test" || (string(data) == before) == c.ok {
			t.Errorf("erase %t, helper says %q: %+v, %v, file %s", c.erase, c.words, out, err, data)
		}
	}
}
