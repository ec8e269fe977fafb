package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/tarutil"
)

// lintImage stores an image of layers with the entries given, and returns what Lint says of it.
func lintImage(t *testing.T, layers ...[]tar.Header) (findings []string) {
	t.Helper()
	l := layouttest.New(t)
	var descs []oci.Descriptor
	for _, entries := range layers {
		var buf bytes.Buffer
		w := tarutil.NewWriter(&buf)
		for _, h := range entries {
			content := h.Linkname
			if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
				h.Typeflag, h.Linkname, h.Size = tar.TypeReg, "", int64(len(content))
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				w.ReadFrom(strings.NewReader(content))
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := AddLayer(t.Context(), l, &buf, LayerOptions{Compression: None})
		if err != nil {
			t.Fatal(err)
		}
		descs = append(descs, d)
	}
	desc := layouttest.PutImage(t, l, oci.NewConfig(oci.Platform{OS: "linux", Architecture: "amd64"}), descs...)
	found, err := Lint(t.Context(), l, []oci.Descriptor{desc, desc})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Severity != layout.SeverityWarning || f.Fix == "" {
			t.Errorf("%s: severity %q, fix %q", f.Code, f.Severity, f.Fix)
		}
		where := slices.IndexFunc(descs, func(d oci.Descriptor) bool { return d.Digest.String() == f.Digest })
		findings = append(findings, fmt.Sprintf("%s %d %s", f.Code, where, f.Got))
	}
	return findings
}

func TestLint(t *testing.T) {
	file := func(name string, mode int64, content string) tar.Header {
		return tar.Header{Name: name, Mode: mode, Linkname: content}
	}
	dir := func(name string, mode int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}
	}
	for _, c := range []struct {
		name   string
		layers [][]tar.Header
		want   []string
	}{
		{"nothing", [][]tar.Header{{dir("tmp", 0o1777), file("bin/a", 0o755, "x"), file("bin/b", 0o644, "x")}}, nil},
		{"permissions", [][]tar.Header{{
			file("bin/su", 0o4755, "x"), file("bin/wall", 0o2755, "x"), dir("srv", 0o2775), dir("open", 0o777), file("log", 0o666, "x"),
			{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "x", Mode: 0o777},
		}}, []string{`lint-setid 0 "bin/su", 4755 of 0:0`, `lint-setid 0 "bin/wall", 2755 of 0:0`, `lint-writable 0 "log", 0666`, `lint-writable 0 "open", 0777`}},
		{"permissions that were mended", [][]tar.Header{{file("bin/su", 0o4755, "x")}, {file("bin/su", 0o755, "x")}}, nil},
		{"case and Unicode form", [][]tar.Header{{
			file("README", 0o644, "x"), file("Readme", 0o644, "x"), file("d/caf\u00e9", 0o644, "x"), file("d/cafe\u0301", 0o644, "x"), file("d/cafe", 0o644, "x"),
			file("A/x", 0o644, "x"), file("a/y", 0o644, "x"), file("e/straße", 0o644, "x"), file("e/STRASSE", 0o644, "x"),
		}}, []string{`lint-names -1 "README" and "Readme" in "/"`, `lint-names -1 "A" and "a" in "/"`, "lint-names -1 \"cafe\u0301\" and \"caf\u00e9\" in \"/d\""}},
		{"one of two is gone", [][]tar.Header{{file("README", 0o644, "")}, {file(".wh.README", 0o644, ""), file("readme", 0o644, "x")}}, nil},
		{"owners", [][]tar.Header{{
			{Name: "a", Uname: "alice", Gname: "staff", Uid: 1000, Gid: 1000}, {Name: "b", Uname: "alice", Gname: "root"}, {Name: "c", Uname: "www-data", Gname: "www-data", Uid: 33, Gid: 33},
		}}, []string{`lint-owner-name 0 the group "staff", in entries: 1`, `lint-owner-name 0 the user "alice", in entries: 2`}},
		{"wasted", [][]tar.Header{
			{file("cache/big", 0o644, "0123456789"), file("cache/small", 0o644, "0"), file("kept", 0o644, "x"), file("new", 0o644, "old")},
			{file(".wh.cache", 0o644, ""), file("new", 0o644, "new")},
		}, []string{`lint-wasted 0 11 bytes in deleted files (2), the largest is "cache/big"`}},
		{"secrets", [][]tar.Header{{
			file("app/.env", 0o644, "A=1"), file("app/.env.example", 0o644, "A="), file("empty/.env", 0o644, ""),
			file("root/.ssh/id_rsa", 0o600, "-----BEGIN RSA PRIVATE KEY-----"), file("root/.ssh/id_rsa.pub", 0o644, "ssh-rsa"),
			file("etc/ca.pem", 0o644, "-----BEGIN CERTIFICATE-----"), file("etc/server.key", 0o600, "-----BEGIN PRIVATE KEY-----"),
			file("root/.npmrc", 0o644, "//r/:_authToken=x"), file("home/.npmrc", 0o644, "fund=false"),
			file("root/.aws/credentials", 0o600, "aws_secret_access_key = x"), file("etc/credentials", 0o600, "aws_secret_access_key = x"),
			file("root/.docker/config.json", 0o600, `{"auths":{"r":{"auth":"x"}}}`), file("home/.docker/config.json", 0o600, `{"auths":{}}`),
		}}, []string{
			`lint-secret 0 "app/.env"`, `lint-secret 0 "etc/server.key"`, `lint-secret 0 "root/.aws/credentials"`,
			`lint-secret 0 "root/.docker/config.json"`, `lint-secret 0 "root/.npmrc"`, `lint-secret 0 "root/.ssh/id_rsa"`,
		}},
		{"a secret that was deleted", [][]tar.Header{{file("id_rsa", 0o600, "PRIVATE KEY")}, {file(".wh.id_rsa", 0o644, "")}},
			[]string{`lint-wasted 0 11 bytes in deleted files (1), the largest is "id_rsa"`, `lint-secret 0 "id_rsa"`}},
	} {
		if got := lintImage(t, c.layers...); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}

	var many []tar.Header
	for i := range maxLint + 7 {
		many = append(many, file(fmt.Sprintf("%03d", i), 0o666, ""))
	}
	got := lintImage(t, many)
	if len(got) != maxLint+1 || got[maxLint] != "lint-writable -1 7 more of these" {
		t.Errorf("%d findings, the last is %q; want %d and how many more there are", len(got), got[len(got)-1], maxLint+1)
	}
}

func TestFoldName(t *testing.T) {
	for _, row := range composed {
		if a, b := utf8.RuneCountInString(row.whole), utf8.RuneCountInString(row.parts); a != b {
			t.Errorf("mark %U: %d letters, %d parts", row.mark, a, b)
		}
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"a", "A", true}, {"a", "b", false}, {"é", "E\u0301", true}, {"é", "e", false}, {"ё", "Е\u0308", true}, {"が", "か\u3099", true}, {"が", "か", false},
		{"Σ", "ς", true}, {"K", "\u212a", true}, {"ř", "r\u030c", true}, {"\xff", "\xfe", false},
	} {
		if got := foldName(c.a) == foldName(c.b); got != c.same {
			t.Errorf("foldName(%q) = %q, foldName(%q) = %q; want them the same: %v", c.a, foldName(c.a), c.b, foldName(c.b), c.same)
		}
	}
}
