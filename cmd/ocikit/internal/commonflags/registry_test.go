package commonflags

import "testing"

func TestParseResolve(t *testing.T) {
	for entry, want := range map[string]string{
		"r.test:443:10.0.0.1":      "r.test:443 10.0.0.1:443",
		"R.Test:443:10.0.0.1":      "r.test:443 10.0.0.1:443",
		"r.test:443:2001:db8::1":   "r.test:443 [2001:db8::1]:443",
		"r.test:443:[2001:db8::1]": "r.test:443 [2001:db8::1]:443",
		"[::1]:5000:127.0.0.1":     "[::1]:5000 127.0.0.1:5000",
		"[2001:DB8::1]:443:[::1]":  "[2001:db8::1]:443 [::1]:443",
		"[r.test]:443:10.0.0.1":    "",
		"[127.0.0.1]:443:10.0.0.1": "",
		"::1:5000:127.0.0.1":       "",
		"r.test:443:[10.0.0.1":     "",
		"r.test:443:host":          "",
		"r.test:0:10.0.0.1":        "",
		"r.test:70000:10.0.0.1":    "",
		"r.test:443":               "",
		":443:10.0.0.1":            "",
		"[":                        "",
		"":                         "",
	} {
		from, to, ok := parseResolve(entry)
		if got := from + " " + to; ok != (want != "") || ok && got != want {
			t.Errorf("parseResolve(%q) = %q, %t, want %q", entry, got, ok, want)
		}
	}
}
